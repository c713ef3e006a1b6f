"""A virtual twin of everything in `agent/ports.py`: state and a clock, no thread, no real time, no network.

Only the disk is real (a temporary directory). An errand runs at once on a forked clock: it may let time pass for itself, and its
end is scheduled for the moment it would have ended, so that errands overlap as they do on a machine. It is one file although it
is long, because it mirrors one file.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Generic, TypeVar

from agent import announcements
from agent.contract.messages import FinalWord, Message, read_message
from agent.contract.secret import Secret
from agent.errors import ServiceError
from agent.phases import Phase
from agent.ports import (
    ErrandEnded,
    Event,
    Finished,
    Heard,
    Launch,
    NoticeCame,
    OutputEnded,
    RunnerExited,
    Signalled,
    StoredObject,
    TranscriptReport,
)
from agent.safety import Reading
from agent.settings import Settings, read_settings
from agent.wiring import World, assemble

Answer = TypeVar("Answer")

BIRTH_S = 1_000.0
"""The monotonic clock when a virtual world begins: not zero, so that nothing can mistake it for a duration."""
BIRTHDAY = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
END_OF_TIME_S = BIRTH_S + 14 * 86_400
"""No life lasts two weeks: whoever still waits then waits for ever."""
INSTANCE = "i-0123456789abcdef0"
QUEUE_URL = "http://queue.test/1/termination"
API_URL = "http://api.test"
VERSION = "2.336.0"
GIGABYTE = 1 << 30
STAMP = "2026-01-31 12:00:00Z: "
LISTENING = STAMP + "Listening for Jobs"
RUNNING = STAMP + "Running job: build"
HELPER_ENDED = "Runner listener exit with 0 return code, stop the service, no retry needed."


class HangsForever(BaseException):
    """A call that never comes back: the errand that made it is never heard of again."""


class WaitsForEver(BaseException):
    """The deciding thread waits for something that will never come: no net of the agent may hide that from a test."""


HANGS = HangsForever("this call never comes back")


def refused(code: str, action: str = "the service", detail: str = "") -> ServiceError:
    """An answer of AWS that is an error."""
    return ServiceError(action, code, detail)


class Script(Generic[Answer]):
    """Answers given one after the other, the last one for ever; an exception among them is raised."""

    def __init__(self, *answers: Answer | BaseException) -> None:
        self._answers = list(answers)

    def next(self) -> Answer:
        """The next answer."""
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


class VirtualClock:
    """Clock (ports) that moves only when somebody lets time pass."""

    def __init__(self) -> None:
        self._now_s = BIRTH_S
        self._ids = count(1)

    @property
    def age_s(self) -> float:
        """Seconds since the world began."""
        return self._now_s - BIRTH_S

    def monotonic_s(self) -> float:
        return self._now_s

    def now(self) -> datetime:
        return BIRTHDAY + timedelta(seconds=self.age_s)

    def pause(self, seconds: float) -> None:
        self._now_s += max(0.0, seconds)

    def jump(self, to_s: float) -> None:
        """Be at `to_s`; only the crew ever goes back, from an errand's time to the deciding thread's."""
        self._now_s = to_s

    def fraction(self) -> float:
        return 0.0

    def new_id(self) -> str:
        return f"{next(self._ids):08d}-virtual"


@dataclass(order=True)
class Scheduled:
    """An event that will arrive, unless it is called off."""

    at_s: float
    nth: int
    event: Event = field(compare=False)
    called_off: bool = field(default=False, compare=False)


class VirtualInbox:
    """Inbox (ports) over a heap of moments; waiting is a jump of the clock."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._ahead: list[Scheduled] = []
        self._nth = count()

    def post(self, event: Event) -> None:
        self.schedule(self._clock.monotonic_s(), event)

    def schedule(self, at_s: float, event: Event) -> Scheduled:
        """Let `event` arrive at that moment of the monotonic clock."""
        entry = Scheduled(at_s, next(self._nth), event)
        heapq.heappush(self._ahead, entry)
        return entry

    def wait(self, until_s: float) -> Event | None:
        until_s = max(until_s, self._clock.monotonic_s())
        while self._ahead and self._ahead[0].at_s <= until_s:
            entry = heapq.heappop(self._ahead)
            if not entry.called_off:
                self._clock.jump(max(entry.at_s, self._clock.monotonic_s()))
                return entry.event
        if until_s > END_OF_TIME_S:
            raise WaitsForEver(f"nothing will happen before {until_s}")
        self._clock.jump(until_s)
        return None


class VirtualCrew:
    """Crew (ports) that does every errand inline, on a forked clock."""

    def __init__(self, clock: VirtualClock, inbox: VirtualInbox) -> None:
        self._clock, self._inbox = clock, inbox
        self.hung: list[str] = []

    def begin(self, name: str, task: Callable[[], Any]) -> None:
        begun_s = self._clock.monotonic_s()
        try:
            end = ErrandEnded(name, value=task())
        except HangsForever:
            self.hung.append(name)
            return
        except Exception as error:
            end = ErrandEnded(name, error=error)
        finally:
            ended_s = self._clock.monotonic_s()
            self._clock.jump(begun_s)
        self._inbox.schedule(ended_s, end)

    def ahead(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        return chunks


class VirtualJournal:
    """Journal (ports) that remembers; `on_phase` does something at the moment a phase begins."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._secrets: list[str] = []
        self.events: list[tuple[float, str, dict[str, object]]] = []
        self.phases: list[Phase] = []
        self.on_phase: dict[Phase, Callable[[], None]] = {}

    def event(self, name: str, **fields: object) -> None:
        self.events.append((self._clock.age_s, name, fields))

    def phase(self, phase: Phase) -> None:
        self.phases.append(phase)
        if (plant := self.on_phase.get(phase)) is not None:
            plant()

    def hide(self, *secrets: Secret) -> None:
        self._secrets += [secret.reveal() for secret in secrets]

    def cleaned(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def told(self, name: str) -> list[dict[str, object]]:
        """The fields of every event of that name."""
        return [fields for _, event, fields in self.events if event == name]


@dataclass
class VirtualParameters:
    """Parameters (ports) whose answers change with time: each counts from its moment (age in seconds) on."""

    clock: VirtualClock
    answers: list[tuple[float, str | BaseException]] = field(default_factory=list)
    took_s: float = 0.02
    names: list[str] = field(default_factory=list)

    def read(self, name: str) -> str:
        self.names.append(name)
        self.clock.pause(self.took_s)
        answer = [answer for since_s, answer in self.answers if since_s <= self.clock.age_s][-1]
        if isinstance(answer, BaseException):
            raise answer
        return answer


@dataclass
class VirtualQueue:
    """Queue (ports): what it accepted, and when (age in seconds); its answer takes as long again to come back."""

    clock: VirtualClock
    answers: Script[None] = field(default_factory=lambda: Script(None))
    took_s: float = 0.05
    bodies: list[tuple[float, str]] = field(default_factory=list)
    tries: int = 0

    def send(self, body: str) -> None:
        self.tries += 1
        self.clock.pause(self.took_s)
        self.answers.next()
        self.bodies.append((self.clock.age_s, body))
        self.clock.pause(self.took_s)


@dataclass
class VirtualMachine:
    """Machine (ports). Notices are scheduled at the age they arrive; every try to leave is remembered with its age."""

    clock: VirtualClock
    inbox: VirtualInbox
    identity: Script[str] = field(default_factory=lambda: Script(INSTANCE))
    permission: Script[str] = field(default_factory=lambda: Script("permitted"))
    termination: Script[None] = field(default_factory=lambda: Script(None))
    switch: Script[int] = field(default_factory=lambda: Script(0))
    switch_by_default: tuple[str, ...] | None = None
    notices: list[tuple[float, NoticeCame]] = field(default_factory=list)
    closing: Script[None] = field(default_factory=lambda: Script(None))
    closed: list[float] = field(default_factory=list)
    terminations: list[float] = field(default_factory=list)
    power_offs: list[tuple[float, tuple[str, ...]]] = field(default_factory=list)

    def instance_id(self) -> str:
        self.clock.pause(0.01)
        return self.identity.next()

    def watch_notices(self) -> None:
        for age_s, notice in self.notices:
            self.inbox.schedule(BIRTH_S + age_s, notice)

    def close_metadata(self, instance_id: str, needed_s: float) -> None:
        assert instance_id == INSTANCE
        self.closed.append(needed_s)
        self.clock.pause(0.5)
        self.closing.next()

    def may_terminate(self, instance_id: str) -> str:
        self.clock.pause(0.05)
        return self.permission.next()

    def terminate(self, instance_id: str) -> None:
        assert instance_id == INSTANCE
        self.terminations.append(self.clock.age_s)
        self.clock.pause(0.1)
        self.termination.next()

    def power_off_by_default(self) -> tuple[str, ...] | None:
        return self.switch_by_default

    def power_off(self, command: tuple[str, ...]) -> int:
        self.power_offs.append((self.clock.age_s, command))
        return self.switch.next()


@dataclass
class VirtualMeters:
    """Meters (ports): readings that count from their moment (age in seconds) on."""

    clock: VirtualClock
    readings: list[tuple[float, Reading]] = field(default_factory=lambda: [(0.0, Reading(20 * GIGABYTE, 4 * GIGABYTE))])
    looks: list[float] = field(default_factory=list)

    def read(self, path: Path) -> Reading:
        self.looks.append(self.clock.age_s)
        return [reading for since_s, reading in self.readings if since_s <= self.clock.age_s][-1]


@dataclass(frozen=True)
class RunnerPlan:
    """How a runner behaves, in the real runner's own words; all times are seconds after its start."""

    lines: tuple[tuple[float, str], ...] = ()
    exits: tuple[float, int] | None = None
    """When and with what code; None: it runs until it is stopped."""
    winds_down_s: float | None = 2.0
    """How long it takes to leave after SIGINT; None: it takes no notice."""
    heeds_sigterm: bool = False
    killable: bool = True
    leaves_behind: int = 0
    """Processes that outlive it."""
    holds_output_open: bool = False
    job_note: str = "42\n1\nacme/widgets\nbuild\n"
    """What the started hook writes; empty: nothing."""


class VirtualRunner:
    """Runner (ports) that follows its plan until it is told otherwise."""

    def __init__(self, plan: RunnerPlan, clock: VirtualClock, inbox: VirtualInbox) -> None:
        self._plan, self._clock, self._inbox = plan, clock, inbox
        self._started_s = clock.monotonic_s()
        self._ahead: list[Scheduled] = []
        self._gone_s: float | None = None
        self._left_behind = plan.leaves_behind
        self.signals: list[tuple[float, str]] = []
        for after_s, line in plan.lines:
            self._say(self._started_s + after_s, line)
        if plan.exits is not None:
            self._leave(self._started_s + plan.exits[0], plan.exits[1])

    @property
    def alive(self) -> bool:
        """Whether its own process is still there."""
        return self._gone_s is None or self._clock.monotonic_s() < self._gone_s

    def interrupt(self) -> bool:
        self.signals.append((self._clock.age_s, "SIGINT"))
        if self.alive and self._plan.winds_down_s is not None:
            self._wind_down(self._plan.winds_down_s)
        return self.alive

    def terminate(self) -> bool:
        self.signals.append((self._clock.age_s, "SIGTERM"))
        if self.alive and self._plan.heeds_sigterm:
            self._wind_down(0.5)
        return self.alive

    def sweep(self, within_s: float) -> int:
        self.signals.append((self._clock.age_s, "SIGKILL"))
        found = self._left_behind + self.alive
        if self._plan.killable:
            self._left_behind = 0
            if self.alive:
                self._call_off()
                self._leave(self._clock.monotonic_s(), -9)
        return found

    def _wind_down(self, seconds: float) -> None:
        now_s = self._clock.monotonic_s()
        busy = any(now_s >= self._started_s + after_s for after_s, line in self._plan.lines if "Running job" in line)
        done = any(now_s >= self._started_s + after_s for after_s, line in self._plan.lines if "completed with" in line)
        self._call_off()
        self._say(now_s, "Exiting...")
        if busy and not done:
            self._say(now_s + seconds, completed("Canceled"))
        self._say(now_s + seconds, HELPER_ENDED)
        self._leave(now_s + seconds, 0)

    def _say(self, at_s: float, line: str) -> None:
        self._ahead += [self._inbox.schedule(at_s, Heard(said)) for said in announcements.read(line.encode())]

    def _leave(self, at_s: float, code: int) -> None:
        self._gone_s = at_s
        self._ahead.append(self._inbox.schedule(at_s, RunnerExited(code)))
        if not self._plan.holds_output_open:
            self._ahead.append(self._inbox.schedule(at_s, OutputEnded()))

    def _call_off(self) -> None:
        for entry in self._ahead:
            entry.called_off = entry.called_off or entry.at_s > self._clock.monotonic_s()


@dataclass
class VirtualProcesses:
    """Processes (ports): one runner that follows `plan`, and a `config.sh` that answers by script."""

    clock: VirtualClock
    inbox: VirtualInbox
    work_dir: Path
    plan: RunnerPlan = field(default_factory=RunnerPlan)
    starting: Script[None] = field(default_factory=lambda: Script(None))
    config_sh: Script[Finished] = field(default_factory=lambda: Script(Finished(0, "")))
    config_took_s: float = 3.0
    ran: list[Launch] = field(default_factory=list)
    launches: list[tuple[float, Launch]] = field(default_factory=list)
    runner: VirtualRunner | None = None

    def sweep(self, within_s: float) -> int:
        """The runner, if there is one: nothing else that was started here outlives its call."""
        return self.runner.sweep(within_s) if self.runner else 0

    def read_plain(self, path: Path, most: int) -> bytes:
        """The file's first bytes."""
        return path.read_bytes()[:most]

    def run(self, launch: Launch, within_s: float) -> Finished:
        self.ran.append(launch)
        if launch.command[0].endswith("/bin/Runner.Listener"):
            return Finished(0, VERSION)
        self.clock.pause(min(self.config_took_s, within_s))
        return self.config_sh.next()

    def start(self, launch: Launch) -> VirtualRunner:
        self.starting.next()
        self.launches.append((self.clock.age_s, launch))
        if self.plan.job_note:
            (self.work_dir / "job" / "started").write_text(self.plan.job_note, encoding="utf-8")
        self.runner = VirtualRunner(self.plan, self.clock, self.inbox)
        return self.runner

    def user_home(self, user: str | None) -> Path:
        return Path("/home/runner")

    def own(self, path: Path, user: str | None) -> None:
        return None


@dataclass
class VirtualTranscript:
    """Transcript (ports) that keeps our own events; `finish` takes its time and answers by script."""

    clock: VirtualClock
    reports: Script[TranscriptReport] = field(default_factory=lambda: Script(TranscriptReport("shipped", 12, 0)))
    took_s: float = 0.2
    opened: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    finished: list[float] = field(default_factory=list)

    def open(self, job_id: str) -> None:
        self.opened.append(job_id)

    def event(self, name: str, fields: Mapping[str, object]) -> None:
        self.events.append(name)

    def finish(self, within_s: float) -> TranscriptReport:
        self.clock.pause(min(self.took_s, within_s))
        self.finished.append(self.clock.age_s)
        return self.reports.next()


@dataclass
class VirtualBody:
    """Body (ports) that comes at a steady pace."""

    clock: VirtualClock
    content: bytes
    at: int
    bytes_per_s: float

    @property
    def size(self) -> int | None:
        return len(self.content)

    def read(self, most: int) -> bytes:
        chunk = self.content[self.at : self.at + most]
        self.clock.pause(len(chunk) / self.bytes_per_s)
        self.at += len(chunk)
        return chunk

    def close(self) -> None:
        return None


@dataclass
class VirtualObjects:
    """Objects (ports): one bucket in memory."""

    clock: VirtualClock
    stored: dict[str, tuple[bytes, dict[str, str]]] = field(default_factory=dict)
    answers: Script[None] = field(default_factory=lambda: Script(None))
    bytes_per_s: float = 1e9

    def keys(self, prefix: str) -> list[str]:
        self.answers.next()
        return [key for key in self.stored if key.startswith(prefix)]

    def describe(self, key: str) -> StoredObject | None:
        self.answers.next()
        return StoredObject(key, self.stored[key][1]) if key in self.stored else None

    def open(self, key: str, offset: int) -> VirtualBody:
        self.answers.next()
        return VirtualBody(self.clock, self.stored[key][0], offset, self.bytes_per_s)

    def put_file_if_absent(self, key: str, path: Path, metadata: Mapping[str, str]) -> bool:
        self.answers.next()
        first = key not in self.stored
        self.stored.setdefault(key, (path.read_bytes(), dict(metadata)))
        return first

    def put_gzip(self, key: str, chunks: Iterator[bytes]) -> None:
        self.answers.next()
        self.stored[key] = (b"".join(chunks), {})


@dataclass
class VirtualWeb:
    """Web (ports): GitHub's releases API and its files, at a steady pace."""

    clock: VirtualClock
    answers: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    bytes_per_s: float = 1e9
    asked: list[str] = field(default_factory=list)

    def publish(self, content: bytes, version: str = VERSION) -> None:
        """Offer a release as GitHub does."""
        name = f"actions-runner-linux-x64-{version}.tar.gz"
        url = f"http://files.test/{name}"
        asset = {"name": name, "browser_download_url": url, "digest": f"sha256:{hashlib.sha256(content).hexdigest()}"}
        self.files[url] = content
        for which in ("latest", f"tags/v{version}"):
            address = f"{API_URL}/repos/actions/runner/releases/{which}"
            self.answers[address] = {"tag_name": f"v{version}", "assets": [asset], "body": ""}

    def get_json(self, url: str) -> Any:
        self.asked.append(url)
        self.clock.pause(0.1)
        answer = self.answers.get(url, refused("404", f"GET {url}"))
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def open(self, url: str, offset: int) -> VirtualBody:
        self.asked.append(url)
        return VirtualBody(self.clock, self.files[url], offset, self.bytes_per_s)


@dataclass(frozen=True)
class Ended:
    """A life that is over: its exit code, when (age in seconds), and what the orchestrator had been told by then."""

    exit_code: int
    age_s: float
    sent: tuple[tuple[float, Message], ...]

    @property
    def words(self) -> list[tuple[float, FinalWord]]:
        """Every final word, with its age."""
        return [(age_s, message) for age_s, message in self.sent if isinstance(message, FinalWord)]

    @property
    def word(self) -> FinalWord:
        """The one final word."""
        ((_, word),) = self.words
        return word

    @property
    def told(self) -> list[str]:
        """The status of every message, in order of time."""
        return [str(message.status) for _, message in self.sent]


class VirtualWorld:
    """Every port a life needs; change what should be different, then `live`."""

    def __init__(self, root: Path, **environment: str) -> None:
        """`environment` is without its prefix: `MAX_RUNTIME="5"`."""
        self.root = root
        self.runner_dir, self.work_dir = root / "opt" / "actions-runner", root / "work"
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "RUNS_FLEET_INSTANCE_ID": INSTANCE,
            "RUNS_FLEET_TERMINATION_QUEUE_URL": QUEUE_URL,
            "RUNS_FLEET_RUNNER_DIR": str(self.runner_dir),
            "RUNS_FLEET_WORK_DIR": str(self.work_dir),
            "RUNS_FLEET_GITHUB_API_URL": API_URL,
            "RUNS_FLEET_POWER_OFF": "switch off",
            **{f"RUNS_FLEET_{name}": value for name, value in environment.items()},
        }
        self.clock = VirtualClock()
        self.inbox = VirtualInbox(self.clock)
        self.crew = VirtualCrew(self.clock, self.inbox)
        self.journal = VirtualJournal(self.clock)
        self.parameters = VirtualParameters(self.clock, [(0.0, config_text())])
        self.queue = VirtualQueue(self.clock)
        self.machine = VirtualMachine(self.clock, self.inbox)
        self.meters = VirtualMeters(self.clock)
        self.processes = VirtualProcesses(self.clock, self.inbox, self.work_dir, job())
        self.transcript = VirtualTranscript(self.clock)
        self.objects = VirtualObjects(self.clock)
        self.web = VirtualWeb(self.clock)
        bake(self.runner_dir)

    @property
    def settings(self) -> Settings:
        """What the agent makes of the environment."""
        return read_settings(self.environment)

    @property
    def runner(self) -> VirtualRunner:
        """The runner that was started."""
        assert self.processes.runner is not None, "no runner was started"
        return self.processes.runner

    def at(self, age_s: float, event: Event) -> None:
        """Let `event` arrive at that age."""
        self.inbox.schedule(BIRTH_S + age_s, event)

    def sigterm_in(self, phase: Phase, *, again_after_s: float | None = None) -> None:
        """A SIGTERM at the moment `phase` begins, and perhaps a second one."""

        def plant() -> None:
            self.inbox.post(Signalled("SIGTERM"))
            if again_after_s is not None:
                self.inbox.schedule(self.clock.monotonic_s() + again_after_s, Signalled("SIGTERM"))

        self.journal.on_phase[phase] = plant

    def live(self) -> Ended:
        """One life of the unmodified agent."""
        code = assemble(self._ports()).live()
        sent = sorted((age_s, body) for age_s, body in self.queue.bodies if age_s <= self.clock.age_s)
        return Ended(int(code), self.clock.age_s, tuple((age_s, read_message(body)) for age_s, body in sent))

    def _ports(self) -> World:
        return World(
            settings=self.settings,
            environment=self.environment,
            clock=self.clock,
            inbox=self.inbox,
            crew=self.crew,
            journal=self.journal,
            machine=self.machine,
            meters=self.meters,
            processes=self.processes,
            parameters=self.parameters,
            transcript=lambda _instance_id: self.transcript,
            queue=lambda _sender: self.queue,
            objects=lambda _bucket: self.objects,
            web=lambda: self.web,
            architecture="x64",
            homes=frozenset({Path("/root"), Path("/home/runner")}),
            born_s=BIRTH_S,
        )


def completed(result: str) -> str:
    """The runner's line about its job's end."""
    return f"{STAMP}Job build completed with result: {result}"


def left_with(code: int) -> str:
    """The helper's line about the listener's exit code, where it has no words for it."""
    return f"Exiting with unknown error code: {code}"


def job(result: str = "Succeeded", *, lasts_s: float = 60.0, taken_s: float = 5.0, **plan: Any) -> RunnerPlan:
    """A runner that takes one job and ends with its result, as 2.336.0 does."""
    codes = {name: code for code, name in announcements.JOB_RESULTS.items()}
    end_s = taken_s + lasts_s
    lines = ((1.0, LISTENING), (taken_s, RUNNING), (end_s, completed(result)), (end_s + 1.0, left_with(codes[result])))
    return RunnerPlan(lines, (end_s + 1.0, 0), **plan)


def busy_for_ever(**plan: Any) -> RunnerPlan:
    """A runner whose job does not end by itself."""
    return RunnerPlan(((1.0, LISTENING), (5.0, RUNNING)), None, **plan)


def says(*lines: str, code: int = 0) -> RunnerPlan:
    """A runner that says these lines, one a second, and leaves with `code`."""
    return RunnerPlan(tuple((1.0 + at, line) for at, line in enumerate(lines)), (1.0 + len(lines), code))


def config_text(*, drop: tuple[str, ...] = (), **fields: object) -> str:
    """A configuration on the JIT path, with fields replaced, added or dropped."""
    inner = base64.b64encode(json.dumps({"AgentId": "1"}).encode()).decode()
    blob = base64.b64encode(json.dumps({".runner": inner}).encode()).decode()
    known = {
        "org": "acme",
        "job_id": "7001",
        "run_id": "42",
        "jit_config": blob,
        "session_id": "session-9",
        "attempt": 2,
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    return json.dumps({name: value for name, value in {**known, **fields}.items() if name not in drop})


def token_text(**fields: object) -> str:
    """A configuration on the token path."""
    return config_text(
        drop=("jit_config",), jit_token="AAAATOKENTOKEN", repo="widgets", labels=["x64"], **fields
    )  # pragma: allowlist secret


def bake(directory: Path) -> None:
    """A runner release in `directory`, as an image brings it along."""
    (directory / "bin").mkdir(parents=True, exist_ok=True)
    (directory / "run.sh").write_text("#!/bin/bash\n", encoding="utf-8")


def unbake(directory: Path) -> None:
    """An image without a runner."""
    with suppress(FileNotFoundError):
        (directory / "run.sh").unlink()


def release_archive() -> bytes:
    """A runner release as a .tar.gz."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        for name, content in (("run.sh", b"#!/bin/bash\n"), ("bin/Runner.Listener", b"#!/bin/sh\n")):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    return written.getvalue()
