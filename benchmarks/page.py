"""The page: results poured into the hand-written frame in page.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any

from benchmarks.figures import HEAD, Figure

FRAME = Path(__file__).with_name("page.md")
LIBRARIES = ("boto3", "botocore", "watchtower", "isal", "msgspec", "requests")


def machine() -> dict[str, Any]:
    """Where it was measured, as far as it decides figures."""
    load = os.getloadavg()[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "memory_gib": round(memory / 2**30),
        "load_at_the_end": round(load, 1),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def written(machine: Mapping[str, Any], figures: Mapping[str, list[Figure]], start: Mapping[str, Any]) -> str:
    """The whole page."""
    tables = {name: "\n".join([HEAD, *(figure.row() for figure in part)]) for name, part in figures.items()}
    libraries = ", ".join(f"{name} {number}" for name, number in machine["libraries"].items())
    return Template(FRAME.read_text(encoding="utf-8")).substitute(
        tables,
        where=f"{machine['cores']} cores ({machine['architecture']}), {machine['memory_gib']} GiB, Linux"
        f" {machine['kernel']}, Python {machine['python']}; {libraries}. The run took {machine['took_s']} s; load at its end"
        f" {machine['load_at_the_end']} (about 1 is the run itself).",
        steps=_steps(start["steps_ms"]),
        imports=_imports(start["imports"]),
        boot=_apart("boot"),
        packaging=_apart("packaging"),
        burst=_apart("burst"),
        late=_apart("late"),
    )


def _apart(name: str) -> str:
    """What a benchmark of its own measured at its time; it needs root or the package index, so it is not part of each run."""
    kept = FRAME.with_name(f"results-{name}.md")
    return kept.read_text(encoding="utf-8") if kept.exists() else f"Not measured: `python -m benchmarks.{name}` does."


def _steps(steps: Mapping[str, float]) -> str:
    return "\n".join(["| step | ms |", "|---|---|", *(f"| {what} | {taken} |" for what, taken in steps.items())])


def _imports(found: Mapping[str, Any]) -> str:
    lines = [
        f"{found['modules']} modules in {found['total_ms']} ms (with `-X importtime`, which itself costs some), of which"
        f" {found['site_ms']} ms are `site` and {found['agent_ms']} ms the agent's own files. The dearest:",
        "",
        "| module | itself, ms | with what it imports first, ms |",
        "|---|---|---|",
    ]
    lines += [f"| `{one['module']}` | {one['own_ms']:.1f} | {one['with_what_it_imports_ms']:.1f} |" for one in found["dearest"]]
    return "\n".join(lines)
