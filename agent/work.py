"""The port between a life and its work: what the machine was started for. Today GitHub's runner (`agent/runner/`), later tasks.

The life (`agent/lifecycle.py`) decides when each step happens; the work decides how. Every method is called from the thread that
decides, except `register`, `keep` and `clean`, which the life and the shutdown run as background tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from agent.contract.config import RunnerConfig
from agent.contract.messages import Status
from agent.ports import Launch
from agent.supervision import Announcement, Stop, Watch

STOPPED: dict[Stop, tuple[Status, str]] = {
    Stop.MAX_RUNTIME: (Status.TIMEOUT, "the runner was stopped at its maximum runtime"),
    Stop.SPOT_NOTICE: (Status.INTERRUPTED, "the machine is being reclaimed by EC2"),
    Stop.SIGNAL: (Status.INTERRUPTED, "the agent was told to stop by a signal"),
    Stop.UNCLAIMED: (Status.INTERRUPTED, "no job was assigned within the idle limit"),
    Stop.DISK: (Status.FAILURE, "the disk was full; the job was stopped before it could fail without a reason"),
    Stop.RESTART_LOOP: (Status.FAILURE, "the runner kept restarting its listener without a usable registration"),
    Stop.LINGERED: (Status.FAILURE, "the runner did not leave after its job completed"),
}
"""The status and the sentence of the final message for each reason to stop."""


@dataclass(frozen=True)
class Verdict:
    """How a life ended: `error` is a sentence and empty only for success, `reason` is one stable word."""

    status: Status
    reason: str = ""
    error: str = ""
    job_result: str = ""

    @property
    def exit_code(self) -> int:
        """The exit code in the final message: 0 if and only if the status is success."""
        return 0 if self.status is Status.SUCCESS else 1


def verdict_of_failure(reason: str, error: str) -> Verdict:
    """The verdict on a life that failed before its work was started."""
    return Verdict(Status.FAILURE, reason, error)


def verdict_of_early_stop(stop: Stop) -> Verdict:
    """The verdict on a life that was told to stop before its work was started."""
    status, sentence = STOPPED[stop]
    return Verdict(status, stop.value, f"{sentence}, before the runner was started")


class WorkIdentity(NamedTuple):
    """Which work was really done, in the words of the work itself: untrusted, empty where it did not say."""

    run_id: str = ""
    run_attempt: str = ""
    job: str = ""


UNIDENTIFIED = WorkIdentity()


@dataclass(frozen=True)
class Prepared:
    """What `Work.prepare` put on this machine."""

    directory: Path
    """Where the work is started."""
    digest: str = ""
    """Who vouched for the bytes that are executed; the final message's `digest`."""
    cache_outcome: str = ""
    """What the release cache did for this machine so far; the final message's `cache_outcome`."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Fields of the log event `work.started`."""
    writes_to: tuple[Path, ...] = ()
    """Directories that the work writes to, wherever they are mounted: their volumes are watched."""
    degraded: tuple[str, ...] = ()
    """What was done in a way that is only for need, each as `part: why`; goes into the final message's `degraded`."""


class Work(Protocol):
    """One kind of work. A new kind is one implementation and one line in `agent/wiring.py`."""

    register_within_s: float
    """Seconds that `register` may take before the life gives up."""

    def prefetch(self) -> None:
        """Begin in the background what the settings alone decide; called at most once, before the configuration is known."""

    def prepare(self, config: RunnerConfig) -> Prepared:
        """Put everything the work needs on this machine; bounded by the work itself.

        Raises: StoppedEarly if a stop is requested meanwhile; AgentError with the reason of the final message.
        """

    def register(self, config: RunnerConfig, prepared: Prepared, instance_id: str) -> Launch:
        """How to start the work, registered with whoever hands it out. Runs in a background task. Raises: AgentError."""

    def started(self, prepared: Prepared) -> str:
        """Begin what may run beside the work; returns the final message's `cache_outcome` as of now."""

    def is_identified(self) -> bool:
        """Whether `identity` knows something already."""

    def identity(self) -> WorkIdentity:
        """The identity of the work that is really done, which may be another job's."""

    def is_unexplained(self, watch: Watch) -> bool:
        """Whether the work ended in the middle and nobody has said why yet."""

    def verdict(self, watch: Watch) -> Verdict:
        """The verdict on work that ended, or that would not end."""

    def keep(self, config: RunnerConfig, prepared: Prepared, instance_id: str) -> str:
        """Upload what explains a failure; returns the final message's `diag_outcome`. Runs in a background task."""

    def clean(self, prepared: Prepared) -> list[str]:
        """Remove what registration and the work left on the disk; returns what could not be removed."""


class AnnouncementReader(Protocol):
    """How the work's own output is read for announcements; pure functions."""

    LONGEST_LINE: int
    """Bytes of a line that are looked at."""

    def worth_reading(self, chunk: bytes) -> bool:
        """Whether any line in `chunk` could be an announcement; cheap enough for a flood of output."""

    def read(self, line: bytes) -> tuple[Announcement, ...]:
        """What one line, without its end, announces; usually nothing."""

    def topic(self, announcement: Announcement) -> str:
        """What it is about, of a few topics: repeated often, it says nothing new."""
