"""What a measurement returns: sides measured in turns, their medians, one ratio, the aim, and the cause in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

BAR = "\\|"
"""A bar within a cell of a Markdown table."""
Sample = Callable[[], float]
LEAST = 0.005
"""Of any unit used here; what lies below is nothing, and nothing has no ratio."""


@dataclass(frozen=True)
class Figure:
    """One line of the page."""

    name: str
    what: str
    unit: str
    ours: str
    """Which of `sides` is ours; the ratio is ours over `against`."""
    against: str
    sides: Mapping[str, list[float]]
    aim: str
    aim_met: bool | None
    """None: there is no aim, the figure is for comparison."""
    cause: str
    notes: Mapping[str, Any] = field(default_factory=dict)

    def middle(self, side: str) -> float:
        return median(self.sides[side])

    def ratio(self) -> float | None:
        """How ours compares, in this run; None where the other side came to nothing at all."""
        against = self.middle(self.against)
        return round(self.middle(self.ours) / against, 3) if against >= LEAST else None

    def raw(self) -> dict[str, Any]:
        """Everything, for results.json."""
        medians = {side: round(median(values), 4) for side, values in self.sides.items()}
        sides = {side: [round(value, 4) for value in values] for side, values in self.sides.items()}
        return {**asdict(self), "sides": sides, "medians": medians, "ratio": self.ratio()}

    def row(self) -> str:
        """A line of a Markdown table."""
        others = [side for side in self.sides if side != self.ours]
        beside = "<br>".join(f"{self._shown(side)}: {side}" for side in others)
        met = {None: "", True: "met", False: "**missed**"}[self.aim_met]
        cells = (self.what, f"**{self._shown(self.ours)}**", beside, self._compared(), f"{self.aim} {met}", self.cause)
        return "".join(f"| {cell.replace('|', BAR)} " for cell in cells) + "|"

    def line(self) -> str:
        """The same for a terminal."""
        beside = ", ".join(f"{self._shown(side)} {side}" for side in self.sides if side != self.ours)
        met = {None: "", True: "met", False: "MISSED"}[self.aim_met]
        return f"{self.what}: {self._shown(self.ours)} beside {beside}: {self._compared()} (aim {self.aim} {met})"

    def _compared(self) -> str:
        ratio = self.ratio()
        return "—" if ratio is None else f"{ratio:.2f}× {self.against}"

    def _shown(self, side: str) -> str:
        values = self.sides[side]
        return f"{_number(median(values))} {self.unit} ({_number(min(values))}–{_number(max(values))})"


HEAD = "| what | runs-fleet: median (least–most) | beside it, in turns | ratio | aim | cause |\n|---|---|---|---|---|---|"


def in_turns(rounds: int, sides: Mapping[str, Sample]) -> dict[str, list[float]]:
    """Each side once per round, one after the other, the order turned every round, so that drift falls on all alike."""
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(rounds):
        order = list(sides)[:: 1 if turn % 2 == 0 else -1]
        for side in order:
            taken[side].append(sides[side]())
    return taken


def percentile(values: list[float], part: float) -> float:
    """The value below which `part` of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
