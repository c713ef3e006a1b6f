"""What the agent needs from the world, each as small as the need; `adapters/` has the real ones, tests have virtual ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from agent.contract.secret import Secret
from agent.phases import Phase
from agent.safety import Reading
from agent.supervision import Announcement, NoticeKind


@dataclass(frozen=True)
class TaskEnded:
    """A background task returned `value` or raised `error`."""

    name: str
    value: Any = None
    error: BaseException | None = None


@dataclass(frozen=True)
class Heard:
    """The runner announced something."""

    announcement: Announcement


@dataclass(frozen=True)
class RunnerExited:
    """The process we started ended; a negative code is a signal."""

    code: int


@dataclass(frozen=True)
class OutputEnded:
    """Nobody holds the runner's output open any more, and all of it is spooled."""


@dataclass(frozen=True)
class Signalled:
    """The agent itself was sent a signal, by its name."""

    name: str


@dataclass(frozen=True)
class NoticeCame:
    """The host announced something about the machine; `ends_at` is when it ends, where that was said."""

    kind: NoticeKind
    ends_at: datetime | None = None
    detail: str = ""


Event = TaskEnded | Heard | RunnerExited | OutputEnded | Signalled | NoticeCame


class Clock(Protocol):
    """Time and chance. Durations are monotonic seconds, moments are aware UTC datetimes."""

    def monotonic_s(self) -> float:
        """Seconds that only ever grow, also while the machine's wall clock is set."""

    def now(self) -> datetime:
        """The time of the wall clock, in UTC."""

    def pause(self, seconds: float) -> None:
        """Let that much time pass; for the pauses between tries of one background task only."""

    def fraction(self) -> float:
        """A number in [0, 1), different on each machine."""

    def new_id(self) -> str:
        """A fresh, unguessable identifier."""


class Inbox(Protocol):
    """Where everything that happens arrives, in order, for the one thread that decides."""

    def post(self, event: Event) -> None:
        """Never blocks; may be called from any thread and from a signal handler."""

    def wait(self, until_s: float) -> Event | None:
        """The next event; None once the monotonic clock has reached `until_s`."""


class Workers(Protocol):
    """Whoever does what would hold up the decisions."""

    def begin(self, name: str, task: Callable[[], Any]) -> None:
        """Run `task` in the background; its end arrives in the inbox as TaskEnded, or never if it hangs."""

    def ahead(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The same chunks, produced a little ahead of their consumer; an error comes out where it happened."""


class Journal(Protocol):
    """The agent's own log: events with fields, never a secret."""

    def event(self, name: str, **fields: object) -> None:
        """One line. The name never varies; values are fields."""

    def phase(self, phase: Phase) -> None:
        """A phase of the life begins."""

    def hide(self, *secrets: Secret) -> None:
        """From now on these never appear, here or in the log_stream."""

    def cleaned(self, text: str) -> str:
        """`text` with every known secret replaced."""


class Parameters(Protocol):
    """Where configurations lie, read only."""

    def read(self, name: str) -> str:
        """The decrypted value. Raises: ServiceError, with the service's own code; no retry."""


class Queue(Protocol):
    """The termination queue."""

    def send(self, body: str) -> None:
        """Returns once the service has it. Raises: ServiceError; then it may or may not have it."""


class Body(Protocol):
    """Bytes on their way; `size` is the whole object's where known."""

    size: int | None

    def read(self, most: int) -> bytes:
        """At most that many, as soon as any are there; empty at the end. Raises: Unreachable when cut off."""

    def close(self) -> None:
        """Stop the transfer and drop the connection."""


class Web(Protocol):
    """Plain HTTP."""

    def get_json(self, url: str) -> Any:
        """The decoded answer. Raises: ServiceError with the status as code, Unreachable."""

    def open(self, url: str, offset: int) -> Body:
        """The bytes of `url` from `offset` on, redirects followed. Raises: ServiceError, Unreachable."""


@dataclass(frozen=True)
class StoredObject:
    """One object's key and what its uploader wrote beside it."""

    key: str
    metadata: Mapping[str, str] = field(default_factory=dict)


class Objects(Protocol):
    """One S3 bucket."""

    def keys(self, prefix: str) -> list[str]:
        """Every key below `prefix`. Raises: ServiceError."""

    def describe(self, key: str) -> StoredObject | None:
        """None if there is no such object (or we may not know). Raises: ServiceError."""

    def open(self, key: str, offset: int) -> Body:
        """The object's bytes from `offset` on. Raises: ServiceError."""

    def put_file_if_absent(self, key: str, path: Path, metadata: Mapping[str, str]) -> bool:
        """Whether this call created the object; False if somebody had. Raises: ServiceError."""

    def put_gzip_if_absent(self, key: str, chunks: Iterator[bytes]) -> bool:
        """Whether this call stored the gzip of `chunks`; False: something lies there. Raises: ServiceError."""


@dataclass(frozen=True)
class Launch:
    """How to start a process: nothing is inherited but what is written here."""

    command: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str]
    user: str | None = None
    """None: the agent's own."""
    stdin: bytes = b""  # all that it may read
    wrapper: tuple[str, ...] = ()
    """What starts `command`, as the agent's own user; empty: nothing."""
    after_sweep: bool = False
    """Whether it may also be started after `Processes.sweep`, as what switches the power off."""


@dataclass(frozen=True)
class Finished:
    """A bounded run: `code` is None if it did not end in time and was killed; `tail` is the end of its output."""

    code: int | None
    tail: str


class Runner(Protocol):
    """The running runner and everything it started."""

    def interrupt(self) -> bool:
        """SIGINT to the listener alone, or to what we started where no listener is found. False if all is gone."""

    def terminate(self) -> bool:
        """SIGTERM to the child, likewise."""

    def sweep(self, within_s: float) -> int:
        """SIGKILL everything that descends from the runner, wherever it hid; returns how many there were. Bounded."""


class Processes(Protocol):
    """Children of this machine."""

    def run(self, launch: Launch, within_s: float) -> Finished:
        """Start, wait, and kill what is still there after `within_s`. Raises: OSError if it cannot be executed."""

    def start(self, launch: Launch) -> Runner:
        """Start the runner: a session of its own, output to the spool, events to the inbox. Raises: OSError: it cannot be."""

    def sweep(self, within_s: float) -> int:
        """SIGKILL every descendant of ours, whoever started it; how many there were. Bounded.

        From now on `start` raises OSError, and so does `run` unless the launch is marked `after_sweep`: a thread that nobody
        waits for any more may still be trying again.
        """

    def read_plain(self, path: Path, most: int) -> bytes:
        """The first bytes of a plain file that a stranger may have made. Raises: OSError for a link, a pipe, or nothing."""

    def user_home(self, user: str | None) -> Path:
        """The home of `user` (None: ours). Raises: LookupError if there is no such user."""

    def own(self, path: Path, user: str | None) -> None:
        """Give `path`, recursively and without following links, to `user`; nothing for None."""


class Meters(Protocol):
    """The machine's own gauges."""

    def read(self, paths: Sequence[Path]) -> Reading:
        """The volumes on which `paths` lie, available memory and tasks; what cannot be read is left out, or None."""


@dataclass(frozen=True)
class LogReport:
    """What became of the output: outcome is `shipped`, `partial`, `lost` or `disabled`; every line is counted once."""

    outcome: str
    lines_shipped: int = 0
    lines_lost: int = 0
    cause: str = ""


class LogStream(Protocol):
    """The life's own log stream: the runner's output and our events, in order."""

    def open(self, job_id: str) -> None:
        """Make the stream and begin to ship. Raises: ServiceError; what is written is spooled either way."""

    def event(self, name: str, fields: Mapping[str, object]) -> None:
        """One JSON line of our own. Never blocks on the network."""

    def finish(self, within_s: float) -> LogReport:
        """Ship what is left, `within_s` at most, and say what became of every line."""


class Machine(Protocol):
    """The compute instance the agent runs in: who it is, what it is told, and how to end it."""

    def instance_id(self) -> str:
        """Ours. Raises: ServiceError if the instance will not say."""

    def watch_notices(self) -> None:
        """From now on, NoticeCame arrives in the inbox; at most one `silent`."""

    def close_metadata(self, instance_id: str, needed_s: float) -> None:
        """Switch the metadata service off for everybody, notices included, and see it gone. What we need of it we have.

        Raises: ServiceError: refused, still answering, or credentials that would not last `needed_s`.
        """

    def may_terminate(self, instance_id: str) -> str:
        """`permitted`, or the code with which the service refused; `unknown` without an answer."""

    def terminate(self, instance_id: str) -> None:
        """Returns once accepted. Raises: ServiceError; an id that EC2 does not know is not ours, so it is an error too."""

    def power_off_by_default(self) -> tuple[str, ...] | None:
        """The command to run where no setting names one: None unless this is certainly Amazon EC2."""

    def power_off(self, command: tuple[str, ...]) -> int:
        """Run `command` and return its exit code. Raises: OSError if it cannot be executed."""
