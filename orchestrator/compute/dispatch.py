"""Several strategies in one stack: a session's handle names its own, a request names one or takes the first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from orchestrator.compute.port import Compute, ComputeInstance, SessionHandle
from orchestrator.errors import ServiceFailed
from orchestrator.store.request import MachineRequest


class Strategies:
    """The strategies of a stack, in the operator's order."""

    def __init__(self, strategies: Sequence[Compute]) -> None:
        """Raises: ValueError if there is none, or two of one name."""
        self._strategies = {strategy.name: strategy for strategy in strategies}
        if not strategies or len(self._strategies) != len(strategies):
            raise ValueError(f"expected one or more strategies of different names, found {[one.name for one in strategies]}")

    @property
    def names(self) -> tuple[str, ...]:
        """The names that labels may use; the first is the default."""
        return tuple(self._strategies)

    def __iter__(self) -> Iterator[Compute]:
        return iter(self._strategies.values())

    def offers(self, name: str) -> bool:
        """Whether a strategy of this name is there; empty: the first always is."""
        return not name or name in self._strategies

    def of(self, name: str) -> Compute:
        """The strategy of this name, empty: the first.

        Raises: ServiceFailed: the stack had it once and does not offer it any more; add it to RUNS_FLEET_STRATEGIES again.
        """
        name = name or self.names[0]
        if name not in self._strategies:
            hint = f"expected one of {', '.join(self.names)} (RUNS_FLEET_STRATEGIES)"
            raise ServiceFailed("compute:dispatch", "UnknownStrategy", f"{name}: {hint}")
        return self._strategies[name]

    def objection(self, request: MachineRequest) -> str:
        """Why no strategy of this stack will ever serve a request, for people; empty: one will."""
        if request.compute and request.compute not in self._strategies:
            return f"compute={request.compute} is not offered here: expected one of {', '.join(self.names)}"
        strategy = self.of(request.compute)
        if request.architecture not in strategy.traits.architectures:
            offered = ", ".join(strategy.traits.architectures)
            return f"{strategy.name} starts no machines of {request.architecture}: expected one of {offered}"
        memory = strategy.traits.memory_gib
        if memory is not None and request.ram_min_gib > memory[1]:
            return f"ram={request.ram_min_gib:g}: {strategy.name} gives at most {memory[1]:g} GiB"
        return strategy.objection(request)

    def obstacle(self, request: MachineRequest) -> str:
        """Why nothing can be started for a request now; empty: it can. Raises: ServiceFailed."""
        return self.objection(request) or self.of(request.compute).obstacle(request)

    def poll_sessions(self, handles: Iterable[SessionHandle]) -> dict[SessionHandle, ComputeInstance]:
        """The instances that their strategies know, of these. Raises: ServiceFailed."""
        found: dict[SessionHandle, ComputeInstance] = {}
        of: dict[str, list[SessionHandle]] = defaultdict(list)
        for handle in handles:
            of[handle.strategy].append(handle)
        for name, mine in of.items():
            found |= self.of(name).poll_sessions(mine)
        return found

    def list_sessions(self) -> Iterator[ComputeInstance]:
        """Every instance of this stack that is not gone, of all strategies. Raises: ServiceFailed."""
        for strategy in self:
            yield from strategy.list_sessions()
