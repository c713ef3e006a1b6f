"""In-memory twins of the orchestrator's ports: each has state and keeps the rules of what it stands for."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from agent.contract.secret import Secret
from orchestrator import naming, states, wiring
from orchestrator.circuits import pool_name
from orchestrator.errors import Conflict, OrchestratorError, ServiceFailed, Throttled, Unanswered
from orchestrator.model import Job, Launch, Ledger, Planned, Session
from orchestrator.ports import Due, Key, Received, Write
from orchestrator.records import Records
from orchestrator.services import Allowance, Body, Ended, Failed, Minted, Registered, Run, Scope, SessionHandle, Site, Started
from orchestrator.settings import Alias, ServerSettings
from orchestrator.turns import Turns
from orchestrator.webhook import JobEvent

MORNING = 1_769_860_800.0
"""2026-01-31T12:00:00Z."""
KEY_BYTES = {"d": 256, "dp": 128, "dq": 128, "exponent": 3, "inverseQ": 128, "modulus": 256, "p": 128, "q": 128}
"""The numbers of an RSA key of 2,048 bits."""


class Crash(BaseException):
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
    """Timepiece (ports) that stands still until told; a pause passes at once."""

    at: float = MORNING

    def now(self) -> float:
        """Epoch seconds."""
        return self.at

    def monotonic_s(self) -> float:
        """The same."""
        return self.at

    def pause(self, seconds: float) -> None:
        """It is later now."""
        self.at += seconds


@dataclass
class HastyClock:
    """Timepiece (ports): the machine's time and what was added to it. Nobody waits: a pause passes at once."""

    ahead_s: float = 0.0

    def now(self) -> float:
        """Epoch seconds."""
        return time.time() + self.ahead_s

    def monotonic_s(self) -> float:
        """Never set back."""
        return time.monotonic() + self.ahead_s

    def pause(self, seconds: float) -> None:
        """It is later now."""
        self.ahead_s += seconds


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


@dataclass
class CountedIds:
    """Ids (ports) that count."""

    given: int = 0

    def fresh(self) -> str:
        """Never the same twice."""
        self.given += 1
        return f"{self.given:016x}"


class OwnHands:
    """Crew (ports) that does one thing after the other. A crash is nobody's to catch."""

    def alone(self, name: str) -> contextlib.AbstractContextManager[object]:
        """It always is."""
        return contextlib.nullcontext()

    def each(self, tasks: Sequence[Callable[[], object]]) -> list[Exception]:
        """All."""
        troubles: list[Exception] = []
        for task in tasks:
            try:
                task()
            except Crash:
                raise
            except Exception as error:
                troubles.append(error)
        return troubles


@dataclass
class GatheredWakes:
    """Wakes (ports) that gathers, for whoever settles in a test."""

    waiting: list[str] = field(default_factory=list)

    def wake(self, set_key: str, after_s: float = 0.0) -> None:
        """Once each; what is to be woken later is left to the sweep."""
        if set_key not in self.waiting and after_s <= 0.0:
            self.waiting.append(set_key)

    def taken(self) -> list[str]:
        """All, and none is left."""
        taken, self.waiting = self.waiting, []
        return taken


class MemoryTables:
    """Tables (ports) with DynamoDB's rules: versions, whole transactions, limits of size, and indexes that lag behind."""

    ITEM_BYTES, TRANSACTION = 400 * 1024, 100

    def __init__(self, clock: ManualClock, calls: Calls | None = None, index_lag_s: float = 0.0) -> None:
        self._clock, self._calls, self.index_lag_s = clock, calls or Calls(), index_lag_s
        self._items: dict[tuple[str, Key], str] = {}
        self._index: dict[tuple[str, Key], dict[str, Any]] = {}
        self._coming: list[tuple[float, tuple[str, Key], dict[str, Any]]] = []
        self.examined = 0
        """Items that reads have touched."""

    def peek(self, table: str, key: Key) -> dict[str, Any] | None:
        """What was written last, at no call."""
        item = self._items.get((table, key))
        return json.loads(item) if item is not None else None

    def get(self, table: str, key: Key) -> dict[str, Any] | None:
        """What was written last."""
        found = self._items.get((table, key))
        self.examined += found is not None
        self._calls.note("tables.get")
        return json.loads(found) if found is not None else None

    def write(self, writes: Sequence[Write]) -> None:
        """All or none."""
        places = [(one.table, one.key) for one in writes]
        if not 0 < len(writes) <= self.TRANSACTION or len(set(places)) != len(places):
            raise ServiceFailed("dynamodb:TransactWriteItems", "ValidationException", "too many items, or one item twice")
        for one in writes:
            if one.item is not None:
                self._check(one.item)
            if one.read is not None and self._version((one.table, one.key)) != one.read:
                raise Conflict("somebody wrote one of the items since it was read")
        for one in writes:
            self._put((one.table, one.key), one.item)
        self._calls.note("tables.write")

    def count(self, table: str, key: Key, also: Mapping[str, Any]) -> int:
        """Unconditional."""
        place = (table, key)
        item = json.loads(self._items.get(place, "{}")) | dict(also) | {"version": self._version(place) + 1}
        self._check(item)
        self._put(place, item)
        self._calls.note("tables.count")
        return int(item["version"])

    def rows(self, table: str, partition: str) -> list[dict[str, Any]]:
        """In the order of their rows."""
        places = sorted(place for place in self._items if place[0] == table and place[1][0] == partition)
        self.examined += len(places)
        self._calls.note("tables.rows")
        return [json.loads(self._items[place]) for place in places]

    def due(self, table: str, shard: str, before: float) -> Iterator[Due]:
        """As far as the index has heard."""
        self._hear()
        self._calls.note("tables.due")
        entries = [
            (entry["due"], place[1]) for place, entry in self._index.items() if place[0] == table and entry.get("shard") == shard
        ]
        for at, key in sorted(entry for entry in entries if entry[0] <= before):
            self.examined += 1
            yield Due(key, at)

    def of_instance(self, table: str, instance_id: str) -> list[dict[str, Any]]:
        """As far as the index has heard."""
        self._hear()
        self._calls.note("tables.of_instance")
        found = [
            e["item"] for place, e in self._index.items() if place[0] == table and e["item"].get("instance_id") == instance_id
        ]
        self.examined += len(found)
        return found

    def scan(self, table: str) -> Iterator[dict[str, Any]]:
        """Everything."""
        found = [json.loads(item) for place, item in list(self._items.items()) if place[0] == table]
        self.examined += len(found)
        return iter(found)

    def _version(self, place: tuple[str, Key]) -> int:
        return int(json.loads(self._items[place]).get("version", 0)) if place in self._items else 0

    def _check(self, item: Mapping[str, Any]) -> None:
        text = json.dumps(item, ensure_ascii=False)
        if len(text.encode()) > self.ITEM_BYTES or any(item.get(name) == "" for name in ("shard", "instance_id")):
            raise ServiceFailed("dynamodb:PutItem", "ValidationException", "an empty index key, or more than 400 KB")

    def _put(self, place: tuple[str, Key], item: Mapping[str, Any] | None) -> None:
        if item is None:
            self._items.pop(place, None)
        else:
            self._items[place] = json.dumps({**item, "id": place[1][0], "row": place[1][1]})
        sparse = item is not None and ("shard" in item or "instance_id" in item)
        entry = {"item": json.loads(self._items[place]), **{k: item[k] for k in ("shard", "due") if k in item}} if sparse else {}
        self._coming.append((self._clock.now() + self.index_lag_s, place, entry))

    def _hear(self) -> None:
        heard = [change for change in self._coming if change[0] <= self._clock.now()]
        self._coming = [change for change in self._coming if change[0] > self._clock.now()]
        for _, place, entry in heard:
            if entry:
                self._index[place] = entry
            else:
                self._index.pop(place, None)


class MemoryCompute:
    """Compute (services) with EC2's manners.

    One token gives the same bodies, a partial answer carries reasons, a pool may be full.
    """

    def __init__(self, calls: Calls | None = None) -> None:
        self._calls = calls or Calls()
        self._by_token: dict[str, tuple[str, Started]] = {}
        self.requests: list[dict[str, Any]] = []
        self.instances: dict[str, str] = {}
        """Id to state; take one out and EC2 does not know it any more."""
        self.launched_by: dict[str, str] = {}
        self.kinds: dict[str, str] = {}
        self.full: set[str] = set()
        """Markets, instance types or zones' subnets without capacity; `*`: everything."""
        self.room: int | None = None
        """How many more instances there is capacity for at all; None: no end."""
        self.broken: set[str] = set()
        """Instances that cannot be terminated now."""
        self.answers: list[Exception | str] = []
        """Of the next requests, instead of bodies; a text is the reason of an empty answer."""
        self.loses = 0
        """Of the next requests, so many take effect and are never answered."""
        self.sent = 0
        """Requests that came, also again."""
        self.version = "1"
        self.consoles: dict[str, str] = {}
        self.ended: dict[str, float] = {}
        """When those went of which it says so."""
        self.expires: dict[str, float] = {}
        """Of instances whose tag names an end."""

    name = "ec2"

    def site(self) -> Site:
        """Two architectures, two zones."""
        templates = {arch: (f"runs-fleet-runner-{arch}", self.version) for arch in ("amd64", "arm64")}
        return Site(templates, {"use1-az1": "subnet-1", "use1-az2": "subnet-2"})

    def start_sessions(self, request: str, *, sent_before: bool) -> Started:
        """A replay gives the same bodies; other words under the same token are refused."""
        self.sent += 1
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return Started((), (answer,))
        told = json.loads(request)
        token = told["ClientToken"]
        if token in self._by_token and self._by_token[token][0] != request:
            raise ServiceFailed("ec2:CreateFleet", "IdempotentParameterMismatch")
        if token not in self._by_token:
            self.requests.append(told)
            self._by_token[token] = (request, self._started(told))
        self._calls.note("compute.start_sessions")
        if self.loses:
            self.loses -= 1
            raise Unanswered("ec2:CreateFleet")
        return self._by_token[token][1]

    def poll_sessions(self, handles: Iterable[SessionHandle]) -> dict[SessionHandle, Body]:
        """Of those it knows."""
        found = {handle: self._body(handle.body) for handle in handles if handle.body in self.instances}
        self._calls.note("compute.poll_sessions")
        return found

    def stop_session(self, handle: SessionHandle) -> bool:
        """Gone already is success."""
        if handle.body in self.broken:
            raise Throttled(f"ec2:TerminateInstances {handle.body}", "RequestLimitExceeded")
        known = handle.body in self.instances
        if known:
            self.instances[handle.body] = "terminated"
        self._calls.note("compute.stop_session")
        return known

    def list_sessions(self) -> Iterator[Body]:
        """Those that are not gone."""
        for identity, state in self.instances.items():
            if state not in ("terminated", "shutting-down"):
                yield self._body(identity)

    def look_up(self, request: str) -> tuple[Body, ...]:
        """What its token made."""
        self._calls.note("compute.look_up")
        made = self._by_token.get(json.loads(request)["ClientToken"])
        return tuple(self._body(body.handle.body) for body in made[1].bodies) if made is not None else ()

    def _body(self, identity: str) -> Body:
        return Body(
            SessionHandle("ec2", identity), self.instances[identity], self.launched_by.get(identity, ""),
            self.kinds.get(identity, ""), expires_at=self.expires.get(identity), ended_at=self.ended.get(identity),
        )  # fmt: skip

    def last_words(self, handle: SessionHandle) -> str:
        """What the test wrote."""
        return self.consoles.get(handle.body, "")

    @property
    def launched(self) -> int:
        """How many instances there ever were."""
        return len(self.launched_by)

    def _started(self, told: dict[str, Any]) -> Started:
        market = told["TargetCapacitySpecification"]["DefaultTargetCapacityType"]
        pools = told["LaunchTemplateConfigs"][0]["Overrides"]
        open_pools = [p for p in pools if not self.full & {"*", market, p["InstanceType"], p["SubnetId"]}]
        reasons = tuple(sorted({f"InsufficientInstanceCapacity: {p['InstanceType']}" for p in pools if p not in open_pools}))
        number = told["TargetCapacitySpecification"]["TotalTargetCapacity"] if open_pools else 0
        given = number if self.room is None else min(number, self.room)
        if self.room is not None:
            self.room -= given
        if given < number:
            reasons = (*reasons, "InsufficientInstanceCapacity: no more")
        tags = {tag["Key"]: tag["Value"] for tag in told["TagSpecifications"][0]["Tags"]}
        bodies = []
        for _ in range(given):
            identity = f"i-{len(self.launched_by) + 1:017x}"
            self.instances[identity], self.launched_by[identity] = "running", tags["runs-fleet:launch-id"]
            chosen = open_pools[0]
            pool = pool_name(chosen["InstanceType"], chosen["SubnetId"], market)
            self.kinds[identity] = chosen["InstanceType"]
            handle = SessionHandle("ec2", identity)
            bodies.append(Body(handle, "pending", tags["runs-fleet:launch-id"], chosen["InstanceType"], pool, market))
        refused = sorted(pool_name(p["InstanceType"], p["SubnetId"], market) for p in pools if p not in open_pools)
        return Started(tuple(bodies), reasons, tuple(refused))


@dataclass
class Registration:
    """A runner, as GitHub lists it."""

    name: str
    labels: tuple[str, ...]
    busy: bool = False
    online: bool = False


class MemoryGitHub:
    """GitHub (services): names are unique, a busy runner stays."""

    def __init__(self, calls: Calls | None = None) -> None:
        self._calls = calls or Calls()
        self.runners: dict[int, Registration] = {}
        self.jobs: dict[str, JobEvent] = {}
        """As a delivery would tell each now."""
        self.agrees: Callable[[str], JobEvent | None] = lambda job_id: None
        """What it says of a job that is not in `jobs`."""
        self.attempts: dict[str, int] = {}
        """Latest attempt of each run."""
        self.reruns: list[tuple[str, str]] = []
        self.gone: set[str] = set()
        """Runs that GitHub does not know (any more)."""
        self.cancelled: set[str] = set()
        """Runs that somebody cancelled."""
        self.forks: set[str] = set()
        """Runs whose code comes from one."""
        self.left: int | None = None
        self.may_note = True
        self.notes: list[str] = []
        self.lost: list[str] = []
        """Deliveries that failed, newest first."""
        self.lost_at: dict[str, float] = {}
        """When, of those that failed some time ago."""
        self.redelivered: list[str] = []
        self.kept_no_more: set[str] = set()
        """Deliveries that are listed, and unknown when they are asked for."""
        self.refused: set[str] = set()
        """Deliveries that it does not send again now."""
        self._serial = 0

    def registrations(self, scope: Scope) -> Allowance:
        """As the test says."""
        return Allowance(self.left)

    def mint(self, scope: Scope, name: str, labels: tuple[str, ...], group_id: int) -> Minted | None:
        """None if the name is taken; one less is left."""
        self.left = None if self.left is None else self.left - 1
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

    def registered(self, scope: Scope) -> Iterator[Registered]:
        """All."""
        self._calls.note("github.registered")
        return iter([Registered(number, r.name, r.online, r.busy) for number, r in self.runners.items()])

    def job(self, scope: Scope, job_id: str, *, urgent: bool = True) -> JobEvent | None:
        """As `jobs` says, else as `agrees`."""
        self._calls.note("github.job")
        return self.jobs.get(job_id) or self.agrees(job_id)

    def jobs_of(self, scope: Scope, run_id: str) -> Iterator[JobEvent]:
        """Those in `jobs`."""
        self._calls.note("github.jobs_of")
        return iter(self._latest(run_id))

    def run(self, scope: Scope, run_id: str) -> Run | None:
        """As `attempts` says: over if none of its jobs in `jobs` is not."""
        self._calls.note("github.run")
        if run_id in self.gone:
            return None
        over = all(job.action == "completed" for job in self._latest(run_id))
        ended = "cancelled" if run_id in self.cancelled else "failure"
        attempt, fork = self.attempts.get(run_id, 1), run_id in self.forks
        return Run(over=over, attempt=attempt, conclusion=ended if over else "", fork=fork)

    def note(self, scope: Scope, head_sha: str, title: str, text: str) -> bool:
        """If the App may."""
        self._calls.note("github.note")
        if self.may_note:
            self.notes.append(text)
        return self.may_note

    def waiting_jobs(self, scope: Scope) -> Iterator[JobEvent]:
        """Those in `jobs`."""
        self._calls.note("github.waiting_jobs")
        return iter(
            [job for job in self.jobs.values() if job.action == "queued" and (job.owner, job.repo) == (scope.owner, scope.repo)]
        )

    def failed_deliveries(self, since: float) -> list[Failed]:
        """As `lost` and `lost_at` say; a name up to a `~` is its guid."""
        self._calls.note("github.failed_deliveries")
        return [Failed(one, one.partition("~")[0]) for one in self.lost if self.lost_at.get(one, since) >= since]

    def redeliver(self, delivery_id: str) -> None:
        """It stays in the list, as on GitHub: the new try is another delivery."""
        self._calls.note("github.redeliver")
        if delivery_id in self.kept_no_more | self.refused:
            raise ServiceFailed("github:redeliver", "404" if delivery_id in self.kept_no_more else "422")
        self.redelivered.append(delivery_id)

    def ended_badly(self, scope: Scope, run_id: str) -> list[Ended]:
        """Of the latest attempt."""
        self._calls.note("github.ended_badly")
        latest = [job for job in self._latest(run_id) if job.conclusion not in ("", "success", "skipped", "neutral")]
        return [Ended(job.job_id, job.name, job.conclusion) for job in latest]

    def rerun(self, scope: Scope, run_id: str, job_id: str = "") -> bool:
        """A new attempt: those that run again have new ids and are queued, the others are as they were. One at a time."""
        latest = self._latest(run_id)
        badly = ("failure", "timed_out", "cancelled")
        again = [job for job in latest if job.conclusion in badly and job_id in ("", job.job_id)]
        allowed = bool(again) and all(job.action == "completed" for job in latest)
        if allowed:
            self.attempts[run_id] = self.attempts.get(run_id, 1) + 1
            for job in latest:
                told = {"job_id": f"{job.job_id}+", "run_attempt": self.attempts[run_id]}
                fresh = {"action": "queued", "conclusion": "", "runner_name": ""} if job in again else {}
                self.jobs[told["job_id"]] = msgspec.structs.replace(job, **told, **fresh)  # type: ignore[index]
            self.reruns.append((run_id, job_id))
        self._calls.note("github.rerun")
        return allowed

    def _latest(self, run_id: str) -> list[JobEvent]:
        return [job for job in self.jobs.values() if job.run_id == run_id and job.run_attempt == self.attempts.get(run_id, 1)]


class MemoryConfigurations:
    """Configurations (services): what is there is never overwritten. `stacks` says whose each is, as a tag would."""

    def __init__(self, calls: Calls | None = None, stack_id: str = "tests") -> None:
        self._calls, self.stack_id = calls or Calls(), stack_id
        self.values: dict[str, str] = {}
        self.stacks: dict[str, str] = {}
        self.replaces_late = False
        """As SSM, where a name that was deleted may not be used at once."""

    def put(self, instance_id: str, value: str) -> bool:
        """False if there is another one."""
        fresh = self.values.get(instance_id, value) == value
        self.values.setdefault(instance_id, value)
        self.stacks.setdefault(instance_id, self.stack_id)
        self._calls.note("configurations.put")
        return fresh

    def replace(self, instance_id: str, value: str) -> bool:
        """At once, or in a while."""
        self.delete(instance_id)
        return not self.replaces_late and self.put(instance_id, value)

    def exists(self, instance_id: str) -> bool:
        """Whether it is there."""
        found = instance_id in self.values
        self._calls.note("configurations.exists")
        return found

    def delete(self, instance_id: str) -> None:
        """Gone already is success."""
        self.values.pop(instance_id, None)
        self.stacks.pop(instance_id, None)
        self._calls.note("configurations.delete")

    def instances(self) -> Iterator[str]:
        """By tag."""
        self._calls.note("configurations.instances")
        return iter([instance_id for instance_id, stack in self.stacks.items() if stack == self.stack_id])


class MemoryQueue:
    """Queue (ports): at least once, without repetition of one deduplication id."""

    def __init__(self, calls: Calls | None = None) -> None:
        self._calls = calls or Calls()
        self._messages: dict[str, Received] = {}
        self._in_flight: set[str] = set()
        self._seen: set[str] = set()
        self._serial = 0
        self.refuses, self.age = False, 0.0

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

    def depth(self) -> int:
        """All of them."""
        return len(self._messages)

    def age_s(self) -> float:
        """As the test says."""
        return self.age

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

    def __init__(self, calls: Calls | None = None, settings: ServerSettings | None = None, index_lag_s: float = 0.0) -> None:
        self.calls = calls or Calls()
        self.settings = settings or some_settings()
        self.clock, self.journal = ManualClock(), MemoryJournal()
        self.tables, self.compute = MemoryTables(self.clock, self.calls, index_lag_s), MemoryCompute(self.calls)
        self.github, self.configurations = MemoryGitHub(self.calls), MemoryConfigurations(self.calls)
        self.queue, self.terminations = MemoryQueue(self.calls), MemoryQueue(self.calls)
        self.ids, self.wakes = CountedIds(), GatheredWakes()
        self.turns = self.replica()
        self.records = Records(self.tables, self.settings.index_shards)
        self.github.agrees = self._as_remembered

    def replica(self, **parts: Any) -> Turns:
        """A process more, on the same world but for these parts of it (the fields of wiring.World)."""
        outside = wiring.World(
            self.tables, self.compute, self.github, self.configurations, self.queue, self.terminations, self.clock,
            self.ids, self.journal, OwnHands(), self.wakes,
        )  # fmt: skip
        return wiring.turns(self.settings, replace(outside, **parts))

    def forgotten(self) -> None:
        """GitHub does not know any job any more."""
        self.github.agrees = lambda _: None

    def _as_remembered(self, job_id: str) -> JobEvent | None:
        """What our own record says: GitHub knows nothing else, unless a test says so."""
        item = self.tables.peek("jobs", (job_id, "job"))
        if item is None:
            return None
        action, told = item["state"], {name: item[name] for name in ("conclusion", "runner_name", "head_sha") if name in item}
        told |= {name: item[name] for name in ("job_id", "run_id", "run_attempt", "owner", "repo", "name", "installation_id")}
        return an_event(action, at=item["queued_at"], labels=tuple(item["labels"]), **told)

    @property
    def session(self) -> Session:
        """The only one."""
        (only,) = self.records.sessions()
        return only

    @property
    def sessions(self) -> list[Session]:
        """All, oldest first."""
        return sorted(self.records.sessions(), key=lambda session: (session.launched_at or 0.0, session.session_id))

    def told(self, event: JobEvent) -> None:
        """A delivery from the queue, and what it wakes."""
        self.turns.on_job_event(event)
        self.settle()

    def settle(self) -> None:
        """Everything that is awake; what that wakes in turn."""
        for _ in range(20):
            if keys := self.wakes.taken():
                self.turns.on_wake(keys)

    def launched(self, **changes: object) -> Session:
        """A job was queued and its machine configured."""
        self.told(an_event(**changes))
        return self.session

    def at_work(self) -> Session:
        """A machine, and GitHub says that it took the job."""
        session = self.launched()
        self.told(an_event("in_progress", runner_name=session.runner_name))
        return self.session

    def hear(self, status: str, sender: str | None = None, session: Session | None = None, **fields: object) -> None:
        """The turn of one message of an agent; of the only session, unless said."""
        about = session or self.session
        told = {"instance_id": about.instance_id, "session_id": about.session_id, "job_id": "1", **fields}
        by = sender_of(about) if sender is None else sender
        self.turns.on_agent_message(Received(json.dumps({"status": status, **told}), "receipt", by))
        self.settle()

    def end_without_a_job(self, times: int) -> None:
        """The youngest machine goes unclaimed, and whatever was launched for it, so many times."""
        for _ in range(times):
            last = self.sessions[-1]
            self.compute.instances[last.instance_id] = "terminated"
            self.hear_the_end("interrupted", session=last, reason="unclaimed")

    def hear_the_end(
        self, status: str = "success", sender: str | None = None, session: Session | None = None, **fields: object
    ) -> None:
        """A final word."""
        self.hear(status, sender, session, **{**final_fields(status), **fields})

    def tick(self, after_s: float = 0.0) -> None:
        """Time passes, then a tick."""
        self.clock.at += after_s
        self.turns.on_sweep()
        try:
            self.settle()
        except OrchestratorError as error:
            self.journal.event("turn.failed", error=str(error))  # as the wheel says it, that goes on

    def ticks(self, until_s: float, every_s: float = 5.0) -> None:
        """Time passes, with ticks all the while."""
        end = self.clock.at + until_s
        while self.clock.at < end:
            self.tick(min(every_s, end - self.clock.at))

    def becomes(self, state: str | None) -> None:
        """EC2's word for the only instance; None: it never heard of it."""
        if state is None:
            del self.compute.instances[self.session.instance_id]
        else:
            self.compute.instances[self.session.instance_id] = state


def sender_of(session: Session) -> str:
    """As SQS names its machine."""
    return f"AROARUNNER:{session.instance_id}"


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
        "aliases": (Alias("ubuntu-latest"),), "watch_s": 0.0, **changes,
    }  # fmt: skip
    return ServerSettings(**given)  # type: ignore[arg-type]


def an_instance_event(kind: str, instance_id: str, at: float | None = None, **detail: str) -> Received:
    """As EventBridge puts it into a queue; `at`: when it happened."""
    time = {} if at is None else {"time": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
    told = {"version": "0", "source": "aws.ec2", **time, "detail-type": kind, "detail": {"instance-id": instance_id, **detail}}
    return Received(json.dumps(told), "receipt")


def an_event(action: str = "queued", **changes: object) -> JobEvent:
    """A delivery, read."""
    given: dict[str, object] = {
        "action": action, "job_id": "1", "run_id": "7", "run_attempt": 1, "owner": "octo", "repo": "widgets", "name": "build",
        "labels": ("runs-fleet=7/arch=amd64",), "installation_id": "3", "at": MORNING, **changes,
    }  # fmt: skip
    return JobEvent(**given)  # type: ignore[arg-type]


SET = naming.set_key("octo", "widgets", 1, ("runs-fleet=7/arch=amd64",))
"""The label set of the job that all these helpers speak of."""


def a_job(**changes: object) -> Job:
    """A queued job."""
    given: dict[str, object] = {
        "job_id": "1", "run_id": "7", "run_attempt": 1, "owner": "octo", "repo": "widgets", "name": "build",
        "labels": ("runs-fleet=7/arch=amd64",), "installation_id": "3", "queued_at": MORNING, "set_key": SET, **changes,
    }  # fmt: skip
    return Job(**given)  # type: ignore[arg-type]


def a_session(**changes: object) -> Session:
    """A session that has just got its instance."""
    given: dict[str, object] = {
        "session_id": "s-1", "launch_id": "l-1", "set_key": SET, "launched_for": "1", "owner": "octo", "repo": "widgets",
        "run_id": "7", "labels": ("runs-fleet",), "installation_id": "3", "instance_id": "i-1", **changes,
    }  # fmt: skip
    return Session(**given)  # type: ignore[arg-type]


def a_launch(**changes: object) -> Launch:
    """A launch of one session that is intended."""
    planned = Planned(session_id="s-1", set_key=SET, job_id="1", run_id="7")
    given: dict[str, object] = {
        "launch_id": "l-1", "spec": "amd64", "request": "{}", "sessions": (planned,), "sets": (SET,), **changes,
    }  # fmt: skip
    return Launch(**given)  # type: ignore[arg-type]


def a_ledger(**changes: object) -> Ledger:
    """The ledger of the label set."""
    given: dict[str, object] = {
        "set_key": SET, "owner": "octo", "repo": "widgets", "installation_id": "3", "labels": ("runs-fleet=7/arch=amd64",),
        **changes,
    }  # fmt: skip
    return Ledger(**given)  # type: ignore[arg-type]


def a_blob(seed: int = 1, name: str = "runner") -> str:
    """A JIT config with as much chance in it as a real one."""
    chance = random.Random(seed)
    runner = {"AgentId": str(seed), "AgentName": name, "ServerUrl": "https://example/" + "aB3" * 16, "WorkFolder": "_work"}
    credentials = {"Scheme": "OAuth", "Data": {"ClientId": "01234567-89ab-cdef-0123-456789abcdef"}}
    key = {part: base64.b64encode(chance.randbytes(size)).decode() for part, size in KEY_BYTES.items()}
    files = {".runner": runner, ".credentials": credentials, ".credentials_rsaparams": key}
    inner = {file: base64.b64encode(json.dumps(content).encode()).decode() for file, content in files.items()}
    return base64.b64encode(json.dumps(inner).encode()).decode()


def old_records(world: World, number: int) -> None:
    """So many of each kind that are over: jobs, launches and sessions, each of a label set that names its run, and its ledger."""
    past = MORNING - 3600.0
    for n in range(number):
        labels = (f"runs-fleet={n}",)
        key, session_id = naming.set_key("octo", "widgets", 1, labels), f"s-old-{n}"
        told = {"set_key": key, "labels": labels}
        world.records.put(a_job(**told, job_id=f"old-{n}", run_id=str(n), state=states.JobState.COMPLETED, completed_at=past))
        world.records.put(a_ledger(**told, touched_at=past))
        over = {"state": states.SessionState.CLOSED, "ended_at": past, "closed_at": past}
        world.records.put(a_session(**told, session_id=session_id, instance_id=f"i-old-{n}", bound_job=f"old-{n}", **over))
        closed = {"state": states.LaunchState.CLOSED, "created_at": past}
        world.records.put(a_launch(launch_id=f"l-old-{n}", sets=(key,), sessions=(), **closed))
        world.records.wake(key, MORNING)
        world.records.rest(world.records.board(key), None)


def consume(queue: MemoryQueue, handle: Callable[[Received], object]) -> None:
    """Handle each message, then delete it, as the wheels do."""
    for message in queue.receive(0):
        try:
            handle(message)
        except OrchestratorError:
            continue
        queue.delete(message.receipt)
