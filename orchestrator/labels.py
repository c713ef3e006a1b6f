"""Decide what a `runs-on` asks of us, if anything, and say aloud what of it cannot be understood.

The grammar is the reference system's: the first label that is `runs-fleet`, or begins with `runs-fleet=` or `runs-fleet/`, is the
marker; its segments after the first `/` are `key=value`. Where that system ignored silently, this one refuses with a reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

Word = TypeVar("Word")
MARKER = "runs-fleet"
MARKET_WORDS = {"true": True, "false": False, "spot": True, "on-demand": False}
ARCHITECTURES = {"arm64": "arm64", "aarch64": "arm64", "amd64": "amd64", "x64": "amd64", "x86_64": "amd64"}
DEFAULT_ARCHITECTURE = "amd64"
"""Where a job names none."""
FALLBACKS = ("on-demand", "wait", "fail")
LEAST_CPU = 2
LARGEST_DISK_GIB = 16_384
"""Source: gp3 volume sizes, EBS user guide."""
KNOWN = ("cpu", "ram", "family", "gen", "arch", "spot", "disk", "pool", "fallback", "price")


@dataclass(frozen=True)
class Ask:
    """What a job asks for. Equal asks get equal machines."""

    cpu_min: int = LEAST_CPU
    cpu_max: int = 2 * LEAST_CPU
    ram_min_gib: float = 0.0
    ram_max_gib: float = 0.0
    """0: no upper bound."""
    families: tuple[str, ...] = ()
    """Prefixes like `m7` or `c`; empty: the architecture's usual ones."""
    generation: int = 0
    """0: any."""
    architecture: str = ""
    """`amd64`, `arm64`; empty: whichever the operator prefers."""
    spot: bool = True
    disk_gib: int = 0
    """0: as the image has it."""
    pool: str = ""
    fallback: str = "on-demand"
    """What happens if there is no spot capacity: `on-demand`, `wait` or `fail`."""
    price_limit: float = 0.0
    """US dollars an hour; 0: none."""
    complaints: tuple[str, ...] = field(default=(), compare=False)
    """Why it cannot be served as it stands."""


def is_ours(labels: tuple[str, ...], aliased: Callable[[str], bool]) -> bool:
    """Whether any label carries our marker (`runs-fleet`, `runs-fleet=…`, `runs-fleet/…`) or an alias of it."""
    return any(_is_marker(label) or aliased(label) for label in labels)


def read_ask(labels: tuple[str, ...], spec_of: Callable[[str], str | None] = lambda label: None) -> Ask:
    """What `labels` ask for. A real marker beats an alias; `spec_of` gives an alias's segments (`cpu=4/ram=16`).

    Nothing is ignored: what is not understood stands in `complaints`, and the job cannot be served until it is mended.
    """
    marker = next((label for label in labels if _is_marker(label)), None)
    if marker is None:
        aliased = next((spec for spec in map(spec_of, labels) if spec is not None), "")
        marker = f"{MARKER}/{aliased}"
    plain = {ARCHITECTURES[label.lower()] for label in labels if label.lower() in ARCHITECTURES}
    found: dict[str, str] = {}
    complaints: list[str] = []
    for segment in filter(None, marker.split("/")[1:]):
        key, _, value = (f"arch={segment}" if segment.lower() in ARCHITECTURES else segment).partition("=")
        if key.lower() not in KNOWN or not value:
            complaints.append(f"{segment!r} is not understood: expected {', '.join(f'{word}=…' for word in KNOWN)}")
        elif key.lower() in found:
            complaints.append(f"{key!r} is given twice: expected it once")
        else:
            found[key.lower()] = value
    if len(plain) > 1:
        complaints.append("labels name both architectures: expected one")
    if sum(map(_is_marker, labels)) > 1:
        complaints.append("several labels begin with runs-fleet: expected one, whatever their order")
    reader = _Reader(found, complaints)
    cpu_min, cpu_max = reader.cpus()
    ram_min, ram_max = reader.memory()
    named = {ARCHITECTURES[found["arch"].lower()]} if found.get("arch", "").lower() in ARCHITECTURES else set()
    if named and plain and named != plain:
        complaints.append(f"arch={found['arch']} and the label {plain.pop()} contradict each other: expected one of them")
    elif "arch" not in found and len(plain) == 1:
        found["arch"] = plain.pop()
    price = reader.number("price", 0.0, 1000.0, whole=False)
    spot = reader.word("spot", MARKET_WORDS, True)
    if price and not spot:
        complaints.append("price= bounds what spot may cost: expected no spot=false beside it")
    return Ask(
        cpu_min=cpu_min, cpu_max=cpu_max, ram_min_gib=ram_min, ram_max_gib=ram_max, families=reader.families(),
        generation=int(reader.number("gen", 0, 10)), architecture=reader.word("arch", ARCHITECTURES, ""),
        spot=spot, disk_gib=int(reader.number("disk", 0, LARGEST_DISK_GIB)),
        pool=reader.pool(), fallback=reader.word("fallback", {word: word for word in FALLBACKS}, "on-demand"),
        price_limit=price, complaints=tuple(complaints),
    )  # fmt: skip


class _Reader:
    """Reads one value after the other and collects what is wrong."""

    def __init__(self, found: dict[str, str], complaints: list[str]) -> None:
        self._found, self._complaints = found, complaints

    def cpus(self) -> tuple[int, int]:
        """Least and most vCPUs."""
        least, most = self._bounds("cpu", whole=True)
        least = int(least) or LEAST_CPU
        return int(least), int(most) or 2 * int(least)

    def memory(self) -> tuple[float, float]:
        """Least and most GiB; 0: not given."""
        return self._bounds("ram", whole=False)

    def families(self) -> tuple[str, ...]:
        """In order, without repetition."""
        raw = self._found.get("family", "")
        families = tuple(sorted({part.lower() for part in raw.split("+") if part}))
        for family in families:
            if not re.fullmatch(r"[a-z][a-z0-9-]{0,15}", family):
                self._complaints.append(f"family={raw}: expected families like m7i or c, joined by +")
        return families

    def pool(self) -> str:
        """Understood, without effect."""
        raw = self._found.get("pool", "")
        if raw and not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,62}", raw):
            self._complaints.append(f"pool={raw}: expected up to 63 letters, digits, - and _")
        return raw

    def number(self, key: str, least: float, most: float, *, whole: bool = True) -> float:
        """0: it is not given."""
        raw = self._found.get(key)
        value = _number(raw, whole=whole) if raw is not None else 0.0
        if value is None or not least <= value <= most or (raw is not None and not value):
            kind = "a whole number" if whole else "a number"
            self._complaints.append(f"{key}={raw}: expected {kind} above 0, up to {most:g}")
            return 0
        return value

    def word(self, key: str, words: dict[str, Word], default: Word) -> Word:
        """One of these, without regard to case."""
        raw = self._found.get(key, "")
        if raw and raw.lower() not in words:
            self._complaints.append(f"{key}={raw}: expected one of {', '.join(sorted(words))}")
        return words.get(raw.lower(), default) if raw else default

    def _bounds(self, key: str, *, whole: bool) -> tuple[float, float]:
        raw = self._found.get(key, "")
        least, _, most = raw.partition("+")
        bounds = [_number(part or "0", whole=whole) for part in (least, most)]
        if bounds[0] is None or bounds[1] is None or (bounds[1] and bounds[1] < bounds[0]) or max(bounds) > 24_576:  # type: ignore[type-var,operator]
            kind = "whole numbers" if whole else "numbers"
            self._complaints.append(f"{key}={raw}: expected {kind} like {key}=4 or {key}=4+8, the smaller first")
            return 0, 0
        return bounds[0], bounds[1]


def _number(raw: str, *, whole: bool) -> float | None:
    if not re.fullmatch(r"\d{1,6}" if whole else r"\d{1,6}(\.\d{1,6})?", raw):
        return None
    return float(raw)


def _is_marker(label: str) -> bool:
    folded = label.lower()
    return folded == MARKER or folded.startswith((f"{MARKER}=", f"{MARKER}/"))
