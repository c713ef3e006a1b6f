"""How the commands' options are declared, and how their answers are shown: to people, and to programs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from agent.contract.shown import as_cell, as_json, as_line

GAP = 2
"""Blanks between two columns."""


def option(name: str, told: str, **more: Any) -> Any:
    """An option's place in a word; nothing where typer is not installed."""
    try:
        import typer
    except ImportError:
        return None
    return typer.Option(name, help=told, **more)


def argument(told: str) -> Any:
    """A command-line argument with its help."""
    try:
        import typer
    except ImportError:
        return None
    return typer.Argument(help=told)


Json = Annotated[bool, option("--json", "Print JSON instead of a table.")]


def show(rows: Sequence[Mapping[str, Any]], *, json: bool, none: str = "nothing", width: int | None = None) -> None:
    """As a table for people, or as JSON for programs. `none`: what people read where there is nothing.

    Nothing is ever cut: what is wider than the terminal (`width`: columns; None: as it is) is shown as a block for each row.
    """
    if json:
        show_document(list(rows))
        return
    for line in table(rows, _columns() if width is None else width):
        say(line)
    if not rows:
        say(none)


def show_document(value: Any) -> None:
    """A document for programs."""
    sys.stdout.write(as_json(msgspec.to_builtins(value), indent=1) + "\n")


def say(line: str) -> None:
    """A line for people: whatever others chose in it stays on the line, and cannot steer the terminal."""
    sys.stdout.write(f"{as_line(line)}\n")


def table(rows: Sequence[Mapping[str, Any]], width: int | None) -> list[str]:
    """Aligned columns under their names, without borders; blocks if they are wider than `width` (None: whatever they are)."""
    names = list(rows[0]) if rows else []
    cells = [[as_cell(row[name]) for name in names] for row in rows]
    widths = [max(len(name), *(len(line[at]) for line in cells)) for at, name in enumerate(names)]
    if width is None or sum(widths) + GAP * (len(names) - 1) <= width:
        return [_line([name.upper() for name in names], widths), *(_line(line, widths) for line in cells)] if names else []
    first = max(map(len, names))
    blocks = [[f"{name.upper():{first}}  {cell}" for name, cell in zip(names, line, strict=True) if cell] for line in cells]
    return [line for block in blocks for line in (*block, "")][:-1]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return (" " * GAP).join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


def _columns() -> int | None:
    """Of the terminal; None: it is none, and whoever reads it cuts for himself."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def moment(at: float | None) -> str:
    """ISO 8601, to the second, in UTC; empty: not yet."""
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def lasting(seconds: float | None) -> str:
    """A time in the two units that matter: `45s`, `3m 20s`, `2h 5m`, `4d 3h`; empty: none."""
    if seconds is None:
        return ""
    left = max(0, int(seconds))
    days, hours, minutes = left // 86_400, left // 3600 % 24, left // 60 % 60
    for whole, parts in ((days, f"{days}d {hours}h"), (hours, f"{hours}h {minutes}m"), (minutes, f"{minutes}m {left % 60}s")):
        if whole:
            return parts.removesuffix(" 0h").removesuffix(" 0m").removesuffix(" 0s")
    return f"{left}s"


def counted(number: int, what: str) -> str:
    """`1 machine`, `2 machines`, `3 launches`."""
    plural = "es" if what.endswith(("ch", "sh", "s", "x")) else "s"
    return f"{number} {what}{'' if number == 1 else plural}"
