"""How the commands' options are declared, and how their answers are shown: to people, and to programs."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec


def option(name: str, told: str) -> Any:
    """An option's place in a word; nothing where typer is not installed."""
    try:
        import typer
    except ImportError:
        return None
    return typer.Option(name, help=told)


def argument(told: str) -> Any:
    """A command-line argument with its help."""
    try:
        import typer
    except ImportError:
        return None
    return typer.Argument(help=told)


Json = Annotated[bool, option("--json", "Print JSON instead of a table.")]


def show(rows: list[dict[str, Any]], *, json: bool, none: str = "nothing") -> None:
    """As a table for people, or as JSON for programs. `none`: what people read where there is nothing."""
    if json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n")
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*(rows[0] if rows else [none]))
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    console = Console()
    (console if console.is_terminal else Console(width=max(console.width, 200))).print(table)


def moment(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
