"""The end of every life: what is left is shipped, the final word is said, the traces are removed, the machine goes.

Whatever fails here is reported and passed by; nothing may keep the machine alive. The bounds below add up to less than a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TypeVar

from agent.contract.config import RunnerConfig
from agent.contract.messages import FinalWord
from agent.errors import ServiceError, caught
from agent.mailbox import Mailbox, Overdue
from agent.phases import Stopwatch
from agent.ports import Clock, Journal, LogReport, LogStream
from agent.reports.last_will import LastWill
from agent.reports.telemetry import Telemetry
from agent.termination import Termination
from agent.work import UNIDENTIFIED, Prepared, Verdict, Work, WorkIdentity

Value = TypeVar("Value")
FLUSH_S = 10.0
"""Seconds for the last log lines; also what the background tasks beside it get."""
LAST_WILL_S = 2.0
"""Seconds for a file of no bytes to be safe on the disk."""
CLEAN_S = 5.0
"""Seconds for removing traces: the disk dies with the machine anyway."""
ERROR_CHARACTERS = 2_000
"""Of an error's text in the final word; an SQS message holds 262,144 bytes, a reader's patience less."""


@dataclass(kw_only=True)
class LifeReport:
    """What is known of this life when it ends; it grows while the life goes on."""

    started_at: datetime
    started_s: float
    instance_id: str | None = None
    config: RunnerConfig | None = None
    prepared: Prepared | None = None
    exit_code: int | None = None
    """Of the process that was started; None: it was not, or nobody has seen it end."""
    cache_outcome: str = ""
    degraded: list[str] = field(default_factory=list)
    broken: bool = False
    """Something of ours failed that should not be able to: then every way to leave is taken, not the first that works."""
    ran: WorkIdentity = UNIDENTIFIED
    """Which work was really done, by its own word."""


@dataclass(kw_only=True)
class Shutdown:
    """The steps at the end of a life; each may be taken once."""

    report: LifeReport
    log_stream: LogStream
    telemetry: Telemetry
    termination: Termination
    mailbox: Mailbox
    clock: Clock
    journal: Journal
    stopwatch: Stopwatch
    work: Work
    last_will: LastWill
    word_delivered: bool = False

    def ship_logs(self) -> tuple[LogReport, str]:
        """Ship the last lines and the diagnostic logs, side by side; an upload under way may use the same time."""
        report = self.report
        until_s = self.clock.monotonic_s() + FLUSH_S
        self.stopwatch.begin("shipping", self.clock.monotonic_s())
        is_keeping = report.config is not None and report.prepared is not None
        if report.config is not None and report.prepared is not None:
            keep = partial(self.work.keep, report.config, report.prepared, report.instance_id or "unknown")
            self.mailbox.begin("diagnostics", keep)
        shipped = self._tried("logs", lambda: self.log_stream.finish(FLUSH_S), FLUSH_S + 0.5) or LogReport(
            "lost", cause="the last lines could not be shipped in time"
        )
        outcome = self._awaited("diagnostics", until_s) if is_keeping else "disabled"
        if report.cache_outcome == "uploading":
            report.cache_outcome = str(self._awaited("cache upload", until_s) or "abandoned")
        if shipped.outcome in ("partial", "lost") and shipped.cause:
            report.degraded.append(f"logs: {shipped.cause}")
        self.stopwatch.end("shipping", self.clock.monotonic_s())
        return shipped, str(outcome or "failed")

    def send_final_word(self, verdict: Verdict, logs: LogReport, diagnostics: str) -> None:
        """Say the final word; whether it was delivered is in `word_delivered`."""
        sent = caught(partial(self._send, verdict, logs, diagnostics))
        if sent.error is None:
            self.journal.event("final_word.delivered", status=verdict.status.value, reason=verdict.reason)
            return
        self.report.broken |= not isinstance(sent.error, ServiceError | Overdue)  # an unsent word must not keep the machine alive
        error = str(sent.error) or repr(sent.error)
        self.journal.event("final_word.undelivered", status=verdict.status.value, error=error)

    def clean(self) -> None:
        """Remove what registration and the job left."""
        if (prepared := self.report.prepared) is not None:
            failures = self._tried("cleanup", lambda: self.work.clean(prepared), CLEAN_S)
            for failure in (failures or [])[:5]:
                self.journal.event("cleanup.incomplete", what=failure)

    def leave(self, *, for_certain: bool) -> None:
        """Terminate the machine, last of all."""
        self.termination.leave(self.report.instance_id, for_certain=for_certain)

    def _send(self, verdict: Verdict, logs: LogReport, diagnostics: str) -> None:
        word = self._word(verdict, logs, diagnostics)
        self._tried("last will", lambda: self.last_will.seal(word), LAST_WILL_S)
        self.telemetry.final_word(word)
        self.word_delivered = True
        self._tried("last will", self.last_will.withdraw, LAST_WILL_S)

    def _word(self, verdict: Verdict, logs: LogReport, diagnostics: str) -> FinalWord:
        report, config = self.report, self.report.config
        return FinalWord(
            instance_id=report.instance_id or "",
            job_id=config.job_id if config else "",
            message_id=self.clock.new_id(),
            session_id=config.session_id if config else "",
            attempt=config.attempt if config else 0,
            traceparent=config.traceparent if config else "",
            status=verdict.status,
            exit_code=verdict.exit_code,
            duration_seconds=max(0, round(self.clock.monotonic_s() - report.started_s)),
            started_at=report.started_at,
            completed_at=self.clock.now(),
            error=self.journal.cleaned(verdict.error)[:ERROR_CHARACTERS],
            reason=verdict.reason,
            job_result=verdict.job_result,
            runner_exit_code=report.exit_code,
            ran_run_id=report.ran.run_id,
            ran_run_attempt=report.ran.run_attempt,
            ran_job=report.ran.job,
            phases_ms=self.stopwatch.taken_ms(),
            log_outcome=logs.outcome,
            log_lines_shipped=logs.lines_shipped,
            log_lines_lost=logs.lines_lost,
            diag_outcome=diagnostics,
            cache_outcome=report.cache_outcome,
            digest=report.prepared.digest if report.prepared else "",
            degraded=tuple(report.degraded),
        )

    def _tried(self, name: str, task: Callable[[], Value], within_s: float) -> Value | None:
        """What `task` returns; None where it failed or did not end in time, which the journal says."""
        outcome = caught(partial(self.mailbox.bounded, name, task, within_s))
        if outcome.error is not None:
            self.journal.event("shutdown.failed", step=name, error=str(outcome.error) or repr(outcome.error))
        return outcome.returned

    def _awaited(self, task_name: str, until_s: float) -> object:
        while (end := self.mailbox.ended(task_name)) is None:
            if self.mailbox.next(until_s) is None:
                self.journal.event("shutdown.abandoned", step=task_name)
                return None
        if end.error is not None:
            self.journal.event("shutdown.failed", step=task_name, error=str(end.error) or repr(end.error))
            return None
        return end.value
