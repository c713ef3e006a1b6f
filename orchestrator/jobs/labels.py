"""Decide what a `runs-on` asks of us, if anything, and say aloud what of it cannot be understood.

The grammar is the reference system's: the first label that is `runs-fleet`, or begins with `runs-fleet=` or `runs-fleet/`, is
the marker; its segments after the first `/` are `key=value`. Where that system ignored silently, this one refuses with a
reason. A new segment is a field of MachineRequest and a row in SEGMENTS.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from orchestrator.store.request import ARCHITECTURES, LEAST_CPU, Fallback, MachineRequest

MARKER = "runs-fleet"
MOST_LABELS, LONGEST_LABEL = 100, 256
"""Of a just-in-time runner; characters of each. GitHub refuses the registration otherwise, when the machine is there already.

Source: GitHub REST, "Create configuration for a just-in-time runner for a repository"; "Using labels with self-hosted runners".
"""
SHOWN = 64
"""Characters of a label in a complaint."""
MARKET_WORDS = {"true": True, "false": False, "spot": True, "on-demand": False}
LARGEST_DISK_GIB = 16_384
"""Source: gp3 volume sizes, EBS user guide."""
LARGEST = 24_576
"""No machine has more vCPUs or GiB of memory."""
EXAMPLE = "runs-fleet=<run id>/cpu=4/ram=16"
JOINTS = re.compile(r"[,;:&|\s]")
"""What other systems join the parts of a label by; ours are joined by `/`."""
OTHER_SYSTEMS = frozenset({"windows", "macos"})
"""GitHub's own labels of systems that no machine of ours runs. Source: "Using self-hosted runners in a workflow", GitHub docs."""
NEAR = frozenset({"runsfleet", "runfleet", "runsfleets", "runfleets", "runsflet", "runsfeet", "rusnfleet", "runsfleed"})
"""The marker's name without its hyphen, and slips of it."""
_MEANT = re.compile(r"([a-z_ -]*)([=/,;:]?)(.*)", re.S)
Fields = Mapping[str, object]


@dataclass(frozen=True)
class ParsedLabels:
    """What labels ask for. `complaints`: why it cannot be served as it stands, for whoever wrote the labels."""

    request: MachineRequest
    complaints: tuple[str, ...] = ()


def is_ours(labels: tuple[str, ...], aliased: Callable[[str], bool]) -> bool:
    """Whether any label carries our marker (`runs-fleet`, `runs-fleet=…`, `runs-fleet/…`) or an alias of it.

    One that surely means the marker and misses it is ours too: it is refused aloud, where nobody else would say a word.
    """
    return any(_is_marker(label) or _means_marker(label) or aliased(label) for label in labels)


def read_labels(labels: tuple[str, ...], spec_of: Callable[[str], str | None] = lambda label: None) -> ParsedLabels:
    """What `labels` ask for. A real marker beats an alias; `spec_of` gives an alias's segments (`cpu=4/ram=16`).

    Nothing is ignored: what is not understood stands in `complaints`, and the job cannot be served until it is mended.
    """
    marker = next((label for label in labels if _is_marker(label)), None)
    if marker is None:
        aliased = next((spec for spec in map(spec_of, labels) if spec is not None), "")
        marker = f"{MARKER}/{aliased}"
    found, complaints = _segments(marker)
    complaints += [*_beyond_limits(labels), *_misplaced(labels, spec_of)]
    plain = list(dict.fromkeys(ARCHITECTURES[label.lower()] for label in labels if label.lower() in ARCHITECTURES))
    if len(plain) > 1:
        complaints.append("labels name both architectures: expected one")
    if sum(map(_is_marker, labels)) > 1:
        complaints.append("several labels begin with runs-fleet: expected one, whatever their order")
    named = ARCHITECTURES.get(found.get("arch", "").lower())
    if named and len(plain) == 1 and named != plain[0]:
        complaints.append(f"arch={found['arch']} and the label {plain[0]} contradict each other: expected one of them")
    elif "arch" not in found and len(plain) == 1:
        found["arch"] = plain[0]
    fields: dict[str, Any] = {}
    for key, read in SEGMENTS.items():
        if key in found:
            try:
                fields |= read(found[key])
            except ValueError as error:
                complaints.append(f"{key}={found[key]}: expected {error}")
    request = msgspec.structs.replace(MachineRequest(), **fields)
    if request.price_limit and not request.interruptible:
        complaints.append("price= bounds what spot may cost: expected no spot=false beside it")
    return ParsedLabels(request, tuple(complaints))


def _beyond_limits(labels: tuple[str, ...]) -> list[str]:
    """What no runner can be registered with."""
    too_long = [f"{label[:SHOWN]!r}… has {len(label)}" for label in labels if len(label) > LONGEST_LABEL]
    expected = f"a label is too long for GitHub: expected at most {LONGEST_LABEL} characters"
    complaints = [f"{expected}, {too_long[0]}"] if too_long else []
    if len(labels) > MOST_LABELS:
        complaints.append(f"{len(labels)} labels are too many for a runner: expected at most {MOST_LABELS}")
    return complaints


def _misplaced(labels: tuple[str, ...], spec_of: Callable[[str], str | None]) -> list[str]:
    """What is wrong with labels beside the marker, and with its first part: meant for us, and without effect as written."""
    complaints = []
    for label in labels:
        if _is_marker(label):
            if (joint := JOINTS.search(label.split("/")[0])) is not None:
                complaints.append(f"{label!r} joins its segments by {joint[0]!r}: expected {EXAMPLE}")
            continue
        is_alias, key = spec_of(label) is not None, label.partition("=")[0].strip().lower()
        if _means_marker(label):
            complaints.append(f"{label!r} looks like our marker and is none: expected {EXAMPLE}")
        elif not is_alias and "=" in label and key in SEGMENTS:
            complaints.append(f"the label {label!r} stands by itself: expected it as a segment of the marker, as in {EXAMPLE}")
        elif not is_alias and "," in label:
            complaints.append(f"{label!r} are several labels in one: expected a list, as in [{label.replace(',', ', ')}]")
        elif label.lower() in OTHER_SYSTEMS:
            complaints.append(f"the label {label!r} asks for another system: expected none but linux, which our machines run")
    return complaints


def _segments(marker: str) -> tuple[dict[str, str], list[str]]:
    """The segments of a marker by key, and what is wrong with them; a lone architecture counts as `arch=`."""
    found: dict[str, str] = {}
    complaints: list[str] = []
    for segment in filter(None, marker.split("/")[1:]):
        key, _, value = (f"arch={segment}" if segment.lower() in ARCHITECTURES else segment).partition("=")
        if key.lower() not in SEGMENTS or not value:
            complaints.append(f"{segment!r} is not understood: expected {', '.join(f'{known}=…' for known in SEGMENTS)}")
        elif key.lower() in found:
            complaints.append(f"{key!r} is given twice: expected it once")
        else:
            found[key.lower()] = value
    return found, complaints


def _cpus(raw: str) -> Fields:
    least, most = _bounds("cpu", raw, whole=True)
    least = int(least) or LEAST_CPU
    return {"cpu_min": int(least), "cpu_max": int(most) or 2 * int(least)}


def _memory(raw: str) -> Fields:
    least, most = _bounds("ram", raw, whole=False)
    return {"ram_min_gib": least, "ram_max_gib": most}


def _families(raw: str) -> Fields:
    families = tuple(sorted({part.lower() for part in raw.split("+") if part}))
    if not all(re.fullmatch(r"[a-z][a-z0-9-]{0,15}", family) for family in families):
        raise ValueError("families like m7i or c, joined by +")
    return {"families": families}


def _pool(raw: str) -> Fields:
    """A pool's name: understood, and so far without effect but that other pools' jobs share no launch with it."""
    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,62}", raw):
        raise ValueError("up to 63 letters, digits, - and _")
    return {"pool": raw}


def _compute(raw: str) -> Fields:
    """A strategy's name; whether the stack offers it is not decided here."""
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", raw):
        raise ValueError("the name of a strategy, such as ec2 or local")
    return {"compute": raw}


def _number(name: str, most: float, raw: str, *, whole: bool = True) -> Fields:
    value = _parsed(raw, whole=whole)
    if not value or value > most:
        raise ValueError(f"{'a whole number' if whole else 'a number'} above 0, up to {most:g}")
    return {name: int(value) if whole else value}


def _word(name: str, words: Mapping[str, object], raw: str) -> Fields:
    if raw.lower() not in words:
        raise ValueError(f"one of {', '.join(sorted(words))}")
    return {name: words[raw.lower()]}


def _bounds(key: str, raw: str, *, whole: bool) -> tuple[float, float]:
    least, _, most = raw.partition("+")
    bounds = [_parsed(part or "0", whole=whole) for part in (least, most)]
    low, high = bounds
    if low is None or high is None or (high and high < low) or max(low, high) > LARGEST:
        kind = "whole numbers" if whole else "numbers"
        raise ValueError(f"{kind} like {key}=4 or {key}=4+8, the smaller first")
    return low, high


def _parsed(raw: str, *, whole: bool) -> float | None:
    if not re.fullmatch(r"[0-9]{1,6}" if whole else r"[0-9]{1,6}(\.[0-9]{1,6})?", raw):
        return None
    return float(raw)


def _is_marker(label: str) -> bool:
    folded = label.lower()
    return folded == MARKER or folded.startswith((f"{MARKER}=", f"{MARKER}/"))


def _means_marker(label: str) -> bool:
    """Whether a label that is no marker was surely meant as one: its name with another joint or a slip, and something behind it.

    A name alone (`runs-fleet-2`) may be another fleet's, and is left alone.
    """
    name, joint, rest = _MEANT.match(label.strip().lower()).groups()  # type: ignore[union-attr]
    plain = re.sub("[-_ ]", "", name)
    return bool(joint and rest) and plain in NEAR and not _is_marker(label)


SEGMENTS: dict[str, Callable[[str], Fields]] = {
    "cpu": _cpus,
    "ram": _memory,
    "family": _families,
    "gen": partial(_number, "generation", 10),
    "arch": partial(_word, "architecture", ARCHITECTURES),
    "spot": partial(_word, "interruptible", MARKET_WORDS),
    "disk": partial(_number, "disk_gib", LARGEST_DISK_GIB),
    "pool": _pool,
    "fallback": partial(_word, "fallback", {fallback.value: fallback for fallback in Fallback}),
    "price": partial(_number, "price_limit", 1000.0, whole=False),
    "compute": _compute,
}
"""Key of a segment to what its value says of the request. Each raises ValueError with what was expected."""
