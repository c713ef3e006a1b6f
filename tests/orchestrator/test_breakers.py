"""Pools that had nothing, or took machines back, are left alone for a while; and nothing is ever unlaunchable because of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.compute.ec2.breakers import MOST, Breakers, Circuits, after_a_reclaim, after_an_answer, open_pools, pool_name
from orchestrator.compute.ec2.catalogue import SNAPSHOT, fitting, snapshot
from orchestrator.compute.ec2.fleet_request import STEPS, LaunchSites, all_shunned, launch_request
from orchestrator.errors import Conflict, ServiceFailed
from orchestrator.retry_policy import (
    LEARN_TRIES,
    POOL_FIRST_S,
    POOL_FORGOTTEN_S,
    POOL_LONGEST_S,
    POOL_RECLAIMED_S,
    POOL_RECLAIMS_WITHIN_S,
)
from orchestrator.store.records import Records
from orchestrator.store.request import MachineRequest
from simulation.calls import Calls
from simulation.clock import MORNING, VirtualTime
from simulation.examples import an_event, an_instance_event, some_wanted
from simulation.process import MemoryJournal
from simulation.tables import MemoryTables
from simulation.world import World

POOL, OTHER = "m7i.large/subnet-1/spot", "m7i.large/subnet-2/spot"
TYPES = fitting(snapshot(SNAPSHOT.read_text("utf-8")), MachineRequest())
SITES = LaunchSites({"amd64": ("t-amd64", "1")}, {"a": "subnet-1", "b": "subnet-2"})

WARNING = "EC2 Spot Instance Interruption Warning"


def test_a_pool_that_had_nothing_is_left_alone_for_three_minutes_and_longer_each_time_in_a_row() -> None:
    circuits, now, waits = Circuits(), 0.0, []
    for _ in range(6):
        circuits = after_an_answer(circuits, [POOL], [], now)
        until = circuits.faults[POOL].refused_until
        waits.append(until - now)
        assert open_pools(circuits, until - 1.0) == {POOL} and open_pools(circuits, until) == frozenset()
        now = until

    assert waits == [POOL_FIRST_S, 2 * POOL_FIRST_S, 4 * POOL_FIRST_S, 8 * POOL_FIRST_S, POOL_LONGEST_S, POOL_LONGEST_S]


def test_a_pool_that_gives_again_is_as_new() -> None:
    circuits = after_an_answer(Circuits(), [POOL, OTHER], [], 0.0)

    circuits = after_an_answer(circuits, [], [POOL], 1.0)

    assert open_pools(circuits, 2.0) == {OTHER}
    assert after_an_answer(circuits, [POOL], [], 3.0).faults[POOL].refusals == 1


def test_a_refusal_long_ago_does_not_make_the_next_one_longer() -> None:
    circuits = after_an_answer(Circuits(), [POOL], [], 0.0)

    assert (
        after_an_answer(circuits, [POOL], [], POOL_FIRST_S + POOL_FORGOTTEN_S).faults[POOL].refused_until
        == 2 * POOL_FIRST_S + POOL_FORGOTTEN_S
    )


def test_an_open_pool_that_had_to_be_asked_all_the_same_is_no_news() -> None:
    circuits = after_an_answer(Circuits(), [POOL], [], 0.0)

    assert after_an_answer(circuits, [POOL], [], 10.0) is circuits


@pytest.mark.parametrize(("second_s", "open_"), [(POOL_RECLAIMS_WITHIN_S - 1.0, True), (POOL_RECLAIMS_WITHIN_S + 1.0, False)])
def test_two_machines_taken_back_within_a_quarter_of_an_hour_open_their_pool(second_s: float, open_: bool) -> None:
    circuits = after_a_reclaim(Circuits(), POOL, 0.0)
    assert open_pools(circuits, 0.0) == frozenset()

    circuits = after_a_reclaim(circuits, POOL, second_s)

    assert (POOL in open_pools(circuits, second_s)) is open_
    assert open_pools(circuits, second_s + POOL_RECLAIMED_S) == frozenset()


def test_what_nobody_named_opens_nothing() -> None:
    circuits = Circuits()

    assert pool_name("", "subnet-1", "spot") == pool_name("m7i.large", "", "spot") == ""
    assert after_a_reclaim(circuits, "", 0.0) is circuits and after_an_answer(circuits, ["", ""], [], 0.0) is circuits


def test_the_record_stays_small_and_keeps_the_newest() -> None:
    circuits = Circuits()
    for at in range(3):
        circuits = after_an_answer(circuits, [f"{at}-{n}/s/spot" for n in range(MOST)], [], float(at))

    assert len(circuits.faults) == MOST and all(pool.startswith("2-") for pool in circuits.faults)
    assert after_an_answer(circuits, [POOL], [], 10_000.0).faults.keys() == {POOL}


@given(
    st.sets(
        st.tuples(st.sampled_from([it.name for it in TYPES]), st.sampled_from(["subnet-1", "subnet-2"])), max_size=2 * len(TYPES)
    ),
    st.sampled_from(range(len(STEPS))),
)
def test_no_open_pool_is_named_unless_there_is_no_other_and_something_always_is(pools: set[tuple[str, str]], row: int) -> None:
    shunned = frozenset(pool_name(kind, subnet, STEPS[row].market) for kind, subnet in pools)
    wanted = some_wanted()
    request = json.loads(
        launch_request(wanted, SITES, TYPES, row, STEPS[row], stack_id="tests", root_device="/dev/xvda", shunned=shunned)
    )

    named = [(one["InstanceType"], one["SubnetId"]) for one in request["LaunchTemplateConfigs"][0]["Overrides"]]
    assert named and len(set(named)) == len(named)
    assert len({kind for kind, _ in named}) <= STEPS[row].types
    if not all_shunned(SITES, TYPES, STEPS[row], shunned):
        assert not pools & set(named)


def known(world: World) -> Circuits:
    """The breakers as they are kept."""
    return world.records.read(Circuits, Circuits().name) or Circuits()


def asked(world: World, at: int) -> tuple[str, set[str]]:
    """Market and subnets of one request."""
    told = world.compute.requests[at]
    pools = told["LaunchTemplateConfigs"][0]["Overrides"]
    return told["TargetCapacitySpecification"]["DefaultTargetCapacityType"], {pool["SubnetId"] for pool in pools}


def test_a_zone_without_capacity_is_not_asked_again_within_minutes_and_asked_again_after() -> None:
    world = World()
    world.compute.full = {"subnet-1"}
    world.launched()
    world.told(an_event(job_id="2"))

    assert [asked(world, at) for at in (0, 1)] == [("spot", {"subnet-1", "subnet-2"}), ("spot", {"subnet-2"})]
    world.clock.at = MORNING + POOL_FIRST_S + 1.0
    world.told(an_event(job_id="3"))
    assert asked(world, 2) == ("spot", {"subnet-1", "subnet-2"})


def test_rows_that_can_only_be_refused_are_passed_over_without_a_call() -> None:
    world = World()
    world.compute.full = {"spot"}
    world.launched()
    before = len(world.compute.requests)
    world.told(an_event(job_id="2"))

    assert [asked(world, at)[0] for at in range(before)] == ["spot", "on-demand"]
    assert [asked(world, at)[0] for at in range(before, len(world.compute.requests))] == ["on-demand"]
    assert [session.market for session in world.sessions] == ["on-demand", "on-demand"]


def test_machines_taken_back_again_and_again_send_the_next_ones_elsewhere() -> None:
    world = World()
    world.told(an_event())
    for number in range(2):  # each is replaced at once: its job still waits
        world.clock.at += 60.0
        for _ in range(3):  # said by EC2, by the agent, and said again
            world.turns.on_instance_event(an_instance_event(WARNING, world.sessions[number].instance_id))
            world.hear("interrupting", session=world.sessions[number], reason="spot_notice")

    first, second, third = (session.placement for session in world.sessions)
    assert first == second and open_pools(known(world), world.clock.now()) == {first}
    assert third and third != first


def breakers(calls: Calls) -> tuple[Breakers, MemoryJournal]:
    """Breakers whose record lies in tables that a test may script, and their log."""
    clock, journal = VirtualTime(), MemoryJournal()
    return Breakers(Records(MemoryTables(clock, calls)), clock, journal), journal


def test_what_another_process_learned_meanwhile_is_kept_too() -> None:
    calls = Calls()
    mine, journal = breakers(calls)
    calls.script("tables.write", before=lambda _: mine.answered([OTHER], []))

    mine.answered([POOL], [])

    assert mine.open() == {POOL, OTHER} and [fields["open"] for fields in journal.of("circuits.changed")] == [1, 2]


def test_breakers_that_always_lose_the_race_stop_trying_and_fail_nobody() -> None:
    calls = Calls()
    mine, journal = breakers(calls)
    calls.fail("tables.write", Conflict("another was first"), times=LEARN_TRIES)

    mine.reclaimed(POOL)

    assert (calls.made.count("tables.get"), mine.open(), journal.names) == (LEARN_TRIES, frozenset(), [])


@pytest.mark.parametrize("failing", ["tables.get", "tables.write"])
def test_breakers_that_cannot_be_read_or_written_say_so_and_fail_nobody(failing: str) -> None:
    calls = Calls()
    mine, journal = breakers(calls)
    calls.fail(failing, ServiceFailed("dynamodb", "InternalServerError"))

    mine.answered([POOL], [])
    mine.answered([OTHER], [])

    assert journal.names == ["circuits.save_failed", "circuits.changed"] and mine.open() == {OTHER}


def test_no_news_is_not_written() -> None:
    calls = Calls()
    mine, journal = breakers(calls)
    mine.answered([POOL], [])

    mine.answered([POOL, ""], [OTHER])

    assert calls.made.count("tables.write") == 1 and journal.names == ["circuits.changed"]
