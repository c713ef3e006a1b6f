"""The end of every life: what is left is shipped, the final word is said, the traces are removed, the machine goes.

Whatever fails here is reported and passed by; nothing may keep the machine alive. The bounds below add up to less than a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from agent.cleanup import clean
from agent.contract.config import RunnerConfig
from agent.contract.messages import FinalWord
from agent.desk import Desk, Overdue
from agent.errors import ServiceError
from agent.letters import Letters
from agent.phases import Stopwatch
from agent.ports import Clock, Journal, Transcript, TranscriptReport
from agent.telemetry import Telemetry
from agent.termination import Termination
from agent.verdict import Verdict

Value = TypeVar("Value")
FLUSH_S = 10.0
"""Seconds for the last log lines; also what the errands beside it get."""
LETTERS_S = 2.0
"""Seconds for a file of no bytes to be safe on the disk."""
CLEAN_S = 5.0
"""Seconds for removing traces: the disk dies with the machine anyway."""
ERROR_CHARACTERS = 2_000
"""Of an error's text in the final word; an SQS message holds 262,144 bytes, a reader's patience less."""


@dataclass
class Facts:
    """What is known of this life when it ends; it grows while the life goes on."""

    started_at: datetime
    started_s: float
    instance_id: str | None = None
    config: RunnerConfig | None = None
    runner_dir: Path | None = None
    runner_exit_code: int | None = None
    digest: str = ""
    cache_outcome: str = ""
    degraded: list[str] = field(default_factory=list)
    broken: bool = False
    """Something of ours failed that should not be able to: then every way to leave is taken, not the first that works."""
    ran: tuple[str, str, str] = ("", "", "")
    """Run id, attempt and job as the started hook told them: untrusted."""


@dataclass
class Farewell:
    """Says goodbye, once."""

    facts: Facts
    transcript: Transcript
    telemetry: Telemetry
    termination: Termination
    desk: Desk
    clock: Clock
    journal: Journal
    stopwatch: Stopwatch
    diagnose: Callable[[RunnerConfig, Path], str] | None
    """Ships the runner's diagnostic logs; None: nobody asked for them."""
    work_dir: Path
    homes: frozenset[Path]
    letters: Letters
    word_delivered: bool = False

    def settle(self) -> tuple[TranscriptReport, str]:
        """Ship the last lines and the diagnostic logs, side by side; an upload under way may use the same time."""
        facts = self.facts
        until_s = self.clock.monotonic_s() + FLUSH_S
        self.stopwatch.begin("shipping", self.clock.monotonic_s())
        if shipping := self.diagnose is not None and facts.config is not None and facts.runner_dir is not None:
            self.desk.begin("diagnostics", self._diagnose)
        report = self._tried("logs", lambda: self.transcript.finish(FLUSH_S), FLUSH_S + 0.5) or TranscriptReport(
            "lost", cause="the last lines could not be shipped in time"
        )
        outcome = self._awaited("diagnostics", until_s) if shipping else "disabled"
        if facts.cache_outcome == "uploading":
            facts.cache_outcome = str(self._awaited("cache upload", until_s) or "abandoned")
        if report.outcome in ("partial", "lost") and report.cause:
            facts.degraded.append(f"logs: {report.cause}")
        self.stopwatch.end("shipping", self.clock.monotonic_s())
        return report, str(outcome or "failed")

    def report(self, verdict: Verdict, logs: TranscriptReport, diagnostics: str) -> None:
        """Say the final word; whether it was delivered is in `word_delivered`."""
        try:
            word = self._word(verdict, logs, diagnostics)
            self._tried("letters", lambda: self.letters.seal(word), LETTERS_S)
            self.telemetry.final_word(word)
            self.word_delivered = True
            self._tried("letters", self.letters.withdraw, LETTERS_S)
            self.journal.event("final_word.delivered", status=verdict.status.value, reason=verdict.reason)
        except Exception as error:  # noqa: BLE001 - a net: an unsaid word must not keep the machine alive
            self.facts.broken |= not isinstance(error, ServiceError | Overdue)
            self.journal.event("final_word.undelivered", status=verdict.status.value, error=str(error) or repr(error))

    def clean(self) -> None:
        """Remove what registration and the job left."""
        directory = self.facts.runner_dir
        if directory is not None:
            failures = self._tried("cleanup", lambda: clean(directory, self.work_dir, self.homes), CLEAN_S)
            for failure in (failures or [])[:5]:
                self.journal.event("cleanup.left", what=failure)

    def leave(self, *, for_certain: bool) -> None:
        """Go."""
        self.termination.leave(self.facts.instance_id, for_certain=for_certain)

    def _diagnose(self) -> str:
        assert self.diagnose and self.facts.config and self.facts.runner_dir
        return self.diagnose(self.facts.config, self.facts.runner_dir)

    def _word(self, verdict: Verdict, logs: TranscriptReport, diagnostics: str) -> FinalWord:
        facts, config = self.facts, self.facts.config
        run_id, run_attempt, job = facts.ran
        return FinalWord(
            instance_id=facts.instance_id or "",
            job_id=config.job_id if config else "",
            message_id=self.clock.new_id(),
            session_id=config.session_id if config else "",
            attempt=config.attempt if config else 0,
            traceparent=config.traceparent if config else "",
            status=verdict.status,
            exit_code=verdict.exit_code,
            duration_seconds=max(0, round(self.clock.monotonic_s() - facts.started_s)),
            started_at=facts.started_at,
            completed_at=self.clock.now(),
            error=self.journal.cleaned(verdict.error)[:ERROR_CHARACTERS],
            reason=verdict.reason,
            job_result=verdict.job_result,
            runner_exit_code=facts.runner_exit_code,
            ran_run_id=run_id,
            ran_run_attempt=run_attempt,
            ran_job=job,
            phases_ms=self.stopwatch.taken_ms(),
            log_outcome=logs.outcome,
            log_lines_shipped=logs.lines_shipped,
            log_lines_lost=logs.lines_lost,
            diag_outcome=diagnostics,
            cache_outcome=facts.cache_outcome,
            digest=facts.digest,
            degraded=tuple(facts.degraded),
        )

    def _tried(self, name: str, task: Callable[[], Value], within_s: float) -> Value | None:
        try:
            return self.desk.bounded(name, task, within_s)
        except Exception as error:  # noqa: BLE001 - a net: see the module's promise
            self.journal.event("farewell.failed", step=name, error=str(error) or repr(error))
            return None

    def _awaited(self, errand: str, until_s: float) -> object:
        while (end := self.desk.ended(errand)) is None:
            if self.desk.next(until_s) is None:
                self.journal.event("farewell.abandoned", step=errand)
                return None
        if end.error is not None:
            self.journal.event("farewell.failed", step=errand, error=str(end.error) or repr(end.error))
            return None
        return end.value
