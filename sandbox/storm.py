"""Everything that may go wrong at once, in measure: what `--faults storm` switches on."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

from sandbox.cloud import Cloud
from sandbox.github.server import StandInGitHub

WORKFLOW = Path(__file__).parent / "storm.yml"
RECLAIMED, NOTICE_S = 4, 12.0
"""Machines that EC2 takes back in the middle of their jobs, and how long before it says so (EC2: two minutes)."""
LOST_AFTER_S, REQUEUED_AFTER_S = 30.0, 10.0
"""GitHub's ten minutes and one minute, so that a storm is over while somebody watches."""
FULL = ("c7i.large", "m7i.large")
"""Instance types that nobody gets."""


class Storm:
    """Starts with `begin`; `kill` ends the orchestrator as kill -9 does and starts it again."""

    def __init__(self, cloud: Cloud, github: StandInGitHub, kill: Callable[[], None]) -> None:
        self._cloud, self._github, self._kill = cloud, github, kill
        self._over = threading.Event()
        self._chance = random.Random(5)
        self.killed = 0

    def begin(self) -> None:
        """From now on."""
        weather, manners = self._cloud.weather, self._github.deliveries.manners
        weather.full |= {*FULL, self._cloud.client("ec2").describe_subnets()["Subnets"][1]["SubnetId"]}
        weather.partial, weather.throttled, weather.lost, weather.unseen_s = 0.5, 0.05, 0.3, 3.0
        state = self._github.state
        state.lost_after_s, state.requeued_after_s = LOST_AFTER_S, REQUEUED_AFTER_S
        manners.lost, manners.repeated, manners.late = 0.1, 0.1, 0.2
        threading.Thread(target=self._rage, daemon=True, name="storm").start()

    def end(self) -> None:
        """No more of it."""
        self._over.set()
        weather = self._cloud.weather
        weather.partial = weather.throttled = weather.lost = weather.unseen_s = 0.0
        weather.full.clear()

    def told(self) -> str:
        """What went wrong, for the last line."""
        deliveries = self._github.deliveries
        seen = {**self._cloud.weather.seen, **deliveries.seen, "orchestrator killed": self.killed}
        return ", ".join(f"{number} {what}" for what, number in sorted(seen.items()) if number)

    def _rage(self) -> None:
        """Take machines away while their jobs run, and the orchestrator once in between."""
        taken: set[str] = set()
        while len(taken) < RECLAIMED and not self._over.wait(0.5):
            busy = {runner.name for runner in self._github.state.runners.values() if runner.job is not None}
            at_work = [one for one in self._at_work(busy) if one not in taken]
            if at_work:
                taken.add(chosen := self._chance.choice(at_work))
                self._cloud.reclaim(chosen, NOTICE_S)
                if len(taken) == RECLAIMED // 2:
                    self._kill()
                    self.killed += 1
                self._over.wait(2.0)

    def _at_work(self, runners: set[str]) -> list[str]:
        """Instances whose console shows that one of these runners is theirs."""
        found = []
        for instance_id in list(self._cloud.instances.machines):
            console = self._cloud.instances.console(instance_id)
            if "phase.entered phase=running" in console and "phase.entered phase=settling" not in console:
                found.append(instance_id)
        return found if runners else []
