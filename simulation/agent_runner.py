"""The twin of the processes an agent starts: a runner that follows a plan, in the real runner's own words."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.ports import Finished, Heard, Launch, OutputEnded, RunnerExited
from agent.runner import announcements
from simulation.agent_inbox import Scheduled, Script, VirtualInbox
from simulation.agent_services import VERSION
from simulation.clock import AgentClock

STAMP = "2026-01-31 12:00:00Z: "
LISTENING = STAMP + "Listening for Jobs"
RUNNING = STAMP + "Running job: build"


@dataclass(frozen=True, kw_only=True)
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

    def __init__(self, plan: RunnerPlan, clock: AgentClock, inbox: VirtualInbox) -> None:
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
        """SIGINT, as the script answers it."""
        self.signals.append((self._clock.age_s, "SIGINT"))
        if self.alive and self._plan.winds_down_s is not None:
            self._wind_down(self._plan.winds_down_s)
        return self.alive

    def terminate(self) -> bool:
        """SIGTERM, as the script answers it."""
        self.signals.append((self._clock.age_s, "SIGTERM"))
        if self.alive and self._plan.heeds_sigterm:
            self._wind_down(0.5)
        return self.alive

    def sweep(self, within_s: float) -> int:
        """Kill what is left of it."""
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


@dataclass(kw_only=True)
class VirtualProcesses:
    """Processes (ports): one runner that follows `plan`, and a `config.sh` that answers by script."""

    clock: AgentClock
    inbox: VirtualInbox
    work_dir: Path
    plan: RunnerPlan = field(default_factory=RunnerPlan)
    starting: Script[None] = field(default_factory=lambda: Script(None))
    config_sh: Script[Finished] = field(default_factory=lambda: Script(Finished(0, "")))
    config_took_s: float = 3.0
    ran: list[Launch] = field(default_factory=list)
    launches: list[tuple[float, Launch]] = field(default_factory=list)
    runner: VirtualRunner | None = None
    is_swept: bool = False

    def sweep(self, within_s: float) -> int:
        """The runner, if there is one: nothing else that was started here outlives its call."""
        self.is_swept = True
        return self.runner.sweep(within_s) if self.runner else 0

    def read_plain(self, path: Path, most: int) -> bytes:
        """The first bytes of the file, as planted."""
        return path.read_bytes()[:most]

    def run(self, launch: Launch, within_s: float) -> Finished:
        """Run a short command to its end."""
        if not launch.after_sweep:
            self._insist_on_not_swept()
        self.ran.append(launch)
        if launch.command[0].endswith("/bin/Runner.Listener"):
            return Finished(0, VERSION)
        self.clock.pause(min(self.config_took_s, within_s))
        return self.config_sh.next()

    def start(self, launch: Launch) -> VirtualRunner:
        """Start the runner that the scenario describes."""
        self._insist_on_not_swept()
        self.starting.next()
        self.launches.append((self.clock.age_s, launch))
        if self.plan.job_note:
            (self.work_dir / "job" / "started").write_text(self.plan.job_note, encoding="utf-8")
        self.runner = VirtualRunner(self.plan, self.clock, self.inbox)
        return self.runner

    def _insist_on_not_swept(self) -> None:
        if self.is_swept:
            raise OSError("every process was ended: none is started any more")

    def user_home(self, user: str | None) -> Path:
        """The home of the user that jobs run as."""
        return Path("/home/runner")

    def own(self, path: Path, user: str | None) -> None:
        """Nothing has to change hands here."""


def completed(result: str) -> str:
    """The runner's line about its job's end."""
    return f"{STAMP}Job build completed with result: {result}"


def job(result: str = "Succeeded", *, lasts_s: float = 60.0, taken_s: float = 5.0, **plan: Any) -> RunnerPlan:
    """A runner that takes one job and ends with its result, as 2.336.0 does."""
    codes = {name: code for code, name in announcements.JOB_RESULTS.items()}
    end_s = taken_s + lasts_s
    lines = ((1.0, LISTENING), (taken_s, RUNNING), (end_s, completed(result)))
    return RunnerPlan(lines=lines, exits=(end_s + 1.0, codes[result]), **plan)


def busy_for_ever(**plan: Any) -> RunnerPlan:
    """A runner whose job does not end by itself."""
    return RunnerPlan(lines=((1.0, LISTENING), (5.0, RUNNING)), exits=None, **plan)


def says(*lines: str, code: int = 0) -> RunnerPlan:
    """A runner that says these lines, one a second, and leaves with `code`."""
    return RunnerPlan(lines=tuple((1.0 + at, line) for at, line in enumerate(lines)), exits=(1.0 + len(lines), code))
