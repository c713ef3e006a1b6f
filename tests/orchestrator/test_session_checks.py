"""What the tick does about a session: the whole table of its state, EC2's word and the time."""

from __future__ import annotations

import pytest

from orchestrator.compute.ec2.strategy import UNSEEN_S
from orchestrator.compute.port import InstanceState
from orchestrator.fleet.session_checks import WORD_S, SessionAction, check_session
from orchestrator.store.states import SessionState
from simulation.examples import a_session

TIMES = {"young": 100.0, "settled": 400.0, "past its deadline": 900.0, "past its life": 2000.0}
"""Seconds after the launch, on a session whose deadline is 900 and whose life ends at 2,000."""
LETTERS = {
    "n": SessionAction.NOTHING, "a": SessionAction.ADVANCE, "g": SessionAction.NOTE_GONE, "e": SessionAction.END,
    "t": SessionAction.TERMINATE, "c": SessionAction.CLOSE, "b": SessionAction.BACK,
}  # fmt: skip
LIVING = (InstanceState.PENDING, InstanceState.RUNNING)
DEAD = (InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED)
DOWN = (InstanceState.STOPPING, InstanceState.STOPPED)
TABLE: dict[SessionState, dict[str, str]] = {
    SessionState.LAUNCHED: {"unknown": "agee", "living": "aaee", "dead": "ggee", "down": "ggee"},
    SessionState.CONFIGURED: {"unknown": "ngee", "living": "nnee", "dead": "ggee", "down": "ggee"},
    SessionState.READY: {"unknown": "ngee", "living": "nnee", "dead": "ggee", "down": "ggee"},
    SessionState.BUSY: {"unknown": "ngee", "living": "nnee", "dead": "ggee", "down": "ggee"},
    SessionState.ENDED: {"unknown": "nccc", "living": "nntt", "dead": "cccc", "down": "nntt"},
    SessionState.CLOSED: {"unknown": "nnnn", "living": "nnnn", "dead": "nnnn", "down": "nnnn"},
}
WORDS: dict[str, tuple[InstanceState | None, ...]] = {"unknown": (None,), "living": LIVING, "dead": DEAD, "down": DOWN}
CASES = [
    pytest.param(state, word, at, LETTERS[row[column]], id=f"{state}-{word}-{time}")
    for state, rows in TABLE.items()
    for kind, row in rows.items()
    for word in WORDS[kind]
    for column, (time, at) in enumerate(TIMES.items())
]
ALIVE = [SessionState.LAUNCHED, SessionState.CONFIGURED, SessionState.READY, SessionState.BUSY]


def test_the_table_has_a_row_for_every_state() -> None:
    assert set(TABLE) == set(SessionState)


@pytest.mark.parametrize(("state", "word", "at", "wanted"), CASES)
def test_the_measure_follows_from_state_instance_and_time(
    state: SessionState, word: InstanceState | None, at: float, wanted: SessionAction
) -> None:
    session = a_session(state=state, instance_id="i-1", launched_at=0.0, deadline=900.0, expires_at=2000.0)

    assert check_session(session, word, at, UNSEEN_S) is wanted


@pytest.mark.parametrize("word", [None, *DEAD, *DOWN])
@pytest.mark.parametrize("state", ALIVE)
def test_a_vanished_instance_is_waited_for_and_then_ended(state: SessionState, word: InstanceState | None) -> None:
    session = a_session(state=state, launched_at=0.0, deadline=9000.0, expires_at=9000.0, gone_at=1000.0)

    assert check_session(session, word, 1000.0 + WORD_S - 0.1, UNSEEN_S) is SessionAction.NOTHING
    assert check_session(session, word, 1000.0 + WORD_S, UNSEEN_S) is SessionAction.END


@pytest.mark.parametrize("state", ALIVE[1:])
def test_an_instance_that_ec2_does_not_know_yet_is_believed_in_for_a_while(state: SessionState) -> None:
    session = a_session(state=state, launched_at=50.0, deadline=9000.0, expires_at=9000.0)

    assert check_session(session, None, 50.0 + UNSEEN_S - 0.1, UNSEEN_S) is SessionAction.NOTHING
    assert check_session(session, None, 50.0 + UNSEEN_S, UNSEEN_S) is SessionAction.NOTE_GONE


@pytest.mark.parametrize("unseen_s", [0.0, 60.0, 900.0])
def test_how_long_an_unknown_instance_is_believed_in_is_its_strategys_to_say(unseen_s: float) -> None:
    session = a_session(state=SessionState.BUSY, launched_at=50.0, deadline=9000.0, expires_at=9000.0)

    assert check_session(session, None, 50.0 + unseen_s, unseen_s) is SessionAction.NOTE_GONE
    assert check_session(session, None, 50.0 + unseen_s - 0.1, unseen_s) is SessionAction.NOTHING


def test_an_unknown_instance_of_which_nobody_knows_when_it_was_launched_is_gone() -> None:
    session = a_session(state=SessionState.BUSY, launched_at=None, deadline=9000.0, expires_at=9000.0)

    assert check_session(session, None, 100.0, UNSEEN_S) is SessionAction.NOTE_GONE


@pytest.mark.parametrize("state", ALIVE)
def test_an_instance_that_is_there_again_was_never_gone(state: SessionState) -> None:
    session = a_session(state=state, launched_at=0.0, deadline=9000.0, expires_at=9000.0, gone_at=1000.0)

    assert check_session(session, InstanceState.RUNNING, 1000.0 + WORD_S, UNSEEN_S) is SessionAction.BACK
