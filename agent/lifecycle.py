"""THE STORY: one machine, one job, one life. Everything else in this package is a room this story walks through.

Wake up and know who we are. Wait for the configuration while the runner's release is made ready. Register, start the runner,
watch over it until it ends or must. Then ship what is left, say how it went, and make the machine go away, in every case.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent import verdict as verdicts
from agent.cache import Upload
from agent.contract.config import RunnerConfig
from agent.contract.messages import OUT_OF_MEMORY, Busy, Interrupting, Started
from agent.desk import Desk, Overdue
from agent.errors import AgentError, Exit, MetadataExposed, ServiceError, SettingsError
from agent.executor import SWEEP_S, Executor, ask
from agent.farewell import Facts, Farewell
from agent.letters import Letters
from agent.phases import Phase, Stopwatch
from agent.ports import (
    Clock,
    Event,
    Journal,
    Launch,
    Machine,
    Meters,
    NoticeCame,
    Processes,
    Transcript,
    TranscriptReport,
)
from agent.preparation import Preparation, StoppedEarly
from agent.registration import WITHIN_S as REGISTRATION_S
from agent.registration import Registration
from agent.release import Release
from agent.safety import CHECK_EVERY_S, Floors, Hazard, Reading, hazards, runtime_limit_s
from agent.settings import Settings
from agent.supervision import Limits, Stop, StopRequested, Watch
from agent.telemetry import Envelope, Telemetry
from agent.verdict import Verdict

METADATA_S = 20.0
"""Seconds for switching the metadata service off and seeing it gone."""
FAREWELL_S = 120.0
"""Seconds after a job's last possible moment in which something may still have to be signed."""
IDENTITY_S = 15.0
"""Seconds for asking the machine who it is."""
JOB_NOTE_S = 30.0
"""Seconds after a job was taken in which its started hook says which; it runs after the job's actions are downloaded."""


@dataclass
class Rooms:
    """What a life is made of; `wiring.py` builds it from the real world, the simulation from a virtual one."""

    settings: Settings
    clock: Clock
    desk: Desk
    journal: Journal
    processes: Processes
    machine: Machine
    meters: Meters
    stopwatch: Stopwatch
    transcript: Transcript
    telemetry: Telemetry
    preparation: Preparation
    registration: Registration
    executor: Executor
    farewell: Farewell
    letters: Letters
    upload: Upload
    floors: Floors = field(default_factory=Floors)
    born_s: float = 0.0
    """When the process started, on the clock: start-up is part of what a user waits for."""


class Life:
    """One life. `live` may be called once."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._clock, self._journal, self._desk = rooms.clock, rooms.journal, rooms.desk
        self._facts = rooms.farewell.facts
        self._broke = False

    def live(self) -> int:
        """Live, and make the machine go away. Returns the process's exit code (`errors.Exit`)."""
        failure: AgentError | None = None
        broken = False
        try:
            verdict = self._lived()
        except StoppedEarly as stopped:
            verdict = verdicts.of_stop_before_start(stopped.stop)
        except AgentError as error:
            failure, verdict = error, verdicts.of_failure(error.reason, str(error))
        except Exception as error:  # noqa: BLE001 - the outermost net of the story: a fault of ours must not keep a machine alive
            broken, verdict = (
                True,
                verdicts.of_failure("internal", f"the agent failed: {type(error).__name__}: {error}"),
            )
        if self._facts.runner_exit_code is None:
            self._rooms.processes.sweep(SWEEP_S)  # nobody has watched over what was started to its end
        if failure or broken:
            self._journal.event("life.failed", reason=verdict.reason, error=verdict.error)
        delivered = self._said_goodbye(verdict, for_certain=broken)
        if broken or self._broke:
            return Exit.INTERNAL
        if failure:
            return failure.exit_code
        return Exit.LIVED if delivered else Exit.UNDELIVERED

    def _lived(self) -> Verdict:
        rooms = self._rooms
        self._journal.phase(Phase.WAKING)
        self._wake()
        self._journal.phase(Phase.PREPARING)
        self._facts.config = config = rooms.preparation.configured()
        self._leave_letters(config)
        release = rooms.preparation.released(config)
        self._facts.runner_dir, self._facts.digest = release.directory, release.digest
        self._facts.cache_outcome = _cache_outcome(release)
        self._journal.phase(Phase.REGISTERING)
        launch = self._registered(config, release)
        self._journal.phase(Phase.STARTING)
        rooms.preparation.stop_if_asked()
        return self._ran(launch, config, release)

    def _wake(self) -> None:
        """Raises: SettingsError, with every complaint at once."""
        settings = self._rooms.settings
        complaints = list(settings.complaints)
        self._facts.instance_id = settings.instance_id
        if settings.instance_id is None:
            try:
                self._facts.instance_id = self._desk.bounded("identity", self._rooms.machine.instance_id, IDENTITY_S)
            except (ServiceError, Overdue) as error:
                complaints.append(
                    f"RUNS_FLEET_INSTANCE_ID is missing: expected an EC2 id, and the metadata service did not tell ({error})"
                )
        if complaints:
            raise SettingsError(tuple(complaints))
        self._rooms.machine.watch_notices()

    def _leave_letters(self, config: RunnerConfig) -> None:
        """A disk that takes no letter takes no job either, but that is for others to find out."""
        try:
            self._rooms.letters.leave(config, self._facts.instance_id or "", self._facts.started_at, self._clock.new_id())
            if config.max_runtime_minutes is not None:
                settings = self._rooms.settings
                self._rooms.letters.allow(config.max_runtime_minutes, settings.config_timeout_s + settings.grace_s)
        except OSError as error:
            self._facts.degraded.append(f"letters: {error}")

    def _registered(self, config: RunnerConfig, release: Release) -> Launch:
        self._rooms.stopwatch.begin("registration", self._clock.monotonic_s())
        prepare = self._rooms.registration.prepare
        instance_id = self._facts.instance_id or ""
        self._rooms.preparation.stop_if_asked()
        launch: Launch = self._rooms.preparation.unless_stopped(
            "registration", lambda: prepare(config, instance_id, release.directory), REGISTRATION_S
        )
        self._rooms.stopwatch.end("registration", self._clock.monotonic_s())
        return launch

    def _ran(self, launch: Launch, config: RunnerConfig, release: Release) -> Verdict:
        rooms, settings = self._rooms, self._rooms.settings
        limits = Limits(
            runtime_limit_s(settings.max_runtime_minutes, config.max_runtime_minutes),
            settings.grace_s,
            settings.idle_timeout_s,
        )
        if settings.strict_metadata:
            self._close_metadata(limits)
        runner = rooms.executor.start(launch)
        self._facts.started_at, self._facts.started_s = self._clock.now(), self._clock.monotonic_s()
        rooms.stopwatch.begin("to_exec", rooms.born_s)
        rooms.stopwatch.end("to_exec", self._facts.started_s)
        rooms.stopwatch.begin("running", self._facts.started_s)
        self._journal.phase(Phase.RUNNING)
        witness = _Witness(rooms, self._facts, config)
        witness.ready(release)
        watch = rooms.executor.attend(runner, limits, witness)
        watch = rooms.executor.explained(watch) if verdicts.is_unexplained(watch) else watch
        rooms.stopwatch.end("running", self._clock.monotonic_s())
        self._facts.runner_exit_code = watch.exit_code
        self._facts.ran = witness.last_look()
        verdict = verdicts.of(watch)
        self._journal.event("runner.ended", status=verdict.status.value, reason=verdict.reason, code=watch.exit_code)
        return verdict

    def _close_metadata(self, limits: Limits) -> None:
        """Raises: MetadataExposed; a job that must not see the service is not started beside it."""
        needed_s = limits.runtime_s + limits.grace_s + FAREWELL_S
        instance_id = self._facts.instance_id or ""
        try:
            self._desk.bounded("metadata", lambda: self._rooms.machine.close_metadata(instance_id, needed_s), METADATA_S)
        except (ServiceError, Overdue) as error:
            raise MetadataExposed(f"the metadata service was to be switched off (RUNS_FLEET_STRICT_METADATA): {error}") from error
        self._facts.degraded.append("notices: the metadata service is switched off, so no spot notice can be seen")

    def _said_goodbye(self, verdict: Verdict, *, for_certain: bool) -> bool:
        """Every step stands alone: one that breaks must not take the next with it."""
        farewell = self._rooms.farewell
        self._facts.config = self._facts.config or self._rooms.preparation.config
        try:
            self._journal.phase(Phase.SETTLING)
            logs, diagnostics = farewell.settle()
            self._journal.phase(Phase.REPORTING)
            farewell.report(verdict, logs, diagnostics)
            self._journal.phase(Phase.CLEANING)
            farewell.clean()
            self._journal.phase(Phase.TERMINATING)
        except Exception as error:  # noqa: BLE001 - the last net before the door: say it, and go
            for_certain = self._broke = True
            self._journal.event("farewell.broken", error=f"{type(error).__name__}: {error}")
            if not farewell.word_delivered:
                farewell.report(verdict, TranscriptReport("lost", cause="the farewell broke"), "failed")
        farewell.leave(for_certain=for_certain or self._facts.broken)
        return farewell.word_delivered


class _Witness:
    """Tells the orchestrator and the transcript what happens while the runner lives, and looks after the machine."""

    def __init__(self, rooms: Rooms, facts: Facts, config: RunnerConfig) -> None:
        self._rooms, self._facts, self._config = rooms, facts, config
        self._envelope = Envelope(facts.instance_id or "", config.job_id, config.session_id, config.attempt, config.traceparent)
        self._told_hazards: frozenset[Hazard] = frozenset()
        self._over = False
        self._oom_kills: int | None = None
        """The kernel's count at our first look: what it killed before is not this job's."""

    def ready(self, release: Release) -> None:
        rooms = self._rooms
        rooms.transcript.event("runner.started", {"version": release.version, "source": release.source, "digest": release.digest})
        rooms.telemetry.notify(self._started, "started")
        if (archive := release.archive) is not None:
            self._facts.cache_outcome = "uploading"
            rooms.desk.begin("cache upload", lambda: rooms.upload.run(release.version, archive, release.sha256))

    def checked(self, now_s: float) -> float:
        reading = self._read()
        for hazard in hazards(reading, self._rooms.floors):
            fields = {"disk_free": reading.disk_free_bytes, "memory_available": reading.memory_available_bytes}
            self._rooms.journal.event(f"safety.{hazard.value}", **fields)
            self._rooms.transcript.event(f"safety.{hazard.value}", fields)
            if hazard is Hazard.DISK_CRITICAL and hazard not in self._told_hazards:
                ask(self._rooms.desk, StopRequested(Stop.DISK))
            self._told_hazards |= {hazard}
        return now_s + CHECK_EVERY_S

    def happened(self, event: Event) -> None:
        self._rooms.telemetry.pump()
        if isinstance(event, NoticeCame):
            self._noticed(event)

    def decided(self, before: Watch, after: Watch) -> None:
        if after.job is not None and before.job is None:
            self._rooms.transcript.event("job.taken", {"name": after.job})
            self._rooms.telemetry.notify(self._busy, "busy")
        if after.stop is not None and before.stop is None:
            self._rooms.transcript.event("runner.stopping", {"stop": after.stop.value})

    def last_look(self) -> tuple[str, str, str]:
        """Which job it was, now that nobody will say more."""
        self._over = True
        before, after = self._oom_kills, self._read().oom_kills
        killed = after - before if before is not None and after is not None else 0
        if killed > 0:
            self._facts.degraded.append(f"{OUT_OF_MEMORY}: the kernel killed {killed} process{'es' * (killed > 1)}")
            self._rooms.transcript.event("safety.oom_kill", {"processes": killed})
        return self.job_identity()

    def _read(self) -> Reading:
        reading = self._rooms.meters.read(self._rooms.settings.work_dir)
        if self._oom_kills is None:
            self._oom_kills = reading.oom_kills
        return reading

    def job_identity(self) -> tuple[str, str, str]:
        """What the started hook wrote: untrusted, so only short printable lines are passed on."""
        note: Path = self._rooms.registration.job_note
        try:
            lines = self._rooms.processes.read_plain(note, 1024).decode("utf-8", "replace").split("\n")
        except OSError:
            return ("", "", "")
        run_id, attempt, repository, job, *_ = [line if line.isprintable() else "" for line in lines] + [""] * 4
        return run_id, attempt, f"{repository}:{job}" if repository or job else ""

    def _noticed(self, notice: NoticeCame) -> None:
        self._rooms.journal.event("notice.came", kind=notice.kind, ends_at=notice.ends_at or "", detail=notice.detail)
        if notice.kind == "silent":
            self._facts.degraded.append(f"notices: {notice.detail}")
            return
        self._rooms.transcript.event("notice.came", {"kind": notice.kind, "ends_at": notice.ends_at})
        ends_at, reason = notice.ends_at, "spot_notice" if notice.kind == "spot" else "rebalance_recommendation"
        self._rooms.telemetry.notify(lambda: self._interrupting(reason, ends_at), "interrupting")

    def _started(self) -> Started:
        permitted = self._rooms.machine.may_terminate(self._envelope.instance_id)
        if permitted != "permitted":
            self._facts.degraded.append(f"self-termination: {permitted}")
            self._rooms.journal.event("termination.not_permitted", code=permitted)
        return Started(self_termination=permitted, phases_ms=self._rooms.stopwatch.taken_ms(), **self._common())

    def _busy(self) -> Busy:
        until_s = self._rooms.clock.monotonic_s() + JOB_NOTE_S
        while not self._rooms.registration.job_note.exists() and not self._over and self._rooms.clock.monotonic_s() < until_s:
            self._rooms.clock.pause(0.1)
        run_id, attempt, job = self.job_identity()
        return Busy(ran_run_id=run_id, ran_run_attempt=attempt, ran_job=job, **self._common())

    def _interrupting(self, reason: str, ends_at: object) -> Interrupting:
        return Interrupting(reason=reason, ends_at=ends_at, **self._common())  # type: ignore[arg-type]

    def _common(self) -> dict[str, Any]:
        e = self._envelope
        return {
            "instance_id": e.instance_id, "job_id": e.job_id, "session_id": e.session_id, "attempt": e.attempt,
            "traceparent": e.traceparent, "message_id": self._rooms.clock.new_id(),
        }  # fmt: skip


def _cache_outcome(release: Release) -> str:
    if release.source == "s3":
        return "hit"
    return "unused" if release.source == "prebaked" else release.cache_note
