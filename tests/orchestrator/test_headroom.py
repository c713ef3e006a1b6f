"""How many more machines may be launched: by what the strategies list, by the records, and by what may be registered."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.compute.dispatch import Strategies
from orchestrator.compute.ec2.catalogue import InstanceType
from orchestrator.compute.port import Payload
from orchestrator.errors import ServiceFailed, Throttled
from orchestrator.fleet.headroom import COUNTED_S, TRIAL_S, Headrooms
from orchestrator.fleet.work import RegistrationQuota
from orchestrator.setting_values import Limits
from orchestrator.store.model import LabelSetView
from orchestrator.store.request import MachineRequest
from orchestrator.store.states import SessionState
from orchestrator.turns import Turns
from simulation.compute import MemoryService
from simulation.examples import SET, an_event, some_settings
from simulation.world import World
from tests.orchestrator.fleets import arrives, held, offers, queue, settles
from tests.orchestrator.toys import ToyStrategy

PRICED = InstanceType(name="m7i.large", architecture="amd64", cpus=2, ram_gib=8.0, usd=0.10)
UNPRICED = InstanceType(name="c7i.large", architecture="amd64", cpus=2, ram_gib=4.0)


def test_a_launch_that_ec2_does_not_answer_counts_until_it_does() -> None:
    world = World(settings=some_settings(max_sessions=2))
    world.compute.answers = [Throttled("ec2:CreateFleet", "RequestLimitExceeded")]
    for name in ("1", "2"):
        arrives(world, name, labels=("runs-fleet=a",))
    settles(world)

    world.clock.at += 35.0
    for name in ("3", "4"):
        arrives(world, name, labels=("runs-fleet=b",))
    settles(world)
    world.ticks(until_s=120.0)

    assert world.compute.launched == 2


def test_without_a_list_from_ec2_no_more_than_allowed_is_launched_however_long_it_lasts() -> None:
    world = World(settings=some_settings(max_sessions=3))
    arrives(world, "0")
    world.reconcile()

    world.calls.fail("ec2.describe", Throttled("ec2:DescribeInstances", "RequestLimitExceeded"), times=None)
    for number in range(1, 30):
        world.clock.at += 31.0
        arrives(world, str(number))
        settles(world)

    assert world.compute.launched == 3 and "stack.count_failed" in world.journal.names


def test_no_more_is_launched_than_github_would_register_and_the_rest_later() -> None:
    world = World()
    world.github.left = 3
    queue(world, 10)
    world.reconcile()

    assert (world.compute.launched, len(world.github.runners)) == (3, 3)
    assert "the limit of registrations" in held(world)

    world.github.left = None
    world.tick(60.0)
    assert (world.compute.launched, len(world.github.runners)) == (10, 10)
    assert {session.state for session in world.sessions} == {SessionState.CONFIGURED}, "none was launched in vain"


def test_what_was_launched_a_moment_ago_may_want_its_registration_still() -> None:
    world = World()
    world.github.left = 5
    queue(world, 4)
    world.reconcile()
    queue(world, 8)
    world.reconcile()

    assert world.compute.launched == 4
    world.tick(31.0)
    assert world.compute.launched == 5


def test_where_money_is_limited_nothing_is_asked_for_whose_price_nobody_knows() -> None:
    world = World(settings=some_settings(max_usd_per_hour=0.15))
    offers(world, lambda: (PRICED, UNPRICED))

    for number in range(5):
        arrives(world, str(number))
        world.reconcile()
        world.ticks(until_s=40.0)

    assert (world.compute.launched, set(world.compute.kinds.values())) == (1, {"m7i.large"})


def test_machines_of_an_unknown_price_count_as_the_dearest() -> None:
    world = World(settings=some_settings(max_usd_per_hour=0.25))
    offers(world, lambda: (PRICED, UNPRICED))
    arrives(world, "1")
    world.reconcile()
    world.compute.kinds[world.session.instance_id] = "c7i.large"
    world.clock.at += 40.0

    arrives(world, "2")
    arrives(world, "3")
    world.reconcile()

    assert world.compute.launched == 2


def headrooms(turns: Turns) -> Headrooms:
    """What counts for these turns."""
    return turns.reconciler.admission.headrooms


def test_machines_are_counted_every_few_seconds_and_not_for_each_launch() -> None:
    world = World()
    counting = headrooms(world.turns)

    asked = []
    for after_s in (0.0, COUNTED_S - 0.1, 0.1):
        world.clock.at += after_s
        counting.refreshed(world.clock.now())
        asked.append(world.calls.made.count("ec2.describe"))

    assert asked == [1, 1, 2]


def test_what_another_process_counted_a_moment_ago_is_not_counted_again() -> None:
    world = World()
    world.told(an_event())
    asked = world.calls.made.count("ec2.describe")
    world.clock.at += COUNTED_S - 1.0

    found = headrooms(world.replica()).refreshed(world.clock.now())

    assert (found.in_use.machines, world.calls.made.count("ec2.describe")) == (1, asked)


def test_a_list_that_failed_is_not_asked_for_again_at_once() -> None:
    world = World()
    world.calls.fail("ec2.describe", ServiceFailed("ec2:DescribeInstances", "InternalError"))

    for _ in range(3):
        headrooms(world.turns).refreshed(world.clock.now())

    assert world.journal.names.count("stack.count_failed") == 1 and "ec2.describe" not in world.calls.made


def test_whoever_made_a_machine_of_the_stack_it_takes_room_as_large_as_it_is() -> None:
    world = World(settings=some_settings(max_sessions=3))
    world.compute.instances |= {"i-one": "running", "i-two": "stopped", "i-gone": "terminated"}
    world.compute.kinds |= {"i-one": "m7i.2xlarge"}
    queue(world, 3)
    world.reconcile()

    in_use = headrooms(world.turns).refreshed(world.clock.at + 60.0).in_use
    launched = [float(one.resources.vcpus) for one in world.sessions]
    assert (len(launched), in_use.machines, in_use.vcpus) == (1, 3, 8.0 + launched[0])


def test_a_list_that_is_older_than_the_count_of_another_process_is_not_believed() -> None:
    world = World()
    mine = headrooms(world.replica())
    mine.refreshed(world.clock.now())
    world.compute.instances |= {"i-one": "running", "i-two": "running"}
    world.clock.at += 5.0
    world.told(an_event())

    world.clock.at += COUNTED_S + 1.0
    world.calls.fail("ec2.describe", ServiceFailed("ec2:DescribeInstances", "InternalError"))

    assert mine.refreshed(world.clock.now()).in_use.machines == 3


def test_a_list_of_a_minute_ago_is_not_believed_where_no_newer_one_is_to_be_had() -> None:
    world = World()
    mine = headrooms(world.replica())
    mine.refreshed(world.clock.now())
    world.calls.fail("ec2.describe", ServiceFailed("ec2:DescribeInstances", "InternalError"), times=None)
    for name, after_s in (("1", 5.0), ("2", 61.0)):
        world.clock.at += after_s
        arrives(world, name)
        world.reconcile()

    assert mine.refreshed(world.clock.now() + 5.0).in_use.machines == 2


def test_label_sets_of_one_launch_share_what_may_be_registered() -> None:
    world = World()
    world.github.left = 3
    for label in ("runs-fleet=a", "runs-fleet=b"):
        for number in (1, 2):
            arrives(world, f"{label}-{number}", labels=(label,))

    world.reconcile()

    assert (world.compute.launched, len(world.compute.requests), len(world.github.runners)) == (3, 1, 3)


def test_money_limits_nothing_where_nobody_bills_for_machines() -> None:
    toys = ToyStrategy(MemoryService(), Payload.IN_CALL)
    toys.traits = replace(toys.traits, is_priced=False)
    world = World(settings=some_settings(max_usd_per_hour=0.001, per_label_set=Limits(usd_per_hour=0.001)))
    billed, free = (headrooms(turns) for turns in (world.turns, world.replica(strategies=Strategies([toys]))))
    stack, view, request = billed.refreshed(world.clock.now()), LabelSetView(set_key=SET), MachineRequest()

    assert [billed.of_stack(stack, request).machines, billed.of_view(view, request).machines] == [0, 0]
    assert min(free.of_stack(stack, request).machines, free.of_view(view, request).machines) > 0


def test_where_registering_was_refused_one_machine_is_on_trial_for_each_repository() -> None:
    world = World()
    world.github.quotas = lambda scope: RegistrationQuota(1, "one on trial", on_trial=True)
    for repo in ("widgets", "gadgets"):
        for number in (1, 2):
            arrives(world, f"{number}-{repo}", repo=repo)
    world.reconcile()
    world.ticks(until_s=TRIAL_S - 30.0, every_s=30.0)
    at_first = sorted(one.scope.repo for one in world.sessions)

    world.ticks(until_s=60.0, every_s=10.0)

    assert at_first == ["gadgets", "widgets"] and "one on trial" in held(world)
    assert sorted(one.scope.repo for one in world.sessions) == ["gadgets", "gadgets", "widgets", "widgets"]


def test_label_sets_of_one_launch_share_the_pace_of_their_repository() -> None:
    world = World(settings=some_settings(per_repository=Limits(launches_per_minute=3.0)))
    for label in ("runs-fleet=a", "runs-fleet=b"):
        for number in (1, 2):
            arrives(world, f"{label}-{number}", labels=(label,))

    world.reconcile()

    assert (world.compute.launched, len(world.compute.requests)) == (3, 1)
    assert "the launch rate that octo/widgets may have" in held(world)
