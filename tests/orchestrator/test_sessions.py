"""What happens to one session: it is registered and configured, moves on, and ends."""

from __future__ import annotations

import base64
import json
import random
from dataclasses import replace

import pytest

from agent.contract.config import read_config
from agent.contract.secret import Secret
from orchestrator.errors import PACED, ServiceFailed, Throttled, Unanswered
from orchestrator.fleet.sessions import FAREWELL_S, FIRST_LOOK_S, handle_of
from orchestrator.fleet.work import RegistrationQuota
from orchestrator.store.kinds import changed
from orchestrator.store.states import SessionState
from simulation.clock import MORNING
from simulation.examples import an_event, some_settings
from simulation.world import World
from tests.orchestrator.fleets import the_label_set


def test_r4_a_name_that_is_taken_is_our_own_lost_mint_and_is_minted_again() -> None:
    world = World()
    world.calls.lose("github.mint")
    with pytest.raises(Unanswered):
        world.told(an_event())
    (lost,) = world.github.runners

    world.ticks(until_s=70.0)

    assert list(world.github.runners) == [world.session.registration_id] != [lost]
    assert world.session.state is SessionState.CONFIGURED


def test_a_name_taken_by_a_busy_runner_is_a_failure_that_leaves_the_session_open() -> None:
    world = World()
    world.calls.script("github.mint", times=None, answer=lambda *_: None)

    with pytest.raises(ServiceFailed, match="NameTaken"):
        world.told(an_event())

    assert (world.session.state, world.configurations.values) == (SessionState.LAUNCHED, {})


def test_a_job_whose_machine_can_never_be_configured_costs_one_and_is_refused_aloud() -> None:
    world = World()
    files = {".credentials": base64.b64encode(random.Random(7).randbytes(6_000)).decode()}
    huge = Secret(base64.b64encode(json.dumps(files).encode()).decode())
    world.calls.script("github.mint", times=None, changes=lambda minted: replace(minted, blob=huge))

    world.told(an_event(head_sha="0f"))
    world.ticks(until_s=8 * 3600.0, every_s=60.0)

    first, job = world.sessions[0], world.records.job("1")
    assert first.reason == "unconfigurable" and "4096" in first.error
    assert job is not None and "can never be configured" in job.refused
    assert world.compute.launched == 1 and sum("can never be configured" in told for told in world.github.notices) == 1


@pytest.mark.attack
def test_labels_of_any_length_that_github_takes_leave_room_in_a_configuration() -> None:
    world = World()
    labels = ("runs-fleet=7", *(f"{number}" * 256 for number in range(6)))

    world.told(an_event(labels=labels))

    assert world.session.state is SessionState.CONFIGURED and world.session.labels == labels
    (text,) = world.configurations.values.values()
    assert read_config(text).labels == ()


@pytest.mark.attack
@pytest.mark.parametrize("labels", [tuple(f"l{number}" for number in range(100)), ("x" * 257,), ("x" * 50_000,)])
def test_labels_that_no_runner_can_have_are_refused_before_a_machine_is_launched(labels: tuple[str, ...]) -> None:
    world = World()

    world.told(an_event(labels=("runs-fleet=7", *labels), head_sha="0f"))
    world.ticks(until_s=3_600.0, every_s=60.0)

    job = world.records.job("1")
    assert job is not None and "expected at most" in job.refused and len(job.refused) < 1_100
    assert world.compute.launched == 0 and len(world.github.notices) == 1


FIRST = f"i-{1:017x}"
"""The id of the first machine that EC2's twin makes."""


def test_a_registration_after_a_lost_one_is_an_attempt_of_its_own_and_an_agent_of_the_first_is_not_heard() -> None:
    world = World()
    world.calls.lose("github.mint")
    with pytest.raises(Unanswered):
        world.told(an_event())
    world.ticks(until_s=70.0)

    told = read_config(world.configurations.values[FIRST]).attempt
    world.hear("started", attempt=1)
    unheard = world.session.state
    world.hear("started", attempt=2)

    assert (told, world.session.attempt) == (2, 2)
    assert (unheard, world.session.state) == (SessionState.CONFIGURED, SessionState.READY)


def test_a_configuration_that_was_written_before_the_answer_was_lost_is_left_as_it_is() -> None:
    world = World()
    world.calls.lose("configurations.put")
    with pytest.raises(Unanswered):
        world.told(an_event())
    written = dict(world.configurations.values)

    world.ticks(until_s=70.0)

    assert (world.session.state, world.configurations.values) == (SessionState.CONFIGURED, written)
    assert (world.calls.made.count("github.mint"), world.session.registration_id) == (1, *world.github.runners)


@pytest.mark.parametrize("late", [False, True])
def test_a_configuration_of_an_earlier_registration_is_replaced_at_once_or_by_the_next_turn(late: bool) -> None:
    world = World()
    world.configurations.values[FIRST], world.configurations.replaces_late = "of a registration that is gone", late
    if late:
        with pytest.raises(ServiceFailed, match="Deleted"):
            world.told(an_event())
        world.ticks(until_s=70.0)
    else:
        world.told(an_event())

    config = read_config(world.configurations.values[FIRST])
    assert (config.session_id, world.session.state) == (world.session.session_id, SessionState.CONFIGURED)


@pytest.mark.parametrize(
    ("error", "due_s", "kept"),
    [
        (Throttled("github:x", "403", until=MORNING + 20.0), 20.0, 1),
        (Throttled("github:x", "403"), 5.0, 1),
        (Throttled("github:x", "403", until=MORNING + 1e4), 60.0, 1),
        (Throttled("ssm:PutParameter", PACED, until=MORNING + 20.0), 20.0, 0),
        (ServiceFailed("github:x", "500"), 60.0, 1),
    ],
)
def test_a_turn_that_failed_is_due_again_and_remembered_unless_it_only_had_to_wait(
    error: ServiceFailed, due_s: float, kept: int
) -> None:
    world = World(settings=some_settings(lease_s=60.0))
    world.calls.fail("github.mint", error)

    with pytest.raises(type(error)):
        world.told(an_event())

    assert (world.session.due, [one.what for one in world.session.failures]) == (MORNING + due_s, [str(error)] * kept)


def test_a_session_has_an_end_once_and_whoever_reports_another_changes_nothing() -> None:
    world = World()
    first = world.turns.sessions.ended(world.launched(), "failure", "broken", "x" * 2000)
    before = the_label_set(world).idle_exits

    again = world.turns.sessions.ended(first, "success", "other", "")

    assert again == first == world.records.session(first.session_id)
    assert (first.reason, len(first.error), sum(before.values())) == ("broken", 1000, 1)
    assert (the_label_set(world).idle_exits, first.deadline, first.due) == (before, MORNING + FAREWELL_S, MORNING + FIRST_LOOK_S)


@pytest.mark.parametrize(("reason", "counted"), [("surplus", 0), ("dismissed", 0), ("unclaimed", 1)])
def test_only_ends_of_which_nobody_here_is_the_cause_bring_a_backoff_nearer(reason: str, counted: int) -> None:
    world = World()

    world.turns.sessions.ended(world.launched(), "interrupted", reason, "")

    assert sum(the_label_set(world).idle_exits.values()) == counted
    assert world.wakes.waiting == [the_label_set(world).set_key]


def test_a_move_that_the_table_does_not_allow_writes_and_tells_nothing() -> None:
    world = World()
    session = world.at_work()
    moved, writes = len(world.journal.of("session.state_changed")), world.calls.made.count("tables.write")

    same = world.turns.sessions.moved(session, SessionState.READY, ready_at=1.0)

    assert same is session
    assert (len(world.journal.of("session.state_changed")), world.calls.made.count("tables.write")) == (moved, writes)


@pytest.mark.parametrize("watch_s", [60.0, 1e6])
def test_a_session_that_moved_is_looked_at_after_a_while_and_never_after_its_deadline(watch_s: float) -> None:
    world = World(settings=some_settings(watch_s=watch_s))

    session = world.launched()

    assert session.due == min(MORNING + watch_s, session.deadline) < session.expires_at


@pytest.mark.parametrize(
    ("error", "grade"),
    [
        (Throttled("ec2:TerminateInstances", "RequestLimitExceeded"), "retry"),
        (Unanswered("ec2:TerminateInstances"), "retry"),
        (ServiceFailed("ec2:TerminateInstances", "Unavailable"), "retry"),
        (ServiceFailed("ec2:TerminateInstances", "UnauthorizedOperation"), "error"),
    ],
)
def test_a_machine_that_cannot_be_ended_is_said_to_be_tried_again_or_to_want_somebody(error: ServiceFailed, grade: str) -> None:
    world = World()
    session = world.launched()
    world.calls.fail("ec2.terminate", error)

    with pytest.raises(type(error)):
        world.turns.sessions.stop(handle_of(session))

    assert [told["grade"] for told in world.journal.of("machine.stop_failed")] == [grade]


def test_a_machine_that_was_gone_already_is_no_failure() -> None:
    world = World()
    session = world.launched()
    world.becomes(None)

    world.turns.sessions.stop(handle_of(session))

    assert [told["grade"] for told in world.journal.of("machine.stop_failed")] == ["info"]


@pytest.mark.parametrize(("how", "told"), [("bound", True), ("busy", False)])
def test_a_session_that_had_work_is_no_idle_exit_whoever_says_so(how: str, told: bool) -> None:
    world = World()
    if how == "bound":
        world.at_work()
    else:
        world.launched()
        world.hear("busy")

    world.turns.sessions.ended(world.session, "interrupted", "instance_gone", "")

    found = the_label_set(world)
    assert (found.idle_exits, set(found.working)) == ({}, set() if told else {world.sessions[0].session_id})


def test_whoever_waited_for_a_turn_longer_than_the_lease_puts_nobody_off() -> None:
    world = World()

    def waits(*_: object) -> None:
        world.clock.at += world.settings.lease_s + 1.0
        raise ServiceFailed("github:x", "500")

    world.calls.script("github.mint", before=waits)
    with pytest.raises(ServiceFailed):
        world.told(an_event())

    assert world.session.due == MORNING + world.settings.lease_s < world.clock.at


def test_whoever_lost_a_session_while_it_waited_for_a_turn_writes_it_no_configuration() -> None:
    world = World()

    def is_taken_over(*_: object) -> None:
        world.clock.at += world.settings.lease_s / 2
        world.records.put(changed(world.session, due=world.clock.at + world.settings.lease_s))

    world.calls.script("github.mint", before=is_taken_over)
    world.told(an_event())

    assert (world.session.state, world.configurations.values) == (SessionState.LAUNCHED, {})


KMS = ("Client.InvalidKMSKey.InvalidState", "the key of the image's snapshot is disabled")


def ends_by_ec2(world: World, reason: tuple[str, str]) -> None:
    """EC2 ends the machine that is there, for this reason, and we look until its session is over."""
    session = next(one for one in world.sessions if not one.is_over)
    world.compute.instances[session.instance_id] = "terminated"
    world.compute.reasons[session.instance_id] = reason
    world.ticks(until_s=60.0)


def test_why_ec2_ended_a_machine_is_kept_with_its_session() -> None:
    world = World()
    world.told(an_event())

    ends_by_ec2(world, ("Server.InternalError", "an error of the host"))

    first = world.sessions[0]
    assert first.reason == "instance_gone" and "Server.InternalError: an error of the host" in first.error


def test_a_machine_that_ec2_cannot_run_counts_as_a_refused_launch_and_the_commit_says_why() -> None:
    world = World()
    world.told(an_event(head_sha="0f"))
    begun = world.clock.at

    while world.clock.at < begun + 3600.0:
        if any(not one.is_over for one in world.sessions):
            ends_by_ec2(world, KMS)
        world.ticks(until_s=30.0, every_s=10.0)

    assert (world.sessions[0].status, world.sessions[0].reason) == ("failure", "instance_refused")
    assert world.compute.launched < 12
    assert any(KMS[0] in told for told in world.github.notices)


def test_a_machine_that_had_lived_before_ec2_ended_it_is_no_refused_launch() -> None:
    world = World()
    world.told(an_event())
    world.hear("started")

    ends_by_ec2(world, KMS)

    assert world.sessions[0].reason == "instance_gone"


@pytest.mark.parametrize("code", ["403", "404", "422"])
def test_a_repository_whose_registrations_are_refused_for_good_costs_one_machine_and_the_commit_says_which_permission(
    code: str,
) -> None:
    world = World()
    refusal = ServiceFailed("github:generate-jitconfig", code, "Resource not accessible by integration")
    shut = RegistrationQuota(1, "the App to be let in", on_trial=True)

    def refused(*_: object) -> None:
        world.github.quotas = lambda _scope: shut
        raise refusal

    world.calls.script("github.mint", times=None, before=refused)
    world.told(an_event(head_sha="0f"))
    world.ticks(until_s=8 * 3600.0, every_s=60.0)

    assert (world.compute.launched, world.sessions[0].reason) == (1, "unconfigurable")
    assert world.compute.instances[world.sessions[0].instance_id] == "terminated"
    assert sum("administration: write" in told for told in world.github.notices) == 1


def test_where_registering_is_allowed_again_a_trial_finds_out_without_a_machine_and_leaves_no_runner() -> None:
    world = World()
    told = [RegistrationQuota(1, "let in", on_trial=True)]
    world.github.quotas = lambda _scope: told[0]
    seen: list[int] = []

    def allowed(_scope: object, name: str, *_: object) -> None:
        seen.append(world.compute.launched)
        told[0] = RegistrationQuota()

    world.calls.script("github.mint", times=1, before=allowed)
    world.told(an_event())
    world.ticks(until_s=60.0)

    assert seen == [0] and world.session.state is SessionState.CONFIGURED
    assert [runner.name for runner in world.github.runners.values()] == [world.session.registration_name]
