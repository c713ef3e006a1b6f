"""Decide which machines serve an ask: from a catalogue of instance types, the cheapest that are large enough first.

The shipped snapshot was made from EC2's own DescribeInstanceTypes; a process uses it until EC2 has told it today's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.labels import Ask

SNAPSHOT = Path(__file__).with_name("catalogue.json")
OLDEST = 5
"""No family of an older generation: they are dearer for what they do. (t3 and t4g are of the fifth's time.)"""
USUAL = {"arm64": ("c8g", "m8g", "r8g", "c7g", "m7g"), "amd64": ("c6i", "c7i", "m6i", "m7i")}
"""What is taken where a job names no family: current, not burstable, one vendor per architecture, so that builds compare."""
FIRST_S, RENEWED_S, AGAIN_S = 300.0, 86_400.0, 600.0
"""When EC2 is first asked what it offers, how often, and when again if it did not say."""
LEAST_RAM_GIB = 4.0
"""Unless the label asks for less: a runner and a checkout do not fit into 1 GiB."""


@dataclass(frozen=True)
class Kind:
    """An instance type. Source: DescribeInstanceTypes."""

    name: str
    architecture: str
    cpus: int
    ram_gib: float
    burstable: bool = False
    disk_gib: int = 0
    """Local disks, together."""
    usd: float = 0.0
    """An hour on demand; 0: not known."""
    zones: tuple[str, ...] = ()
    """Where it is offered; empty: not known."""

    spot_usd: float = 0.0
    """An hour on spot, in the cheapest of our zones; 0: not known."""

    @property
    def family(self) -> str:
        """`m7i` of `m7i.large`."""
        return self.name.partition(".")[0]

    @property
    def generation(self) -> int:
        """7 of `m7i.large`; 0 where the name has none."""
        digits = "".join(letter for letter in self.family if letter.isdigit())
        return int(digits[:1] or 0)


@dataclass
class Catalogue:
    """The types as last heard; `fresh` asks EC2, None: nobody does. Iterates over them."""

    kinds: tuple[Kind, ...]
    fresh: Callable[[], tuple[Kind, ...]] | None = None
    renew_at: float = 0.0
    at_once: bool = False
    """Whether the first time is now: nothing may be launched before prices are known."""

    def __iter__(self) -> Iterator[Kind]:
        return iter(self.kinds)

    @property
    def priced_on_spot(self) -> int:
        """Of how many types the price on spot is known."""
        return sum(bool(kind.spot_usd) for kind in self.kinds)

    def named(self, name: str) -> Kind | None:
        """None: EC2 did not say which, or we do not know it."""
        return next((kind for kind in self.kinds if kind.name == name), None)

    def renew(self, now: float) -> int | None:
        """Ask once a day; how many types there are now, None: it was not time. Raises: ServiceFailed; then again in a while.

        Not in the first minutes of a process, which has other things to do: the answer is some megabytes.
        """
        if self.fresh is None or now < self.renew_at:
            return None
        if not self.renew_at and not self.at_once:
            self.renew_at = now + FIRST_S
            return None
        self.renew_at = now + AGAIN_S
        self.kinds = self.fresh() or self.kinds
        self.renew_at = now + RENEWED_S
        return len(self.kinds)


def snapshot(text: str) -> tuple[Kind, ...]:
    """The catalogue in `text`, as `rows` wrote it."""
    return tuple(Kind(*row) for row in json.loads(text))


def rows(described: Iterable[Mapping[str, Any]]) -> list[list[Any]]:
    """Of DescribeInstanceTypes' answer: virtual machines of the general families, sorted."""
    found = []
    for one in described:
        name, cpus = str(one["InstanceType"]), int(one["VCpuInfo"]["DefaultVCpus"])
        machines = set(one["ProcessorInfo"]["SupportedArchitectures"]) & {"x86_64", "arm64"}
        general = re.fullmatch(r"[cmrt](\d+)[a-z-]*\.\w+", name)
        if one.get("BareMetal") or general is None or int(general[1]) < (3 if name[0] == "t" else OLDEST) or not machines:
            continue
        architecture = "arm64" if "arm64" in machines else "amd64"
        disk = int(one.get("InstanceStorageInfo", {}).get("TotalSizeInGB", 0))
        ram = one["MemoryInfo"]["SizeInMiB"] / 1024
        found.append([name, architecture, cpus, ram, bool(one.get("BurstablePerformanceSupported")), disk])
    return sorted(found)


def fitting(catalogue: Iterable[Kind], ask: Ask, architecture: str, allowed: frozenset[str] = frozenset()) -> tuple[Kind, ...]:
    """The types that serve `ask`, smallest first; never less than asked for, never another architecture.

    `allowed`: the operator's own list, if there is one; a job that names no family gets the first of it that is large enough.
    """
    usual = () if allowed else USUAL[architecture]
    least_ram = ask.ram_min_gib or LEAST_RAM_GIB
    found = [
        kind
        for kind in catalogue
        if kind.architecture == architecture
        and ask.cpu_min <= kind.cpus <= ask.cpu_max
        and least_ram <= kind.ram_gib <= (ask.ram_max_gib or kind.ram_gib)
        and ask.generation in (0, kind.generation)
        and (
            any(kind.family.startswith(family) for family in ask.families)
            or (not ask.families and (not usual or kind.family in usual))
        )
        and (not kind.burstable or any(family.startswith("t") for family in ask.families) or kind.name in allowed)
        and (not allowed or kind.name in allowed)
    ]
    return tuple(sorted(found, key=lambda kind: (kind.cpus, kind.ram_gib, -kind.generation, kind.name)))
