"""The compute port: handles that can be stored, states that mean one thing, strategies that fit at type check."""

from __future__ import annotations

import inspect

import msgspec
import pytest

from orchestrator.compute.ec2.strategy import Ec2Strategy
from orchestrator.compute.local import LocalStrategy
from orchestrator.compute.port import DOWN, GONE, Compute, InstanceState, Payload, SessionHandle, Traits
from tests.orchestrator.toys import ToyStrategy


def test_a_handle_comes_back_from_a_record_equal_and_may_be_a_key() -> None:
    handle = SessionHandle("toy", "i-1")

    again = msgspec.json.decode(msgspec.json.encode(handle), type=SessionHandle)
    assert (again, {handle: 1}[again], again == SessionHandle("ec2", "i-1")) == (handle, 1, False)


def test_a_state_is_gone_or_down_or_alive_and_never_two_of_them() -> None:
    alive = set(InstanceState) - GONE - DOWN

    assert set() == GONE & DOWN
    assert alive == {InstanceState.PENDING, InstanceState.RUNNING}


def test_traits_say_nothing_that_was_not_said() -> None:
    traits = Traits(payload=Payload.IN_CALL, architectures=("amd64",), interruptible=False)

    assert (traits.longest_runtime_s, traits.memory_gib, traits.start_rate, traits.unseen_s) == (None, None, None, 0.0)
    assert (traits.runs_runner, traits.is_priced, traits.names_sender) == (True, True, True)


PROMISED = [name for name, it in vars(Compute).items() if not name.startswith("_") and inspect.isfunction(it)]


@pytest.mark.parametrize("strategy", [Ec2Strategy, LocalStrategy, ToyStrategy])
@pytest.mark.parametrize("name", PROMISED)
def test_a_strategy_takes_exactly_what_the_port_hands_it(strategy: type, name: str) -> None:
    asked, taken = inspect.signature(getattr(Compute, name)), inspect.signature(getattr(strategy, name))

    assert [(p.name, p.kind) for p in taken.parameters.values()] == [(p.name, p.kind) for p in asked.parameters.values()]
