"""Decide what to do with a session that somebody has to look at."""

from __future__ import annotations

from enum import StrEnum

from orchestrator.model import Session
from orchestrator.states import SessionState

GONE = frozenset({"terminated", "shutting-down"})
"""Instance states that cost nothing any more and from which none comes back."""
DOWN = frozenset({"stopping", "stopped"})
"""A power-off that did not terminate: nothing runs there, but its disk is still billed."""
WORD_S = 10.0
"""Seconds the final word of a vanished instance may still lie in the queue: it was sent before the instance went."""
UNSEEN_S = 300.0
"""Seconds in which EC2 may not know an instance it has just made. Source: "Eventual consistency", EC2 API reference."""


class Measure(StrEnum):
    """What is done about one session."""

    NOTHING = "look again later"
    ADVANCE = "take the next step of its launch"
    NOTE_GONE = "its instance is gone for the first time: wait for its final word"
    BACK = "its instance is there again: it was never gone"
    END = "its instance is gone or its time is up: end it"
    TERMINATE = "it ended but its instance lives: terminate it"
    CLOSE = "it ended and its instance is gone: remove what is left"


def measure(session: Session, instance_state: str | None, now: float) -> Measure:
    """What to do; `instance_state` is EC2's word, None: EC2 does not know the instance."""
    young = session.launched_at is not None and now - session.launched_at < UNSEEN_S
    gone = instance_state in GONE or (instance_state is None and not young)
    match session.state:
        case SessionState.CLOSED:
            return Measure.NOTHING
        case SessionState.ENDED:
            return Measure.CLOSE if gone else Measure.TERMINATE if now >= session.deadline else Measure.NOTHING
        case SessionState.LAUNCHED | SessionState.CONFIGURED | SessionState.READY | SessionState.BUSY:
            if now >= session.deadline:
                return Measure.END
            if gone or instance_state in DOWN:
                return _vanished(session, now)
            if session.gone_at is not None:
                return Measure.BACK
            return Measure.ADVANCE if session.state is SessionState.LAUNCHED else Measure.NOTHING


def _vanished(session: Session, now: float) -> Measure:
    if session.gone_at is None:
        return Measure.NOTE_GONE
    return Measure.END if now - session.gone_at >= WORD_S else Measure.NOTHING
