"""What a delivery and an agent's messages set off, up to the end of the session."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.config import read_config
from orchestrator.errors import Conflict, ServiceFailed, Unanswered
from orchestrator.intake import QUEUED_S
from orchestrator.model import changed
from orchestrator.ports import Received, Write
from orchestrator.states import JobState, SessionState
from orchestrator.webhook import JobEvent
from tests.orchestrator.memory import MORNING, World, an_event, final_fields, some_settings


def test_a_delivery_is_queued_once_however_often_it_comes() -> None:
    world = World()

    taken = [world.turns.on_webhook(b"the same bytes", an_event()) for _ in range(3)]

    assert taken == [True, True, True]
    assert [msgspec.json.decode(body, type=JobEvent) for body in world.queue.bodies] == [an_event()]


@pytest.mark.parametrize("changes", [{"action": "requested"}, {"labels": ("windows-latest",)}, {"labels": ()}])
def test_a_delivery_that_is_not_ours_is_not_queued(changes: dict[str, object]) -> None:
    world = World()

    assert not world.turns.on_webhook(b"", an_event(**{"action": "queued", **changes}))
    assert world.queue.bodies == []


def test_an_aliased_label_is_ours() -> None:
    assert World().turns.on_webhook(b"", an_event(labels=("ubuntu-latest",)))


def test_a_delivery_that_cannot_be_stored_is_not_taken() -> None:
    world = World()
    world.queue.refuses = True

    with pytest.raises(ServiceFailed):
        world.turns.on_webhook(b"", an_event())


@pytest.mark.parametrize("times", [1, 2, 5])
def test_a_queued_delivery_repeated_launches_once(times: int) -> None:
    world = World()

    for _ in range(times):
        world.told(an_event())

    assert (world.compute.launched, len(world.github.runners), len(world.configurations.values)) == (1, 1, 1)


def test_r1_a_launched_session_has_a_configuration_its_agent_can_read() -> None:
    world = World()

    session = world.launched()

    config = read_config(world.configurations.values[session.instance_id])
    assert session.state is SessionState.CONFIGURED
    assert world.configurations.stacks == {session.instance_id: "tests"}
    assert (config.session_id, config.job_id, config.runner_name) == (session.session_id, "1", session.runner_name)
    assert world.github.runners[session.runner_id].labels == session.labels


def test_a_runner_is_told_not_to_update_itself_in_the_very_configuration_that_is_laid_down() -> None:
    world = World()

    session = world.launched()

    laid_down = read_config(world.configurations.values[session.instance_id]).blob()
    files = json.loads(base64.b64decode(laid_down.reveal()))  # type: ignore[union-attr]
    assert json.loads(base64.b64decode(files[".runner"]))["DisableUpdate"] == "True"


def test_two_jobs_make_two_sessions() -> None:
    world = World()

    for job_id in ("1", "2"):
        world.told(an_event(job_id=job_id))

    assert (world.compute.launched, len(world.sessions)) == (2, 2)


def test_what_runs_a_job_is_told_by_github_and_not_by_the_session_launched_for_it() -> None:
    world = World()
    world.launched()

    world.told(an_event("in_progress", runner_name="somebody-else", at=MORNING + 9))

    job = world.records.job("1")
    assert job is not None and (job.runner_name, job.started_at) == ("somebody-else", MORNING + 9)
    assert world.session.runner_name != "somebody-else" and world.session.bound_job == ""


def test_a_job_whose_end_overtook_its_start_was_taken_all_the_same() -> None:
    world = World()
    session = world.launched()
    took = {"runner_name": session.runner_name, "taken_at": MORNING + 5}

    world.told(an_event("completed", conclusion="success", at=MORNING + 9, **took))
    world.told(an_event("in_progress", at=MORNING + 5, **took))

    job = world.records.job("1")
    assert job is not None and (job.started_at, job.completed_at) == (MORNING + 5, MORNING + 9)


def test_a_job_that_no_runner_had_was_never_taken_and_a_start_that_was_told_stands() -> None:
    world = World()
    session = world.launched()
    world.told(an_event("in_progress", at=MORNING + 4, runner_name=session.runner_name))

    world.told(an_event("completed", conclusion="success", at=MORNING + 9, runner_name=session.runner_name, taken_at=MORNING + 5))
    world.told(an_event("completed", job_id="2", conclusion="cancelled", at=MORNING + 9))

    first, second = world.records.job("1"), world.records.job("2")
    assert first is not None and (first.started_at, first.completed_at) == (MORNING + 4, MORNING + 9)
    assert second is None or second.started_at is None


def test_t7_the_job_that_github_names_binds_the_session_whatever_it_was_launched_for() -> None:
    world = World()
    session = world.launched()
    world.told(an_event(job_id="2"))

    world.told(an_event("in_progress", job_id="2", runner_name=session.runner_name))

    bound = world.records.session(session.session_id)
    assert bound is not None and (bound.launched_for, bound.bound_job, bound.state) == ("1", "2", SessionState.BUSY)


def test_a_session_is_bound_once() -> None:
    world = World()
    session = world.launched()
    world.told(an_event("in_progress", runner_name=session.runner_name))
    before = world.session

    world.told(an_event("completed", runner_name=session.runner_name, conclusion="success"))

    assert world.session == before


def test_a_job_that_is_over_before_its_start_was_heard_still_binds_its_session() -> None:
    world = World()
    session = world.launched()
    world.hear_the_end()

    world.told(an_event("completed", runner_name=session.runner_name, conclusion="success"))

    assert (world.session.bound_job, world.session.state, world.session.status) == ("1", SessionState.ENDED, "success")


def test_started_deletes_the_secret() -> None:
    world = World()
    world.launched()

    world.hear("started")

    assert (world.session.state, world.session.ready_at, world.configurations.values) == (SessionState.READY, MORNING, {})


def test_busy_says_which_job_was_taken() -> None:
    world = World()
    world.launched()

    world.hear("busy", ran_job="build")

    assert (world.session.state, world.session.ran_job) == (SessionState.BUSY, "build")


def test_a_started_that_comes_after_busy_takes_nothing_back() -> None:
    world = World()
    world.launched()
    world.hear("busy")

    world.hear("started")

    assert (world.session.state, world.configurations.values) == (SessionState.BUSY, {})


@pytest.mark.parametrize("status", ["started", "busy"])
def test_a_notice_while_the_session_is_still_only_launched_is_accepted_and_it_keeps_its_whole_life(status: str) -> None:
    world = World()
    session = world.launched()
    world.records.put(changed(session, state=SessionState.LAUNCHED, deadline=MORNING + 900, runner_id=0))

    world.hear(status)
    world.tick(after_s=3600.0)

    assert world.sessions[0].state in (SessionState.READY, SessionState.BUSY)
    assert world.compute.instances[session.instance_id] == "running"


def test_an_idle_machine_that_is_going_away_is_supply_no_more() -> None:
    world = World()
    world.launched()

    world.hear("interrupting", reason="spot")

    assert (world.compute.launched, world.sessions[0].interrupting_at) == (2, MORNING)


def test_a_machine_at_work_that_is_going_away_has_another_made_for_when_its_job_comes_back() -> None:
    world = World()
    session = world.launched()
    world.told(an_event("in_progress", runner_name=session.runner_name))

    world.hear("interrupting", reason="spot")
    world.hear("interrupting", reason="spot", session=session)

    assert world.compute.launched == 2


@pytest.mark.parametrize("status", ["success", "failure", "timeout", "interrupted"])
def test_the_final_word_ends_the_session(status: str) -> None:
    world = World()
    world.launched()

    world.hear_the_end(status, reason="why", log_outcome="shipped", log_lines_shipped=9, phases_ms={"boot": 7}, ran_job="build")

    session = world.session
    assert (session.state, session.status, session.reason, session.ended_at) == (SessionState.ENDED, status, "why", MORNING)
    assert (session.log_outcome, session.log_lines, session.phases_ms, session.ran_job) == ("shipped", 9, {"boot": 7}, "build")


def test_a_final_word_that_names_no_job_keeps_the_one_that_busy_named() -> None:
    world = World()
    world.launched()
    world.hear("busy", ran_job="build")

    world.hear_the_end()

    assert world.session.ran_job == "build"


def test_the_first_final_word_stands() -> None:
    world = World()
    world.at_work()
    world.hear_the_end("failure", reason="disk")

    world.hear_the_end("success")

    assert (world.session.status, world.session.reason) == ("failure", "disk")


def test_t1_a_machine_that_could_not_boot_ends_its_session() -> None:
    world = World()
    world.launched()

    world.hear("bootstrap_failed", error="no agent here")

    session = world.sessions[0]
    assert (session.state, session.status, session.reason) == (SessionState.ENDED, "failure", "bootstrap_failed")


def test_an_agent_that_never_read_its_configuration_is_known_by_its_instance() -> None:
    world = World()
    world.launched()

    world.hear_the_end("failure", session_id="", job_id="")

    assert world.sessions[0].state is SessionState.ENDED


@pytest.mark.parametrize(
    ("sender", "heard"),
    [("", False), ("AIDAEXAMPLE", False), ("AROAEXAMPLE:i-00000000000000001", True), ("AROAEXAMPLE:i-00000000000000002", False)],
)
def test_a_message_sent_by_another_instance_is_forged(sender: str, heard: bool) -> None:
    world = World()
    world.launched()

    world.hear_the_end(sender=sender)

    assert (world.session.state is SessionState.ENDED) is heard
    assert ("agent_message.forged" in world.journal.names) is not heard


@pytest.mark.parametrize(
    ("sender", "heard"),
    [
        ("AROAOURS:i-00000000000000001", True), ("AROAOURS:i-00000000000000002", False),
        ("AROAOTHER:i-00000000000000001", False), ("AIDAEXAMPLE", False),
    ],
)  # fmt: skip
def test_whoever_may_assume_another_role_can_borrow_a_name_but_not_the_roles_id(sender: str, heard: bool) -> None:
    world = World(settings=some_settings(runner_role_id="AROAOURS"))
    world.launched()

    world.hear_the_end(sender=sender)

    assert (world.session.state is SessionState.ENDED) is heard


def test_a_session_named_by_another_instance_is_not_its_own() -> None:
    world = World()
    before = world.launched()

    world.hear_the_end(sender="AROARUNNER:i-00000000000000009", instance_id="i-00000000000000009")

    assert world.session == before and world.journal.names[-1] == "agent_message.unknown_session"


def test_a_message_of_an_unknown_session_is_dropped() -> None:
    world = World()

    body = json.dumps({"status": "success", "instance_id": "i-1", "job_id": "1", **final_fields("success")})
    world.turns.on_agent_message(Received(body, "receipt", "AROARUNNER:i-1"))

    assert world.journal.names == ["agent_message.unknown_session"]


POISON = [
    "",
    "nonsense",
    "[]",
    "7",
    "{}",
    '{"status": "started"}',
    '{"status": ["success"]}',
    '{"status": "unheard-of"}',
    "[" * 50_000,
]


@pytest.mark.parametrize("body", POISON, ids=range(len(POISON)))
def test_a_message_nobody_can_read_is_logged_and_dropped(body: str) -> None:
    world = World()
    before = world.launched()

    world.turns.on_agent_message(Received(body, "receipt"))

    assert world.session == before and world.journal.names[-1] == "agent_message.unusable"


def test_a_message_of_a_newer_contract_is_understood_as_far_as_it_can_be() -> None:
    world = World()
    session = world.launched()

    world.hear("started", contract_version=2, brand_new={"deep": [1]})

    assert world.records.session(session.session_id).state is SessionState.READY  # type: ignore[union-attr]


def test_a_word_that_only_a_newer_contract_knows_is_dropped_and_says_what_to_do() -> None:
    world = World()
    before = world.launched()

    world.hear("migrated", contract_version=2)

    name, told = world.journal.events[-1]
    assert world.session == before and name == "agent_message.unusable"
    assert told["contract_version"] == 2 and "update the orchestrator first" in str(told["hint"])


fields = st.sampled_from(["status", "instance_id", "job_id", "session_id", "exit_code", "phases_ms", "error", "started_at"])
values = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)


@given(st.sampled_from(["started", "busy", "success"]), st.dictionaries(fields, values))
def test_no_message_whatever_raises(status: str, changes: dict[str, object]) -> None:
    world = World()
    session = world.launched()
    told = {"status": status, "instance_id": session.instance_id, "job_id": "1", **final_fields("success"), **changes}

    world.turns.on_agent_message(Received(json.dumps(told), "receipt", f"AROARUNNER:{told['instance_id']}"))


def test_each_registration_after_the_first_is_an_attempt_of_its_own() -> None:
    world = World()
    put, written = world.configurations.put, []

    def fails(instance_id: str, value: str) -> bool:
        written.append(value)
        raise ServiceFailed("ssm:PutParameter", "InternalError")

    world.configurations.put = fails  # type: ignore[method-assign]
    with pytest.raises(ServiceFailed):
        world.told(an_event())
    world.configurations.put = put  # type: ignore[method-assign]
    world.tick(after_s=61.0)

    again = read_config(world.configurations.values[world.session.instance_id])
    assert (read_config(written[0]).attempt, again.attempt, world.session.attempt) == (1, 2, 2)
    assert len(world.github.runners) == 1, "the first registration is gone"

    world.hear_the_end("failure", attempt=1, reason="registration_deleted")
    assert world.session.state is SessionState.CONFIGURED and world.journal.names[-1] == "agent_message.unknown_session"
    world.hear("started", attempt=2)
    assert world.session.state is SessionState.READY


def test_a_configuration_that_was_laid_down_before_we_were_cut_off_stays_the_first_attempt() -> None:
    world = World()
    put = world.configurations.put

    def lost(instance_id: str, value: str) -> bool:
        put(instance_id, value)
        raise Unanswered("ssm:PutParameter")

    world.configurations.put = lost  # type: ignore[method-assign]
    with pytest.raises(Unanswered):
        world.told(an_event())
    world.configurations.put = put  # type: ignore[method-assign]
    world.tick(after_s=61.0)

    assert (world.session.state, world.session.attempt) == (SessionState.CONFIGURED, 1)
    assert read_config(world.configurations.values[world.session.instance_id]).attempt == 1


def test_t3_a_message_of_an_earlier_attempt_ends_no_later_one() -> None:
    world = World()
    session = world.records.put(changed(world.launched(), attempt=2))

    world.hear_the_end("failure", attempt=1)

    assert world.session == session and world.journal.names[-1] == "agent_message.unknown_session"


def test_a_turn_that_loses_a_race_reads_again() -> None:
    world = World()
    session = world.launched()
    write, lost = world.tables.write, []

    def race(writes: Sequence[Write]) -> None:
        if not lost:
            lost.append(True)
            raise Conflict("somebody was faster")
        write(writes)

    world.tables.write = race  # type: ignore[method-assign]
    world.hear("busy", session=session, ran_job="build")

    assert (world.session.state, lost) == (SessionState.BUSY, [True])


def test_a_turn_that_loses_every_race_is_left_to_the_queue() -> None:
    world = World()
    session = world.launched()

    def race(writes: Sequence[Write]) -> None:
        raise Conflict("somebody is always faster")

    world.tables.write = race  # type: ignore[method-assign]
    with pytest.raises(Conflict):
        world.hear("busy", session=session)


def test_one_session_that_fails_does_not_keep_the_others_waiting() -> None:
    world = World()
    for job_id in ("1", "2"):
        world.told(an_event(job_id=job_id))
    first, second = world.sessions
    world.compute.broken = {first.instance_id}

    world.ticks(until_s=120.0)
    world.clock.at += 10 * 86_400.0
    world.ticks(until_s=30.0)

    assert world.compute.instances[first.instance_id] == "running"
    assert world.compute.instances[second.instance_id] == "terminated"


def test_h8_a_job_that_github_must_have_ended_long_ago_wants_nothing_any_more() -> None:
    world = World()
    world.launched()
    world.forgotten()

    world.clock.at += QUEUED_S
    world.tick()

    job = world.records.job("1")
    assert job is not None and (job.state, job.conclusion) == (JobState.COMPLETED, "unheard")
