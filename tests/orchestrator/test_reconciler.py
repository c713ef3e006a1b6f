"""From a level that is wrong to machines that correct it: one launch, whoever else is at it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agent.contract.config import read_config
from orchestrator.compute.ec2.strategy import SITES_S
from orchestrator.ports import Received, Write
from orchestrator.store.kinds import changed
from orchestrator.store.model import LabelSet
from orchestrator.store.naming import set_key
from orchestrator.store.records import WAKE
from orchestrator.store.states import SessionState
from orchestrator.store.tables import SESSIONS
from simulation.calls import Calls
from simulation.clock import MORNING
from simulation.examples import SET, an_event, some_settings
from simulation.process import CollectedWakes
from simulation.world import World, old_records
from tests.orchestrator.fleets import queue


def names(world: World) -> list[str]:
    return [runner.name for runner in world.github.runners.values()]


def test_a_burst_of_one_label_set_is_one_launch() -> None:
    world = World()

    queue(world, 30)
    world.reconcile()

    assert (len(world.compute.requests), world.compute.launched) == (1, 30)
    assert [s.state for s in world.sessions] == [SessionState.CONFIGURED] * 30
    assert len(set(names(world))) == len(world.configurations.values) == 30


def test_f2_label_sets_that_need_the_same_machine_share_a_launch_and_others_do_not() -> None:
    world = World()

    for n, label in enumerate(
        ["runs-fleet=1", "runs-fleet=2", "runs-fleet=3/cpu=2", "runs-fleet=4/cpu=8", "runs-fleet=5/arch=arm64"]
    ):
        world.turns.on_job_event(an_event(job_id=str(n), labels=(label,)))
    world.reconcile()

    assert sorted(r["TargetCapacitySpecification"]["TotalTargetCapacity"] for r in world.compute.requests) == [1, 1, 3]
    assert sorted(runner.labels[0] for runner in world.github.runners.values()) == sorted(s.labels[0] for s in world.sessions)


def test_more_than_a_call_may_ask_for_is_asked_for_in_several_and_none_is_forgotten() -> None:
    world = World(settings=some_settings(launches_per_minute=1000.0))

    queue(world, 250)
    world.reconcile()

    assert [r["TargetCapacitySpecification"]["TotalTargetCapacity"] for r in world.compute.requests] == [100, 100, 50]
    assert len({s.launched_for for s in world.sessions}) == 250


def test_a_second_replica_that_read_the_same_view_makes_no_second_launch() -> None:
    world, other_wakes = World(), CollectedWakes()
    views = []

    class Held:
        """Tables that show the second replica the view as it was before the first one wrote."""

        def __getattr__(self, name: str) -> Any:
            return getattr(world.tables, name)

        def rows(self, table: str, partition: str) -> list[dict[str, Any]]:
            return views[0] if views and partition == SET else world.tables.rows(table, partition)

    second = world.replica(wakes=other_wakes, tables=Held())
    queue(world, 3)
    views.append(world.tables.rows("sessions", SET))
    world.reconcile()

    second.on_wake([SET])

    assert (len(world.compute.requests), world.compute.launched) == (1, 3)
    assert other_wakes.waiting == [SET], "it reads again"
    views.clear()
    second.on_wake(other_wakes.taken())
    assert world.compute.launched == 3


def test_a_message_that_comes_again_in_the_middle_of_a_launch_launches_nothing_more() -> None:
    world = World()

    def during(request: str) -> None:
        world.turns.on_job_event(an_event())
        world.reconcile()

    world.calls.script("ec2.create_fleet", before=during)
    world.told(an_event())

    assert (len(world.compute.requests), world.compute.launched, len(world.sessions)) == (1, 1, 1)


def test_an_index_five_seconds_behind_makes_no_second_launch() -> None:
    world = World(index_lag_s=5.0)

    world.told(an_event())
    for _ in range(30):
        world.tick(after_s=0.5)

    assert (len(world.compute.requests), world.compute.launched) == (1, 1)


def test_a_stack_that_is_paused_launches_nothing_until_it_is_resumed() -> None:
    world = World()
    stack = world.records.put(changed(world.records.stack(), paused=True))
    world.told(an_event())
    paused = world.compute.launched

    world.records.put(changed(stack, paused=False))
    world.ticks(until_s=70.0)

    assert (paused, world.compute.launched) == (0, 1)


def test_p6_since_when_there_is_a_surplus_is_known_to_whichever_replica_looks() -> None:
    world = World()
    session = world.launched()
    world.told(an_event("completed", conclusion="cancelled"))
    world.clock.at += 61.0
    other_wakes = CollectedWakes()
    other = world.replica(wakes=other_wakes)

    other.on_wake([SET])

    assert world.compute.instances[session.instance_id] == "terminated"


def test_p1_a_machine_that_died_unseen_is_supply_no_more_and_takes_no_place() -> None:
    world = World(settings=some_settings(max_sessions=1))
    session = world.launched()
    world.hear("started")
    world.compute.instances[session.instance_id] = "terminated"

    world.ticks(until_s=60.0)

    assert (world.sessions[0].reason, world.sessions[1].state) == ("instance_gone", SessionState.CONFIGURED)
    assert world.compute.launched == 2


def test_a_job_that_comes_in_time_takes_the_surplus_machine() -> None:
    world = World()
    world.launched()
    world.told(an_event("completed", conclusion="cancelled"))

    world.told(an_event(job_id="2"))
    world.ticks(until_s=200.0)

    assert world.compute.launched == 1


def test_r2_a_job_run_by_another_label_sets_machine_leaves_that_set_short_of_one() -> None:
    """The case that was called theft: nothing is wrong but the reconciler, and they are corrected."""
    world = World()
    world.told(an_event(job_id="1"))
    first = world.session
    world.told(an_event(job_id="2", labels=("runs-fleet=7",)))

    world.told(an_event("in_progress", job_id="2", labels=("runs-fleet=7",), runner_name=first.registration_name))

    mine = [s for s in world.sessions if s.set_key == SET]
    assert len(mine) == 2 and {s.bound_job for s in mine} == {"2", ""}
    other = set_key("octo", "widgets", 1, ("runs-fleet=7",))
    assert [s.bound_job for s in world.sessions if s.set_key == other] == [""]


def test_a_ready_machine_that_does_not_take_the_job_beside_it_stops_counting() -> None:
    world = World()
    world.launched()
    world.hear("started")

    world.ticks(until_s=130.0)

    assert world.compute.launched == 2


def test_t2_machines_that_never_get_a_job_stop_being_launched_and_a_success_starts_them_again() -> None:
    world = World()
    world.told(an_event())
    world.end_without_a_job(times=5)
    held = world.compute.launched

    world.ticks(until_s=55.0)
    still = world.compute.launched
    world.ticks(until_s=30.0)

    assert (held, still, world.compute.launched) == (5, 5, 6)


def test_g5_a_runner_that_github_finds_too_old_is_not_launched_without_end_and_the_reason_is_kept() -> None:
    world = World(settings=some_settings(runner_version="2.0.0"))
    world.told(an_event())
    for _ in range(5):
        last = world.sessions[-1]
        assert read_config(world.configurations.values[last.instance_id]).runner_version == "2.0.0"
        world.compute.instances[last.instance_id] = "terminated"
        world.hear_the_end("failure", session=last, reason="version_refused")
    held = world.compute.launched

    world.ticks(until_s=50.0)
    still = world.compute.launched
    world.compute.version = "2"
    world.ticks(until_s=61.0)

    assert {session.reason for session in world.sessions[:5]} == {"version_refused"} and "label_set.held" in world.journal.names
    assert (held, still, world.compute.launched) == (5, 5, 6)


def test_jobs_that_differ_only_in_case_and_order_of_labels_share_a_record() -> None:
    world = World()

    world.told(an_event(job_id="1", labels=("runs-fleet=7", "X64")))
    world.told(an_event(job_id="2", labels=("x64", "Runs-Fleet=7")))

    assert len({s.set_key for s in world.sessions}) == 1


def test_r9_repositories_never_share_one() -> None:
    world = World()

    world.told(an_event(job_id="1"))
    world.told(an_event(job_id="2", repo="gadgets"))

    assert len({s.set_key for s in world.sessions}) == 2


def test_a_forgotten_label_set_is_made_again_from_a_job() -> None:
    world = World()
    world.told(an_event())
    world.tables.write([Write("sessions", (SET, LabelSet.KIND.row), None)])

    world.told(an_event(job_id="2"))

    assert world.compute.launched == 2


TURNS: dict[str, Callable[[World], object]] = {
    "a delivery": lambda world: world.told(an_event(job_id="new")),
    "the sweep": lambda world: world.tick(),
    "the tick": lambda world: world.turns.on_tick(),
    "the backfill": lambda world: world.turns.on_backfill(),
    "a pause and its end": lambda world: [world.turns.pause(paused=on) for on in (True, False)],
    "an event of an instance": lambda world: world.turns.on_instance_event(Received('{"detail-type": "?", "detail": {}}', "r")),
}


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_a_turn_costs_the_same_whatever_lies_in_the_tables(turn: Callable[[World], object]) -> None:
    def cost(number: int) -> tuple[int, int]:
        world = World(Calls())
        old_records(world, number)
        world.told(an_event())
        before, calls = world.tables.examined, len(world.calls.made)
        turn(world)
        return world.tables.examined - before, len(world.calls.made) - calls

    assert cost(2) == cost(600)


def test_an_app_that_was_installed_again_is_used_as_the_newest_job_tells() -> None:
    world = World()
    world.told(an_event(job_id="1", installation_id="3"))

    world.told(an_event(job_id="2", installation_id="4", at=MORNING + 1))

    assert [s.scope.installation_id for s in world.sessions] == ["3", "4"]


def test_a_new_template_version_closes_the_backoff_though_nothing_ends_meanwhile() -> None:
    world = World()
    world.told(an_event())
    world.clock.at += SITES_S - 20.0  # so long is the version believed that was read before
    world.end_without_a_job(times=5)
    held = world.compute.launched

    world.compute.version = "2"
    world.ticks(until_s=35.0)

    assert (held, world.compute.launched) == (5, 6)


def test_a_label_set_that_lacks_machines_is_looked_at_again_once_nobody_can_hold_its_launch_any_more() -> None:
    world = World()
    world.turns.pause(paused=True)

    world.told(an_event())

    item = world.tables.get(SESSIONS, (SET, WAKE))
    assert item is not None and item["due"] == world.clock.at + world.settings.lease_s
