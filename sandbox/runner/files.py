"""What the stand-in's processes read and write on the side: environment files, process ids, diagnostics."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def pairs(path: Path) -> Iterator[tuple[str, str]]:
    """`name=value` lines and `name<<END` blocks. Source: "Workflow commands", GitHub docs."""
    lines = iter(path.read_text("utf-8").splitlines())
    for line in lines:
        name, separator, value = line.partition("=")
        block, opened, end = line.partition("<<")
        if opened and (not separator or len(block) < len(name)):
            held: list[str] = []
            for inner in lines:
                if inner == end:
                    break
                held.append(inner)
            yield block, "\n".join(held)
        elif separator:
            yield name, value


def pids() -> Iterator[int]:
    """Every process of the machine."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def now() -> str:
    """The time now in RFC 3339."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def diagnostics(root: Path, name: str) -> Any:
    """A log in `_diag`; the function that writes a line."""
    directory = root / "_diag"
    directory.mkdir(exist_ok=True)
    path = directory / f"{name}_{datetime.now(UTC).strftime('%Y%m%d-%H%M%S')}-utc.log"

    path.write_text(f"[{datetime.now(UTC).strftime('%Y-%m-%d %H:%M:%SZ')} INFO {name}] stand-in\n", encoding="utf-8")

    def write(text: str) -> None:
        with path.open("a", encoding="utf-8") as log:
            log.write(f"[{datetime.now(UTC).strftime('%Y-%m-%d %H:%M:%SZ')} INFO {name}] {text}\n")

    return write
