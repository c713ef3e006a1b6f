"""What the stand-in's listener says, with what it leaves, and what it reads at its start."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class Leave(SystemExit):
    """Leave with this exit code at once."""


def interrupted(_number: int, _frame: object) -> None:
    """SIGINT while it is configured: leave at once."""
    say("Exiting...")
    raise Leave(1)


def settings(path: Path) -> dict[str, Any]:
    """The settings in a JSON file; empty without one."""
    try:
        return dict(json.loads(path.read_text("utf-8-sig")))
    except OSError:
        return {}


def is_true(name: str) -> bool:
    """Whether an environment variable says so."""
    return os.environ.get(name, "").lower() in ("1", "true", "$true")


def stamp() -> str:
    """The time as the runner's own lines have it."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def stamped(text: str) -> None:
    """A line with the time before it."""
    say(f"{stamp()}: {text}")


def say(text: str = "", stream: Any = None) -> None:
    """Written at once: whoever listens must not wait for a buffer."""
    target = stream or sys.stdout
    with contextlib.suppress(OSError):
        os.write(target.fileno(), (text + "\n").encode())


def load_environment(root: Path) -> None:
    """`.env`: each line overrides the process environment."""
    with contextlib.suppress(OSError):
        for line in (root / ".env").read_text("utf-8").splitlines():
            name, separator, value = line.partition("=")
            if separator:
                os.environ[name] = value
