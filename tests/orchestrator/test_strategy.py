"""What the strategy `ec2` makes of EC2's answers, and what it asks for: on EC2's twin, whose answers a test may script."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.compute.ec2.breakers import Circuits, open_pools
from orchestrator.compute.ec2.catalogue import InstanceType, shipped_types
from orchestrator.compute.ec2.error_codes import BROKEN
from orchestrator.compute.ec2.strategy import CONSOLE_CHARACTERS, SITES_S, Ec2Strategy
from orchestrator.compute.port import ComputeInstance, InstanceState, Plan, SessionHandle
from orchestrator.errors import FailureKind, ServiceFailed, Throttled, Unanswered
from orchestrator.store.request import MachineRequest
from orchestrator.store.resources import Resources
from simulation.examples import some_settings, some_wanted
from simulation.world import World

SHIPPED = {it.name: it for it in shipped_types()}
UNKNOWN = SessionHandle("ec2", "i-0123456789abcdef0")
TAGS = [{"Key": f"runs-fleet:{name}", "Value": name} for name in ("stack", "launch-id", "launch-step")]
REQUEST = json.dumps({"ClientToken": "l-1-0", "TagSpecifications": [{"Tags": TAGS}]})
INSTANCE = {"Instances": [{"InstanceIds": ["i-1"], "InstanceType": "m7i.large", "Lifecycle": "spot"}]}
LOST = Unanswered("ec2:CreateFleet")
MISMATCH = ServiceFailed("ec2:CreateFleet", "IdempotentParameterMismatch")
ERRORS = {
    "Errors": [
        {"ErrorCode": "InsufficientInstanceCapacity", "ErrorMessage": "none left"},
        {"ErrorCode": "InsufficientInstanceCapacity", "ErrorMessage": "none left"},
        {"ErrorCode": "UnfulfillableCapacity", "ErrorMessage": "too dear"},
    ]
}


def strategy(world: World, offerings: Callable[[], tuple[InstanceType, ...]] | None = None) -> Ec2Strategy:
    """The strategy as wiring builds it; `offerings` asks EC2 what it offers."""
    return world.ec2_strategy(world.records, world.compute, offerings)


def a_world(**changes: object) -> World:
    """A world with these settings."""
    return World(settings=some_settings(**changes))


def answering(answer: dict[str, Any]) -> World:
    """A world whose EC2 answers CreateFleet so."""
    world = World()
    world.calls.script("ec2.create_fleet", times=None, answer=lambda _: answer)
    return world


def shunned(world: World) -> frozenset[str]:
    """The pools that are left alone now."""
    return open_pools(world.records.read(Circuits, Circuits().name) or Circuits(), world.clock.now())


def overrides(plan: Plan | None) -> list[dict[str, Any]]:
    """The pools that a plan names."""
    assert plan is not None
    found: list[dict[str, Any]] = json.loads(plan.request)["LaunchTemplateConfigs"][0]["Overrides"]
    return found


def named(plan: Plan | None, what: str) -> set[str]:
    """Their instance types or subnets."""
    return {one[what] for one in overrides(plan)}


def test_f10_an_answer_with_instances_and_errors_is_both() -> None:
    started = strategy(answering({**ERRORS, **INSTANCE})).start_sessions(REQUEST, {}, sent_before=False)

    size = Resources(1, 2.0)
    assert started.instances == (
        ComputeInstance(handle=SessionHandle("ec2", "i-1"), state=InstanceState.PENDING, market="spot", resources=size),
    )
    assert started.reasons == ("InsufficientInstanceCapacity: none left", "UnfulfillableCapacity: too dear")
    assert (started.failure, started.why) == (FailureKind.NO_CAPACITY, "EC2 has no capacity")


def of_pool(name: str, subnet: str) -> dict[str, Any]:
    """A part of an answer that says which pool it is about."""
    return {"Lifecycle": "spot", "LaunchTemplateAndOverrides": {"Overrides": {"InstanceType": name, "SubnetId": subnet}}}


def test_an_answer_names_the_pools_that_gave_and_of_those_that_did_not_only_the_ones_that_had_nothing() -> None:
    broken = {code: of_pool("m7i.large", f"subnet-{code}") for code in sorted(BROKEN)}
    fine = {code: of_pool("c7i.large", f"subnet-{code}") for code in ("MaxSpotInstanceCountExceeded", "UnauthorizedOperation")}
    errors = [{"ErrorCode": code, "ErrorMessage": "no", **where} for code, where in {**broken, **fine}.items()]
    given = [{"InstanceIds": ["i-1", "i-2"], "InstanceType": "m7i.xlarge", **of_pool("m7i.xlarge", "subnet-9")}]
    world = answering({"Errors": [*errors, {"ErrorCode": "InternalError"}], "Instances": given})

    started = strategy(world).start_sessions(REQUEST, {}, sent_before=False)

    assert shunned(world) == {f"m7i.large/subnet-{code}/spot" for code in BROKEN}
    assert [(one.handle.instance, one.placement) for one in started.instances] == [
        (name, "m7i.xlarge/subnet-9/spot") for name in ("i-1", "i-2")
    ]


def test_a_pool_that_gives_again_is_no_longer_left_alone() -> None:
    world = answering({"Errors": [{"ErrorCode": "Unavailable", "ErrorMessage": "no", **of_pool("m7i.large", "subnet-1")}]})
    strategy(world).start_sessions(REQUEST, {}, sent_before=False)
    before = shunned(world)
    world.calls.script("ec2.create_fleet", times=None, answer=lambda _: {"Instances": [{"InstanceIds": ["i-1"], **pool}]})
    pool = of_pool("m7i.large", "subnet-1")

    strategy(world).start_sessions(REQUEST, {}, sent_before=False)

    assert (before, shunned(world)) == ({"m7i.large/subnet-1/spot"}, frozenset())


def test_no_capacity_is_an_answer_without_instances() -> None:
    started = strategy(answering({"Instances": [], **ERRORS})).start_sessions(REQUEST, {}, sent_before=False)

    assert started.instances == () and len(started.reasons) == 2


def refused(error: ServiceFailed, *, found: int) -> tuple[World, list[Any]]:
    """A world whose EC2 refuses CreateFleet, though it shows so many instances; and the filters by which they are asked for."""
    world, asked = World(), list[Any]()
    shown = [{"InstanceId": f"i-{number}", "State": {"Name": "pending"}} for number in range(found)]
    world.calls.fail("ec2.create_fleet", error, times=None)
    world.calls.script("ec2.describe", times=None, answer=lambda filters: asked.append(filters) or iter(shown))
    return world, asked


def test_where_ec2_refuses_the_repetition_the_instances_are_found_by_their_tags() -> None:
    world, asked = refused(MISMATCH, found=1)

    started = strategy(world).start_sessions(REQUEST, {}, sent_before=True)

    assert [one.handle.instance for one in started.instances] == ["i-0"]
    by_tags = {one["Name"]: one["Values"] for one in asked[0]}
    assert by_tags == {f"tag:runs-fleet:{name}": [name] for name in ("stack", "launch-id", "launch-step")}


@pytest.mark.parametrize(("sent_before", "found"), [(True, 0), (False, 1)])
def test_a_token_that_was_used_for_something_else_is_an_error_and_no_answer(sent_before: bool, found: int) -> None:
    world, _ = refused(MISMATCH, found=found)

    with pytest.raises(ServiceFailed, match="IdempotentParameterMismatch"):
        strategy(world).start_sessions(REQUEST, {}, sent_before=sent_before)


@pytest.mark.parametrize("sent_before", [True, False])
def test_an_answer_that_was_lost_stays_unknown_though_some_instances_are_shown_already(sent_before: bool) -> None:
    world, asked = refused(LOST, found=1)

    with pytest.raises(Unanswered):
        strategy(world).start_sessions(REQUEST, {}, sent_before=sent_before)

    assert asked == []


def test_after_a_failure_the_site_is_looked_at_again() -> None:
    world, _ = refused(ServiceFailed("ec2:CreateFleet", "InvalidLaunchTemplateId.VersionNotFound"), found=0)
    compute = strategy(world)
    first, world.compute.version = compute.image(MachineRequest()), "2"
    with pytest.raises(ServiceFailed):
        compute.start_sessions(REQUEST, {}, sent_before=False)

    assert (first, compute.image(MachineRequest())) == ("runs-fleet-runner-amd64:1", "runs-fleet-runner-amd64:2")


def test_f4_two_subnets_of_one_zone_are_never_named_together() -> None:
    world = a_world(subnet_ids=("subnet-1", "subnet-2", "subnet-3"))
    world.calls.script("ec2.zones", answer=lambda _: {"subnet-1": "a", "subnet-2": "b", "subnet-3": "a"})

    assert named(strategy(world).plan(some_wanted()), "SubnetId") == {"subnet-1", "subnet-2"}


def test_subnets_that_are_not_there_are_a_failure_that_names_them() -> None:
    world = a_world(subnet_ids=("subnet-8", "subnet-9"))
    world.calls.script("ec2.zones", times=None, answer=lambda _: {})

    for ask in (strategy(world).obstacle, strategy(world).image):
        with pytest.raises(ServiceFailed, match="subnet-8, subnet-9"):
            ask(MachineRequest())


def test_a_subnet_that_is_gone_is_left_out() -> None:
    world = World()
    world.calls.script("ec2.zones", answer=lambda _: {"subnet-2": "b"})

    assert named(strategy(world).plan(some_wanted()), "SubnetId") == {"subnet-2"}


def test_a_new_image_is_seen_after_a_while_and_not_asked_for_at_every_launch() -> None:
    world = World()
    compute = strategy(world)
    first = {compute.image(MachineRequest()) for _ in range(3)}
    asked, world.compute.version = world.calls.made.count("ec2.templates"), "2"

    world.clock.at += SITES_S
    still = compute.image(MachineRequest())
    world.clock.at += 1.0

    assert (first, still, asked) == ({"runs-fleet-runner-amd64:1"}, "runs-fleet-runner-amd64:1", 1)
    assert compute.image(MachineRequest()) == "runs-fleet-runner-amd64:2"


@pytest.mark.parametrize("code", ["RequestLimitExceeded", "UnauthorizedOperation"])
def test_a_stop_that_was_refused_is_told(code: str) -> None:
    world = World()
    world.calls.fail("ec2.terminate", ServiceFailed("ec2:TerminateInstances", code))

    with pytest.raises(ServiceFailed, match=code):
        strategy(world).stop_session(UNKNOWN)


@pytest.mark.parametrize("code", ["InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"])
def test_an_id_that_ec2_does_not_know_is_gone_and_printed_nothing(code: str) -> None:
    world = World()
    for call in ("ec2.terminate", "ec2.console"):
        world.calls.fail(call, ServiceFailed("ec2", code))

    assert (strategy(world).stop_session(UNKNOWN), strategy(world).console_tail(UNKNOWN)) == (False, "")


def test_of_a_console_the_end_is_kept_and_only_what_can_be_printed() -> None:
    world = World()
    world.compute.consoles[UNKNOWN.instance] = "x" * CONSOLE_CHARACTERS + "\x1b[31mpanic\r\nüber\x00"

    tail = strategy(world).console_tail(UNKNOWN)

    assert tail.endswith("x[31mpanic\nüber") and len(tail) == CONSOLE_CHARACTERS
    world.calls.fail("ec2.console", Throttled("ec2:GetConsoleOutput", "RequestLimitExceeded"))
    with pytest.raises(Throttled):
        strategy(world).console_tail(UNKNOWN)


def test_no_question_holds_more_values_than_a_filter_may() -> None:
    world, asked = World(), list[int]()
    world.calls.script("ec2.describe", times=None, before=lambda filters: asked.extend(len(one["Values"]) for one in filters))

    strategy(world).poll_sessions([SessionHandle("ec2", f"i-{number % 450}") for number in range(500)])

    assert asked == [200, 200, 50]


def test_an_instance_of_another_strategy_is_not_asked_about() -> None:
    world = World()

    found = strategy(world).poll_sessions([SessionHandle("local", "4711")])

    assert (found, world.calls.made) == ({}, [])
