"""What a module of the product may import, as a list of what is allowed: whatever is not on it touches the world.

`.importlinter` names the modules that touch the world, and reports chains of imports. This is the other half: a module that
nobody thought of, and the ways round an import statement.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
OURS = ("agent", "orchestrator", "simulation")
PURE = frozenset(
    {
        "__future__", "base64", "binascii", "collections", "contextlib", "dataclasses", "datetime", "enum", "fnmatch",
        "functools", "gzip", "hashlib", "heapq", "hmac", "io", "itertools", "json", "math", "msgspec", "pathlib", "re", "shlex",
        "tarfile", "types", "typing", "urllib.parse", "zlib",
    }
)  # fmt: skip
"""Modules that give the same answer to the same question. `pathlib` names places; who reads there is handed the place."""
MORE: dict[str, frozenset[str]] = {
    "agent/cli.py": frozenset({"gc", "open", "os", "subprocess", "sys"}),
    "agent/wiring.py": frozenset({"os", "platform"}),
    "agent/contract/variables.py": frozenset({"difflib"}),
    "agent/calls/retries.py": frozenset({"tenacity"}),
    "agent/reports/last_will.py": frozenset({"os"}),
    "agent/runner/cleanup.py": frozenset({"shutil"}),
    "agent/runner/diagnostics.py": frozenset({"os", "stat"}),
    "agent/runner/release.py": frozenset({"shutil"}),
    "agent/runner/unpack.py": frozenset({"isal", "os", "shutil"}),
    "orchestrator/environment.py": frozenset({"textwrap"}),
    "orchestrator/log_levels.py": frozenset({"logging"}),
    "orchestrator/commands/audit.py": frozenset({"os"}),
    "orchestrator/commands/cli.py": frozenset({"importlib.metadata", "os", "sys", "typer"}),
    "orchestrator/commands/terminal.py": frozenset({"shutil", "sys", "typer"}),
    "orchestrator/serve.py": frozenset({"errno", "signal", "socket", "starlette", "threading", "uvicorn"}),
    "orchestrator/strategies.py": frozenset({"platform"}),
    "simulation/examples.py": frozenset({"random"}),
}
"""Entry points, wiring, and who works on local files at system-call speed: what each may import besides."""
BUILTINS = frozenset({"__import__", "breakpoint", "eval", "exec", "input", "open"})
CLOCKS = frozenset({"now", "today", "utcnow"})
"""Of `datetime` and `date`, which `datetime` brings along."""


def touches(text: str, allowed: frozenset[str]) -> set[str]:
    """What in a module's source reaches past `allowed`: imports, and the ways round them."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if not _is_allowed(alias.name, allowed)}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            if not _is_allowed(node.module, allowed):
                found.add(node.module)
            if node.module.partition(".")[0] in OURS:  # a module of ours is no way to a module of the world
                names = {alias.name for alias in node.names}
                found |= {name for name in names & sys.stdlib_module_names if not _is_ours(node.module, name)}
        elif isinstance(node, ast.Name) and node.id in BUILTINS - allowed:
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and node.attr in CLOCKS and ast.unparse(node.value) in ("datetime", "date"):
            found.add(ast.unparse(node))
    return found


def _is_allowed(module: str, allowed: frozenset[str]) -> bool:
    parts = module.split(".")
    return parts[0] in OURS or any(".".join(parts[:length]) in allowed for length in range(1, len(parts) + 1))


def _is_ours(module: str, name: str) -> bool:
    folder = CHECKOUT.joinpath(*module.split("."))
    return (folder / f"{name}.py").exists() or (folder / name).is_dir()


def test_no_module_but_the_adapters_imports_what_is_not_on_the_list() -> None:
    modules = [path for package in OURS for path in sorted((CHECKOUT / package).rglob("*.py")) if "adapters" not in path.parts]
    found = {}
    for path in modules:
        where = str(path.relative_to(CHECKOUT))
        if reached := touches(path.read_text("utf-8"), PURE | MORE.get(where, frozenset())):
            found[where] = reached

    assert len(modules) > 100
    assert found == {}


def test_nobody_may_import_more_than_he_does() -> None:
    idle = {
        where: unused
        for where, more in MORE.items()
        if (unused := {name for name in more if not touches((CHECKOUT / where).read_text("utf-8"), PURE | more - {name})})
    }

    assert idle == {}


@pytest.mark.parametrize(
    "line",
    [
        "import importlib", "import urllib.request", "import _thread", "import posix", "import glob", "import sys",
        "import logging", "import sqlite3", "from os import environ", "from concurrent.futures import Future", "import moto",
        "import platform", "x = __import__('time')", "import importlib.util", "x = open('/etc/passwd')",
        "x = datetime.now()", "x = datetime.utcnow()", "x = date.today()", "from agent.reports.last_will import os",
        "from simulation.examples import random as chance",
        "def late():\n    import time\n    return time",
    ],
)  # fmt: skip
def test_each_way_to_the_world_is_seen(line: str) -> None:
    assert touches(f"from __future__ import annotations\n{line}\n", PURE)


@pytest.mark.parametrize(
    "line", ["import json", "from collections.abc import Iterator", "import agent.errors", "x = clock.now()"]
)
def test_what_touches_nothing_is_allowed(line: str) -> None:
    assert not touches(line, PURE)
