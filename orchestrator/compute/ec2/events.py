"""What EventBridge says of EC2 instances, as notices. Source: "EC2 events in EventBridge", EC2 user guide."""

from __future__ import annotations

from datetime import datetime

import msgspec

from orchestrator.compute.notices import InstanceNotice, NoticeKind

INTERRUPTION_WARNING = "EC2 Spot Instance Interruption Warning"
REBALANCE_RECOMMENDATION = "EC2 Instance Rebalance Recommendation"
STATE_CHANGE = "EC2 Instance State-change Notification"
NOT_RUNNING = frozenset({"stopping", "stopped", "shutting-down", "terminated"})


class _Detail(msgspec.Struct):
    instance_id: str = msgspec.field(name="instance-id")
    state: str = ""


class _Event(msgspec.Struct):
    """The part of an EventBridge envelope that is read."""

    kind: str = msgspec.field(name="detail-type")
    detail: _Detail
    time: str = ""


def read_event(body: str, now: float) -> InstanceNotice | None:
    """The notice in an event; None: the event says nothing that anything follows from.

    `now` (epoch seconds) is the latest that it can have happened. Raises: ValueError: the body is no such event.
    """
    try:
        event = msgspec.json.decode(body, type=_Event)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    kind = _kind_of(event)
    return InstanceNotice(event.detail.instance_id, kind, _moment(event.time, now), event.kind) if kind is not None else None


def _kind_of(event: _Event) -> NoticeKind | None:
    if event.kind == STATE_CHANGE:
        return NoticeKind.GONE if event.detail.state in NOT_RUNNING else None
    return {INTERRUPTION_WARNING: NoticeKind.INTERRUPTION, REBALANCE_RECOMMENDATION: NoticeKind.INTERRUPTION_RISK}.get(event.kind)


def _moment(raw: str, now: float) -> float:
    """When it happened; a time that cannot be read is now."""
    try:
        return min(now, datetime.fromisoformat(raw.replace("Z", "+00:00")).timestamp())
    except ValueError:
        return now
