"""The strategy `ec2`: instances of EC2, started by instant fleets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.compute.ec2.account import ARCHITECTURES, account_checks
from orchestrator.compute.ec2.breakers import Breakers
from orchestrator.compute.ec2.calls import Ec2, described_instance, pool_of, started_instances
from orchestrator.compute.ec2.catalogue import Catalogue, InstanceType
from orchestrator.compute.ec2.error_codes import BROKEN, HINTS, classify, decisive, describe
from orchestrator.compute.ec2.fleet_request import SPOT, LaunchSites, Step, all_shunned, launch_request, next_step, steps_for
from orchestrator.compute.port import (
    ComputeInstance,
    Failure,
    Payload,
    Plan,
    SessionHandle,
    Started,
    StartRate,
    Traits,
    Wanted,
)
from orchestrator.errors import FailureKind, ServiceFailed
from orchestrator.ports import Clock, Journal
from orchestrator.readiness import Check
from orchestrator.store.request import MachineRequest
from orchestrator.store.resources import Resources

NAME = "ec2"
NOT_FOUND = frozenset({"InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"})
MISMATCH = "IdempotentParameterMismatch"
SITES_S = 300.0
"""Seconds for which templates and subnets are believed; a new image is used that much later at most."""
CONSOLE_CHARACTERS = 4000
"""Characters kept of a console."""
UNSEEN_S = 300.0
"""Seconds in which EC2 may not know an instance it has just made. Source: "Eventual consistency", EC2 API reference."""
LIVING = ["pending", "running", "stopping", "stopped"]


@dataclass(frozen=True, kw_only=True)
class Ec2Options:
    """What the operator decided about EC2."""

    stack_id: str
    template: str
    """Name of the launch template; its architecture is appended: `-amd64`, `-arm64`."""
    subnet_ids: tuple[str, ...]
    instance_types: tuple[str, ...] = ()
    """Only these types for amd64; empty: whatever the catalogue has."""
    arm_instance_types: tuple[str, ...] = ()
    """Only these types for arm64; empty: whatever the catalogue has."""
    root_device: str = ""
    """What `disk=` enlarges: the image's own name for it; empty: the image is asked."""
    spot: bool = True
    is_priced: bool = False
    """Whether only types of a known price may be asked for."""
    burst: float = 1000.0
    per_second: float = 2.0
    """EC2's own bucket of instances. Source: EC2 API throttling, RunInstances."""


class Ec2Strategy:
    """The strategy `ec2` (compute/port.py)."""

    name = NAME

    def __init__(
        self, *, ec2: Ec2, options: Ec2Options, catalogue: Catalogue, breakers: Breakers, clock: Clock, journal: Journal
    ) -> None:
        self._ec2, self._options, self._catalogue = ec2, options, catalogue
        self._breakers, self._clock, self._journal = breakers, clock, journal
        self._sites_known: tuple[float, LaunchSites] | None = None
        self._root_devices: dict[tuple[str, str], str] = {}
        rate = StartRate(options.burst, options.per_second, f"EC2's own pace, {options.per_second:g} instances a second")
        self.traits = Traits(
            payload=Payload.FETCHED, architectures=ARCHITECTURES, interruptible=True, start_rate=rate, unseen_s=UNSEEN_S
        )

    def objection(self, request: MachineRequest) -> str:
        """By the catalogue and the operator's own list of types."""
        if not self._serving(request):
            wanted = f"{request.cpu_min} to {request.cpu_max} vCPUs"
            return f"no instance type of {request.architecture} has {wanted} and what else is asked for"
        return "" if self._steps(request) else "spot is switched off here, and it asks for nothing else"

    def obstacle(self, request: MachineRequest) -> str:
        """A launch template that is missing."""
        there = request.architecture in self._sites().templates
        return "" if there else f"there is no launch template for {request.architecture}"

    def at_most(self, request: MachineRequest) -> Resources:
        """The largest and the dearest of the types that serve it, which may be two."""
        found = [it.resources for it in self._serving(request)]
        return Resources(1, max((one.vcpus for one in found), default=0.0), max((one.usd_per_hour for one in found), default=0.0))

    def image(self, request: MachineRequest) -> str:
        """Launch template and version; empty: there is none."""
        return ":".join(self._sites().templates.get(request.architecture, ()))

    def plan(self, wanted: Wanted, *, after: int | None = None, failure: FailureKind | None = None) -> Plan | None:
        """A step of which every pool is to be left alone is passed over, if there is another."""
        request, sites = wanted.request, self._sites()
        steps, types = self._steps(request), self._serving(request)
        first = 0 if after is None else next_step(steps, after, failure)
        if first is None or not steps or not types or request.architecture not in sites.templates:
            return None
        shunned = self._breakers.open()
        better = (number for number in range(first, len(steps)) if not all_shunned(sites, types, steps[number], shunned))
        number = next(better, first)
        call = launch_request(
            wanted, sites, types, number, steps[number], stack_id=self._options.stack_id,
            root_device=self._root_device(*sites.templates[request.architecture]) if request.disk_gib else "", shunned=shunned,
        )  # fmt: skip
        return Plan(number, call, steps[number].market, interruptible=steps[number].market == SPOT)

    def start_sessions(self, request: str, payloads: Mapping[str, str], *, sent_before: bool) -> Started:
        """Replays of one request give the same instances, by its token; where EC2 refuses the repetition, by its tags.

        A lost answer is asked for again, and not looked up: EC2 shows new instances late, and half of them is not the answer.
        Instances are looked for in the answer *before* its errors: a partial answer carries both.
        """
        try:
            answer = self._ec2.create_fleet(request)
        except ServiceFailed as error:
            self._sites_known = None  # perhaps it named what is not there any more
            if error.code == MISMATCH and sent_before and (found := self.look_up(request)).instances:
                return found
            raise
        instances = started_instances(answer, NAME, self._resources)
        errors = answer.get("Errors", [])
        reasons = tuple(sorted({f"{error.get('ErrorCode')}: {error.get('ErrorMessage')}" for error in errors}))
        refused = sorted({pool_of(error) for error in errors if error.get("ErrorCode") in BROKEN} - {""})
        self._breakers.answered(refused, [one.placement for one in instances if one.placement])
        wanted = json.loads(request).get("TargetCapacitySpecification", {}).get("TotalTargetCapacity", 1)
        if not reasons and len(instances) >= wanted:
            return Started(instances=tuple(instances), reasons=reasons)
        return Started(instances=tuple(instances), reasons=reasons, failure=decisive(reasons), why=describe(reasons))

    def look_up(self, request: str) -> Started:
        """By the tags of its launch and step; the dead count too: they were its machines."""
        tags = {tag["Key"]: tag["Value"] for tag in json.loads(request)["TagSpecifications"][0]["Tags"]}
        wanted = [
            {"Name": f"tag:{name}", "Values": [tags[name]]}
            for name in ("runs-fleet:stack", "runs-fleet:launch-id", "runs-fleet:launch-step")
        ]
        return Started(instances=tuple(self._instance(told) for told in self._ec2.describe(wanted)))

    def poll_sessions(self, handles: Iterable[SessionHandle]) -> dict[SessionHandle, ComputeInstance]:
        """By a filter, because an unknown id in the list itself would fail the whole call."""
        wanted = sorted({handle.instance for handle in handles if handle.strategy == NAME})
        found: dict[SessionHandle, ComputeInstance] = {}
        for at in range(0, len(wanted), 200):
            some = [{"Name": "instance-id", "Values": wanted[at : at + 200]}]
            found |= {one.handle: one for one in map(self._instance, self._ec2.describe(some))}
        return found

    def list_sessions(self) -> Iterator[ComputeInstance]:
        """By the stack's tag, whoever made them."""
        mine = [
            {"Name": "tag:runs-fleet:stack", "Values": [self._options.stack_id]},
            {"Name": "tag:runs-fleet:managed", "Values": ["true"]},
            {"Name": "instance-state-name", "Values": LIVING},
        ]
        return map(self._instance, self._ec2.describe(mine))

    def stop_session(self, handle: SessionHandle) -> bool:
        """TerminateInstances; an id that EC2 does not know is gone."""
        try:
            self._ec2.terminate(handle.instance)
        except ServiceFailed as error:
            if error.code not in NOT_FOUND:
                raise
            return False
        return True

    def console_tail(self, handle: SessionHandle) -> str:
        """EC2 keeps the console of a dead instance for about an hour. Source: GetConsoleOutput in the EC2 API reference."""
        try:
            printed = self._ec2.console(handle.instance)
        except ServiceFailed as error:
            if error.code in NOT_FOUND:
                return ""
            raise
        return "".join(c for c in printed if c.isprintable() or c == "\n")[-CONSOLE_CHARACTERS:]

    def interrupted(self, placement: str) -> None:
        """The breaker of this placement is told."""
        self._breakers.reclaimed(placement)

    def classify(self, error: ServiceFailed) -> Failure:
        """The kind of a failure, by EC2's error code."""
        kind = classify(error.code)
        return Failure(kind, describe([f"{error.code}: {error}"]), HINTS[kind])

    def checks(self) -> Sequence[Check]:
        """Launch templates, their images, subnets."""
        return account_checks(self._ec2, self._options.template, self._options.subnet_ids)

    def maintain(self) -> None:
        """Ask once a day what EC2 offers."""
        number = self._catalogue.renew(self._clock.now())
        if number is not None:
            self._journal.event("catalogue.renewed", types=number, priced_on_spot=self._catalogue.priced_on_spot)

    def _sites(self) -> LaunchSites:
        """One subnet of each zone: EC2 refuses two pools of one type in one zone."""
        known = self._sites_known  # another thread may forget it meanwhile
        if known is None or self._clock.now() - known[0] > SITES_S:
            wanted = {f"{self._options.template}-{architecture}": architecture for architecture in ARCHITECTURES}
            found = self._ec2.templates(sorted(wanted))
            zones = self._ec2.zones(list(self._options.subnet_ids))
            subnets = {zones[subnet]: subnet for subnet in reversed(self._options.subnet_ids) if subnet in zones}
            if not subnets:
                named = ", ".join(self._options.subnet_ids)
                missing = f"none of {named} is there" if named else "RUNS_FLEET_SUBNET_IDS names none"
                raise ServiceFailed("ec2:DescribeSubnets", "NoSubnets", missing)
            templates = {wanted[name]: (name, version) for name, version in found.items()}
            known = self._sites_known = (self._clock.now(), LaunchSites(templates, subnets))
        return known[1]

    def _root_device(self, template: str, version: str) -> str:
        """Asked once for each version: it names one image for ever. Raises: ServiceFailed."""
        if self._options.root_device:
            return self._options.root_device
        if (template, version) not in self._root_devices:
            self._root_devices[template, version] = self._ec2.root_device(template, version)
        return self._root_devices[template, version]

    def _steps(self, request: MachineRequest) -> tuple[Step, ...]:
        return steps_for(request, spot_allowed=self._options.spot)

    def _serving(self, request: MachineRequest) -> tuple[InstanceType, ...]:
        """The types that serve a request, the operator's own list respected; of known price where money is limited."""
        options = self._options
        own = options.arm_instance_types if request.architecture == "arm64" else options.instance_types
        found = self._catalogue.fitting(request, frozenset(own))
        priced = tuple(it for it in found if it.usd) if options.is_priced else ()
        return priced or found

    def _resources(self, instance_type: str) -> Resources | None:
        """What a machine of this type takes; one without a known price counts as dear as the dearest."""
        found = self._catalogue.named(instance_type)
        if found is None:
            return None
        return Resources(1, float(found.cpus), found.usd or self._catalogue.dearest_usd * found.cpus)

    def _instance(self, told: dict[str, Any]) -> ComputeInstance:
        return described_instance(told, NAME, self._resources)
