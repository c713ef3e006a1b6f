"""What may be there at one time: machines, vCPUs and money of the stack, machines of a repository; and who waits knows why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator import caps
from orchestrator.cards import Board
from orchestrator.catalogue import Catalogue, Kind
from orchestrator.model import Stack
from orchestrator.naming import repository_key
from orchestrator.settings import Caps
from tests.orchestrator.memory import MORNING, World, an_event, some_settings
from tests.orchestrator.test_explain import explanation

EACH = caps.Each(4, 0.2)


def queue(world: World, number: int, first: int = 1, **changes: object) -> None:
    for n in range(first, first + number):
        world.turns.on_job_event(an_event(job_id=str(n), **changes))


def priced(world: World, usd: float) -> World:
    """As if every type cost so much for each vCPU."""
    catalogue = world.turns.launching.catalogue
    catalogue.kinds = tuple(replace(kind, usd=kind.cpus * usd) for kind in catalogue)
    return world


def held(world: World) -> set[str]:
    return {str(told.get("why")) for name, told in world.journal.events if name == "level.held"}


@pytest.mark.parametrize(
    ("settings", "machines", "why"),
    [
        ({"launches_per_minute": 7.0}, 7, "the pace of launches"),
        ({"max_sessions": 6}, 6, "the 6 machines that are allowed"),
        ({"max_cpus": 21}, 5, "the 21 vCPUs that are allowed, of which 0 are in use"),
        ({"max_usd_per_hour": 0.65}, 3, "the 0.65 USD an hour that are allowed, of which 0.00 are spent"),
        ({"max_cpus": 3}, 0, "the 3 vCPUs that are allowed, of which 0 are in use"),
    ],
)
def test_the_narrowest_limit_decides_and_is_named(settings: dict[str, object], machines: int, why: str) -> None:
    given = some_settings(**settings)

    assert caps.room(Stack(tokens=given.launches_per_minute, ec2=1000.0), given, EACH) == caps.Room(machines, why)


@pytest.mark.parametrize("scope", ["stack", "per_repository", "per_label_set"])
def test_what_is_limited_by_money_waits_until_prices_are_known(scope: str) -> None:
    limit: dict[str, object] = {"max_usd_per_hour": 1.0} if scope == "stack" else {scope: Caps(usd_per_hour=1.0)}
    world = World(settings=some_settings(**limit))
    world.turns.launching.catalogue.kinds = tuple(replace(kind, usd=0.0) for kind in world.turns.launching.catalogue)
    queue(world, 3)
    world.settle()
    at_first = world.compute.launched

    assert at_first == 0 and "prices that are not known yet" in explanation(world, "1").waits_for
    priced(world, 0.05)
    world.ticks(until_s=70.0)
    assert world.compute.launched == 3


def test_with_a_limit_of_money_prices_are_asked_for_at_once() -> None:
    asked: list[str] = []
    catalogue = Catalogue((), lambda: (asked.append("now"), ())[1], at_once=True)

    catalogue.renew(1000.0)

    assert asked == ["now"]


@pytest.mark.parametrize("scope", ["per_repository", "per_label_set"])
def test_a_pace_below_one_a_minute_still_comes_to_one(scope: str) -> None:
    world = World(settings=some_settings(**{scope: Caps(launches_per_minute=0.5)}))
    queue(world, 3)
    world.settle()
    at_first = world.compute.launched

    world.ticks(until_s=150.0)

    assert (at_first, world.compute.launched) == (1, 2)


def test_label_sets_at_their_limit_hide_no_other_however_many_there_are() -> None:
    world = World(settings=some_settings(per_repository=Caps(sessions=1)))
    world.turns.pause(paused=True)
    for n in range(120):
        world.told(an_event(job_id=str(n), labels=(f"runs-fleet={n}",)))
    world.told(an_event(job_id="victim", repo="other", labels=("runs-fleet=victim",), at=MORNING + 100.0))

    world.turns.pause(paused=False)
    world.settle()
    world.tick()

    assert sorted(session.repo for session in world.sessions) == ["other", "widgets"]


def test_under_a_limit_of_the_stack_who_waits_longest_comes_first() -> None:
    world = World(settings=some_settings(max_sessions=1))
    for n in range(20):
        world.turns.on_job_event(an_event(job_id=f"young-{n}", labels=(f"runs-fleet={n}",), at=MORNING + 10.0))
    world.turns.on_job_event(an_event(job_id="oldest", labels=("runs-fleet=oldest/cpu=8",), at=MORNING - 10.0))
    world.settle()

    assert [session.launched_for for session in world.sessions] == ["oldest"]


def test_what_ec2_may_not_show_yet_is_added_to_its_count_and_what_it_shows_is_not() -> None:
    kinds = {"m7i.large": Kind("m7i.large", "amd64", 2, 8.0, usd=0.1)}
    stack = caps.launched(Stack(at=100.0, tokens=10.0), 3, EACH)

    early, late = (caps.counted(stack, [], Board(set_key=""), kinds, now) for now in (110.0, 200.0))

    assert (early.alive, early.cpus, round(early.usd, 6)) == (3, 12.0, 0.6)
    assert (late.alive, late.cpus, late.usd, late.lately) == (0, 0.0, 0.0, ())


def test_no_more_vcpus_are_launched_than_are_allowed_and_the_rest_when_others_are_gone() -> None:
    world = World(settings=some_settings(max_cpus=12))
    queue(world, 8)
    world.settle()
    at_first = world.compute.launched

    for instance_id in list(world.compute.instances)[:2]:
        world.compute.instances[instance_id] = "terminated"
        world.hear_the_end(session=next(s for s in world.sessions if s.instance_id == instance_id), ran_job="build")
    world.ticks(until_s=60.0)

    assert (at_first, world.compute.launched > at_first) == (3, True), "three that may have four each"
    assert any("vCPUs that are allowed" in why for why in held(world))


def test_no_more_is_spent_an_hour_than_is_allowed() -> None:
    world = priced(World(settings=some_settings(max_usd_per_hour=1.0)), 0.05)
    queue(world, 20)
    world.settle()

    assert world.compute.launched == 5
    assert "USD an hour" in explanation(world, "20").waits_for or "boot" in explanation(world, "20").waits_for


def test_a_repository_has_its_own_number_whatever_its_labels_and_others_get_theirs() -> None:
    world = World(settings=some_settings(per_repository=Caps(sessions=3)))
    queue(world, 2, labels=("runs-fleet=1",))
    queue(world, 2, first=11, labels=("runs-fleet=2",))
    queue(world, 2, first=21, repo="other")
    world.settle()

    of = {name: sum(session.repo == name for session in world.sessions) for name in ("widgets", "other")}
    assert of == {"widgets": 3, "other": 2}
    assert "the 3 machines that octo/widgets may have" in held(world)


def test_one_that_ends_makes_room_for_the_next_of_its_repository() -> None:
    world = World(settings=some_settings(per_repository=Caps(sessions=1)))
    queue(world, 2)
    world.settle()
    first = world.session
    world.told(an_event("in_progress", job_id=first.launched_for, runner_name=first.runner_name))
    assert world.compute.launched == 1
    assert explanation(world, "2").waits_for == "the 1 machines that octo/widgets may have; it is number 1 of octo/widgets"

    world.hear_the_end(session=first)
    world.ticks(until_s=60.0)

    assert world.compute.launched == 2
    assert len(world.records.board(repository_key("octo", "widgets")).cards) == 1


OF_ONE = {"sessions": 3, "cpus": 13, "usd_per_hour": 0.65, "launches_per_minute": 3.0}
"""Of machines that have four vCPUs and cost 0.2 at most: room for three of them, whichever limit it is."""


@pytest.mark.parametrize("scope", ["per_repository", "per_label_set"])
@pytest.mark.parametrize(("limit", "most"), OF_ONE.items(), ids=OF_ONE)
def test_each_limit_holds_for_one_repository_or_label_set_and_others_get_theirs(scope: str, limit: str, most: float) -> None:
    world = priced(World(settings=some_settings(**{scope: Caps(**{limit: most})})), 0.05)
    labels = ("runs-fleet=1/cpu=4+4",)
    queue(world, 6, labels=labels)
    queue(world, 3, first=11, repo="other", labels=labels)
    world.settle()
    at_first = {name: sum(s.repo == name for s in world.sessions) for name in ("widgets", "other")}

    assert at_first == {"widgets": 3, "other": 3}
    told = explanation(world, "6")
    assert any("may have" in why for why in held(world)) and any("may have" in line.what for line in told.lines)


@pytest.mark.parametrize("scope", ["per_repository", "per_label_set"])
def test_a_pace_of_its_own_lets_the_rest_follow_minute_by_minute(scope: str) -> None:
    world = World(settings=some_settings(**{scope: Caps(launches_per_minute=3.0)}))
    queue(world, 8)
    world.settle()
    launched = [world.compute.launched]

    for _ in range(2):
        world.ticks(until_s=60.0)
        launched.append(world.compute.launched)

    assert launched[0] == 3 and launched[1] in (5, 6) and launched[2] == 8


def test_ec2s_own_bucket_is_kept_count_of_beside_our_pace() -> None:
    world = World(settings=some_settings(launches_per_minute=1e6, ec2_at_once=5.0, ec2_per_second=0.1))
    queue(world, 10)
    world.settle()
    at_once = world.compute.launched

    world.ticks(until_s=30.0)

    assert (at_once, world.compute.launched) == (5, 8)
    assert "EC2's own pace, 0.1 instances a second" in held(world)


def test_however_many_label_sets_share_a_launch_it_is_one_transaction() -> None:
    paced = Caps(launches_per_minute=1000.0)
    world = World(settings=some_settings(per_repository=paced, per_label_set=paced))
    for n in range(120):
        world.turns.on_job_event(an_event(job_id=str(n), repo=f"r{n}", labels=(f"runs-fleet={n}",)))
    world.settle()

    assert world.compute.launched == 120 and len(world.compute.requests) == 7


def test_of_two_replicas_that_read_the_same_room_one_launches() -> None:
    world = World(settings=some_settings(per_repository=Caps(sessions=1)))
    other = world.replica()
    queue(world, 1, labels=("runs-fleet=1",))
    queue(world, 1, first=11, labels=("runs-fleet=2",))
    keys = sorted(world.wakes.taken())
    real, other_took = world.records, []
    stack = world.turns.levels.records.stack

    def interrupted() -> Stack:
        found = stack()
        if not other_took:
            other_took.append(True)
            other.on_wake(keys[1:])
        return found

    world.turns.levels.records.stack = interrupted  # type: ignore[method-assign]
    world.turns.on_wake(keys[:1])
    world.settle()

    assert (len(list(real.sessions())), world.compute.launched) == (1, 1)


def test_no_minute_sees_more_launches_than_are_allowed_in_one_though_the_bucket_was_full() -> None:
    world = World(settings=some_settings(launches_per_minute=30.0))
    queue(world, 120)
    world.settle()
    launched: list[tuple[float, int]] = [(world.clock.at, world.compute.launched)]
    while world.compute.launched < 120:
        world.ticks(until_s=5.0)
        launched.append((world.clock.at, world.compute.launched))

    worst = max(later - before for at, before in launched for then, later in launched if at < then < at + 60.0)
    assert launched[0][1] == 30 and worst <= 30
    assert launched[-1][0] - launched[0][0] <= 3 * 60.0 + 10.0
