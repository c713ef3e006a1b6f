"""Decide which instance types serve a request: from a catalogue of instance types, the cheapest that are large enough first.

The shipped snapshot was made from EC2's own DescribeInstanceTypes; a process uses it until EC2 has told it today's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

from orchestrator.retry_policy import OFFERINGS_AGAIN_S
from orchestrator.store.request import MachineRequest
from orchestrator.store.resources import Resources

SNAPSHOT = Path(__file__).with_name("catalogue.json")
OLDEST = 5
"""No family of an older generation: they are dearer for what they do. (t3 and t4g are of the fifth's time.)"""
USUAL = {"arm64": ("c8g", "m8g", "r8g", "c7g", "m7g"), "amd64": ("c6i", "c7i", "m6i", "m7i")}
"""What is taken where a job names no family: current, not burstable, one vendor per architecture, so that builds compare."""
FIRST_S, RENEWED_S = 300.0, 86_400.0
"""When EC2 is first asked what it offers, and how often."""
LEAST_RAM_GIB = 4.0
"""Unless the label asks for less: a runner and a checkout do not fit into 1 GiB."""
FITTING_KEPT = 256
"""Requests whose fitting types are remembered: labels can ask for any number of different machines."""


@dataclass(frozen=True, kw_only=True)
class InstanceType:
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
    def resources(self) -> Resources:
        """What one machine of this type takes."""
        return Resources(1, float(self.cpus), self.usd)

    @cached_property
    def family(self) -> str:
        """The family: `m7i` of `m7i.large`."""
        return self.name.partition(".")[0]

    @cached_property
    def generation(self) -> int:
        """7 of `m7i.large`; 0 where the name has none."""
        digits = "".join(letter for letter in self.family if letter.isdigit())
        return int(digits[:1] or 0)


@dataclass
class Catalogue:
    """The types as last heard; `fresh` asks EC2, None: nobody does. Iterates over them."""

    types: tuple[InstanceType, ...]
    fresh: Callable[[], tuple[InstanceType, ...]] | None = None
    renew_at: float = 0.0
    at_once: bool = False
    """Whether the first time is now: nothing may be launched before prices are known."""

    def __post_init__(self) -> None:
        self._keep(self.types)

    def __iter__(self) -> Iterator[InstanceType]:
        return iter(self.types)

    @property
    def priced_on_spot(self) -> int:
        """Of how many types the price on spot is known."""
        return sum(bool(it.spot_usd) for it in self.types)

    def named(self, name: str) -> InstanceType | None:
        """None: EC2 did not say which, or we do not know it."""
        return self._named.get(name)

    def renew(self, now: float) -> int | None:
        """Ask EC2 once a day; returns how many types there are now, None: it was not time. Raises: ServiceFailed; due again soon.

        Not in the first minutes of a process, which has other things to do: the answer is some megabytes.
        """
        if self.fresh is None or now < self.renew_at:
            return None
        if not self.renew_at and not self.at_once:
            self.renew_at = now + FIRST_S
            return None
        self.renew_at = now + OFFERINGS_AGAIN_S
        self._keep(self.fresh() or self.types)
        self.renew_at = now + RENEWED_S
        return len(self.types)

    def _keep(self, types: tuple[InstanceType, ...]) -> None:
        """From now on these; looked through once, for each machine that EC2 tells of is looked up."""
        self.types, self._named = types, {it.name: it for it in types}
        self.dearest_usd = max((it.usd / it.cpus for it in types), default=0.0)
        """The highest known price of a vCPU for an hour."""
        self.fitting = lru_cache(maxsize=FITTING_KEPT)(lambda request, allowed: fitting(types, request, allowed))
        """`fitting` of these types, remembered: every look at a label set that waits asks it anew."""


def instance_type(row: Sequence[Any]) -> InstanceType:
    """The type in one row of `rows`."""
    name, architecture, cpus, ram_gib, burstable, disk_gib = row
    return InstanceType(name=name, architecture=architecture, cpus=cpus, ram_gib=ram_gib, burstable=burstable, disk_gib=disk_gib)


@cache
def shipped_types() -> tuple[InstanceType, ...]:
    """The catalogue that came with this package."""
    return snapshot(SNAPSHOT.read_text(encoding="utf-8"))


def snapshot(text: str) -> tuple[InstanceType, ...]:
    """The catalogue in `text`, as `rows` wrote it."""
    return tuple(instance_type(row) for row in json.loads(text))


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


def fitting(
    catalogue: Iterable[InstanceType], request: MachineRequest, allowed: frozenset[str] = frozenset()
) -> tuple[InstanceType, ...]:
    """The types that serve `request`, smallest first; never less than asked for, never another architecture.

    `allowed`: the operator's own list, if there is one; a job that names no family gets the first of it that is large enough.
    """
    usual = () if allowed else USUAL[request.architecture]
    least_ram = request.ram_min_gib or LEAST_RAM_GIB
    found = [
        it
        for it in catalogue
        if it.architecture == request.architecture
        and request.cpu_min <= it.cpus <= request.cpu_max
        and least_ram <= it.ram_gib <= (request.ram_max_gib or it.ram_gib)
        and request.generation in (0, it.generation)
        and (
            any(it.family.startswith(family) for family in request.families)
            or (not request.families and (not usual or it.family in usual))
        )
        and (not it.burstable or any(family.startswith("t") for family in request.families) or it.name in allowed)
        and (not allowed or it.name in allowed)
    ]
    return tuple(sorted(found, key=lambda it: (it.cpus, it.ram_gib, -it.generation, it.name)))
