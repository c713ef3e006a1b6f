"""Decide what to ask EC2 for, as data: the request is stored before it is sent, and a replay sends the same bytes.

What EC2 does not give is asked for elsewhere, one step of STEPS after the other, each with a token of its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from orchestrator.compute.ec2.breakers import pool_name
from orchestrator.compute.ec2.catalogue import InstanceType
from orchestrator.compute.port import Wanted
from orchestrator.errors import FailureKind
from orchestrator.store.request import MachineRequest

OVERRIDES = 60
"""Pools (type × zone) named in one request: more choice lowers interruptions, but the answer names every refusal."""
SPOT, ON_DEMAND = "spot", "on-demand"


@dataclass(frozen=True)
class LaunchSites:
    """Where instances can be made: launch template and version for each architecture, and a subnet of each zone."""

    templates: dict[str, tuple[str, str]]
    subnets: dict[str, str]


@dataclass(frozen=True)
class Step:
    """One step of the fallback: a market, and how many of the fitting types may be named."""

    market: str
    types: int


STEPS = (Step(SPOT, 10), Step(SPOT, 60), Step(ON_DEMAND, 4), Step(ON_DEMAND, 30))
"""Near the wish first (small machines are cheap), then everything that fits, then the same on demand. After the last: later."""


def steps_for(request: MachineRequest, *, spot_allowed: bool) -> tuple[Step, ...]:
    """The steps that a request may use, in order. `spot_allowed`: the operator's switch."""
    allowed = {SPOT} if request.interruptible and spot_allowed else set()
    allowed |= {ON_DEMAND} if not request.interruptible or request.may_be_non_interruptible else set()
    return tuple(step for step in STEPS if step.market in allowed)


def next_step(steps: Sequence[Step], asked: int, failure: FailureKind | None) -> int | None:
    """The step to ask for after that one; None: none now, and another launch begins anew later."""
    beyond = range(asked + 1, len(steps))
    match failure:
        case None | FailureKind.NO_CAPACITY | FailureKind.UNKNOWN:
            return next(iter(beyond), None)
        case FailureKind.QUOTA:
            return next((step for step in beyond if steps[step].market != steps[asked].market), None)
        case FailureKind.THROTTLED | FailureKind.REFUSED:
            return None
        case _:
            assert_never(failure)


def launch_request(
    wanted: Wanted, sites: LaunchSites, types: Sequence[InstanceType], number: int, step: Step, *,
    stack_id: str, root_device: str, shunned: frozenset[str] = frozenset(),
) -> str:  # fmt: skip
    """A CreateFleet call as JSON. Source: CreateFleet in the EC2 API reference (type `instant`).

    One subnet of each zone, because EC2 refuses two pools of one type in one zone. Tags are the same for all its instances.
    `shunned`: pools that are not named unless there is no other.
    """
    request, launch_id = wanted.request, wanted.launch_id
    name, version = sites.templates[types[0].architecture]
    priced = request.price_limit and step.market == SPOT
    extra: dict[str, Any] = {"MaxPrice": f"{request.price_limit:g}"} if priced else {}
    if request.disk_gib:
        disk = {"VolumeSize": request.disk_gib, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
        extra["BlockDeviceMappings"] = [{"DeviceName": root_device, "Ebs": disk}]
    overrides = [{"InstanceType": kind, "SubnetId": subnet, **extra} for kind, subnet in _pools(sites, types, step, shunned)]
    tags = {
        "Name": f"{stack_id}-{launch_id}",
        "runs-fleet:managed": "true",
        "runs-fleet:stack": stack_id,
        "runs-fleet:launch-id": launch_id,
        "runs-fleet:launch-step": str(number),
        "runs-fleet:spec": request.spec(),
        "runs-fleet:expires-at": str(int(wanted.expires_at)),
    }
    call: dict[str, Any] = {
        "ClientToken": f"{launch_id}-{number}",
        "Type": "instant",
        "LaunchTemplateConfigs": [
            {"LaunchTemplateSpecification": {"LaunchTemplateName": name, "Version": version}, "Overrides": overrides}
        ],
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": len(wanted.sessions),
            "DefaultTargetCapacityType": step.market,
        },
        "TagSpecifications": [
            {"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
        ],
    }
    if step.market == SPOT:
        call["SpotOptions"] = {"AllocationStrategy": "price-capacity-optimized"}
    return json.dumps(call, sort_keys=True)


def all_shunned(sites: LaunchSites, types: Sequence[InstanceType], step: Step, shunned: frozenset[str]) -> bool:
    """Whether every pool that a step could name is one to be left alone."""
    return all(pool_name(it.name, subnet, step.market) in shunned for it in types for subnet in _offered(sites, it))


def _pools(sites: LaunchSites, types: Sequence[InstanceType], step: Step, shunned: frozenset[str]) -> list[tuple[str, str]]:
    """Types and subnets, cheapest first, otherwise nearest to the wish.

    As many types as the step allows, not counting those wholly left alone.
    """
    most = min(step.types, max(1, OVERRIDES // len(sites.subnets)))
    priced = sorted(types, key=lambda it: _price(it, step.market))  # where no price is known the order stays
    offered = [(it.name, _offered(sites, it)) for it in priced]
    open_ = [(name, [s for s in subnets if pool_name(name, s, step.market) not in shunned]) for name, subnets in offered]
    named = [one for one in open_ if one[1]][:most] or [one for one in offered if one[1]][:most]
    return [(name, subnet) for name, subnets in named for subnet in subnets]


def _price(instance_type: InstanceType, market: str) -> float:
    """The price in this market; an unknown one sorts last."""
    return (instance_type.spot_usd if market == SPOT else instance_type.usd) or math.inf


def _offered(sites: LaunchSites, instance_type: InstanceType) -> list[str]:
    """The subnets of zones in which this type is offered; where that is not known, of all."""
    zones = instance_type.zones
    return [subnet for zone, subnet in sorted(sites.subnets.items()) if not zones or zone in zones]
