"""From a committed launch to configured sessions: whatever EC2 answers, and whatever cannot be configured."""

from __future__ import annotations

import json

import pytest

from agent.contract.config import read_config
from orchestrator.compute.port import SessionHandle
from orchestrator.errors import Conflict, FailureKind, ServiceFailed, Throttled
from orchestrator.fleet.limits import SEEN_S
from orchestrator.retry_policy import FIRST_WAIT_S, REFUSALS
from orchestrator.store.kinds import changed
from orchestrator.store.naming import Scope
from orchestrator.store.states import LaunchState, SessionState
from simulation.clock import MORNING
from simulation.examples import an_event, some_settings
from simulation.world import World
from tests.orchestrator.fleets import arrives, queue, settles, shipped


def test_each_session_is_dealt_one_instance_and_its_configuration_is_its_own() -> None:
    world = World()

    queue(world, 3)
    world.reconcile()

    for session in world.sessions:
        config = read_config(world.configurations.values[session.instance_id])
        assert (config.session_id, config.runner_name) == (session.session_id, session.registration_name)
    assert len({s.instance_id for s in world.sessions}) == 3


def test_the_request_names_everything_a_replay_and_a_sweep_need() -> None:
    world = World()

    world.told(an_event())

    (request,), (launch,) = world.compute.requests, world.records.launches()
    tags = {tag["Key"]: tag["Value"] for tag in request["TagSpecifications"][0]["Tags"]}
    assert json.loads(launch.request) == request
    assert tags["runs-fleet:launch-id"] == launch.launch_id and tags["runs-fleet:stack"] == "tests"
    assert float(tags["runs-fleet:expires-at"]) == int(launch.expires_at) > MORNING
    assert request["LaunchTemplateConfigs"][0]["LaunchTemplateSpecification"]["Version"] == "1"
    assert request["ClientToken"] == f"{launch.launch_id}-0" and len(request["ClientToken"]) <= 64
    assert SessionHandle("ec2", world.session.instance_id) in {one.handle for one in world.turns.strategies.list_sessions()}


def test_a_partial_answer_is_used_and_the_rest_is_asked_for_elsewhere() -> None:
    world = World()
    world.compute.room = 2
    world.calls.script("ec2.create_fleet", after=lambda request: setattr(world.compute, "room", None))
    queue(world, 5)
    world.reconcile()

    asked = [r["TargetCapacitySpecification"]["TotalTargetCapacity"] for r in world.compute.requests]
    tokens = [r["ClientToken"] for r in world.compute.requests]
    assert (asked, world.compute.launched, len(set(tokens))) == ([5, 3], 5, 2)
    assert {s.state for s in world.sessions} == {SessionState.CONFIGURED}


def test_f1_without_spot_capacity_everything_is_launched_on_demand() -> None:
    world = World()
    world.compute.full = {"spot"}

    world.told(an_event())

    markets = [r["TargetCapacitySpecification"]["DefaultTargetCapacityType"] for r in world.compute.requests]
    assert (markets, world.compute.launched) == (["spot", "on-demand"], 1)


@pytest.mark.parametrize("fallback", ["wait", "fail"])
def test_a_label_may_forbid_on_demand(fallback: str) -> None:
    world = World()
    world.compute.full = {"spot"}

    world.told(an_event(labels=(f"runs-fleet=7/fallback={fallback}",)))

    assert world.compute.launched == 0
    assert {r["TargetCapacitySpecification"]["DefaultTargetCapacityType"] for r in world.compute.requests} == {"spot"}


def test_what_ec2_refuses_altogether_stays_demand_and_is_asked_for_again_later() -> None:
    world = World()
    world.compute.full = {"*"}
    world.told(an_event())
    (launch,) = world.records.launches()

    world.ticks(until_s=20.0)
    asked = len(world.compute.requests)
    world.compute.full = set()
    world.ticks(until_s=20.0)

    assert launch.state is LaunchState.CLOSED and "InsufficientInstanceCapacity" in launch.attempts[0].reasons[0]
    assert (asked, world.compute.launched) == (3, 1)
    assert "label_set.unfulfilled" in world.journal.names and "label_set.held" in world.journal.names


def test_a_launch_that_ec2_will_never_give_does_not_count_as_supply_for_ever() -> None:
    world = World()
    world.compute.answers = [ServiceFailed("ec2:CreateFleet", "InvalidLaunchTemplateId.VersionNotFound")]
    world.told(an_event())
    (given_up,) = world.records.launches()

    world.ticks(until_s=40.0)

    assert given_up.state is LaunchState.CLOSED and "VersionNotFound" in given_up.attempts[0].reasons[0]
    assert world.compute.launched == 1


def test_what_ec2_did_not_give_is_not_taken_from_anybodys_pace() -> None:
    world = World(settings=some_settings(launches_per_minute=5.0))
    world.compute.full = {"*"}
    for number in range(5):
        arrives(world, f"1{number}", labels=("runs-fleet=many/fallback=wait",))
    world.reconcile()

    world.compute.full = set()
    arrives(world, "one", labels=("runs-fleet=one/arch=arm64",))
    world.reconcile()

    assert [one.launched_for for one in world.sessions] == ["one"]


def test_r11_one_session_that_cannot_be_configured_does_not_keep_the_others_waiting() -> None:
    world = World()

    def refuses_one(scope: Scope, name: str, labels: tuple[str, ...]) -> None:
        if name.endswith("-1"):
            raise ServiceFailed("github:generate-jitconfig", "500")

    world.calls.script("github.mint", times=None, before=refuses_one)
    queue(world, 3)
    with pytest.raises(ServiceFailed):
        world.reconcile()

    assert sorted(s.state.value for s in world.sessions) == ["configured", "configured", "launched"]


def test_a_registration_that_fails_for_one_repository_keeps_no_other_waiting_for_its_machine() -> None:
    world = World()
    world.compute.room = 1

    def refused(scope: Scope, name: str, labels: tuple[str, ...]) -> None:
        world.compute.room = None  # there is more in the next row
        if scope.repo == "aaa":
            raise ServiceFailed("github:generate-jitconfig", "500")

    world.calls.script("github.mint", times=None, before=refused)
    for repo in ("aaa", "bbb"):
        world.turns.on_job_event(an_event(job_id=repo, repo=repo))
    settles(world)

    states = {one.scope.repo: one.state for one in world.sessions}
    assert states == {"aaa": SessionState.LAUNCHED, "bbb": SessionState.CONFIGURED}
    assert all(launch.state is LaunchState.CLOSED for launch in world.records.launches())


def test_a_session_whose_turn_comes_late_is_claimed_before_it_is_registered() -> None:
    world = World()
    session = world.launched()
    late = world.records.put(changed(session, state=SessionState.LAUNCHED, due=world.clock.at + 5.0))
    world.records.put(changed(late, due=world.clock.at + 60.0))  # somebody else has it now
    minted = world.calls.made.count("github.mint")

    with pytest.raises(Conflict):
        world.turns.launching._configure(late)

    assert world.calls.made.count("github.mint") == minted


@pytest.mark.parametrize(("fallback", "refused"), [("fail", True), ("wait", False)])
def test_a_job_that_would_rather_fail_than_wait_is_told_that_there_is_no_machine(fallback: str, refused: bool) -> None:
    world = World()
    world.compute.full = {"*"}
    world.told(an_event(labels=(f"runs-fleet/fallback={fallback}",), head_sha="0f"))

    job = world.records.job("1")
    assert job is not None
    assert bool(job.refused) is refused
    assert len(world.github.notices) == int(refused)
    world.compute.full = set()
    world.tick(3600.0)
    assert world.compute.launched == int(not refused)


def test_each_step_of_a_launch_is_kept_with_what_ec2_said_to_it() -> None:
    world = World()
    world.compute.full = {"spot"}

    world.told(an_event())

    (launch,) = world.records.launches()
    spot, lasting = launch.attempts
    assert (spot.market, spot.wanted, spot.got, spot.failure) == ("spot", 1, 0, FailureKind.NO_CAPACITY)
    assert spot.step < lasting.step and {one.partition(":")[0] for one in spot.reasons} == {"InsufficientInstanceCapacity"}
    assert (lasting.market, lasting.wanted, lasting.got, lasting.failure) == ("on-demand", 1, 1, None)


@pytest.mark.parametrize(("full", "market", "lasting"), [(set(), "spot", False), ({"spot"}, "on-demand", True)])
def test_a_session_knows_what_its_machine_really_is(full: set[str], market: str, lasting: bool) -> None:
    world = World()
    world.compute.full = full

    session = world.launched()

    size = next(one for one in shipped() if one.name == world.compute.kinds[session.instance_id])
    (launch,) = world.records.launches()
    assert (session.market, session.non_interruptible, session.resources) == (market, lasting, size.resources)
    assert session.resources.vcpus < launch.each.vcpus and session.placement == launch.placements[session.instance_id] != ""


def test_a_launch_that_somebody_else_took_over_is_left_to_them() -> None:
    world = World()
    world.compute.answers = [Throttled("ec2:CreateFleet", "RequestLimitExceeded")]
    world.turns.on_job_event(an_event())
    settles(world)
    (stale,) = world.records.launches()
    world.records.put(stale)

    with pytest.raises(Conflict):
        world.turns.launching.resume(stale)

    assert (world.compute.sent, world.compute.launched) == (1, 0)


def test_only_label_sets_that_got_nothing_wait_and_what_was_kept_for_them_is_free() -> None:
    world = World()
    world.compute.room = 1
    for name in ("a", "b"):
        arrives(world, name, labels=(f"runs-fleet={name}/fallback=wait",))
    world.reconcile()

    served, left = (world.records.label_set(key) for key in (world.session.set_key, *_others(world)))
    assert served is not None and left is not None
    assert (served.refusals, left.refusals, left.refused_launches) == (0, 1, (world.session.launch_id,))
    assert (world.records.stack().in_use.machines, left.backoff_until) == (1, MORNING + FIRST_WAIT_S)


def _others(world: World) -> list[str]:
    """The label sets of the only launch that have no session."""
    launch = world.records.launch(world.session.launch_id)
    return [key for key in (launch.sets if launch else ()) if key != world.session.set_key]


def test_who_waits_is_told_on_the_commit_after_some_refusals_in_a_row_and_not_before() -> None:
    world = World()
    world.compute.full = {"*"}
    world.told(an_event(labels=("runs-fleet/fallback=wait",), head_sha="0f"))

    told = []
    while len(refused := world.journal.of("label_set.unfulfilled")) <= REFUSALS:
        told.append((len(refused), len(world.github.notices)))
        world.tick(5.0)

    assert set(told) == {(number, int(number >= REFUSALS)) for number in range(1, REFUSALS + 1)}


def test_machines_that_came_long_after_the_call_count_as_launched_just_now() -> None:
    world = World()
    world.compute.loses = 1
    world.turns.on_job_event(an_event())
    settles(world)
    before = [one.at for one in world.records.stack().lately]

    world.ticks(until_s=world.settings.lease_s + 10.0)

    late = [one.at for one in world.records.stack().lately if one.resources.machines]
    assert (before, world.compute.launched) == ([MORNING], 1) and max(late) > MORNING + SEEN_S
