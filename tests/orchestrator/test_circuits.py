"""Pools that had nothing, or took machines back, are left alone for a while; and nothing is ever unlaunchable because of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.catalogue import SNAPSHOT, fitting, snapshot
from orchestrator.circuits import (
    FIRST_S,
    FORGOTTEN_S,
    LONGEST_S,
    MOST,
    TAKEN_BACK_S,
    WITHIN_S,
    after_a_reclaim,
    after_an_answer,
    open_pools,
    pool_name,
)
from orchestrator.labels import Ask
from orchestrator.model import Circuits
from orchestrator.planning import STEPS, all_shunned, launch_request
from orchestrator.services import Site
from tests.orchestrator.memory import MORNING, World, an_event, some_settings

POOL, OTHER = "m7i.large/subnet-1/spot", "m7i.large/subnet-2/spot"
KINDS = fitting(snapshot(SNAPSHOT.read_text("utf-8")), Ask(), "amd64")
SITE = Site({"amd64": ("t-amd64", "1")}, {"a": "subnet-1", "b": "subnet-2"})


def test_a_pool_that_had_nothing_is_left_alone_for_three_minutes_and_longer_each_time_in_a_row() -> None:
    circuits, now, waits = Circuits(), 0.0, []
    for _ in range(6):
        circuits = after_an_answer(circuits, [POOL], [], now)
        until = circuits.faults[POOL].refused_until
        waits.append(until - now)
        assert open_pools(circuits, until - 1.0) == {POOL} and open_pools(circuits, until) == frozenset()
        now = until

    assert waits == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 8 * FIRST_S, LONGEST_S, LONGEST_S]


def test_a_pool_that_gives_again_is_as_new() -> None:
    circuits = after_an_answer(Circuits(), [POOL, OTHER], [], 0.0)

    circuits = after_an_answer(circuits, [], [POOL], 1.0)

    assert open_pools(circuits, 2.0) == {OTHER}
    assert after_an_answer(circuits, [POOL], [], 3.0).faults[POOL].refusals == 1


def test_a_refusal_long_ago_does_not_make_the_next_one_longer() -> None:
    circuits = after_an_answer(Circuits(), [POOL], [], 0.0)

    assert after_an_answer(circuits, [POOL], [], FIRST_S + FORGOTTEN_S).faults[POOL].refused_until == 2 * FIRST_S + FORGOTTEN_S


def test_an_open_pool_that_had_to_be_asked_all_the_same_is_no_news() -> None:
    circuits = after_an_answer(Circuits(), [POOL], [], 0.0)

    assert after_an_answer(circuits, [POOL], [], 10.0) is circuits


@pytest.mark.parametrize(("second_s", "open_"), [(WITHIN_S - 1.0, True), (WITHIN_S + 1.0, False)])
def test_two_machines_taken_back_within_a_quarter_of_an_hour_open_their_pool(second_s: float, open_: bool) -> None:
    circuits = after_a_reclaim(Circuits(), POOL, 0.0)
    assert open_pools(circuits, 0.0) == frozenset()

    circuits = after_a_reclaim(circuits, POOL, second_s)

    assert (POOL in open_pools(circuits, second_s)) is open_
    assert open_pools(circuits, second_s + TAKEN_BACK_S) == frozenset()


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
        st.tuples(st.sampled_from([k.name for k in KINDS]), st.sampled_from(["subnet-1", "subnet-2"])), max_size=2 * len(KINDS)
    ),
    st.sampled_from(range(len(STEPS))),
)
def test_no_open_pool_is_named_unless_there_is_no_other_and_something_always_is(pools: set[tuple[str, str]], row: int) -> None:
    shunned = frozenset(pool_name(kind, subnet, STEPS[row].market) for kind, subnet in pools)
    request = json.loads(
        launch_request(
            some_settings(),
            SITE,
            Ask(),
            KINDS,
            STEPS[row],
            launch_id="l-1",
            number=row,
            count=1,
            spec="s",
            expires_at=1.0,
            shunned=shunned,
        )
    )

    named = [(one["InstanceType"], one["SubnetId"]) for one in request["LaunchTemplateConfigs"][0]["Overrides"]]
    assert named and len(set(named)) == len(named)
    assert len({kind for kind, _ in named}) <= STEPS[row].types
    if not all_shunned(SITE, KINDS, STEPS[row], shunned):
        assert not pools & set(named)


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
    world.clock.at = MORNING + FIRST_S + 1.0
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
            world.hear("interrupting", session=world.sessions[number], reason="spot")

    first, second, third = (session.pool for session in world.sessions)
    assert first == second and open_pools(world.records.circuits(), world.clock.now()) == {first}
    assert third and third != first
