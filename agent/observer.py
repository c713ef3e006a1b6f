"""What is reported while the work runs: messages to the orchestrator, events in the log stream, hazards of the machine."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from agent.components import Components
from agent.contract.config import RunnerConfig
from agent.contract.messages import OUT_OF_MEMORY, Busy, Interrupting, Interruption, Started
from agent.executor import ask
from agent.ports import Event, NoticeCame
from agent.reports.telemetry import Envelope
from agent.safety import CHECK_EVERY_S, Hazard, Reading, hazards
from agent.shutdown import LifeReport
from agent.supervision import NOTICES, Stop, StopRequested, Watch
from agent.work import Prepared, WorkIdentity

JOB_NOTE_S = 30.0
"""Seconds after a job was taken in which its started hook names it; the hook runs after the job's actions are downloaded."""
JOB_NOTE_POLL_S = 0.1
"""Seconds between two looks for the job's name."""


class RunObserver:
    """Observer (`agent/executor.py`). Every method runs on the deciding thread; background tasks only look and return."""

    def __init__(self, components: Components, report: LifeReport, config: RunnerConfig) -> None:
        self._components, self._report = components, report
        self._envelope = Envelope(report.instance_id or "", config.job_id, config.session_id, config.attempt, config.traceparent)
        self._places = [components.settings.work_dir]
        """Directories on every volume that the work writes to."""
        self._is_stopped_for_disk = False
        self._is_over = False
        self._oom_kills: int | None = None
        """The kernel's count at our first look: what it killed before is not this job's."""

    def started(self, prepared: Prepared) -> None:
        """The work was started: say so, and begin what may run beside it."""
        components = self._components
        self._places += prepared.writes_to
        components.log_stream.event("work.started", prepared.fields)
        instance_id = self._envelope.instance_id
        components.telemetry.notify("started", self._started, lambda: components.machine.may_terminate(instance_id))
        self._report.cache_outcome = components.work.started(prepared)

    def checked(self, now_s: float) -> float:
        """Look at volumes and memory; returns when to look next."""
        for found in hazards(self._read(), self._components.thresholds):
            self._components.journal.event(f"safety.{found.hazard.value}", **found.fields)
            self._components.log_stream.event(f"safety.{found.hazard.value}", found.fields)
            if found.hazard is Hazard.DISK_CRITICAL and not self._is_stopped_for_disk:
                self._is_stopped_for_disk = True
                self._report.degraded.append(f"disk full: {found.fields['path']}")
                ask(self._components.mailbox, StopRequested(Stop.DISK))
        return now_s + CHECK_EVERY_S

    def happened(self, event: Event) -> None:
        """Something arrived: go on with the messages that wait, and pass notices on."""
        self._components.telemetry.pump()
        if isinstance(event, NoticeCame):
            self._noticed(event)

    def decided(self, before: Watch, after: Watch) -> None:
        """Supervision knows more than before: report a job that was taken, and the first reason to stop."""
        if after.job is not None and before.job is None:
            self._components.log_stream.event("job.taken", {"name": after.job})
            self._components.telemetry.notify("busy", self._busy, self._awaited_identity)
        if after.stop is not None and before.stop is None:
            self._components.log_stream.event("work.stopping", {"stop": after.stop.value})

    def last_look(self) -> WorkIdentity:
        """Which work it was, after its end; also reports what the kernel killed for want of memory meanwhile."""
        self._is_over = True
        before, after = self._oom_kills, self._read().oom_kills
        killed = after - before if before is not None and after is not None else 0
        if killed > 0:
            self._report.degraded.append(f"{OUT_OF_MEMORY}: the kernel killed {killed} process{'es' * (killed > 1)}")
            self._components.log_stream.event("safety.oom_kill", {"processes": killed})
        return self._components.work.identity()

    def _read(self) -> Reading:
        reading = self._components.meters.read(self._places)
        if self._oom_kills is None:
            self._oom_kills = reading.oom_kills
        return reading

    def _noticed(self, notice: NoticeCame) -> None:
        fields = {"kind": notice.kind.value, "ends_at": notice.ends_at}
        self._components.journal.event("notice.received", **{**fields, "ends_at": notice.ends_at or ""}, detail=notice.detail)
        ends_at, reason = notice.ends_at, NOTICES[notice.kind].reported_as
        if reason is None:
            self._report.degraded.append(f"notices: {notice.detail}")
            return
        self._components.log_stream.event("notice.received", fields)
        self._components.telemetry.notify("interrupting", lambda _: self._interrupting(reason, ends_at))

    def _awaited_identity(self) -> WorkIdentity:
        """A background task: wait until the started hook has named the job, or the work is over."""
        clock, work = self._components.clock, self._components.work
        until_s = clock.monotonic_s() + JOB_NOTE_S
        while not work.is_identified() and not self._is_over and clock.monotonic_s() < until_s:
            clock.pause(JOB_NOTE_POLL_S)
        return work.identity()

    def _started(self, permitted: str) -> Started:
        if permitted != "permitted":
            self._report.degraded.append(f"self-termination: {permitted}")
            self._components.journal.event("termination.not_permitted", code=permitted)
        return Started(self_termination=permitted, phases_ms=self._components.stopwatch.taken_ms(), **self._common())

    def _busy(self, identity: WorkIdentity) -> Busy:
        return Busy(ran_run_id=identity.run_id, ran_run_attempt=identity.run_attempt, ran_job=identity.job, **self._common())

    def _interrupting(self, reason: Interruption, ends_at: datetime | None) -> Interrupting:
        return Interrupting(reason=reason.value, ends_at=ends_at, **self._common())

    def _common(self) -> dict[str, Any]:
        e = self._envelope
        return {
            "instance_id": e.instance_id, "job_id": e.job_id, "session_id": e.session_id, "attempt": e.attempt,
            "traceparent": e.traceparent, "message_id": self._components.clock.new_id(),
        }  # fmt: skip
