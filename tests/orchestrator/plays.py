"""A turn that is cut short once, then the world goes on as it would, and must be right in the end.

The queue delivers again, an operator repeats himself, the schedules come round. A normal run and a rerun have pages of their own
(test_crashes, test_reruns_cut_off).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.errors import OrchestratorError
from orchestrator.settings import ServerSettings
from orchestrator.store.states import SessionState
from simulation.calls import Crash
from simulation.examples import an_event
from simulation.world import World
from tests.orchestrator.refusals import Refusal, refusing


@dataclass
class Play:
    """One turn in its world. `again`: whoever asked for it asks once more after a failure; the schedules come round anyway."""

    prepare: Callable[[World], None]
    act: Callable[[World], None]
    right: Callable[[World], None]
    again: bool = True
    rounds: int = 8
    step_s: float = 30.0
    after: Callable[[World], None] = field(default=lambda world: None)
    """What happens outside in each round."""
    settings: ServerSettings | None = None

    def taken_once_and_twice(self) -> None:
        """Nothing cuts the turn short; taken again where somebody would, it changes nothing."""
        for repeated in (False, self.again):
            world = self.world()
            self.act(world)
            self._goes_on(world, repeated=repeated)
            self.right(world)

    def cut_short(self, number: int, failure: type[Exception] | type[Crash]) -> str:
        """The call of that number takes effect and is never answered; returns its name."""
        world = self.world()
        world.calls.fatal, world.calls.failure = len(world.calls.made) + number, failure
        with contextlib.suppress(Crash, OrchestratorError):
            self.act(world)
        name = world.calls.made[world.calls.fatal - 1]
        self._goes_on(world, repeated=self.again)
        self.right(world)
        return name

    def refused_at_each_call(self) -> int:
        """One call after the other has no effect, each in a world of its own, and one more after the turn; returns how many."""
        for number in itertools.count(1):
            world, refusal = self.world(), Refusal(number)
            refusing(world, refusal)
            with contextlib.suppress(OrchestratorError):
                self.act(world)
            reached = refusal.made >= number
            try:
                self._goes_on(world, repeated=self.again)
                self.right(world)
            except Exception as error:
                raise AssertionError(f"with call {number} refused: {error}") from error
            if not reached:
                break
        return number - 1

    def cut_short_after_each_call(self, failure: type[Exception] | type[Crash]) -> int:
        """Each call in turn, each in a world of its own; returns how many. Raises: AssertionError that names the call."""
        names = self.calls()
        for number, name in enumerate(names, 1):
            try:
                assert self.cut_short(number, failure) == name
            except Exception as error:
                raise AssertionError(
                    f"cut short by {failure.__name__} after call {number} of {len(names)}, {name}: {error}"
                ) from error
        return len(names)

    def calls(self) -> list[str]:
        """The names of the turn's calls."""
        world = self.world()
        before = len(world.calls.made)
        self.act(world)
        return world.calls.made[before:]

    def world(self) -> World:
        """As it is before the turn."""
        world = World(settings=self.settings)
        self.prepare(world)
        return world

    def _goes_on(self, world: World, *, repeated: bool) -> None:
        world.wakes.taken()  # what a process only knew died with it
        if repeated:
            with contextlib.suppress(OrchestratorError):
                self.act(world)
        for _ in range(self.rounds):
            world.clock.at += self.step_s
            self.after(world)
            for turn in (world.turns.on_sweep, world.reconcile, world.turns.on_tick, world.turns.on_backfill, world.reconcile):
                with contextlib.suppress(OrchestratorError):
                    turn()


def idle(world: World) -> None:
    world.launched()
    world.hear("started")


def busy(world: World) -> None:
    session = world.at_work()
    world.hear("started")
    world.hear("busy", session=session)


def unregistered(world: World) -> None:
    """What GitHub does by itself with a runner whose machine is gone: it goes offline, and is not busy any more."""
    for runner in world.github.runners.values():
        runner.busy = False


def deregistered(world: World) -> None:
    """A listener whose registration is gone leaves, and its agent says so and goes."""
    names = {runner.name for runner in world.github.runners.values()}
    for session in world.sessions:
        if session.state is SessionState.READY and session.registration_name not in names:
            with contextlib.suppress(OrchestratorError):
                world.hear_the_end("failure", session=session, reason="registration_deleted")
            world.compute.instances[session.instance_id] = "terminated"


def nothing_is_left_of_the_only_one(world: World) -> None:
    assert (world.session.state, set(world.compute.instances.values())) == (SessionState.CLOSED, {"terminated"})
    assert (world.configurations.values, world.github.runners, world.compute.launched) == ({}, {}, 1)


def paused_with_a_job(world: World) -> None:
    world.turns.pause(paused=True)
    world.told(an_event())
    assert world.compute.launched == 0


def the_first_is_gone_and_its_job_has_another(world: World) -> None:
    first, second = world.sessions
    assert (first.state, second.state) == (SessionState.CLOSED, SessionState.CONFIGURED) and world.compute.launched == 2
    assert [world.compute.instances[one.instance_id] for one in (first, second)] == ["terminated", "running"]
    assert set(world.configurations.values) == {second.instance_id}
    assert [runner.name for runner in world.github.runners.values()] == [second.registration_name]
