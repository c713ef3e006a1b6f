"""What tests of the fleet have in common: jobs that arrive, machines that come and go, what EC2 offers and shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from orchestrator.compute.dispatch import Strategies
from orchestrator.compute.ec2.catalogue import SNAPSHOT, InstanceType, snapshot
from orchestrator.errors import OrchestratorError
from orchestrator.store.kinds import is_over
from orchestrator.store.model import LabelSet
from orchestrator.store.states import SessionState
from simulation.ec2 import MemoryEc2
from simulation.examples import SET, an_event
from simulation.world import World


def queue(world: World, number: int, first: int = 1, **changes: object) -> None:
    """So many jobs are told, and nothing is reconciled yet."""
    for n in range(first, first + number):
        world.turns.on_job_event(an_event(job_id=str(n), **changes))


def arrives(world: World, name: str, **more: object) -> None:
    """A job of a label set of its own."""
    world.turns.on_job_event(an_event(**{"job_id": name, "at": world.clock.at, "labels": (f"runs-fleet={name}",), **more}))


def settles(world: World) -> None:
    """Everything that is awake; what fails is left to the sweep."""
    try:
        world.reconcile()
    except OrchestratorError:
        return


def runs_and_ends(world: World) -> None:
    """The oldest machine takes the job that it was launched for, and is gone."""
    session = next(one for one in world.sessions if not is_over(one))
    told = {"job_id": session.launched_for, "runner_name": session.registration_name}
    world.told(an_event("in_progress", **told))
    world.told(an_event("completed", conclusion="success", **told))
    world.compute.instances[session.instance_id] = "terminated"
    world.hear_the_end(session=session)


def unclaimed(world: World, until_s: float, listens_s: float = 240.0) -> None:
    """Machines boot in a minute, listen for some, and go as nobody gave them a job."""
    end = world.clock.at + until_s
    while world.clock.at < end:
        world.tick(30.0)
        for session in world.sessions:
            if session.state is SessionState.CONFIGURED and world.clock.at - (session.launched_at or 0.0) >= 60.0:
                world.hear("started", session=session)
            elif session.state is SessionState.READY and world.clock.at - (session.ready_at or 0.0) >= listens_s:
                world.compute.instances[session.instance_id] = "terminated"
                world.hear_the_end("interrupted", session=session, reason="unclaimed")


def held(world: World) -> set[str]:
    """Every reason for which nothing was launched."""
    return {str(told.get("why")) for told in world.journal.of("label_set.held")}


def the_label_set(world: World) -> LabelSet:
    """The record of the label set of which the examples speak."""
    found = world.records.label_set(SET)
    assert found is not None
    return found


def shipped(usd: float = 0.0) -> tuple[InstanceType, ...]:
    """The shipped catalogue, as if every type cost so much for each vCPU."""
    return tuple(replace(one, usd=one.cpus * usd) for one in snapshot(SNAPSHOT.read_text(encoding="utf-8")))


def offers(world: World, types: Callable[[], Iterable[InstanceType]]) -> None:
    """The turns on an EC2 that offers these types; where prices matter they are known, otherwise asked for in some minutes."""
    strategy = world.ec2_strategy(world.records, world.compute, lambda: tuple(types()))
    world.turns = world.replica(strategies=Strategies([strategy]))
    strategy.maintain()


class LateEc2(MemoryEc2):
    """EC2 that shows whoever looks for a launch's machines only so many of them (None: all)."""

    shows: int | None = None

    def describe(self, filters: list[dict[str, Any]]) -> Any:
        """By its filters, cut where the launch is one of them."""
        found = list(super().describe(filters))
        return iter(found[: self.shows] if any(one["Name"] == "tag:runs-fleet:launch-id" for one in filters) else found)


def with_late_ec2(world: World) -> LateEc2:
    """The world's EC2 from now on; nothing was launched before."""
    world.compute = late = LateEc2(world.calls)
    world.turns = world.replica()
    return late
