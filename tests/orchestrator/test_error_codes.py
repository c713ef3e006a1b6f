"""What EC2's words mean for a launch: what is asked for next, and what is never asked for again like this."""

from __future__ import annotations

import pytest

from orchestrator.compute.ec2.error_codes import BROKEN, HINTS, WORDS, classify, code_of, decisive, describe
from orchestrator.compute.ec2.fleet_request import STEPS, next_step
from orchestrator.errors import FailureKind, ServiceFailed, Throttled, Unanswered
from orchestrator.store.launch import Launch
from orchestrator.store.states import LaunchState
from simulation.examples import an_event
from simulation.world import World

NONE = "InsufficientInstanceCapacity: none left"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("InsufficientInstanceCapacity", FailureKind.NO_CAPACITY),
        ("SpotMaxPriceTooLow", FailureKind.NO_CAPACITY),
        ("InsufficientFreeAddressesInSubnet", FailureKind.NO_CAPACITY),
        ("MaxSpotInstanceCountExceeded", FailureKind.QUOTA),
        ("VcpuLimitExceeded", FailureKind.QUOTA),
        ("RequestLimitExceeded", FailureKind.THROTTLED),
        ("InternalError", FailureKind.THROTTLED),
        ("NoAnswer", FailureKind.THROTTLED),
        ("UnauthorizedOperation", FailureKind.REFUSED),
        ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", FailureKind.REFUSED),
        ("InvalidLaunchTemplateId.VersionNotFound", FailureKind.REFUSED),
        ("InvalidSubnetID.NotFound", FailureKind.REFUSED),
        ("MissingParameter", FailureKind.REFUSED),
        ("SomethingNew", FailureKind.UNKNOWN),
        ("", FailureKind.UNKNOWN),
    ],
)
def test_each_code_says_what_is_to_be_done(code: str, kind: FailureKind) -> None:
    assert classify(code) is kind


@pytest.mark.parametrize(
    ("reasons", "kind", "words"),
    [
        ([], FailureKind.NO_CAPACITY, "EC2 has no capacity"),
        ([NONE], FailureKind.NO_CAPACITY, "EC2 has no capacity"),
        ([NONE, "InvalidParameterValue: this type"], FailureKind.NO_CAPACITY, "EC2 has no capacity"),
        ([NONE, "VcpuLimitExceeded: 32"], FailureKind.QUOTA, "a quota of this AWS account is used up (VcpuLimitExceeded)"),
        (["UnauthorizedOperation: no"], FailureKind.REFUSED, "EC2 refuses what is asked (UnauthorizedOperation)"),
        (
            [NONE, "VcpuLimitExceeded: 32", "RequestLimitExceeded: slow down"],
            FailureKind.QUOTA,
            "a quota of this AWS account is used up (VcpuLimitExceeded)",
        ),
        ([NONE, "InternalError: this zone"], FailureKind.NO_CAPACITY, "EC2 has no capacity"),
        (
            ["RequestLimitExceeded: slow down"],
            FailureKind.THROTTLED,
            "EC2 asks to be left alone for a while (RequestLimitExceeded)",
        ),
        (["Brand.New: ?"], FailureKind.NO_CAPACITY, "EC2 has no capacity"),
    ],
)
def test_of_several_reasons_one_decides_and_is_named(reasons: list[str], kind: FailureKind, words: str) -> None:
    assert (decisive(reasons), describe(reasons)) == (kind, words)


@pytest.mark.parametrize(
    ("asked", "reason", "row"),
    [
        (0, NONE, 1), (1, NONE, 2), (3, NONE, None),
        (0, "MaxSpotInstanceCountExceeded: 5", 2), (2, "VcpuLimitExceeded: 5", None),
        (0, "RequestLimitExceeded: slow down", None), (0, "UnauthorizedOperation: no", None), (0, "Brand.New: ?", 1),
    ],
)  # fmt: skip
def test_the_next_row_is_the_one_that_may_still_give(asked: int, reason: str, row: int | None) -> None:
    assert next_step(STEPS, asked, decisive([reason])) == row


@pytest.mark.parametrize("code", sorted(BROKEN))
def test_a_pool_is_left_alone_only_for_what_may_pass(code: str) -> None:
    assert classify(code) in (FailureKind.NO_CAPACITY, FailureKind.THROTTLED)


def test_every_kind_has_words_for_who_waits_and_a_hint_for_the_log() -> None:
    assert WORDS.keys() == HINTS.keys() == set(FailureKind) and all([*WORDS.values(), *HINTS.values()])


@pytest.mark.parametrize("reason", ["VcpuLimitExceeded: 32: more", "VcpuLimitExceeded", " VcpuLimitExceeded : 32"])
def test_the_code_of_a_reason_is_what_stands_before_the_first_colon(reason: str) -> None:
    assert code_of(reason) == "VcpuLimitExceeded" and decisive([reason]) is FailureKind.QUOTA


def test_several_codes_of_the_deciding_kind_are_all_named_once() -> None:
    reasons = ["VcpuLimitExceeded: a", "MaxSpotInstanceCountExceeded: b", "VcpuLimitExceeded: c", NONE]

    assert describe(reasons).endswith("(MaxSpotInstanceCountExceeded, VcpuLimitExceeded)")


def launch(world: World) -> Launch:
    return next(iter(sorted(world.records.launches(), key=lambda one: one.created_at)))


def ended(world: World, name: str) -> list[object]:
    return [fields.get("hint", fields.get("why")) for event, fields in world.journal.events if event == name]


def test_a_quota_of_spot_is_no_reason_to_ask_for_more_spot() -> None:
    world = World()
    world.compute.answers = ["MaxSpotInstanceCountExceeded: 5"]

    world.told(an_event())

    assert [one.step for one in launch(world).attempts] == [0, 2] and world.compute.launched == 1
    assert world.session.market == "on-demand"


@pytest.mark.parametrize("code", ["UnauthorizedOperation", "InvalidLaunchTemplateId.VersionNotFound"])
def test_what_ec2_refuses_is_asked_for_once_and_said_with_what_to_do(code: str) -> None:
    world = World()
    world.compute.answers = [ServiceFailed("ec2:CreateFleet", code)]

    world.told(an_event())
    (refused,) = world.records.launches()

    assert (refused.state, len(refused.attempts)) == (LaunchState.CLOSED, 1)
    (hint,), (why,) = ended(world, "launch.refused"), ended(world, "label_set.unfulfilled")
    assert "permissions, the launch template" in str(hint) and why == f"EC2 refuses what is asked ({code})"

    world.ticks(until_s=40.0)
    assert world.compute.launched == 1, "it is tried again later, from the beginning: somebody may have mended it"


@pytest.mark.parametrize("error", [Throttled("ec2:CreateFleet", "RequestLimitExceeded"), Unanswered("ec2:CreateFleet")])
def test_a_launch_that_is_never_answered_well_is_given_up_after_ten_minutes(error: ServiceFailed) -> None:
    world = World()
    world.compute.answers = [error] * 1000
    with pytest.raises(ServiceFailed):
        world.told(an_event())

    world.ticks(until_s=560.0)
    waiting = launch(world).state
    world.ticks(until_s=120.0)

    assert (waiting, launch(world).state) == (LaunchState.INTENDED, LaunchState.CLOSED)
    assert any("EC2 asks to be left alone" in str(why) for why in ended(world, "label_set.unfulfilled"))


def test_a_code_that_nobody_has_told_us_of_is_waited_out_and_the_same_is_asked_for_again() -> None:
    world = World()
    world.compute.answers = [ServiceFailed("ec2:CreateFleet", "SomethingNew")] * 3
    with pytest.raises(ServiceFailed):
        world.told(an_event())

    world.ticks(until_s=300.0)

    assert ended(world, "launch.refused") == [] and len(list(world.records.launches())) == 1
    assert (world.compute.launched, launch(world).attempts[0].step, world.session.market) == (1, 0, "spot")


def test_what_an_unanswered_launch_made_after_all_is_found_before_it_is_given_up() -> None:
    world = World()
    world.calls.lose("ec2.create_fleet", times=None)
    with pytest.raises(Unanswered):
        world.told(an_event())
    world.ticks(until_s=700.0)

    assert world.compute.launched == len(world.sessions) == 1 and world.session.instance_id in world.compute.instances


def test_ec2_that_asks_for_less_in_its_answer_is_left_alone_and_nothing_dearer_is_asked_for() -> None:
    world = World()
    world.compute.answers = ["RequestLimitExceeded: slow down"]

    world.told(an_event())
    at_first = world.compute.launched
    world.ticks(until_s=40.0)

    assert (at_first, world.compute.launched, world.session.market) == (0, 1, "spot")


def test_a_job_that_waits_long_for_capacity_is_told_so_once_on_its_commit() -> None:
    world = World()
    world.compute.full = {"*"}
    world.told(an_event(head_sha="0f"))
    at_first = len(world.github.notices)

    world.ticks(until_s=1800.0)

    assert at_first == 0 and len(world.github.notices) == 1
    assert "waits: EC2 has no capacity. It is tried again" in world.github.notices[0]


def test_a_job_that_would_rather_fail_does_not_because_ec2_is_busy_or_we_have_no_permission() -> None:
    world = World()
    world.compute.answers = ["RequestLimitExceeded: slow down", ServiceFailed("ec2:CreateFleet", "UnauthorizedOperation")]

    world.told(an_event(labels=("runs-fleet/fallback=fail",)))
    world.ticks(until_s=200.0)

    job = world.records.job("1")
    assert job is not None and not job.refused and world.compute.launched == 1


@pytest.mark.parametrize(
    ("error", "grade"),
    [
        (Throttled("ec2:TerminateInstances", "RequestLimitExceeded"), "retry"),
        (ServiceFailed("ec2:TerminateInstances", "InternalError"), "retry"),
        (ServiceFailed("ec2:TerminateInstances", "UnauthorizedOperation"), "error"),
    ],
)
def test_a_machine_that_cannot_be_stopped_is_told_by_how_grave_it_is_and_tried_again(error: ServiceFailed, grade: str) -> None:
    world = World()
    session = world.launched()
    world.hear_the_end()
    world.calls.fail("ec2.terminate", error)

    world.tick(after_s=61.0)
    world.tick(after_s=6.0 if isinstance(error, Throttled) else 61.0)

    assert [fields["grade"] for name, fields in world.journal.events if name == "machine.stop_failed"] == [grade]
    assert world.compute.instances[session.instance_id] == "terminated"


def test_a_machine_that_is_gone_already_is_no_error() -> None:
    world = World()
    session = world.launched()
    del world.compute.instances[session.instance_id]

    world.turns.dismiss(session.session_id)

    assert [fields["grade"] for name, fields in world.journal.events if name == "machine.stop_failed"] == ["info"]
