"""The states of launches and sessions, and which may follow which; each goes in one direction."""

from __future__ import annotations

from enum import StrEnum


class LaunchState(StrEnum):
    """Where a launch is."""

    INTENDED = "intended"
    """The exact request is committed; whether the strategy has seen it is not known."""
    ASSIGNED = "assigned"
    """The strategy answered, and it is committed which session has which machine; their records may still have to be made."""
    CLOSED = "closed"
    """Every session of it is a record, or will never be one."""


class SessionState(StrEnum):
    """Where a session is; every state but `closed` has a deadline."""

    LAUNCHED = "launched"
    """There is a machine; it waits for its configuration."""
    CONFIGURED = "configured"
    """Its configuration is written and its registration is made."""
    READY = "ready"
    """The agent sent `started`: the secret is read and deleted, and work may come."""
    BUSY = "busy"
    """The agent said that it took work, or the origin of the work said which."""
    ENDED = "ended"
    """The agent's final message came, or the machine is gone, or its time is up; there may be things to remove."""
    CLOSED = "closed"
    """Machine gone, secret gone, registration gone: nothing of it is left."""


_AFTER_BOOT = frozenset({SessionState.READY, SessionState.BUSY, SessionState.ENDED})
LAUNCH_TRANSITIONS: dict[StrEnum, frozenset[StrEnum]] = {
    LaunchState.INTENDED: frozenset({LaunchState.ASSIGNED}),
    LaunchState.ASSIGNED: frozenset({LaunchState.INTENDED, LaunchState.CLOSED}),
    LaunchState.CLOSED: frozenset(),
}
"""A launch is intended again for each step of its fallback."""
SESSION_TRANSITIONS: dict[StrEnum, frozenset[StrEnum]] = {
    SessionState.LAUNCHED: frozenset({SessionState.CONFIGURED}) | _AFTER_BOOT,
    SessionState.CONFIGURED: _AFTER_BOOT,
    SessionState.READY: frozenset({SessionState.BUSY, SessionState.ENDED}),
    SessionState.BUSY: frozenset({SessionState.ENDED}),
    SessionState.ENDED: frozenset({SessionState.CLOSED}),
    SessionState.CLOSED: frozenset(),
}
