"""What EventBridge says of EC2 instances, as notices. Source: "EC2 events in EventBridge", EC2 user guide."""

from __future__ import annotations

import re
from dataclasses import dataclass
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
    source: str = ""
    account: str = ""
    region: str = ""
    resources: tuple[str, ...] = ()
    time: str = ""


@dataclass(frozen=True)
class Origin:
    """Where events must come from; empty: not known, and not compared."""

    account: str = ""
    region: str = ""


def origin_of(queue_url: str) -> Origin:
    """The account and the region of the queue that events are put into: rules put them there from the same ones.

    Source: the forms of queue URLs, "Amazon SQS endpoints and quotas"; a VPC endpoint's names no region that we read.
    """
    found = re.fullmatch(r"https://sqs\.([a-z0-9-]+)\.amazonaws\.[a-z.]+/(\d{12})/.+", queue_url)
    return Origin(found[2], found[1]) if found else Origin()


def read_event(body: str, now: float, origin: Origin = Origin()) -> InstanceNotice | None:
    """The notice in an event; None: the event says nothing that anything follows from.

    `now` (epoch seconds) is the latest that it can have happened. Raises: ValueError: the body is no such event, or one that EC2
    did not make there.
    """
    try:
        event = msgspec.json.decode(body, type=_Event)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    kind = _kind_of(event)
    if kind is None:
        return None
    _insist_on(event, origin)
    return InstanceNotice(event.detail.instance_id, kind, _moment(event.time, now), event.kind, by_service=True)


def _insist_on(event: _Event, origin: Origin) -> None:
    """Raises: ValueError: it is not EC2's own word about this instance."""
    if event.source != "aws.ec2":
        raise ValueError(f"expected the source aws.ec2, found {event.source!r}")
    for name, found, expected in (("account", event.account, origin.account), ("region", event.region, origin.region)):
        if expected and found != expected:
            raise ValueError(f"expected the {name} {expected}, that of the queue, found {found!r}")
    if not any(arn.endswith(f"/{event.detail.instance_id}") for arn in event.resources):
        raise ValueError(f"expected {event.detail.instance_id} among the resources, found {list(event.resources)[:3]}")


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
