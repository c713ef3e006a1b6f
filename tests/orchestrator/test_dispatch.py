"""Several strategies in one stack: which is asked for what, and what is said where none will do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from orchestrator.compute.dispatch import Strategies
from orchestrator.compute.port import Compute, ComputeInstance, InstanceState, Payload, SessionHandle, Traits
from orchestrator.errors import ServiceFailed
from orchestrator.store.request import MachineRequest


@dataclass
class Named:
    """As much of a strategy as is asked here; remembers what it was asked for."""

    name: str
    architectures: tuple[str, ...] = ("amd64",)
    refuses: str = ""
    lacks: str = ""
    memory_gib: tuple[float, float] | None = None
    polled: list[list[SessionHandle]] = field(default_factory=list)
    looked: int = 0

    @property
    def traits(self) -> Traits:
        """Of these architectures."""
        told: Any = {"architectures": self.architectures, "memory_gib": self.memory_gib}
        return Traits(payload=Payload.FETCHED, interruptible=False, **told)

    def objection(self, _: MachineRequest) -> str:
        """As the test says."""
        return self.refuses

    def obstacle(self, _: MachineRequest) -> str:
        """As the test says."""
        self.looked += 1
        return self.lacks

    def poll_sessions(self, handles: Iterable[SessionHandle]) -> dict[SessionHandle, ComputeInstance]:
        """All but those called `gone`."""
        self.polled.append(list(handles))
        return {one: running(one) for one in self.polled[-1] if one.instance != "gone"}

    def list_sessions(self) -> Iterator[ComputeInstance]:
        """One, named like the strategy."""
        yield running(SessionHandle(self.name, f"i-{self.name}"))


def running(handle: SessionHandle) -> ComputeInstance:
    """It runs."""
    return ComputeInstance(handle=handle, state=InstanceState.RUNNING)


def stack(*strategies: Named) -> Strategies:
    """A stack of these strategies."""
    return Strategies([cast(Compute, one) for one in strategies])


def test_the_first_is_the_default_and_the_order_is_the_operators() -> None:
    local, ec2 = Named("local"), Named("ec2")
    strategies = stack(local, ec2)

    assert strategies.names == ("local", "ec2") and [one.name for one in strategies] == ["local", "ec2"]
    assert strategies.of("") is cast(Compute, local) and strategies.of("ec2") is cast(Compute, ec2)


@pytest.mark.parametrize("names", [[], ["ec2", "ec2"]])
def test_a_stack_has_at_least_one_strategy_and_no_two_of_one_name(names: list[str]) -> None:
    with pytest.raises(ValueError, match="one or more strategies of different names"):
        stack(*map(Named, names))


def test_one_that_is_not_offered_any_more_is_an_error_that_names_the_setting() -> None:
    strategies = stack(Named("local"), Named("ec2"))

    assert [strategies.offers(name) for name in ("", "ec2", "fargate")] == [True, True, False]
    with pytest.raises(ServiceFailed, match=r"fargate: expected one of local, ec2 \(RUNS_FLEET_STRATEGIES\)") as caught:
        strategies.of("fargate")
    assert caught.value.code == "UnknownStrategy"


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (MachineRequest(), ""),
        (MachineRequest(compute="arms", architecture="arm64"), ""),
        (MachineRequest(compute="fargate"), "compute=fargate is not offered here: expected one of first, arms, full"),
        (MachineRequest(architecture="arm64"), "first starts no machines of arm64: expected one of amd64"),
        (MachineRequest(compute="arms"), "arms starts no machines of amd64: expected one of arm64"),
        (MachineRequest(compute="full"), "no type is so large"),
    ],
)
def test_an_objection_is_that_of_the_strategy_which_would_be_asked(request_: MachineRequest, why: str) -> None:
    strategies = stack(Named("first"), Named("arms", ("arm64",)), Named("full", refuses="no type is so large"))

    assert (strategies.objection(request_), strategies.obstacle(request_)) == (why, why)


def test_an_obstacle_is_looked_for_with_the_strategy_that_would_be_asked_and_not_where_there_is_an_objection() -> None:
    first, second = Named("first", lacks="no template"), Named("second", refuses="never", lacks="no disk")
    strategies = stack(first, second)

    assert strategies.obstacle(MachineRequest()) == "no template" and strategies.objection(MachineRequest()) == ""
    assert strategies.obstacle(MachineRequest(compute="second")) == "never"
    assert (first.looked, second.looked) == (1, 0), "looking may cost a call"


def test_each_strategy_is_asked_once_for_all_of_its_own_machines() -> None:
    first, second, third = Named("first"), Named("second"), Named("third")
    handles = [SessionHandle(*one) for one in (("first", "i-1"), ("second", "i-1"), ("first", "gone"), ("first", "i-2"))]

    found = stack(first, second, third).poll_sessions(iter(handles))

    assert (first.polled, second.polled, third.polled) == ([[handles[0], *handles[2:]]], [[handles[1]]], [])
    assert found == {one: running(one) for one in handles if one.instance != "gone"}


def test_a_machine_of_a_strategy_that_is_not_offered_any_more_is_not_taken_for_gone() -> None:
    with pytest.raises(ServiceFailed, match="UnknownStrategy"):
        stack(Named("first")).poll_sessions([SessionHandle("first", "i-1"), SessionHandle("fargate", "t-1")])


def test_the_machines_of_a_stack_are_those_of_all_its_strategies() -> None:
    listed: Any = stack(Named("first"), Named("second")).list_sessions()

    assert [(one.handle.strategy, one.handle.instance) for one in listed] == [("first", "i-first"), ("second", "i-second")]


def test_more_memory_than_a_strategy_gives_is_refused() -> None:
    strategies = Strategies([cast("Compute", Named("small", memory_gib=(0.5, 30.0)))])

    told = [strategies.objection(MachineRequest(ram_min_gib=gib)) for gib in (30.0, 32.0)]

    assert told == ["", "ram=32: small gives at most 30 GiB"]
