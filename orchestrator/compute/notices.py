"""What a service or an agent announces about a compute instance, in one vocabulary, and what follows from it.

A new notice is a member of NoticeKind and its row in HANDLING; whoever reads the service's own words translates into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agent.contract.messages import Interruption


class NoticeKind(StrEnum):
    """What is announced about a compute instance."""

    INTERRUPTION = "interruption"
    """It is taken back soon."""
    INTERRUPTION_RISK = "interruption risk"
    """It may be taken back soon."""
    GONE = "gone"
    """It does not run any more."""


@dataclass(frozen=True)
class NoticeHandling:
    """What follows from one kind of notice."""

    event: str
    """The name of the log event."""
    interrupts: bool = False
    """Its session is no supply any more, and its work is expected back."""
    steers: bool = False
    """Its strategy is told, so that it asks elsewhere for a while: only of what the service itself announces."""
    is_gone: bool = False
    """Its final message is waited for some seconds, then its session ends."""


HANDLING: dict[NoticeKind, NoticeHandling] = {
    NoticeKind.INTERRUPTION: NoticeHandling("session.interrupting", interrupts=True, steers=True),
    NoticeKind.INTERRUPTION_RISK: NoticeHandling("session.at_risk"),
    NoticeKind.GONE: NoticeHandling("session.instance_gone", is_gone=True),
}
AGENT_REASONS: dict[str, NoticeKind] = {
    Interruption.SPOT_NOTICE: NoticeKind.INTERRUPTION,
    Interruption.REBALANCE: NoticeKind.INTERRUPTION_RISK,
}
"""The reasons in an agent's message `interrupting`. One that is not here comes from a newer agent, and is logged."""


@dataclass(frozen=True)
class InstanceNotice:
    """One notice about one compute instance."""

    instance_id: str
    kind: NoticeKind
    at: float
    """When it happened, epoch seconds: the notice may have waited for us, for hours."""
    words: str = ""
    """What the service or the agent itself said."""
    by_service: bool = False
    """Whether the service said it, and not the machine: a job may have taken the machine over."""
