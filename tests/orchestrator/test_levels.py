"""From a level that is wrong to machines that correct it: one launch, whoever else is at it, whatever is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from agent.contract.config import read_config
from orchestrator.errors import Conflict, ServiceFailed, Unanswered
from orchestrator.model import changed
from orchestrator.naming import set_key
from orchestrator.ports import Received, Write
from orchestrator.records import LEDGER
from orchestrator.services import Scope, SessionHandle, Started
from orchestrator.settings import Caps
from orchestrator.states import LaunchState, SessionState
from tests.orchestrator.memory import MORNING, SET, Calls, GatheredWakes, World, an_event, old_records, some_settings


def queue(world: World, number: int, **changes: object) -> None:
    """So many jobs are told, and nothing is settled yet."""
    for n in range(number):
        world.turns.on_job_event(an_event(job_id=str(n), **changes))


def names(world: World) -> list[str]:
    return [runner.name for runner in world.github.runners.values()]


def test_a_burst_of_one_label_set_is_one_launch() -> None:
    world = World()

    queue(world, 30)
    world.settle()

    assert (len(world.compute.requests), world.compute.launched) == (1, 30)
    assert [s.state for s in world.sessions] == [SessionState.CONFIGURED] * 30
    assert len(set(names(world))) == len(world.configurations.values) == 30


def test_f2_label_sets_that_need_the_same_machine_share_a_launch_and_others_do_not() -> None:
    world = World()

    for n, label in enumerate(
        ["runs-fleet=1", "runs-fleet=2", "runs-fleet=3/cpu=2", "runs-fleet=4/cpu=8", "runs-fleet=5/arch=arm64"]
    ):
        world.turns.on_job_event(an_event(job_id=str(n), labels=(label,)))
    world.settle()

    assert sorted(r["TargetCapacitySpecification"]["TotalTargetCapacity"] for r in world.compute.requests) == [1, 1, 3]
    assert sorted(runner.labels[0] for runner in world.github.runners.values()) == sorted(s.labels[0] for s in world.sessions)


def test_more_than_a_call_may_ask_for_is_asked_for_in_several_and_none_is_forgotten() -> None:
    world = World(settings=some_settings(launches_per_minute=1000.0))

    queue(world, 250)
    world.settle()

    assert [r["TargetCapacitySpecification"]["TotalTargetCapacity"] for r in world.compute.requests] == [100, 100, 50]
    assert len({s.launched_for for s in world.sessions}) == 250


def test_each_session_is_dealt_one_instance_and_its_configuration_is_its_own() -> None:
    world = World()

    queue(world, 3)
    world.settle()

    for session in world.sessions:
        config = read_config(world.configurations.values[session.instance_id])
        assert (config.session_id, config.runner_name) == (session.session_id, session.runner_name)
    assert len({s.instance_id for s in world.sessions}) == 3


def test_a_second_replica_that_read_the_same_board_makes_no_second_launch() -> None:
    world, other_wakes = World(), GatheredWakes()
    boards = []

    class Held:
        """Tables that show the second replica the board as it was before the first one wrote."""

        def __getattr__(self, name: str) -> Any:
            return getattr(world.tables, name)

        def rows(self, table: str, partition: str) -> list[dict[str, Any]]:
            return boards[0] if boards and partition == SET else world.tables.rows(table, partition)

    second = world.replica(wakes=other_wakes, tables=Held())
    queue(world, 3)
    boards.append(world.tables.rows("sessions", SET))
    world.settle()

    second.on_wake([SET])

    assert (len(world.compute.requests), world.compute.launched) == (1, 3)
    assert other_wakes.waiting == [SET], "it reads again"
    boards.clear()
    second.on_wake(other_wakes.taken())
    assert world.compute.launched == 3


def test_a_message_that_comes_again_in_the_middle_of_a_launch_launches_nothing_more() -> None:
    world = World()
    start = world.compute.start_sessions

    def during(request: str, *, sent_before: bool) -> Started:
        world.compute.start_sessions = start  # type: ignore[method-assign]
        world.turns.on_job_event(an_event())
        world.settle()
        return start(request, sent_before=sent_before)

    world.compute.start_sessions = during  # type: ignore[method-assign]
    world.told(an_event())

    assert (len(world.compute.requests), world.compute.launched, len(world.sessions)) == (1, 1, 1)


def test_an_index_five_seconds_behind_makes_no_second_launch() -> None:
    world = World(index_lag_s=5.0)

    world.told(an_event())
    for _ in range(30):
        world.tick(after_s=0.5)

    assert (len(world.compute.requests), world.compute.launched) == (1, 1)


def test_a_lost_answer_is_recovered_by_the_same_words() -> None:
    world = World()
    start, sent = world.compute.start_sessions, []

    def lossy(request: str, *, sent_before: bool) -> Started:
        sent.append((request, sent_before))
        answer = start(request, sent_before=sent_before)
        if len(sent) == 1:
            raise Unanswered("ec2:CreateFleet")
        return answer

    world.compute.start_sessions = lossy  # type: ignore[method-assign]
    with pytest.raises(Unanswered):
        world.told(an_event())

    world.ticks(until_s=world.settings.lease_s + 10)

    assert [again for _, again in sent] == [False, True] and len({request for request, _ in sent}) == 1
    assert (world.compute.launched, world.session.state) == (1, SessionState.CONFIGURED)


def test_a_partial_answer_is_used_and_the_rest_is_asked_for_elsewhere() -> None:
    world = World()
    world.compute.room = 2
    real = world.compute.start_sessions

    def roomier(request: str, *, sent_before: bool) -> Started:
        answer = real(request, sent_before=sent_before)
        world.compute.room = None
        return answer

    world.compute.start_sessions = roomier  # type: ignore[method-assign]
    queue(world, 5)
    world.settle()

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

    assert launch.state is LaunchState.CLOSED and "InsufficientInstanceCapacity" in launch.tries[0].reasons[0]
    assert (asked, world.compute.launched) == (3, 1)
    assert "level.refused" in world.journal.names and "level.held" in world.journal.names


def test_no_more_machines_are_made_than_the_stack_may_have_and_the_rest_waits_for_a_place() -> None:
    world = World(settings=some_settings(max_sessions=3))
    queue(world, 5)
    world.settle()
    at_first = world.compute.launched

    first = world.sessions[0]
    world.told(an_event("in_progress", job_id=first.launched_for, runner_name=first.runner_name))
    world.hear_the_end(session=first)
    world.compute.instances[first.instance_id] = "terminated"
    world.ticks(until_s=60.0)

    assert (at_first, world.compute.launched) == (3, 4)
    reasons = [str(told.get("why")) for name, told in world.journal.events if name == "level.held"]
    assert any("the 3 machines that are allowed" in why for why in reasons)


def test_no_more_machines_are_made_than_one_label_set_may_have_and_others_get_theirs() -> None:
    world = World(settings=some_settings(per_label_set=Caps(sessions=2)))
    queue(world, 5)
    world.turns.on_job_event(an_event(job_id="other", labels=("runs-fleet=9",)))
    world.settle()

    assert sorted(s.set_key == SET for s in world.sessions) == [False, True, True]


def test_the_pace_holds_a_burst_back_and_the_rest_stays_demand() -> None:
    world = World(settings=some_settings(launches_per_minute=10.0))
    queue(world, 25)
    world.settle()
    at_once = world.compute.launched

    world.ticks(until_s=60.0)
    after_a_minute = world.compute.launched
    world.ticks(until_s=60.0)

    assert (at_once, world.compute.launched) == (10, 25)
    assert 18 <= after_a_minute <= 20


def test_a_stack_that_is_paused_launches_nothing_until_it_is_resumed() -> None:
    world = World()
    stack = world.records.put(changed(world.records.stack(), paused=True))
    world.told(an_event())
    paused = world.compute.launched

    world.records.put(changed(stack, paused=False))
    world.ticks(until_s=70.0)

    assert (paused, world.compute.launched) == (0, 1)


def test_t8_a_cancelled_job_leaves_a_surplus_that_is_taken_back_after_a_minute() -> None:
    world = World()
    session = world.launched()
    world.told(an_event("completed", conclusion="cancelled"))

    world.ticks(until_s=50.0)
    kept = world.compute.instances[session.instance_id]
    world.ticks(until_s=90.0)

    assert (kept, world.compute.instances[session.instance_id]) == ("running", "terminated")
    assert (world.session.reason, world.session.state) == ("surplus", SessionState.CLOSED)
    assert (world.github.runners, world.configurations.values) == ({}, {})


def test_a_surplus_runner_that_is_busy_is_kept() -> None:
    world = World()
    session = world.launched()
    for runner in world.github.runners.values():
        runner.busy = True
    world.told(an_event("completed", conclusion="cancelled"))

    world.ticks(until_s=300.0)

    assert world.compute.instances[session.instance_id] == "running"


def is_taken_back(world: World, how: str) -> None:
    """All that is idle: as a surplus of which a minute has passed, or by an operator."""
    if how == "drain":
        world.turns.pause(paused=True)
        world.turns.drain()
    else:
        world.told(an_event("completed", conclusion="cancelled"))
        world.ticks(until_s=120.0)


@pytest.mark.parametrize("how", ["surplus", "drain"])
def test_p5_a_runner_that_github_calls_busy_is_taken_back_by_nobody_though_we_think_it_idle(how: str) -> None:
    world = World()
    session = world.launched()
    world.hear("started")
    world.github.runners[session.runner_id].busy = True

    is_taken_back(world, how)

    assert world.session.state is SessionState.READY
    assert (world.compute.instances[session.instance_id], set(world.github.runners)) == ("running", {session.runner_id})


@pytest.mark.parametrize("how", ["surplus", "drain"])
def test_p10_a_runner_that_gets_a_job_between_the_look_and_the_act_is_kept(how: str) -> None:
    world = World()
    session = world.launched()
    world.hear("started")
    find = world.github.find

    def then_busy(scope: Scope, name: str) -> int | None:
        found = find(scope, name)
        world.github.runners[session.runner_id].busy = True
        return found

    world.github.find = then_busy  # type: ignore[method-assign]
    is_taken_back(world, how)

    assert (world.session.state, world.compute.instances[session.instance_id]) == (SessionState.READY, "running")


def test_p9_a_drain_finds_every_idle_session_among_records_of_every_kind_and_nothing_else() -> None:
    world = World(settings=some_settings(launches_per_minute=1000.0))
    queue(world, 60)
    world.settle()
    old_records(world, 20)
    before = {session.session_id: session for session in world.sessions if session.session_id.startswith("s-old")}

    world.turns.pause(paused=True)
    failed = world.turns.drain()

    assert failed == {} and set(world.compute.instances.values()) == {"terminated"} and world.compute.launched == 60
    assert {one.session_id: one for one in world.sessions if one.state is not SessionState.ENDED} == before


def test_p3_what_is_taken_back_is_not_made_again_in_the_same_breath() -> None:
    world = World()
    queue(world, 3)
    world.settle()
    world.told(an_event("completed", job_id="0", conclusion="cancelled"))

    world.ticks(until_s=300.0)

    assert (world.compute.launched, sorted(world.compute.instances.values())) == (3, ["running", "running", "terminated"])


def test_p6_since_when_there_is_a_surplus_is_known_to_whichever_replica_looks() -> None:
    world = World()
    session = world.launched()
    world.told(an_event("completed", conclusion="cancelled"))
    world.clock.at += 61.0
    other_wakes = GatheredWakes()
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
    """The case that was called theft: nothing is wrong but the levels, and they are corrected."""
    world = World()
    world.told(an_event(job_id="1"))
    first = world.session
    world.told(an_event(job_id="2", labels=("runs-fleet=7",)))

    world.told(an_event("in_progress", job_id="2", labels=("runs-fleet=7",), runner_name=first.runner_name))

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

    assert {session.reason for session in world.sessions[:5]} == {"version_refused"} and "level.held" in world.journal.names
    assert (held, still, world.compute.launched) == (5, 5, 6)


def test_jobs_that_differ_only_in_case_and_order_of_labels_share_a_ledger() -> None:
    world = World()

    world.told(an_event(job_id="1", labels=("runs-fleet=7", "X64")))
    world.told(an_event(job_id="2", labels=("x64", "Runs-Fleet=7")))

    assert len({s.set_key for s in world.sessions}) == 1


def test_r9_repositories_never_share_one() -> None:
    world = World()

    world.told(an_event(job_id="1"))
    world.told(an_event(job_id="2", repo="gadgets"))

    assert len({s.set_key for s in world.sessions}) == 2


def test_a_forgotten_ledger_is_made_again_from_a_job() -> None:
    world = World()
    world.told(an_event())
    world.tables.write([Write("sessions", (SET, LEDGER), None)])

    world.told(an_event(job_id="2"))

    assert world.compute.launched == 2


def test_r4_a_name_that_is_taken_is_our_own_lost_mint_and_is_minted_again() -> None:
    world = World()
    mint = world.github.mint

    def lossy(scope: Scope, name: str, labels: tuple[str, ...], group_id: int) -> object:
        mint(scope, name, labels, group_id)
        world.github.mint = mint  # type: ignore[method-assign]
        raise Unanswered("github:generate-jitconfig")

    world.github.mint = lossy  # type: ignore[method-assign,assignment]
    with pytest.raises(Unanswered):
        world.told(an_event())
    (lost,) = world.github.runners

    world.ticks(until_s=70.0)

    assert list(world.github.runners) == [world.session.runner_id] != [lost]
    assert world.session.state is SessionState.CONFIGURED


def test_a_name_taken_by_a_busy_runner_is_a_failure_that_leaves_the_session_open() -> None:
    world = World()
    world.github.mint = lambda *_: None  # type: ignore[method-assign,assignment]

    with pytest.raises(ServiceFailed, match="NameTaken"):
        world.told(an_event())

    assert (world.session.state, world.configurations.values) == (SessionState.LAUNCHED, {})


def test_r11_one_session_that_cannot_be_configured_does_not_keep_the_others_waiting() -> None:
    world = World()
    mint = world.github.mint

    def refuses_one(scope: Scope, name: str, labels: tuple[str, ...], group_id: int) -> object:
        if name.endswith("-1"):
            raise ServiceFailed("github:generate-jitconfig", "500")
        return mint(scope, name, labels, group_id)

    world.github.mint = refuses_one  # type: ignore[method-assign,assignment]
    queue(world, 3)
    with pytest.raises(ServiceFailed):
        world.settle()

    assert sorted(s.state.value for s in world.sessions) == ["configured", "configured", "launched"]


def test_a_configuration_too_large_for_its_parameter_ends_its_session_and_says_so() -> None:
    world = World()

    world.told(an_event(labels=("runs-fleet=7", "x" * 5000)))

    first = world.sessions[0]
    assert (first.reason, "characters" in first.error or "bytes" in first.error) == ("unconfigurable", True)


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
    assert SessionHandle("ec2", world.session.instance_id) in {body.handle for body in world.compute.list_sessions()}


TURNS: dict[str, Callable[[World], object]] = {
    "a delivery": lambda world: world.told(an_event(job_id="new")),
    "the sweep": lambda world: world.tick(),
    "the tick": lambda world: world.turns.on_tick(),
    "the recovery": lambda world: world.turns.on_recovery(),
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


def test_a_launch_that_ec2_will_never_give_does_not_count_as_supply_for_ever() -> None:
    world = World()
    world.compute.answers = [ServiceFailed("ec2:CreateFleet", "InvalidLaunchTemplateId.VersionNotFound")]
    world.told(an_event())
    (given_up,) = world.records.launches()

    world.ticks(until_s=40.0)

    assert given_up.state is LaunchState.CLOSED and "VersionNotFound" in given_up.tries[0].reasons[0]
    assert world.compute.launched == 1


def test_an_outage_of_ec2_is_waited_out_for_ten_minutes_and_then_another_launch_is_made() -> None:
    world = World()
    world.compute.answers = [ServiceFailed("ec2:CreateFleet", "InternalError")] * 1000
    with pytest.raises(ServiceFailed):
        world.told(an_event())
    world.ticks(until_s=500.0)
    waiting = next(world.records.launches()).state
    world.ticks(until_s=200.0)
    world.compute.answers.clear()
    world.ticks(until_s=200.0)

    assert (waiting, world.compute.launched) == (LaunchState.INTENDED, 1)


def test_an_app_that_was_installed_again_is_used_as_the_newest_job_tells() -> None:
    world = World()
    world.told(an_event(job_id="1", installation_id="3"))

    world.told(an_event(job_id="2", installation_id="4", at=MORNING + 1))

    assert [s.installation_id for s in world.sessions] == ["3", "4"]


def test_a_new_template_version_closes_the_backoff_though_nothing_ends_meanwhile() -> None:
    world = World()
    world.told(an_event())
    world.end_without_a_job(times=5)
    held = world.compute.launched

    world.compute.version = "2"
    world.ticks(until_s=35.0)

    assert (held, world.compute.launched) == (5, 6)


def test_a_session_whose_turn_comes_late_is_claimed_before_it_is_registered() -> None:
    world = World()
    session = world.launched()
    late = world.records.put(changed(session, state=SessionState.LAUNCHED, due=world.clock.at + 5.0))
    world.records.put(changed(late, due=world.clock.at + 60.0))  # somebody else has it now
    minted = world.calls.made.count("github.mint")

    with pytest.raises(Conflict):
        world.turns.launching._configure(late)

    assert world.calls.made.count("github.mint") == minted


def test_no_more_is_launched_than_github_would_register_and_the_rest_later() -> None:
    world = World()
    world.github.left = 3
    queue(world, 10)
    world.settle()

    assert (world.compute.launched, len(world.github.runners)) == (3, 3)
    assert "GitHub's limit of registrations" in {told.get("why") for name, told in world.journal.events if name == "level.held"}

    world.github.left = None
    world.tick(60.0)
    assert (world.compute.launched, len(world.github.runners)) == (10, 10)
    assert {session.state for session in world.sessions} == {SessionState.CONFIGURED}, "none was launched in vain"


def test_what_was_launched_a_moment_ago_may_want_its_registration_still() -> None:
    world = World()
    world.github.left = 5
    queue(world, 4)
    world.settle()
    queue(world, 8)
    world.settle()

    assert world.compute.launched == 4
    world.tick(31.0)
    assert world.compute.launched == 5


@pytest.mark.parametrize(("fallback", "refused"), [("fail", True), ("wait", False)])
def test_a_job_that_would_rather_fail_than_wait_is_told_that_there_is_no_machine(fallback: str, refused: bool) -> None:
    world = World()
    world.compute.full = {"*"}
    world.told(an_event(labels=(f"runs-fleet/fallback={fallback}",), head_sha="0f"))

    job = world.records.job("1")
    assert job is not None
    assert bool(job.refused) is refused
    assert len(world.github.notes) == int(refused)
    world.compute.full = set()
    world.tick(3600.0)
    assert world.compute.launched == int(not refused)


def test_a_silent_runner_whose_job_was_never_told_is_found_by_the_run_that_it_names() -> None:
    world = World()
    session = world.launched()
    world.hear("busy", session=session, ran_run_id="8")
    stolen = {"job_id": "2", "run_id": "8", "labels": ("runs-fleet=8/arch=amd64",)}
    world.github.jobs["1"] = an_event("completed", conclusion="cancelled")
    world.told(world.github.jobs["1"])
    world.github.jobs["2"] = an_event("in_progress", runner_name=session.runner_name, **stolen)

    world.ticks(until_s=130.0)

    assert (world.session.bound_job, world.compute.launched) == ("2", 1)


def test_a_run_that_a_job_only_claims_to_be_of_binds_nothing() -> None:
    world = World()
    session = world.launched()
    world.hear("busy", session=session, ran_run_id="8")
    world.github.jobs["2"] = an_event("in_progress", job_id="2", run_id="8", runner_name="tests-s-somebody-else-0")

    world.ticks(until_s=130.0)

    assert world.sessions[0].bound_job == "" and world.records.job("2") is None
