"""How much computing something takes: one value that can be added, taken away and multiplied."""

from __future__ import annotations

import msgspec


class Resources(msgspec.Struct, frozen=True, omit_defaults=True):
    """Machines, their vCPUs, and what they cost an hour in US dollars, counted as if none could be taken back."""

    machines: int = 0
    vcpus: float = 0.0
    usd_per_hour: float = 0.0

    def __add__(self, other: Resources) -> Resources:
        return Resources(self.machines + other.machines, self.vcpus + other.vcpus, self.usd_per_hour + other.usd_per_hour)

    def __sub__(self, other: Resources) -> Resources:
        return self + other * -1

    def __mul__(self, number: int) -> Resources:
        return Resources(self.machines * number, self.vcpus * number, self.usd_per_hour * number)

    def floored(self) -> Resources:
        """The same with nothing below zero: a count that was corrected from outside may have been corrected twice."""
        return Resources(max(0, self.machines), max(0.0, self.vcpus), max(0.0, self.usd_per_hour))


NOTHING = Resources()


def total(parts: list[Resources]) -> Resources:
    """The sum of resources; none is zero."""
    found = NOTHING
    for part in parts:
        found = found + part
    return found
