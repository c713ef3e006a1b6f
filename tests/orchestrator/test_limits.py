"""What may be there at one time: machines, vCPUs and money of the stack, machines of a repository; and who waits knows why."""

from __future__ import annotations

import pytest

from orchestrator.compute.dispatch import Strategies
from orchestrator.compute.ec2.catalogue import Catalogue
from orchestrator.fleet import limits
from orchestrator.setting_values import Limits
from orchestrator.store.kinds import OpenItem, changed
from orchestrator.store.model import LabelSetView, Stack
from orchestrator.store.naming import repository_key
from orchestrator.store.resources import NOTHING, Resources
from simulation.clock import MORNING
from simulation.examples import SET, a_launch, an_event, some_settings
from simulation.world import World
from tests.orchestrator.fleets import held, offers, queue, shipped

EACH, SMALL = Resources(1, 4, 0.2), Resources(1, 2, 0.1)
EC2 = World().turns.strategies.of("ec2")
"""The strategy, with EC2's own bucket of a thousand instances, filled with two a second."""


@pytest.mark.parametrize(
    ("settings", "machines", "why"),
    [
        ({"launches_per_minute": 7.0}, 7, "the launch rate, RUNS_FLEET_LAUNCHES_PER_MINUTE"),
        ({"max_sessions": 6}, 6, "one of the 6 machines that RUNS_FLEET_MAX_SESSIONS allows"),
        ({"max_cpus": 21}, 5, "the 21 vCPUs that are allowed, of which 0 are in use"),
        ({"max_usd_per_hour": 0.65}, 3, "the 0.65 USD an hour that are allowed, of which 0.00 are spent"),
        ({"max_cpus": 3}, 0, "the 3 vCPUs that are allowed, of which 0 are in use"),
    ],
)
def test_the_narrowest_limit_decides_and_is_named(settings: dict[str, object], machines: int, why: str) -> None:
    given = some_settings(**settings)
    stack = Stack(tokens=given.launches_per_minute, strategy_tokens={"ec2": 1000.0})

    assert limits.stack_headroom(stack, given, limits.own_limits(given), EACH, EC2) == limits.Headroom(machines, why)


def test_the_pace_is_a_bucket_that_fills_in_a_minute() -> None:
    settings, rates = some_settings(launches_per_minute=60.0), limits.start_rates(Strategies([EC2]))
    full = limits.refilled(Stack(), settings, rates, MORNING)
    emptied = changed(full, tokens=0.0, strategy_tokens={"ec2": 0.0})

    assert (full.tokens, full.strategy_tokens) == (60.0, {"ec2": 1000.0})
    assert limits.refilled(emptied, settings, rates, MORNING + 10.0).tokens == 10.0
    assert limits.refilled(emptied, settings, rates, MORNING + 600.0).tokens == 60.0
    assert limits.refilled(emptied, settings, rates, MORNING + 10.0).strategy_tokens == {"ec2": 20.0}


def test_no_minute_sees_more_launches_than_allowed_however_small_they_are() -> None:
    settings = some_settings(launches_per_minute=1000.0, max_sessions=10**6, ec2_at_once=1e6)
    strategy = World(settings=settings).turns.strategies.of("ec2")
    own, rates = limits.own_limits(settings), limits.start_rates(Strategies([strategy]))
    stack, launched, now = Stack(), 0, MORNING

    while now < MORNING + 59.0:
        stack = limits.refilled(stack, settings, rates, now)
        if limits.stack_headroom(stack, settings, own, SMALL, strategy).machines > 0:
            stack, launched = limits.launched(stack, 1, SMALL, strategy.name), launched + 1
        now += 0.03

    assert launched == 1000
    assert len(stack.lately) <= 61


@pytest.mark.parametrize("scope", ["stack", "per_repository", "per_label_set"])
def test_what_is_limited_by_money_waits_until_prices_are_known(scope: str) -> None:
    limit: dict[str, object] = {"max_usd_per_hour": 1.0} if scope == "stack" else {scope: Limits(usd_per_hour=1.0)}
    world = World(settings=some_settings(**limit))
    queue(world, 3)
    world.reconcile()
    at_first = world.compute.launched

    assert at_first == 0 and "prices that are not known yet" in world.explanation("1").waits_for
    offers(world, lambda: shipped(usd=0.05))
    world.ticks(until_s=70.0)
    assert world.compute.launched == 3


def test_with_a_limit_of_money_prices_are_asked_for_at_once() -> None:
    asked: list[str] = []
    catalogue = Catalogue((), lambda: (asked.append("now"), ())[1], at_once=True)

    catalogue.renew(1000.0)

    assert asked == ["now"]


@pytest.mark.parametrize("scope", ["per_repository", "per_label_set"])
def test_a_pace_below_one_a_minute_still_comes_to_one(scope: str) -> None:
    world = World(settings=some_settings(**{scope: Limits(launches_per_minute=0.5)}))
    queue(world, 3)
    world.reconcile()
    at_first = world.compute.launched

    world.ticks(until_s=150.0)

    assert (at_first, world.compute.launched) == (1, 2)


def test_what_ec2_may_not_show_yet_is_added_to_its_count_and_what_it_shows_is_not() -> None:
    stack = limits.launched(Stack(at=100.0, tokens=10.0), 3, EACH, "ec2")

    early, late = (limits.counted(stack, (), (), now) for now in (110.0, 200.0))

    assert (early.in_use.machines, early.in_use.vcpus, round(early.in_use.usd_per_hour, 6)) == (3, 12.0, 0.6)
    assert (late.in_use, late.lately) == (NOTHING, ())


def test_what_was_not_given_is_given_back_and_nothing_falls_below_zero() -> None:
    stack = limits.launched(Stack(at=100.0, tokens=10.0, strategy_tokens={"ec2": 5.0}), 3, EACH, "ec2")
    launch = a_launch(each=EACH, created_at=100.0)

    back = limits.given_back(stack, 3, launch)

    assert (stack.tokens, stack.strategy_tokens, limits.lately(stack)) == (7.0, {"ec2": 2.0}, 3)
    assert (back.tokens, back.strategy_tokens, back.in_use, limits.lately(back)) == (10.0, {"ec2": 5.0}, NOTHING, 0)
    assert limits.given_back(changed(back, lately=()), 1, launch).in_use == NOTHING


def test_a_machine_counts_once_in_its_view_whether_it_is_there_or_coming() -> None:
    items = (
        OpenItem(kind="session", identity="s-1", state="ready", each=EACH),
        OpenItem(kind="launch", identity="l-1", state="assigned", sessions=("s-1", "s-2"), each=EACH),
        OpenItem(kind="job", identity="1", state="queued", wants_session=True),
    )
    view = LabelSetView(set_key=SET, items=items)

    found = [
        limits.view_headroom(view, of, EACH, "octo/widgets") for of in (Limits(sessions=5), Limits(vcpus=15), Limits(sessions=1))
    ]

    assert [one.machines for one in found] == [3, 1, 0] and {one.whose for one in found} == {"octo/widgets"}
    assert found[1].why == "the 15 vCPUs that octo/widgets may have, of which 8 are in use"


def test_no_more_machines_are_made_than_the_stack_may_have_and_the_rest_waits_for_a_place() -> None:
    world = World(settings=some_settings(max_sessions=3))
    queue(world, 5)
    world.reconcile()
    at_first = world.compute.launched

    first = world.sessions[0]
    world.told(an_event("in_progress", job_id=first.launched_for, runner_name=first.registration_name))
    world.hear_the_end(session=first)
    world.compute.instances[first.instance_id] = "terminated"
    world.ticks(until_s=60.0)

    assert (at_first, world.compute.launched) == (3, 4)
    assert any("one of the 3 machines that RUNS_FLEET_MAX_SESSIONS allows" in why for why in held(world))


def test_no_more_machines_are_made_than_one_label_set_may_have_and_others_get_theirs() -> None:
    world = World(settings=some_settings(per_label_set=Limits(sessions=2)))
    queue(world, 5)
    world.turns.on_job_event(an_event(job_id="other", labels=("runs-fleet=9",)))
    world.reconcile()

    assert sorted(s.set_key == SET for s in world.sessions) == [False, True, True]


def test_no_more_vcpus_are_launched_than_are_allowed_and_the_rest_when_others_are_gone() -> None:
    world = World(settings=some_settings(max_cpus=12))
    queue(world, 8)
    world.reconcile()
    at_first = world.compute.launched

    for instance_id in list(world.compute.instances)[:2]:
        world.compute.instances[instance_id] = "terminated"
        world.hear_the_end(session=next(s for s in world.sessions if s.instance_id == instance_id), ran_job="build")
    world.ticks(until_s=60.0)

    assert (at_first, world.compute.launched > at_first) == (3, True), "three that may have four each"
    assert any("vCPUs that are allowed" in why for why in held(world))


def test_no_more_is_spent_an_hour_than_is_allowed() -> None:
    world = World(settings=some_settings(max_usd_per_hour=1.0))
    offers(world, lambda: shipped(usd=0.05))
    queue(world, 20)
    world.reconcile()

    assert world.compute.launched == 5
    assert "USD an hour" in world.explanation("20").waits_for or "boot" in world.explanation("20").waits_for


def test_a_repository_has_its_own_number_whatever_its_labels_and_others_get_theirs() -> None:
    world = World(settings=some_settings(per_repository=Limits(sessions=3)))
    queue(world, 2, labels=("runs-fleet=1",))
    queue(world, 2, first=11, labels=("runs-fleet=2",))
    queue(world, 2, first=21, repo="other")
    world.reconcile()

    of = {name: sum(session.scope.repo == name for session in world.sessions) for name in ("widgets", "other")}
    assert of == {"widgets": 3, "other": 2}
    assert "one of the 3 machines that octo/widgets may have" in held(world)


def test_one_that_ends_makes_room_for_the_next_of_its_repository() -> None:
    world = World(settings=some_settings(per_repository=Limits(sessions=1)))
    queue(world, 2)
    world.reconcile()
    first = world.session
    world.told(an_event("in_progress", job_id=first.launched_for, runner_name=first.registration_name))
    assert world.compute.launched == 1
    assert world.explanation("2").waits_for == "one of the 1 machines that octo/widgets may have; it is number 1 of octo/widgets"

    world.hear_the_end(session=first)
    world.ticks(until_s=60.0)

    assert world.compute.launched == 2
    assert len(world.records.view(repository_key("octo/widgets")).items) == 1


OF_ONE = {"sessions": 3, "vcpus": 13, "usd_per_hour": 0.65, "launches_per_minute": 3.0}
"""Of machines that have four vCPUs and cost 0.2 at most: room for three of them, whichever limit it is."""


@pytest.mark.parametrize("scope", ["per_repository", "per_label_set"])
@pytest.mark.parametrize(("limit", "most"), OF_ONE.items(), ids=OF_ONE)
def test_each_limit_holds_for_one_repository_or_label_set_and_others_get_theirs(scope: str, limit: str, most: float) -> None:
    world = World(settings=some_settings(**{scope: Limits(**{limit: most})}))
    offers(world, lambda: shipped(usd=0.05))
    labels = ("runs-fleet=1/cpu=4+4",)
    queue(world, 6, labels=labels)
    queue(world, 3, first=11, repo="other", labels=labels)
    world.reconcile()
    at_first = {name: sum(s.scope.repo == name for s in world.sessions) for name in ("widgets", "other")}

    assert at_first == {"widgets": 3, "other": 3}
    told = world.explanation("6")
    assert any("may have" in why for why in held(world)) and any("may have" in line.what for line in told.lines)


def test_the_pace_holds_a_burst_back_and_the_rest_stays_demand() -> None:
    world = World(settings=some_settings(launches_per_minute=10.0))
    queue(world, 25)
    world.reconcile()
    at_once = world.compute.launched

    world.ticks(until_s=60.0)
    after_a_minute = world.compute.launched
    world.ticks(until_s=60.0)

    assert (at_once, world.compute.launched) == (10, 25)
    assert 18 <= after_a_minute <= 20


@pytest.mark.parametrize("scope", ["per_repository", "per_label_set"])
def test_a_pace_of_its_own_lets_the_rest_follow_minute_by_minute(scope: str) -> None:
    world = World(settings=some_settings(**{scope: Limits(launches_per_minute=3.0)}))
    queue(world, 8)
    world.reconcile()
    launched = [world.compute.launched]

    for _ in range(2):
        world.ticks(until_s=60.0)
        launched.append(world.compute.launched)

    assert launched[0] == 3 and launched[1] in (5, 6) and launched[2] == 8


def test_ec2s_own_bucket_is_kept_count_of_beside_our_pace() -> None:
    world = World(settings=some_settings(launches_per_minute=1e6, ec2_at_once=5.0, ec2_per_second=0.1))
    queue(world, 10)
    world.reconcile()
    at_once = world.compute.launched

    world.ticks(until_s=30.0)

    assert (at_once, world.compute.launched) == (5, 8)
    assert "EC2's own pace, 0.1 instances a second" in held(world)


def test_no_minute_sees_more_launches_than_are_allowed_in_one_though_the_bucket_was_full() -> None:
    world = World(settings=some_settings(launches_per_minute=30.0))
    queue(world, 120)
    world.reconcile()
    launched: list[tuple[float, int]] = [(world.clock.at, world.compute.launched)]
    while world.compute.launched < 120:
        world.ticks(until_s=5.0)
        launched.append((world.clock.at, world.compute.launched))

    worst = max(later - before for at, before in launched for then, later in launched if at < then < at + 60.0)
    assert launched[0][1] == 30 and worst <= 30
    assert launched[-1][0] - launched[0][0] <= 3 * 60.0 + 10.0


def test_where_a_price_is_not_known_and_money_is_limited_there_is_room_for_none() -> None:
    (found,) = limits.scope_headrooms(Limits(usd_per_hour=5.0), Resources(1, 2.0, 0.0), NOTHING, "somebody allows")

    assert (found.machines, "prices that are not known yet" in found.why) == (0, True)
