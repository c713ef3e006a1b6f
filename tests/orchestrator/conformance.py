"""The strategies there are, each as a subject that the promises of the compute port are checked on (`promises.py`).

A new strategy needs a builder, here or in a test of its own, and is judged by `check(subject)` for each check of PROMISES, each
on a subject of its own.
"""

from __future__ import annotations

import contextlib
import os
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from orchestrator.adapters.ec2 import Ec2Api
from orchestrator.adapters.processes import LocalProcesses
from orchestrator.compute.local import LocalStrategy
from orchestrator.compute.port import Compute, Payload, Plan, SessionHandle, Started, Wanted
from orchestrator.errors import FailureKind, ServiceFailed
from orchestrator.store.request import MachineRequest
from sandbox.cloud import Cloud
from sandbox.world import CloudClients
from simulation.clock import MORNING
from simulation.examples import some_settings
from simulation.world import World
from tests.waiting import sooner_or_later

MOST_STEPS = 20
"""No fallback has more."""
EXPIRES_AT = MORNING + 3600.0


@dataclass(kw_only=True)
class Subject:
    """A strategy that is judged, and what a check needs around it."""

    compute: Compute
    neighbour: Compute
    """The same strategy of another stack, on the same service."""
    drought: Callable[[], AbstractContextManager[Compute]]
    """The strategy for as long as there is no capacity."""
    outage: Callable[[], AbstractContextManager[Compute]]
    """The strategy for as long as its service does not work."""
    machine: MachineRequest = field(default_factory=MachineRequest)
    """What it serves."""
    unknown: str = "i-0123456789abcdef0"
    """The id of an instance that never was."""

    def wanted(self, count: int = 2) -> Wanted:
        """A launch that is made for the first time."""
        launch = f"l-{uuid.uuid4().hex[:16]}"
        sessions = tuple(f"s-{launch}-{number}" for number in range(count))
        return Wanted(launch_id=launch, request=self.machine, sessions=sessions, expires_at=EXPIRES_AT)

    def plan(self, wanted: Wanted | None = None) -> Plan:
        """The first step of a launch."""
        plan = self.compute.plan(wanted or self.wanted())
        assert plan is not None, "nothing can be asked for"
        return plan

    def steps(self, wanted: Wanted) -> list[Plan]:
        """Every step of a launch, as if none had capacity."""
        found = [self.plan(wanted)]
        while len(found) <= MOST_STEPS:
            plan = self.compute.plan(wanted, after=found[-1].step, failure=FailureKind.NO_CAPACITY)
            if plan is None:
                return found
            found.append(plan)
        raise AssertionError("the fallback never ends")

    def start(self, wanted: Wanted, plan: Plan | None = None, *, sent_before: bool = False) -> Started:
        """The answer to one step of a launch."""
        in_call = self.compute.traits.payload is Payload.IN_CALL
        payloads = {session: f"of {session}" for session in wanted.sessions} if in_call else {}
        return self.compute.start_sessions((plan or self.plan(wanted)).request, payloads, sent_before=sent_before)

    def started(self, count: int = 2) -> list[SessionHandle]:
        """The instances of a new launch."""
        return handles(self.start(self.wanted(count)))

    def listed(self) -> set[SessionHandle]:
        """What the stack has."""
        return {one.handle for one in self.compute.list_sessions()}


def handles(started: Started) -> list[SessionHandle]:
    """The instances of an answer."""
    return [one.handle for one in started.instances]


def end(strategy: Compute) -> None:
    """Nothing of it runs any more."""
    for one in list(strategy.list_sessions()):
        strategy.stop_session(one.handle)


def is_gone(compute: Compute, handle: SessionHandle) -> bool:
    """Whether an instance goes soon, and the strategy says so."""

    def gone() -> bool:
        found = compute.poll_sessions([handle]).get(handle)
        return found is None or found.state == "terminated"

    return sooner_or_later(gone)


@dataclass(frozen=True)
class Surroundings:
    """What a builder may build on."""

    directory: Path
    """Empty."""
    cloud: Callable[[], Cloud]
    """An AWS, started when first asked for."""


def ec2_world(subnets: tuple[str, ...], stack: str = "tests") -> World:
    """The orchestrator's other parts, as the strategy `ec2` needs them."""
    return World(settings=some_settings(stack_id=stack, subnet_ids=subnets))


@contextlib.contextmanager
def ec2_on_its_twin(_: Surroundings) -> Iterator[Subject]:
    """Ec2Strategy on MemoryEc2."""
    world, other = ec2_world(("subnet-1", "subnet-2")), ec2_world(("subnet-1",), "neighbours")
    ec2 = world.compute
    strategy = world.ec2_strategy(world.records, ec2)

    @contextlib.contextmanager
    def drought() -> Iterator[Compute]:
        ec2.full = {"*"}
        yield strategy
        ec2.full = set()

    @contextlib.contextmanager
    def outage() -> Iterator[Compute]:
        ec2.answers = [ServiceFailed("ec2:CreateFleet", "ServiceUnavailable")]
        yield strategy
        ec2.answers = []

    yield Subject(compute=strategy, neighbour=other.ec2_strategy(other.records, ec2), drought=drought, outage=outage)


def emptied(cloud: Cloud) -> tuple[str, ...]:
    """An AWS with nothing but our launch templates; returns its subnets."""
    urllib.request.urlopen(f"{cloud.url}/moto-api/reset", data=b"", timeout=600).close()
    ec2 = cloud.client("ec2")
    template = {"ImageId": "ami-0123456789abcdef0", "InstanceType": "m7i.large", "UserData": ""}
    for architecture in ("amd64", "arm64"):
        ec2.create_launch_template(LaunchTemplateName=f"runs-fleet-runner-{architecture}", LaunchTemplateData=template)
    return tuple(subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"])


@contextlib.contextmanager
def ec2_on_moto(around: Surroundings) -> Iterator[Subject]:
    """Ec2Strategy on its own adapter and boto3, and behind them moto."""
    cloud = around.cloud()
    subnets = emptied(cloud)
    world, other, api = ec2_world(subnets), ec2_world(subnets, "neighbours"), Ec2Api(CloudClients(cloud))
    strategy = world.ec2_strategy(world.records, api)

    @contextlib.contextmanager
    def faulty(**faults: object) -> Iterator[Compute]:
        before = {name: getattr(cloud.faults, name) for name in faults}
        try:
            for name, value in faults.items():
                setattr(cloud.faults, name, value)
            yield strategy
        finally:
            for name, value in before.items():
                setattr(cloud.faults, name, value)

    yield Subject(
        compute=strategy, neighbour=other.ec2_strategy(other.records, api), drought=partial(faulty, full={"spot"}),
        outage=partial(faulty, throttled=1.0),
    )  # fmt: skip


def local_strategy(
    root: Path, *words: str, slots: int = 20, polite_s: float = 1.0, runner: Path | None = None, stack: str = "tests"
) -> LocalStrategy:
    """Agents of this machine that only wait, unless said otherwise."""
    instances = LocalProcesses(root, words or ("sleep", "300"), {"PATH": os.environ["PATH"]}, runner, polite_s)
    return LocalStrategy(instances, architecture="amd64", stack_id=stack, slots=slots)


@contextlib.contextmanager
def local(around: Surroundings) -> Iterator[Subject]:
    """LocalStrategy with processes of this machine."""
    root = around.directory
    strategy, neighbour, full = local_strategy(root), local_strategy(root, stack="neighbours"), local_strategy(root, slots=0)

    @contextlib.contextmanager
    def outage() -> Iterator[Compute]:
        """Where a file should be written there is something else: as a disk that takes nothing, whoever asks."""
        (root / "lock").unlink(missing_ok=True)
        (root / "lock").mkdir()
        yield strategy
        (root / "lock").rmdir()

    try:
        yield Subject(compute=strategy, neighbour=neighbour, drought=lambda: contextlib.nullcontext(full), outage=outage)
    finally:
        end(strategy)
        end(neighbour)


Builder = Callable[[Surroundings], AbstractContextManager[Subject]]
BUILDERS: dict[str, Builder] = {"ec2 on its twin": ec2_on_its_twin, "ec2 on moto": ec2_on_moto, "local": local}
"""Every strategy, by what it is called in the tests' names."""
