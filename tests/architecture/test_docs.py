"""The operator's page knows every setting, every exit code and every word the agent may give as its reason."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import agent.errors
from agent.announcements import JOB_RESULTS, Complaint
from agent.errors import AgentError, Exit
from agent.settings import read_settings
from agent.supervision import GREEN, Stop

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = (CHECKOUT / "docs" / "operations.md").read_text("utf-8")


def section(title: str) -> str:
    """The text below a heading."""
    return PAGE.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def words(text: str) -> set[str]:
    """Everything in backticks."""
    return set(re.findall(r"`([^`\n]+)`", text))


class Asked(dict[str, str]):
    """An empty environment that remembers what was looked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
        self.names.add(name)
        return default


def reasons_of_the_verdict() -> set[str]:
    """Every literal that agent/verdict.py gives as a reason: the second argument of a Verdict, or `word`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((CHECKOUT / "agent" / "verdict.py").read_text("utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Verdict" and len(node.args) > 1:
            found |= {part.value for part in ast.walk(node.args[1]) if isinstance(part, ast.Constant) and part.value}
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "word":
            found |= {part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)}
    return {word for word in found if word != "job_"}


def test_every_setting_is_in_the_table() -> None:
    environment = Asked()
    read_settings(environment)

    table = {
        line.split("|")[1].strip().strip("`") for line in section("Settings").splitlines() if line.startswith("| `RUNS_FLEET_")
    }

    assert len(environment.names) > 15
    assert table == environment.names


def test_every_exit_code_is_in_the_table() -> None:
    table = {int(code) for code in re.findall(r"^\| (\d+) \|", section("Exit codes"), re.M)}

    assert table == {int(code) for code in Exit}


def test_every_reason_is_on_the_page() -> None:
    kinds = [kind for kind in vars(agent.errors).values() if isinstance(kind, type) and issubclass(kind, AgentError)]
    refusals = {complaint.value for complaint in Complaint} - {Complaint.REMOVED_BY_SERVER.value}
    results = {f"job_{result.lower()}" for result in JOB_RESULTS.values() if result not in GREEN}
    reasons = {kind.reason for kind in kinds} | {stop.value for stop in Stop} | refusals | results | reasons_of_the_verdict()

    assert sorted(reasons - words(section("How it ended, and what is said"))) == []


def test_the_reasons_are_really_read_from_the_code() -> None:
    assert {"job_lost", "listener_killed", "runner_failed", "raced"} <= reasons_of_the_verdict()
