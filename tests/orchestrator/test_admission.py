"""What is scarce goes to whoever waits longest, and nothing is launched beyond a limit."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.compute.ec2.catalogue import FIRST_S
from orchestrator.fleet import limits
from orchestrator.fleet.line import WAITLISTED_BEFORE
from orchestrator.fleet.work import RegistrationQuota
from orchestrator.ports import Key
from orchestrator.setting_values import Limits
from orchestrator.store.kinds import is_over
from simulation.clock import MORNING
from simulation.examples import an_event, some_settings
from simulation.world import World
from tests.orchestrator.fleets import arrives, offers, queue, runs_and_ends, shipped


def test_under_a_limit_nobody_is_overtaken_by_a_label_set_that_came_later() -> None:
    world = World(settings=some_settings(max_sessions=3))
    for name in ("a", "b", "c"):
        arrives(world, name)
    world.reconcile()
    world.clock.at += 1.0
    for number in range(8):
        arrives(world, f"first-{number}")
    world.reconcile()

    served = []
    for number in range(8):
        world.clock.at += 11.0
        runs_and_ends(world)
        arrives(world, f"later-{number}")
        world.reconcile()
        served = [one.launched_for for one in world.sessions][3:]

    assert len(served) >= 6
    assert all(name.startswith("first-") for name in served)


def test_the_oldest_job_comes_first_whatever_machine_it_needs() -> None:
    world = World(settings=some_settings(max_sessions=2))
    arrives(world, "old", labels=("runs-fleet=1/cpu=8",))
    world.clock.at += 1.0
    arrives(world, "middle", labels=("runs-fleet=2",))
    arrives(world, "young", labels=("runs-fleet=3/cpu=8",), at=world.clock.at + 1.0)

    world.reconcile()

    assert [one.launched_for for one in world.sessions] == ["old", "middle"]


def test_under_a_limit_of_the_stack_who_waits_longest_comes_first() -> None:
    world = World(settings=some_settings(max_sessions=1))
    for n in range(20):
        world.turns.on_job_event(an_event(job_id=f"young-{n}", labels=(f"runs-fleet={n}",), at=MORNING + 10.0))
    world.turns.on_job_event(an_event(job_id="oldest", labels=("runs-fleet=oldest/cpu=8",), at=MORNING - 10.0))
    world.reconcile()

    assert [session.launched_for for session in world.sessions] == ["oldest"]


def test_who_waits_for_a_limit_of_the_stack_is_told_its_place_in_the_whole_stack() -> None:
    world = World(settings=some_settings(max_sessions=1))
    arrives(world, "running")
    world.reconcile()
    for name in ("11", "12", "13"):
        world.clock.at += 1.0
        arrives(world, name)
        world.reconcile()

    said = [world.explanation(name).waits_for for name in ("11", "12", "13")]

    assert [words.partition(";")[0] for words in said] == ["one of the 1 machines that RUNS_FLEET_MAX_SESSIONS allows"] * 3
    assert [words.partition("; ")[2] for words in said] == [f"it is number {place} of the stack" for place in (1, 2, 3)]


def test_who_has_its_machine_stands_in_no_line_any_more() -> None:
    world = World(settings=some_settings(max_sessions=1))
    arrives(world, "a")
    arrives(world, "b", at=MORNING + 1.0)
    world.reconcile()
    waiting = [place.jobs for place in world.records.waitlist.entries(world.clock.now())]

    runs_and_ends(world)
    world.ticks(until_s=30.0)

    assert (waiting, world.records.waitlist.entries(world.clock.now())) == ([1], [])


def test_a_label_set_that_stands_in_line_for_nothing_is_let_go() -> None:
    world = World(settings=some_settings(max_sessions=1))
    arrives(world, "a")
    arrives(world, "b", at=MORNING + 1.0)
    world.reconcile()

    world.told(an_event("completed", job_id="b", labels=("runs-fleet=b",), conclusion="cancelled"))
    world.clock.at += 2.0
    arrives(world, "c")
    world.reconcile()

    assert [place.since for place in world.records.waitlist.entries(world.clock.now())] == [MORNING + 2.0]


def test_caps_of_nobody_else_are_a_place_in_line() -> None:
    world = World(settings=some_settings(per_repository=Limits(sessions=1)))
    arrives(world, "1")
    arrives(world, "2", at=MORNING + 1.0)
    arrives(world, "3", repo="gadgets", at=MORNING + 2.0)

    world.reconcile()

    assert sorted(one.launched_for for one in world.sessions) == ["1", "3"]
    assert [place.whose for place in world.records.waitlist.entries(world.clock.now())] == ["octo/widgets"]


def test_a_line_longer_than_is_looked_at_together_is_not_overtaken_either() -> None:
    at_once = WAITLISTED_BEFORE + 10
    world = World(settings=some_settings(max_sessions=at_once, launches_per_minute=1000.0))
    for number in range(at_once):
        arrives(world, f"running-{number}")
    world.reconcile()
    world.clock.at += 1.0
    for number in range(2 * at_once):
        arrives(world, f"first-{number}")
    world.reconcile()

    world.clock.at += 40.0
    world.compute.instances = dict.fromkeys(world.compute.instances, "terminated")
    arrives(world, "later")
    world.reconcile()

    served = {one.launched_for for one in world.sessions if not one.launched_for.startswith("running")}
    assert "later" not in served and len(served) == at_once


def test_label_sets_of_an_app_that_is_not_let_in_keep_nobody_from_his_machine() -> None:
    world = World(settings=some_settings(max_sessions=50))
    world.github.quotas = lambda scope: RegistrationQuota(0, "the App") if scope.repo == "shut" else RegistrationQuota()
    for number in range(WAITLISTED_BEFORE + 5):
        arrives(world, f"shut-{number}", repo="shut")
    world.reconcile()

    world.clock.at += 1.0
    arrives(world, "1")
    world.reconcile()

    assert [one.launched_for for one in world.sessions] == ["1"]


def test_a_label_set_that_cannot_be_served_any_more_leaves_the_line() -> None:
    world, types = World(settings=some_settings(max_sessions=1)), list(shipped())
    offers(world, lambda: types)
    arrives(world, "1")
    arrives(world, "2", labels=("runs-fleet=2/family=m7i",), at=MORNING + 1.0)
    world.reconcile()
    waiting = len(world.records.waitlist.entries(world.clock.now()))

    types[:] = [one for one in types if "m7i" not in one.family]
    world.clock.at += FIRST_S
    world.turns.on_tick()
    world.ticks(until_s=30.0)

    assert (waiting, world.records.waitlist.entries(world.clock.now())) == (1, [])


def test_a_large_job_that_has_waited_for_long_is_not_starved_by_small_ones() -> None:
    world = World(settings=some_settings(max_cpus=16, launches_per_minute=1000.0))
    arrives(world, "small-0")
    world.reconcile()
    world.clock.at += 1.0
    arrives(world, "large", labels=("runs-fleet=large/cpu=8+16",))
    world.reconcile()

    for number in range(1, 120):
        world.clock.at += 11.0
        arrives(world, f"small-{number}")
        world.reconcile()
        if not all(map(is_over, world.sessions)):
            runs_and_ends(world)

    assert "large" in {one.launched_for for one in world.sessions}


def test_a_job_that_is_served_already_moves_its_label_set_to_no_other_place() -> None:
    world = World(settings=some_settings(max_sessions=2))
    arrives(world, "1", labels=("runs-fleet=a/cpu=8",))
    world.reconcile()
    world.clock.at += 50.0
    arrives(world, "2", labels=("runs-fleet=b",))
    world.clock.at += 50.0
    arrives(world, "3", labels=("runs-fleet=a/cpu=8",))

    world.reconcile()

    assert [one.launched_for for one in world.sessions] == ["1", "2"]


@pytest.mark.parametrize("first", ["8", "2"])
def test_jobs_of_the_same_second_are_served_in_some_order_and_it_comes_to_an_end(first: str) -> None:
    world = World(settings=some_settings(max_sessions=1))
    second = {"8": "2", "2": "8"}[first]
    for name, cpus in (("1", first), ("2", second), ("3", first), ("4", second)):
        arrives(world, name, labels=(f"runs-fleet={name}/cpu={cpus}",))

    world.reconcile()

    assert world.compute.launched == 1


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["2", "8", "16"]), st.integers(0, 4)), min_size=1, max_size=12),
    st.integers(1, 6), st.sampled_from([0, 8, 20]),
)  # fmt: skip
@settings(max_examples=60)
def test_whatever_waits_each_look_comes_to_an_end_and_no_more_than_allowed_is_launched(
    jobs: list[tuple[int, str, int]], most: int, cpus: int
) -> None:
    world = World(settings=some_settings(max_sessions=most, max_cpus=cpus))

    for number, (label, size, later_s) in enumerate(jobs):
        arrives(world, str(number), labels=(f"runs-fleet={label}/cpu={size}",), at=world.clock.at + later_s)
        world.reconcile()
        world.clock.at += 3.0
    world.ticks(until_s=60.0)  # until EC2's list is believed again

    assert world.compute.launched <= min(most, len(jobs))
    assert cpus or world.compute.launched == min(most, len(jobs))


def test_who_was_served_by_another_replica_and_must_wait_again_stands_in_line_again() -> None:
    world = World(settings=some_settings(max_sessions=1))
    arrives(world, "1")
    world.reconcile()
    world.clock.at += 1.0
    arrives(world, "2")
    world.reconcile()
    key = world.records.waitlist.entries(world.clock.now())[0].set_key
    world.records.waitlist.remove(key)

    world.turns.on_wake([key])

    assert [place.set_key for place in world.records.waitlist.entries(world.clock.now())] == [key]


def test_label_sets_at_their_limit_hide_no_other_however_many_there_are() -> None:
    world = World(settings=some_settings(per_repository=Limits(sessions=1)))
    world.turns.pause(paused=True)
    for n in range(120):
        world.told(an_event(job_id=str(n), labels=(f"runs-fleet={n}",)))
    world.told(an_event(job_id="victim", repo="other", labels=("runs-fleet=victim",), at=MORNING + 100.0))

    world.turns.pause(paused=False)
    world.reconcile()
    world.tick()

    assert sorted(session.scope.repo for session in world.sessions) == ["other", "widgets"]


def test_of_two_replicas_that_read_the_same_room_one_launches() -> None:
    world = World(settings=some_settings(per_repository=Limits(sessions=1)))
    other, other_took = world.replica(), []
    queue(world, 1, labels=("runs-fleet=1",))
    queue(world, 1, first=11, labels=("runs-fleet=2",))
    keys = sorted(world.wakes.taken())

    def interrupted(table: str, key: Key) -> None:
        if key == ("stack", "stack") and not other_took:
            other_took.append(True)
            other.on_wake(keys[1:])

    world.calls.script("tables.get", times=None, after=interrupted)
    world.turns.on_wake(keys[:1])
    world.reconcile()

    assert (len(world.sessions), world.compute.launched, other_took) == (1, 1, [True])


def test_however_many_label_sets_share_a_launch_it_is_one_transaction() -> None:
    paced = Limits(launches_per_minute=1000.0)
    world = World(settings=some_settings(per_repository=paced, per_label_set=paced))
    for n in range(120):
        world.turns.on_job_event(an_event(job_id=str(n), repo=f"r{n}", labels=(f"runs-fleet={n}",)))
    world.reconcile()

    assert world.compute.launched == 120 and len(world.compute.requests) == 7


def test_what_asks_for_something_that_is_not_there_is_looked_at_every_two_minutes_and_a_new_job_at_once() -> None:
    world = World()
    world.compute.architectures = ("amd64",)
    world.told(an_event(labels=("runs-fleet/arch=arm64",)))
    world.ticks(until_s=600.0, every_s=2.0)
    weighed = len(world.journal.of("label_set.unservable"))
    world.told(an_event(job_id="2", labels=("runs-fleet/arch=arm64",)))

    assert 5 <= weighed <= 7
    assert len(world.journal.of("label_set.unservable")) == weighed + 1


def test_a_label_set_that_needs_more_than_one_launch_gets_them_all_in_one_look() -> None:
    world = World()
    queue(world, limits.AT_ONCE + 30)

    world.turns.on_wake(world.wakes.taken())

    assert [told["sessions"] for told in world.journal.of("launch.intended")] == [limits.AT_ONCE, 30]
