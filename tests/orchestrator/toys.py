"""Two strategies made for tests: what adding a strategy takes beside its module, which is the twin of the compute port.

In `toy-call` a session's payload travels in the call that starts its instance, as ECS will have it; in `toy-fetch` the instance
fetches it under its own id, as on EC2.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from orchestrator.compute.port import Payload
from simulation.compute import MemoryCompute, MemoryService
from tests.orchestrator.conformance import Subject, Surroundings


class ToyStrategy(MemoryCompute):
    """The twin under the name of its payload."""

    def __init__(self, box: MemoryService, payload: Payload, stack: str = "tests") -> None:
        super().__init__(box, payload, name="toy-call" if payload is Payload.IN_CALL else "toy-fetch", stack=stack)


@contextlib.contextmanager
def _toys(payload: Payload) -> Iterator[Subject]:
    box = MemoryService()
    toys = ToyStrategy(box, payload)

    @contextlib.contextmanager
    def drought() -> Iterator[ToyStrategy]:
        box.is_full = True
        yield toys
        box.is_full = False

    @contextlib.contextmanager
    def outage() -> Iterator[ToyStrategy]:
        box.is_broken = True
        yield toys
        box.is_broken = False

    yield Subject(compute=toys, neighbour=ToyStrategy(box, payload, "neighbours"), drought=drought, outage=outage)


def called(_: Surroundings) -> contextlib.AbstractContextManager[Subject]:
    """Toys whose payload travels in the call."""
    return _toys(Payload.IN_CALL)


def fetched(_: Surroundings) -> contextlib.AbstractContextManager[Subject]:
    """Toys that fetch it."""
    return _toys(Payload.FETCHED)
