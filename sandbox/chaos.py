"""Everything that may go wrong, in measure: what `--faults` switches on, one by one or all at once (`storm`)."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sandbox.cloud import Cloud
from sandbox.github.server import StandInGitHub
from sandbox.rates import Rates

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
}
"""What can be switched on, each alone or with others; `storm` is all of them but `rates`, which leaves room for little else."""
STORM = frozenset(FAULTS) - {"rates"}
SMALL = 0.01
"""Of AWS's rates: thirty machines meet them then as three thousand do in earnest."""


KNOWN = "\n".join(f"  {name:14} {what}" for name, what in {**FAULTS, "storm": "all of these but rates"}.items())
"""The list of faults, for people."""


def read_faults(text: str) -> frozenset[str]:
    """`storm`, or names joined by commas. Raises: ValueError."""
    named = frozenset(filter(None, text.split(",")))
    if unknown := named - set(FAULTS) - {"storm"}:
        raise ValueError(f"--faults: expected some of these, joined by commas, found {', '.join(sorted(unknown))}:\n{KNOWN}")
    return (named - {"storm"}) | (STORM if "storm" in named else frozenset())


class Chaos:
    """Starts with `begin`; `kill` ends the orchestrator as kill -9 does and starts it again."""

    def __init__(self, cloud: Cloud, github: StandInGitHub, kill: Callable[[], None], faults: frozenset[str] = STORM) -> None:
        self._cloud, self._github, self._kill, self._faults = cloud, github, kill, faults
        self._over = threading.Event()
        self._chance = random.Random(5)
        self.killed = self.agents = self.in_setup = 0

    def begin(self) -> None:
        """The faults happen from now on."""
        faults, state, behaviour = self._cloud.faults, self._github.state, self._github.deliveries.behaviour
        state.lost_after_s, state.requeued_after_s = LOST_AFTER_S, REQUEUED_AFTER_S
        for fault in self._faults & set(FAULTS):
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
        if self._faults & {"reclaims", "kill", "set-up", "agents"}:
            threading.Thread(target=self._rage, daemon=True, name="storm").start()

    def end(self) -> None:
        """No fault happens any more."""
        self._over.set()
        faults = self._cloud.faults
        faults.partial = faults.throttled = faults.lost = faults.unseen_s = self._github.limits.refused = 0.0
        faults.rates = None
        faults.full.clear()

    def told(self) -> str:
        """What went wrong, for the last line."""
        seen = {**self._cloud.faults.seen, **self._github.deliveries.seen, **self._github.limits.seen}
        seen |= {"orchestrator killed": self.killed, "agents killed": self.agents, "machines taken in set-up": self.in_setup}
        return ", ".join(f"{number} {what}" for what, number in sorted(seen.items()) if number)

    def _rage(self) -> None:
        """Take machines away while their jobs are set up or run, kill an agent, and the orchestrator once in between."""
        taken: set[str] = set()
        since_s: dict[str, float] = {}
        reclaimed = 0
        while not self._is_done(reclaimed) and not self._over.wait(LOOK_S):
            now_s = time.monotonic()
            since_s = {one: since_s.get(one, now_s) for one in self._at_work()}
            free = {one: now_s - at_s for one, at_s in since_s.items() if one not in taken}
            fresh, at_work = [one for one, s in free.items() if s < SETUP_S / 3], [one for one, s in free.items() if s >= LONG_S]
            if fresh and "set-up" in self._faults and self.in_setup < TAKEN_IN_SETUP:
                taken.add(chosen := self._chance.choice(fresh))
                self._cloud.reclaim(chosen, 0.0)
                self.in_setup += 1
            elif at_work and "agents" in self._faults and reclaimed >= RECLAIMED // 2 and self.agents < AGENTS_KILLED:
                taken.add(chosen := self._chance.choice(at_work))
                self.agents += self._cloud.instances.kill_agent(chosen)
            elif at_work and reclaimed < RECLAIMED:
                taken.add(chosen := self._chance.choice(at_work))
                reclaimed += 1
                if "reclaims" in self._faults:
                    self._cloud.reclaim(chosen, NOTICE_S)
                if reclaimed == RECLAIMED // 2 and "kill" in self._faults:
                    self._kill()
                    self.killed += 1
                self._over.wait(1.0)

    def _is_done(self, reclaimed: int) -> bool:
        """Whether everything has happened that is to happen at some moment."""
        agents, in_setup = "agents" not in self._faults, "set-up" not in self._faults
        return (
            reclaimed >= RECLAIMED and (agents or self.agents >= AGENTS_KILLED) and (in_setup or self.in_setup >= TAKEN_IN_SETUP)
        )

    def _at_work(self) -> list[str]:
        """Instances whose runner GitHub calls at work, in a job's first attempt: a job is run again once."""
        runners = list(self._github.state.runners.values())
        busy = {one.name for one in runners if one.job is not None and one.job.status == "in_progress" and one.job.attempt == 1}
        return [one for one in list(self._cloud.instances.machines) if self._cloud.instances.runner_name(one) in busy]
