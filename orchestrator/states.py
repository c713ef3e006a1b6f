"""The states that records go through, each kind in one direction, and which may follow which."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Where a job is, as far as GitHub told."""

    WAITING = "waiting"
    """Somebody must approve it first: it wants no machine yet."""
    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"


class LaunchState(StrEnum):
    """Where a launch is."""

    INTENDED = "intended"
    """The exact request is committed; whether EC2 has seen it is not known."""
    DEALT = "dealt"
    """EC2 answered, and it is committed which session has which instance; their records may still have to be made."""
    CLOSED = "closed"
    """Every session of it is a record, or will never be one."""


class RescueState(StrEnum):
    """Where the re-run of a run's reclaimed jobs is."""

    WAITING = "waiting"
    """There are jobs to run again, once GitHub lets us."""
    RESTING = "resting"
    """All that may be run again was; another reclaimed job wakes it."""


class NoteState(StrEnum):
    """Where something is that is to be said on a commit."""

    WAITING = "waiting"
    """GitHub has not taken it yet."""
    DONE = "done"
    """It took it, or never will."""


class SessionState(StrEnum):
    """Where a session is; every state but `closed` has a deadline."""

    LAUNCHED = "launched"
    """There is an instance; it waits for its configuration."""
    CONFIGURED = "configured"
    """Its configuration is laid down and its runner is registered."""
    READY = "ready"
    """The agent said `started`: the secret is read and deleted, the runner listens."""
    BUSY = "busy"
    """The agent said that it took a job, or GitHub said which."""
    ENDED = "ended"
    """The agent's final word came, or the instance is gone, or its time is up; there may be things to remove."""
    CLOSED = "closed"
    """Instance gone, secret gone, registration gone: nothing of it is left."""


_AFTER_BOOT = frozenset({SessionState.READY, SessionState.BUSY, SessionState.ENDED})
TRANSITIONS: dict[type[StrEnum], dict[StrEnum, frozenset[StrEnum]]] = {
    JobState: {
        JobState.WAITING: frozenset({JobState.QUEUED, JobState.IN_PROGRESS, JobState.COMPLETED}),
        JobState.QUEUED: frozenset({JobState.IN_PROGRESS, JobState.COMPLETED}),
        JobState.IN_PROGRESS: frozenset({JobState.COMPLETED}),
        JobState.COMPLETED: frozenset(),
    },
    LaunchState: {
        LaunchState.INTENDED: frozenset({LaunchState.DEALT}),
        LaunchState.DEALT: frozenset({LaunchState.INTENDED, LaunchState.CLOSED}),
        LaunchState.CLOSED: frozenset(),
    },
    RescueState: {
        RescueState.WAITING: frozenset({RescueState.RESTING}),
        RescueState.RESTING: frozenset({RescueState.WAITING}),
    },
    NoteState: {NoteState.WAITING: frozenset({NoteState.DONE}), NoteState.DONE: frozenset()},
    SessionState: {
        SessionState.LAUNCHED: frozenset({SessionState.CONFIGURED}) | _AFTER_BOOT,
        SessionState.CONFIGURED: _AFTER_BOOT,
        SessionState.READY: frozenset({SessionState.BUSY, SessionState.ENDED}),
        SessionState.BUSY: frozenset({SessionState.ENDED}),
        SessionState.ENDED: frozenset({SessionState.CLOSED}),
        SessionState.CLOSED: frozenset(),
    },
}
"""Which state may follow which; what is not here does not happen. A launch is intended again for each step of its fallback."""
BY_ITS_WORD: dict[StrEnum, frozenset[StrEnum]] = {JobState.QUEUED: frozenset({JobState.WAITING})}
"""What may follow besides, if GitHub was asked and says so. Deliveries come in any order, and do not prove it.

A job that an environment protects is told as queued first, then as waiting for its approval.
"""
