"""A world in which one call of a turn is refused, whichever it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator import wiring
from orchestrator.errors import ServiceFailed
from tests.orchestrator.memory import OwnHands, World


@dataclass
class Refusal:
    """Refuses the call of that number (counted from 1) before it has any effect."""

    number: int = 0
    made: int = 0

    def of(self, port: Any) -> Any:
        """The port, each of whose calls may be that one."""
        return _Refusing(port, self)


class _Refusing:
    def __init__(self, port: Any, refusal: Refusal) -> None:
        self._port, self._refusal = port, refusal

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not callable(found) or name == "registrations":
            return found

        def called(*args: Any, **named: Any) -> Any:
            self._refusal.made += 1
            if self._refusal.made == self._refusal.number:
                raise ServiceFailed(name, "InternalError", "not this time")
            return found(*args, **named)

        return called


def refusing(world: World, refusal: Refusal) -> None:
    """From now on the turns' ports may refuse."""
    ports = (world.tables, world.compute, world.github, world.configurations, world.queue, world.terminations)
    outside = wiring.World(*map(refusal.of, ports), world.clock, world.ids, world.journal, OwnHands(), world.wakes)
    world.turns = wiring.turns(world.settings, outside)
