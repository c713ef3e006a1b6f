"""Decide what to do with a session that somebody has to look at."""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

from orchestrator.compute.port import DOWN, GONE, InstanceState
from orchestrator.store.model import Session
from orchestrator.store.states import SessionState

WORD_S = 10.0
"""Seconds the final message of a vanished machine may still lie in the queue: it was sent before the machine went."""


class SessionAction(StrEnum):
    """What is done about one session."""

    NOTHING = "look again later"
    ADVANCE = "take the next step of its launch"
    NOTE_GONE = "its machine is gone for the first time: wait for its final message"
    BACK = "its machine is there again: it was never gone"
    END = "its machine is gone or its time is up: end it"
    TERMINATE = "it ended but its machine lives: terminate it"
    CLOSE = "it ended and its machine is gone: remove what is left"


def check_session(session: Session, state: InstanceState | None, now: float, unseen_s: float) -> SessionAction:
    """What to do about a session.

    `state` is its strategy's word, None: it does not know the machine, which for `unseen_s` after the launch says nothing.
    """
    young = session.launched_at is not None and now - session.launched_at < unseen_s
    gone = state in GONE or (state is None and not young)
    match session.state:
        case SessionState.CLOSED:
            return SessionAction.NOTHING
        case SessionState.ENDED:
            if gone:
                return SessionAction.CLOSE
            return SessionAction.TERMINATE if now >= session.deadline else SessionAction.NOTHING
        case SessionState.LAUNCHED | SessionState.CONFIGURED | SessionState.READY | SessionState.BUSY:
            if now >= session.deadline:
                return SessionAction.END
            if gone or state in DOWN:
                return _vanished(session, now)
            if session.gone_at is not None:
                return SessionAction.BACK
            return SessionAction.ADVANCE if session.state is SessionState.LAUNCHED else SessionAction.NOTHING
        case _:
            assert_never(session.state)


def _vanished(session: Session, now: float) -> SessionAction:
    if session.gone_at is None:
        return SessionAction.NOTE_GONE
    return SessionAction.END if now - session.gone_at >= WORD_S else SessionAction.NOTHING
