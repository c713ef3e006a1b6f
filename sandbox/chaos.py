"""Everything that may go wrong, in measure: what `--faults` switches on, one by one or all at once (`storm`)."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sandbox.cloud import Cloud
from sandbox.github.context import GitHubContext
from sandbox.github.records import RunRecord
from sandbox.github.server import StandInGitHub
from sandbox.rates import Rates
from sandbox.workflow import read_workflow

WORKFLOW = Path(__file__).parent / "storm.yml"
RECLAIMED, NOTICE_S, LONG_S = 4, 1.5, 4.5
"""Machines that EC2 takes back in the middle of their jobs, how long before it says so (EC2: two minutes), and how long they have
worked then: by that time only the long jobs are left.
"""
SETUP_S, TAKEN_IN_SETUP, AGENTS_KILLED = 1.5, 1, 1
"""Seconds that "Set up job" takes (downloading actions takes as long), and how many machines and agents go otherwise."""
LOOK_S = 0.1
"""Seconds between two looks for machines at work."""
LOST_AFTER_S, REQUEUED_AFTER_S = 30.0, 10.0
"""GitHub's ten minutes and one minute, so that a storm is over while somebody watches."""
FULL = ("c7i.large", "m7i.large")
"""Instance types that nobody gets."""


FAULTS = {
    "capacity": "two types and a zone have none",
    "partial": "half of all fleets are filled in part",
    "throttling": "a share of AWS's calls is throttled",
    "rates": "AWS's published rates, at a hundredth of their size",
    "lost-answers": "a share of the fleets is made and never answered",
    "lag": "lists and indexes show late what was made",
    "reclaims": "machines are taken back in the middle of their jobs",
    "set-up": "a machine is taken back while its job is set up, which GitHub calls cancelled",
    "agents": "an agent is killed in the middle of its job",
    "webhooks": "deliveries are lost, late, repeated and form-encoded",
    "github": "GitHub refuses a share of the calls as too many (429)",
    "kill": "the orchestrator is killed and started again",
    "start-up": "a run fails at its start-up, and GitHub calls its jobs queued for ever",
    "groups": "a job asks for a runner group that has no runner of ours, until somebody cancels it",
    "registrations": "GitHub refuses registrations in one repository, in which a job waits until somebody cancels it",
    "gone-runs": "GitHub answers 404 for a run of which it tells, until somebody cancels it",
    "replicas": "two orchestrators run beside each other",
    "random-kills": "orchestrators and agents are killed at random moments, again and again",
}
"""What can be switched on, each alone or with others."""
STORM = frozenset(FAULTS) - {"rates", "replicas", "random-kills"}
HOSTILE = frozenset(FAULTS) - {"rates", "kill"}
SETS = {"storm": STORM, "hostile": HOSTILE}
"""Names for many at once. `rates` is in neither: it leaves room for little else."""
SMALL = 0.01
"""Of AWS's rates: thirty machines meet them then as three thousand do in earnest."""
CANCELLED_AFTER_S = 25.0
"""Seconds after which somebody cancels a job that nobody runs."""
KILLS, KILL_EVERY_S, DOWN_S = 6, (3.0, 9.0), (0.0, 4.0)
"""How often something is killed at random, the seconds between two kills, and those for which an orchestrator stays away."""


ASIDE = """name: {name}
on: push
jobs:
  one:
    runs-on: runs-fleet={name}/cpu=2
    steps: [{{run: 'true'}}]
"""
KNOWN = "\n".join(
    f"  {name:14} {what}"
    for name, what in {
        **FAULTS, "storm": "all of these but rates, replicas and random-kills", "hostile": "all of these but rates and kill",
    }.items()
)  # fmt: skip
"""The list of faults, for people."""


def read_faults(text: str) -> frozenset[str]:
    """`storm`, `hostile`, or names joined by commas. Raises: ValueError."""
    named = frozenset(filter(None, text.split(",")))
    if unknown := named - set(FAULTS) - set(SETS):
        raise ValueError(f"--faults: expected some of these, joined by commas, found {', '.join(sorted(unknown))}:\n{KNOWN}")
    return (named - set(SETS)).union(*(faults for name, faults in SETS.items() if name in named))


class Raged(Protocol):
    """The world in which things go wrong."""

    cloud: Cloud
    github: StandInGitHub
    root: Path
    replicas: list[Any]

    def kill(self, number: int = 0, down_s: float = 0.0) -> None:
        """Kill an orchestrator, and start it again after so many seconds."""

    def serve_also(self) -> None:
        """Start one more orchestrator."""


@dataclass(frozen=True)
class Aside:
    """A run beside the one that is looked at."""

    github: GitHubContext
    run: RunRecord
    cancelled: bool
    """Whether somebody cancels it, because nobody runs its job; else GitHub never calls its jobs completed."""


class Chaos:
    """Starts with `begin`. `seed` decides what cannot be had again otherwise: which machine, and the moments of kills."""

    def __init__(self, up: Raged, faults: frozenset[str] = STORM, seed: int = 5) -> None:
        self._up, self._cloud, self._github, self._faults = up, up.cloud, up.github, faults
        self._over = threading.Event()
        self._chance, self._moments = random.Random(seed), random.Random(seed + 1)
        self._taken: set[str] = set()
        self._threads: list[threading.Thread] = []
        self.asides: list[Aside] = []
        self.killed = self.agents = self.in_setup = 0

    def begin(self) -> None:
        """The faults happen from now on."""
        faults, state, behaviour = self._cloud.faults, self._github.state, self._github.deliveries.behaviour
        state.lost_after_s, state.requeued_after_s = LOST_AFTER_S, REQUEUED_AFTER_S
        if "replicas" in self._faults:
            self._up.serve_also()
        for fault in sorted(self._faults):
            match fault:
                case "capacity":
                    faults.full |= {*FULL, self._cloud.client("ec2").describe_subnets()["Subnets"][1]["SubnetId"]}
                case "partial":
                    faults.partial = 0.5
                case "throttling":
                    faults.throttled = 0.05
                case "rates":
                    faults.rates = Rates(SMALL)
                case "lost-answers":
                    faults.lost = 0.3
                case "lag":
                    faults.unseen_s = 3.0
                case "webhooks":
                    behaviour.lost, behaviour.repeated, behaviour.late, behaviour.form_encoded = 0.1, 0.1, 0.2, 0.2
                case "set-up":
                    self._github.behaviour.setup_s = SETUP_S
                case "github":
                    self._github.limits.refused, self._github.limits.status = 0.03, 429
                case "start-up" | "groups" | "registrations" | "gone-runs":
                    self.asides.append(self._aside(fault))
        if self._faults & {"reclaims", "kill", "set-up", "agents"}:
            self._start("storm", self._rage)
        if "random-kills" in self._faults:
            self._start("kills", self._kill_at_random)
        if any(one.cancelled for one in self.asides):
            self._start("cancels", self._cancel)

    def settle(self) -> None:
        """Nothing more is killed, taken or cancelled; what is being done is done."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def end(self) -> None:
        """No fault happens any more."""
        self.settle()
        faults = self._cloud.faults
        faults.partial = faults.throttled = faults.lost = faults.unseen_s = self._github.limits.refused = 0.0
        faults.rates = None
        faults.full.clear()

    def told(self) -> str:
        """What went wrong, for the last line."""
        seen = {**self._cloud.faults.seen, **self._github.deliveries.seen, **self._github.limits.seen}
        seen |= {"orchestrators killed": self.killed, "agents killed": self.agents, "machines taken in set-up": self.in_setup}
        seen |= {"runs that nobody runs as usual": len(self.asides)}
        return ", ".join(f"{number} {_one(what) if number == 1 else what}" for what, number in sorted(seen.items()) if number)

    def is_over(self) -> bool:
        """Whether every run beside is over, as far as GitHub ever calls it so."""
        return all(job.status == "completed" for one in self.asides if one.cancelled for job in one.run.jobs)

    def _start(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True, name=name)
        self._threads.append(thread)
        thread.start()

    def _aside(self, fault: str) -> Aside:
        """A run of one job that does not go as usual."""
        path = self._up.root / f"{fault}.yml"
        path.write_text(ASIDE.format(name=fault), "utf-8")
        workflow = read_workflow(path)
        github: GitHubContext = self._github
        if fault == "registrations":
            github = self._github.neighbour("forbidden")
            github.behaviour.refuses_registrations = True
        with github.state.lock:
            run = github.state.dispatch(workflow)
            if fault == "start-up":
                run.failed_at_start = True
            if fault == "groups":
                for job in run.jobs:
                    job.is_withheld = True
            if fault == "gone-runs":
                github.behaviour.unknown_runs.add(run.id)
        return Aside(github, run, cancelled=fault != "start-up")

    def _cancel(self) -> None:
        """Somebody loses patience with what nobody runs."""
        if not self._over.wait(CANCELLED_AFTER_S):
            for one in self.asides:
                if one.cancelled:
                    one.github.state.cancel(one.run.id)

    def _kill_at_random(self) -> None:
        """As many orchestrators as agents, in any order, at any moment."""
        order = ["orchestrator", "agent"] * (KILLS // 2)
        self._moments.shuffle(order)
        for what in order:
            if self._over.wait(self._moments.uniform(*KILL_EVERY_S)):
                return
            if what == "orchestrator":
                self._up.kill(self._moments.randrange(len(self._up.replicas) + 1), self._moments.uniform(*DOWN_S))
                self.killed += 1
                continue
            at_work = [one for one in self._at_work() if one not in self._taken]
            booting = [one for one in list(self._cloud.instances.machines) if not self._cloud.instances.runner_name(one)]
            if found := at_work + booting:
                self._taken.add(chosen := self._moments.choice(found))
                self.agents += self._cloud.instances.kill_agent(chosen)

    def _rage(self) -> None:
        """Take machines away while their jobs are set up or run, kill an agent, and the orchestrator once in between."""
        since_s: dict[str, float] = {}
        reclaimed = agents = 0
        while not self._is_done(reclaimed, agents) and not self._over.wait(LOOK_S):
            now_s = time.monotonic()
            since_s = {one: since_s.get(one, now_s) for one in self._at_work()}
            free = {one: now_s - at_s for one, at_s in since_s.items() if one not in self._taken}
            fresh, at_work = [one for one, s in free.items() if s < SETUP_S / 3], [one for one, s in free.items() if s >= LONG_S]
            if fresh and "set-up" in self._faults and self.in_setup < TAKEN_IN_SETUP:
                self._taken.add(chosen := self._chance.choice(fresh))
                self._cloud.reclaim(chosen, 0.0)
                self.in_setup += 1
            elif at_work and "agents" in self._faults and reclaimed >= RECLAIMED // 2 and agents < AGENTS_KILLED:
                self._taken.add(chosen := self._chance.choice(at_work))
                agents += (was_killed := self._cloud.instances.kill_agent(chosen))
                self.agents += was_killed
            elif at_work and reclaimed < RECLAIMED:
                self._taken.add(chosen := self._chance.choice(at_work))
                reclaimed += 1
                if "reclaims" in self._faults:
                    self._cloud.reclaim(chosen, NOTICE_S)
                if reclaimed == RECLAIMED // 2 and "kill" in self._faults:
                    self._up.kill()
                    self.killed += 1
                self._over.wait(1.0)

    def _is_done(self, reclaimed: int, agents: int) -> bool:
        """Whether everything has happened that is to happen at some moment."""
        no_agents, no_setup = "agents" not in self._faults, "set-up" not in self._faults
        return reclaimed >= RECLAIMED and (no_agents or agents >= AGENTS_KILLED) and (no_setup or self.in_setup >= TAKEN_IN_SETUP)

    def _at_work(self) -> list[str]:
        """Instances whose runner GitHub calls at work, in a job's first attempt: a job is run again once."""
        runners = list(self._github.state.runners.values())
        busy = {one.name for one in runners if one.job is not None and one.job.status == "in_progress" and one.job.attempt == 1}
        return [one for one in list(self._cloud.instances.machines) if self._cloud.instances.runner_name(one) in busy]


def _one(what: str) -> str:
    """`1 delivery late` of `deliveries late`."""
    first, _, rest = what.partition(" ")
    first = first.removesuffix("ies") + "y" if first.endswith("ies") else first.removesuffix("s")
    return f"{first} {rest.replace('that lag', 'that lags')}".rstrip()
