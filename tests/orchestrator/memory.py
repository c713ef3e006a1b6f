"""In-memory twins of the orchestrator's ports: each has state and keeps the rules of what it stands for."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec

from agent.contract.secret import Secret
from orchestrator.errors import Conflict, NoCapacity, OrchestratorError, ServiceFailed, Unanswered
from orchestrator.model import Job, Session, SessionState
from orchestrator.ports import Minted, Received, Scope
from orchestrator.settings import Alias, ServerSettings
from orchestrator.turns import Turns
from orchestrator.webhook import JobEvent

MORNING = 1_769_860_800.0
"""2026-01-31T12:00:00Z."""
KEY_BYTES = {"d": 256, "dp": 128, "dq": 128, "exponent": 3, "inverseQ": 128, "modulus": 256, "p": 128, "q": 128}
"""The numbers of an RSA key of 2,048 bits."""


class Crash(Exception):
    """The process is gone."""


@dataclass
class Calls:
    """Every call of every port in order; after the `fatal` one (counted from 1) its effect stands and nothing else happens."""

    made: list[str] = field(default_factory=list)
    fatal: int = 0
    failure: type[Exception] = Crash

    def note(self, name: str) -> None:
        """Called when the effect has happened, before the caller hears of it."""
        self.made.append(name)
        if len(self.made) == self.fatal:
            raise Unanswered(name) if self.failure is Unanswered else self.failure(name)


@dataclass
class ManualClock:
    """Clock (ports) that stands still until told."""

    at: float = MORNING

    def now(self) -> float:
        """Epoch seconds."""
        return self.at


@dataclass
class MemoryJournal:
    """Journal (ports) that remembers."""

    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def event(self, name: str, **fields: object) -> None:
        """One line."""
        self.events.append((name, fields))

    @property
    def names(self) -> list[str]:
        """The names alone."""
        return [name for name, _ in self.events]


class MemoryRecords:
    """Records (ports): a write fits the version that was read, or is a Conflict."""

    def __init__(self, calls: Calls | None = None) -> None:
        self._calls = calls or Calls()
        self._jobs: dict[str, Job] = {}
        self._sessions: dict[str, Session] = {}

    def job(self, job_id: str) -> Job | None:
        """What was written last."""
        self._calls.note("records.job")
        return self._jobs.get(job_id)

    def save_job(self, job: Job) -> Job:
        """Conditional."""
        newer = _newer(job, self._jobs.get(job.job_id))
        self._jobs[job.job_id] = newer
        self._calls.note("records.save_job")
        return newer

    def session(self, session_id: str) -> Session | None:
        """What was written last."""
        self._calls.note("records.session")
        return self._sessions.get(session_id)

    def save_session(self, session: Session) -> Session:
        """Conditional."""
        newer = _newer(session, self._sessions.get(session.session_id))
        self._sessions[session.session_id] = newer
        self._calls.note("records.save_session")
        return newer

    def open_sessions(self) -> Iterable[Session]:
        """Not closed."""
        self._calls.note("records.open_sessions")
        return [session for session in self._sessions.values() if session.state is not SessionState.CLOSED]

    def jobs(self) -> Iterable[Job]:
        """All."""
        return list(self._jobs.values())

    def sessions(self) -> Iterable[Session]:
        """All."""
        return list(self._sessions.values())


class MemoryCompute:
    """Compute (ports): one instance per request, however often it is sent."""

    def __init__(self, calls: Calls | None = None) -> None:
        self._calls = calls or Calls()
        self._by_request: dict[str, str] = {}
        self.instances: dict[str, str] = {}
        """Id to state; take one out and EC2 does not know it any more."""
        self.full = False
        """No capacity."""
        self.broken: set[str] = set()
        """Instances that cannot be terminated now."""

    def launch(self, request: str) -> str:
        """A replay gives the same instance."""
        if request not in self._by_request:
            if self.full:
                raise NoCapacity("EC2 launched nothing: InsufficientInstanceCapacity")
            self._by_request[request] = f"i-{len(self._by_request) + 1:017x}"
            self.instances[self._by_request[request]] = "running"
        self._calls.note("compute.launch")
        return self._by_request[request]

    def states(self, instance_ids: Iterable[str]) -> dict[str, str]:
        """Of those it knows."""
        found = {identity: self.instances[identity] for identity in instance_ids if identity in self.instances}
        self._calls.note("compute.states")
        return found

    def terminate(self, instance_id: str) -> None:
        """Gone already is success."""
        if instance_id in self.broken:
            raise ServiceFailed(f"ec2:TerminateInstances {instance_id}", "RequestLimitExceeded")
        if instance_id in self.instances:
            self.instances[instance_id] = "terminated"
        self._calls.note("compute.terminate")

    @property
    def launched(self) -> int:
        """How many instances there ever were."""
        return len(self._by_request)


@dataclass
class Registration:
    """A runner, as GitHub lists it."""

    name: str
    labels: tuple[str, ...]
    busy: bool = False


class MemoryGitHub:
    """GitHub (ports): names are unique, a busy runner stays."""

    def __init__(self, calls: Calls | None = None) -> None:
        self._calls = calls or Calls()
        self.runners: dict[int, Registration] = {}
        self._serial = 0

    def mint(self, scope: Scope, name: str, labels: tuple[str, ...], group_id: int) -> Minted | None:
        """None if the name is taken."""
        if any(runner.name == name for runner in self.runners.values()):
            self._calls.note("github.mint")
            return None
        self._serial += 1
        self.runners[self._serial] = Registration(name, labels)
        self._calls.note("github.mint")
        return Minted(self._serial, Secret(a_blob(self._serial, name)))

    def find(self, scope: Scope, name: str) -> int | None:
        """By name."""
        found = next((number for number, runner in self.runners.items() if runner.name == name), None)
        self._calls.note("github.find")
        return found

    def remove(self, scope: Scope, runner_id: int) -> bool:
        """Unless it is busy."""
        runner = self.runners.get(runner_id)
        if runner is not None and not runner.busy:
            del self.runners[runner_id]
        self._calls.note("github.remove")
        return runner is None or not runner.busy


class MemoryParameters:
    """Parameters (ports): what is there is never overwritten."""

    def __init__(self, calls: Calls | None = None) -> None:
        self._calls = calls or Calls()
        self.values: dict[str, str] = {}
        self.tags: dict[str, tuple[str, str]] = {}

    def put(self, name: str, value: str, instance_id: str, stack_id: str) -> bool:
        """False if there is one."""
        fresh = name not in self.values
        self.values.setdefault(name, value)
        self.tags.setdefault(name, (instance_id, stack_id))
        self._calls.note("parameters.put")
        return fresh

    def exists(self, name: str) -> bool:
        """Whether it is there."""
        found = name in self.values
        self._calls.note("parameters.exists")
        return found

    def delete(self, name: str) -> None:
        """Gone already is success."""
        self.values.pop(name, None)
        self.tags.pop(name, None)
        self._calls.note("parameters.delete")


class MemoryQueue:
    """Queue (ports): at least once, without repetition of one deduplication id."""

    def __init__(self, calls: Calls | None = None) -> None:
        self._calls = calls or Calls()
        self._messages: dict[str, Received] = {}
        self._in_flight: set[str] = set()
        self._seen: set[str] = set()
        self._serial = 0
        self.refuses = False

    def send(self, body: str, group: str, deduplication: str) -> None:
        """Durable on return."""
        if self.refuses:
            raise ServiceFailed("sqs:SendMessage", "ServiceUnavailable")
        if deduplication not in self._seen:
            self._seen.add(deduplication)
            self.put(body)
        self._calls.note("queue.send")

    def put(self, body: str, sender: str = "") -> None:
        """A message from somebody else."""
        self._serial += 1
        receipt = f"receipt-{self._serial}"
        self._messages[receipt] = Received(body, receipt, sender)

    def receive(self, wait_s: int) -> list[Received]:
        """Up to ten that nobody holds."""
        found = [message for receipt, message in self._messages.items() if receipt not in self._in_flight][:10]
        self._in_flight |= {message.receipt for message in found}
        self._calls.note("queue.receive")
        return found

    def delete(self, receipt: str) -> None:
        """Done with it."""
        self._messages.pop(receipt, None)
        self._calls.note("queue.delete")

    def forget(self) -> None:
        """Empty, and as if nothing had ever been sent."""
        self._messages.clear()
        self._in_flight.clear()
        self._seen.clear()

    def time_out(self) -> None:
        """What was received and not deleted comes again."""
        self._in_flight.clear()

    @property
    def bodies(self) -> list[str]:
        """What lies in it."""
        return [message.body for message in self._messages.values()]


class World:
    """The turns on twins, and the hands of everybody else."""

    def __init__(self, calls: Calls | None = None, settings: ServerSettings | None = None) -> None:
        self.calls = calls or Calls()
        self.settings = settings or some_settings()
        self.clock, self.journal = ManualClock(), MemoryJournal()
        self.records, self.compute = MemoryRecords(self.calls), MemoryCompute(self.calls)
        self.github, self.parameters = MemoryGitHub(self.calls), MemoryParameters(self.calls)
        self.queue, self.terminations = MemoryQueue(self.calls), MemoryQueue(self.calls)
        self.turns = Turns(
            self.settings, self.records, self.compute, self.github, self.parameters, self.queue, self.clock, self.journal
        )

    @property
    def session(self) -> Session:
        """The only one."""
        (only,) = self.records.sessions()
        return only

    def launched(self) -> Session:
        """A job was queued and its machine configured."""
        self.turns.on_job_event(an_event())
        return self.session

    def hear(self, status: str, sender: str = "", **fields: object) -> None:
        """The turn of one message of the agent of the only session."""
        told = {"instance_id": self.session.instance_id, "session_id": self.session.session_id, "job_id": "1", **fields}
        self.turns.on_agent_message(Received(json.dumps({"status": status, **told}), "receipt", sender))

    def hear_the_end(self, status: str = "success", sender: str = "", **fields: object) -> None:
        """A final word."""
        self.hear(status, sender, **{**final_fields(status), **fields})

    def tick(self, after_s: float = 0.0) -> None:
        """Time passes, then a tick."""
        self.clock.at += after_s
        self.turns.on_tick()

    def becomes(self, state: str | None) -> None:
        """EC2's word for the only instance; None: it never heard of it."""
        if state is None:
            del self.compute.instances[self.session.instance_id]
        else:
            self.compute.instances[self.session.instance_id] = state


def final_fields(status: str) -> dict[str, object]:
    """What a final word must say."""
    return {
        "exit_code": 0 if status == "success" else 1,
        "duration_seconds": 7,
        "started_at": "2026-01-31T12:00:10Z",
        "completed_at": "2026-01-31T12:00:17Z",
        "error": "" if status == "success" else "it broke",
    }


def some_settings(**changes: object) -> ServerSettings:
    """Usable settings."""
    given: dict[str, object] = {
        "webhook_secret": Secret("hush"), "app_id": "1", "app_private_key": Secret("-----BEGIN"), "queue_url": "q.fifo",
        "termination_queue_url": "t", "subnet_ids": ("subnet-1", "subnet-2"), "stack_id": "tests",
        "aliases": (Alias("ubuntu-latest"),), **changes,
    }  # fmt: skip
    return ServerSettings(**given)  # type: ignore[arg-type]


def an_event(action: str = "queued", **changes: object) -> JobEvent:
    """A delivery, read."""
    given: dict[str, object] = {
        "action": action, "job_id": "1", "run_id": "7", "run_attempt": 1, "owner": "octo", "repo": "widgets", "name": "build",
        "labels": ("runs-fleet=7/arch=amd64",), "installation_id": "3", "at": MORNING, **changes,
    }  # fmt: skip
    return JobEvent(**given)  # type: ignore[arg-type]


def a_job(**changes: object) -> Job:
    """A queued job."""
    given: dict[str, object] = {
        "job_id": "1", "run_id": "7", "run_attempt": 1, "owner": "octo", "repo": "widgets", "name": "build",
        "labels": ("runs-fleet=7/arch=amd64",), "installation_id": "3", "queued_at": MORNING, **changes,
    }  # fmt: skip
    return Job(**given)  # type: ignore[arg-type]


def a_session(**changes: object) -> Session:
    """A session whose launch is intended."""
    given: dict[str, object] = {
        "session_id": "s-1", "launched_for": "1", "owner": "octo", "repo": "widgets", "run_id": "7", "labels": ("runs-fleet",),
        "installation_id": "3", "request": "{}", **changes,
    }  # fmt: skip
    return Session(**given)  # type: ignore[arg-type]


def a_blob(seed: int = 1, name: str = "runner") -> str:
    """A JIT config with as much chance in it as a real one."""
    chance = random.Random(seed)
    runner = {"AgentId": str(seed), "AgentName": name, "ServerUrl": "https://example/" + "aB3" * 16, "WorkFolder": "_work"}
    credentials = {"Scheme": "OAuth", "Data": {"ClientId": "01234567-89ab-cdef-0123-456789abcdef"}}
    key = {part: base64.b64encode(chance.randbytes(size)).decode() for part, size in KEY_BYTES.items()}
    files = {".runner": runner, ".credentials": credentials, ".credentials_rsaparams": key}
    inner = {file: base64.b64encode(json.dumps(content).encode()).decode() for file, content in files.items()}
    return base64.b64encode(json.dumps(inner).encode()).decode()


def consume(queue: MemoryQueue, handle: Callable[[Received], object]) -> None:
    """Handle each message, then delete it, as the wheels do."""
    for message in queue.receive(0):
        try:
            handle(message)
        except OrchestratorError:
            continue
        queue.delete(message.receipt)


def _newer(record: object, known: object) -> object:
    read = getattr(record, "version", 0)
    if (known is None and read) or (known is not None and known.version != read):  # type: ignore[attr-defined]
        raise Conflict(f"somebody wrote since version {read} was read")
    return msgspec.structs.replace(record, version=read + 1)  # type: ignore[type-var]
