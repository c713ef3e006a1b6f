"""What the orchestrator needs from the world, each as small as the need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from agent.contract.secret import Secret
from orchestrator.model import Job, Session


class Clock(Protocol):
    """Wall time."""

    def now(self) -> float:
        """Epoch seconds."""


class Journal(Protocol):
    """The orchestrator's own log."""

    def event(self, name: str, **fields: object) -> None:
        """One line: a name that never varies, and fields."""


class Records(Protocol):
    """Jobs and sessions. Every write is conditional on the version that was read."""

    def job(self, job_id: str) -> Job | None:
        """Read consistently."""

    def save_job(self, job: Job) -> Job:
        """Write, if nobody wrote since (version 0: if there is none yet); returns it with its new version. Raises: Conflict."""

    def session(self, session_id: str) -> Session | None:
        """Read consistently."""

    def save_session(self, session: Session) -> Session:
        """Likewise. Raises: Conflict."""

    def open_sessions(self) -> Iterable[Session]:
        """Every session that is not closed."""

    def jobs(self) -> Iterable[Job]:
        """Every job we remember."""

    def sessions(self) -> Iterable[Session]:
        """Every session we remember."""


class Compute(Protocol):
    """The strategy that makes and ends bodies."""

    def launch(self, request: str) -> str:
        """Send the stored request; a replay gives the same instance. Returns its id. Raises: NoCapacity, ServiceFailed."""

    def states(self, instance_ids: Iterable[str]) -> dict[str, str]:
        """EC2's word for each instance it knows. Raises: ServiceFailed."""

    def terminate(self, instance_id: str) -> None:
        """Ask; gone already is success. Raises: ServiceFailed."""


@dataclass(frozen=True)
class Minted:
    """A registered runner and its single-use credential."""

    runner_id: int
    blob: Secret


@dataclass(frozen=True)
class Scope:
    """Where a runner belongs."""

    installation_id: str
    owner: str
    repo: str


class GitHub(Protocol):
    """The GitHub App's view of runners."""

    def mint(self, scope: Scope, name: str, labels: tuple[str, ...], group_id: int) -> Minted | None:
        """A JIT runner of this name; None if the name is taken. Raises: ServiceFailed."""

    def find(self, scope: Scope, name: str) -> int | None:
        """The id of the runner of this name. Raises: ServiceFailed."""

    def remove(self, scope: Scope, runner_id: int) -> bool:
        """Whether it is gone now; False while it runs a job. Raises: ServiceFailed."""


class Parameters(Protocol):
    """SSM."""

    def put(self, name: str, value: str, instance_id: str, stack_id: str) -> bool:
        """Write a SecureString with its tags; False if there is one already. Raises: ServiceFailed."""

    def exists(self, name: str) -> bool:
        """Whether it is there. Raises: ServiceFailed."""

    def delete(self, name: str) -> None:
        """Gone already is success. Raises: ServiceFailed."""


@dataclass(frozen=True)
class Received:
    """One message; `receipt` deletes it."""

    body: str
    receipt: str
    sender: str = ""
    """SQS's own word for who sent it (`AROA…:i-…`); empty where the queue does not say."""


class Queue(Protocol):
    """One SQS queue."""

    def send(self, body: str, group: str, deduplication: str) -> None:
        """Durable on return. Raises: ServiceFailed."""

    def receive(self, wait_s: int) -> list[Received]:
        """Up to ten. Raises: ServiceFailed."""

    def delete(self, receipt: str) -> None:
        """Done with it. Raises: ServiceFailed."""
