"""A world in which one call of a turn is refused, whichever it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.errors import ServiceFailed
from simulation.world import World


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
    ports = {
        "tables": world.tables, "ec2": world.compute, "github": world.github, "configurations": world.configurations,
        "job_queue": world.queue, "termination_queue": world.terminations,
    }  # fmt: skip
    world.turns = world.replica(**{name: refusal.of(port) for name, port in ports.items()})
