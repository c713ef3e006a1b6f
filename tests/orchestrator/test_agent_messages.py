"""What agents' messages do to their sessions, up to the end; and whose messages count."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.ports import Received
from orchestrator.store.kinds import changed
from orchestrator.store.states import SessionState
from simulation.clock import MORNING
from simulation.examples import an_event, an_instance_event, final_fields, some_settings
from simulation.world import World


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
    world.records.put(changed(session, state=SessionState.LAUNCHED, deadline=MORNING + 900, registration_id=0))

    world.hear(status)
    world.tick(after_s=3600.0)

    assert world.sessions[0].state in (SessionState.READY, SessionState.BUSY)
    assert world.compute.instances[session.instance_id] == "running"


def test_an_idle_machine_that_is_going_away_is_supply_no_more() -> None:
    world = World()
    world.launched()

    world.hear("interrupting", reason="spot_notice")

    assert (world.compute.launched, world.sessions[0].interrupting_at) == (2, MORNING)


def test_a_machine_at_work_that_is_going_away_has_another_made_for_when_its_job_comes_back() -> None:
    world = World()
    session = world.launched()
    world.told(an_event("in_progress", runner_name=session.registration_name))

    world.hear("interrupting", reason="spot_notice")
    world.hear("interrupting", reason="spot_notice", session=session)

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


def test_t3_a_message_of_an_earlier_attempt_ends_no_later_one() -> None:
    world = World()
    session = world.records.put(changed(world.launched(), attempt=2))

    world.hear_the_end("failure", attempt=1)

    assert world.session == session and world.journal.names[-1] == "agent_message.unknown_session"


def test_an_interruption_that_the_agent_and_ec2_both_tell_sends_one_job_back_to_us() -> None:
    world = World()
    session = world.at_work()
    world.hear("interrupting", reason="spot_notice")
    world.clock.at += 3.0
    world.turns.on_instance_event(an_instance_event("EC2 Spot Instance Interruption Warning", session.instance_id))
    world.reconcile()

    label_set = world.records.label_set(session.set_key)
    assert label_set is not None and len(label_set.expected) == 1
    assert world.compute.launched == 2
