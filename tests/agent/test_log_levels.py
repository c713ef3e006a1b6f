"""The levels of the agent's log are those of docs/operations.md, which explains every event that has one."""

from __future__ import annotations

import re
from pathlib import Path

from agent.adapters.log_levels import ERRORS, WARNINGS, level_of

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = (CHECKOUT / "docs" / "operations.md").read_text("utf-8")
SECTION = PAGE[PAGE.index("## The agent's log") : PAGE.index("## What the job can reach")]
EVENT = re.compile(r"`([a-z_]+\.[a-z_]+)`")


def test_the_levels_are_those_that_the_page_lists() -> None:
    listed = {
        level: set(EVENT.findall(line)) for line in SECTION.splitlines() for level in ("ERROR", "WARNING")
        if line.startswith(f"- `{level}`")
    }  # fmt: skip

    assert listed == {"ERROR": set(ERRORS), "WARNING": set(WARNINGS)}
    assert not ERRORS & WARNINGS


def test_every_event_that_the_agent_logs_is_explained_and_no_other_has_a_level() -> None:
    explained = {name for line in SECTION.splitlines() if line.startswith("| `") for name in EVENT.findall(line.split("|")[1])}
    code = "\n".join(path.read_text("utf-8") for path in (CHECKOUT / "agent").rglob("*.py"))
    logged = set(re.findall(r"\.event\(\s*\"([a-z_]+\.[a-z_]+)\"", code)) | {"phase.entered"}

    assert logged - explained == set()
    assert (ERRORS | WARNINGS) - explained == set()


def test_what_is_neither_an_error_nor_a_warning_tells_what_happened() -> None:
    assert [level_of(name) for name in ("life.failed", "work.killed", "phase.entered")] == ["ERROR", "WARNING", "INFO"]
