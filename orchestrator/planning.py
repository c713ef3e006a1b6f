"""Decide what to ask EC2 for, as data: the request is stored before it is sent, and a replay sends the same bytes.

One launch serves as many sessions as need the same kind of machine, whatever their label sets. What EC2 does not give is asked
for elsewhere, one row of `STEPS` after the other, each with a token of its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.catalogue import Kind, fitting
from orchestrator.circuits import pool_name
from orchestrator.labels import Ask
from orchestrator.services import Site
from orchestrator.settings import ServerSettings
from orchestrator.troubles import Trouble, gravest

BOOT_S = 900.0
"""Seconds between launch and a runner that listens, at worst; the agent's own bounds for getting ready add up to this."""
REPORT_S = 300.0
"""Seconds between the end of the runtime and a machine that is gone: grace, flush, final word, death."""
AT_ONCE = 100
"""Sessions of one launch. Issued in calls that EC2 answers within seconds, and few enough to lose with one."""
ITEMS_AT_ONCE = 95
"""What a launch may write at once; it bounds how many label sets share one. Source: 100 items a transaction, DynamoDB quotas."""
OVERRIDES = 60
"""Pools (type × zone) named in one request: more choice lowers interruptions, but the answer names every refusal."""
SPOT, ON_DEMAND = "spot", "on-demand"


@dataclass(frozen=True)
class Step:
    """One row of the fallback: a market, and how many of the fitting types may be named."""

    market: str
    types: int


STEPS = (Step(SPOT, 10), Step(SPOT, 60), Step(ON_DEMAND, 4), Step(ON_DEMAND, 30))
"""Near the wish first (small machines are cheap), then everything that fits, then the same on demand. After the last: later."""


def steps(ask: Ask, settings: ServerSettings) -> tuple[Step, ...]:
    """The rows that an ask may use, in order."""
    allowed = {SPOT} if ask.spot and settings.spot else set()
    allowed |= {ON_DEMAND} if not ask.spot or may_be_firm(ask) else set()
    return tuple(step for step in STEPS if step.market in allowed)


def next_row(rows: Sequence[Step], asked: int, reasons: Iterable[str]) -> int | None:
    """Which row is asked for after that one, for EC2's reasons; None: none now, and another launch begins anew later."""
    beyond = range(asked + 1, len(rows))
    match gravest(reasons):
        case Trouble.CAPACITY:
            return next(iter(beyond), None)
        case Trouble.QUOTA:
            return next((row for row in beyond if rows[row].market != rows[asked].market), None)
        case Trouble.LATER | Trouble.REFUSED:
            return None


def may_be_firm(ask: Ask) -> bool:
    """Whether it may be served on demand though it asks for spot."""
    return ask.fallback == "on-demand" and not ask.price_limit


def firm(ask: Ask) -> Ask:
    """The same, of machines that EC2 does not take back."""
    return ask if not ask.spot else replace(ask, spot=False)


def spec_name(ask: Ask, architecture: str, settings: ServerSettings) -> str:
    """Short, and the same exactly where one launch can serve both."""
    told = [ask.cpu_min, ask.cpu_max, ask.ram_min_gib, ask.ram_max_gib, ask.families, ask.generation, ask.disk_gib]
    told += [ask.fallback, ask.price_limit]
    market = SPOT if ask.spot and settings.spot else ON_DEMAND
    return f"{architecture}-{ask.cpu_min}cpu-{market}-{hashlib.sha256(repr(told).encode()).hexdigest()[:8]}"


def serving(settings: ServerSettings, catalogue: Iterable[Kind], ask: Ask) -> tuple[Kind, ...]:
    """The instance types that serve an ask whose architecture is known, the operator's own list respected."""
    own = settings.arm_instance_types if ask.architecture == "arm64" else settings.instance_types
    found = fitting(catalogue, ask, ask.architecture, frozenset(own))
    priced = tuple(kind for kind in found if kind.usd) if settings.is_priced else ()
    return priced or found  # where money is limited, what nobody knows the price of is not asked for


def unservable(settings: ServerSettings, catalogue: Iterable[Kind], ask: Ask) -> str:
    """Why no machine will ever do for it as things stand, in words for whoever wrote the label; empty: one will."""
    if not serving(settings, catalogue, ask):
        return f"no instance type of {ask.architecture} has {ask.cpu_min} to {ask.cpu_max} vCPUs and what else is asked for"
    return "" if steps(ask, settings) else "spot is switched off here, and it asks for nothing else"


def launch_request(
    settings: ServerSettings, site: Site, ask: Ask, kinds: Sequence[Kind], step: Step, *,
    launch_id: str, number: int, count: int, spec: str, expires_at: float, shunned: frozenset[str] = frozenset(),
) -> str:  # fmt: skip
    """A CreateFleet call for `count` instances, as JSON. Source: CreateFleet in the EC2 API reference (type `instant`).

    One subnet of each zone, because EC2 refuses two pools of one type in one zone. Tags are the same for all its instances.
    `shunned`: pools that are not named unless there is no other.
    """
    name, version = site.templates[kinds[0].architecture]
    extra: dict[str, Any] = {"MaxPrice": f"{ask.price_limit:g}"} if ask.price_limit and step.market == SPOT else {}
    if ask.disk_gib:
        disk = {"VolumeSize": ask.disk_gib, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
        extra["BlockDeviceMappings"] = [{"DeviceName": settings.root_device, "Ebs": disk}]
    overrides = [{"InstanceType": kind, "SubnetId": subnet, **extra} for kind, subnet in _pools(site, kinds, step, shunned)]
    tags = {
        "Name": f"{settings.stack_id}-{launch_id}",
        "runs-fleet:managed": "true",
        "runs-fleet:stack": settings.stack_id,
        "runs-fleet:launch-id": launch_id,
        "runs-fleet:launch-step": str(number),
        "runs-fleet:spec": spec,
        "runs-fleet:expires-at": str(int(expires_at)),
    }
    request: dict[str, Any] = {
        "ClientToken": f"{launch_id}-{number}",
        "Type": "instant",
        "LaunchTemplateConfigs": [
            {"LaunchTemplateSpecification": {"LaunchTemplateName": name, "Version": version}, "Overrides": overrides}
        ],
        "TargetCapacitySpecification": {"TotalTargetCapacity": count, "DefaultTargetCapacityType": step.market},
        "TagSpecifications": [
            {"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
        ],
    }
    if step.market == SPOT:
        request["SpotOptions"] = {"AllocationStrategy": "price-capacity-optimized"}
    return json.dumps(request, sort_keys=True)


def all_shunned(site: Site, kinds: Sequence[Kind], step: Step, shunned: frozenset[str]) -> bool:
    """Whether every pool that a row could name is one to be left alone."""
    return all(pool_name(k.name, subnet, step.market) in shunned for k in kinds for subnet in _offered(site, k))


def _pools(site: Site, kinds: Sequence[Kind], step: Step, shunned: frozenset[str]) -> list[tuple[str, str]]:
    """Types and subnets, cheapest first, else nearest to the wish.

    As many types as the row allows, not counting those wholly left alone.
    """
    most = min(step.types, max(1, OVERRIDES // len(site.subnets)))
    priced = sorted(kinds, key=lambda kind: _price(kind, step.market))  # where no price is known the order stays
    offered = [(kind.name, _offered(site, kind)) for kind in priced]
    open_ = [(name, [s for s in subnets if pool_name(name, s, step.market) not in shunned]) for name, subnets in offered]
    named = [one for one in open_ if one[1]][:most] or [one for one in offered if one[1]][:most]
    return [(kind, subnet) for kind, those in named for subnet in those]


def _price(kind: Kind, market: str) -> float:
    """In this market; what is not known is dear."""
    return (kind.spot_usd if market == SPOT else kind.usd) or math.inf


def _offered(site: Site, kind: Kind) -> list[str]:
    """The subnets of zones in which this type is offered; where that is not known, of all."""
    return [subnet for zone, subnet in sorted(site.subnets.items()) if not kind.zones or zone in kind.zones]


def lifetime_s(settings: ServerSettings) -> float:
    """Seconds after which a machine is terminated from outside."""
    return BOOT_S + 60.0 * settings.max_runtime_minutes + REPORT_S


def without_update(blob: str) -> str:
    """The JIT config with `DisableUpdate` set: a runner that lives for one job must not spend it on updating itself.

    A blob of another shape is returned as it is. Source: actions/runner, `.runner` settings.
    """
    try:
        files = json.loads(base64.b64decode(blob, validate=True))
        runner = json.loads(base64.b64decode(files[".runner"], validate=True).decode("utf-8-sig"))
        runner["DisableUpdate"] = "True"
        files[".runner"] = base64.b64encode(json.dumps(runner).encode()).decode()
        return base64.b64encode(json.dumps(files).encode()).decode()
    except (ValueError, KeyError, TypeError):
        return blob
