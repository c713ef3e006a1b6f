"""The pages agree with the code: settings, exit codes, reasons, links, file paths and names of tests."""

from __future__ import annotations

import ast
import json
import re
import runpy
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

import agent.errors
from agent.contract.config import RunnerConfig
from agent.errors import AgentError, Exit
from agent.reports.last_will import LastWill
from agent.runner.announcements import JOB_RESULTS
from agent.settings import DESCRIBED, PREFIX, Settings, read_settings
from agent.supervision import GREEN, Complaint, Stop

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = (CHECKOUT / "docs" / "operations.md").read_text("utf-8")
GENERATOR = CHECKOUT / "docs" / "generate_settings.py"
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
LITERALS = {name: found[1] for name, (default, _) in DESCRIBED.items() if (found := re.fullmatch(r"`([^`]+)`", default))}
"""The settings of the agent whose default is one literal."""
PATH = re.compile(r"(?:agent|orchestrator|sandbox|simulation|tests|userdata|packer)/[\w./*-]*")
"""What counts as a path in the checkout where it stands alone in backticks; `*` stands for any name."""
TESTS = {
    name
    for path in (CHECKOUT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.M)
}
REASON_AT = {"Verdict": 1, "verdict_of_failure": 0}
"""The position of the reason among the arguments of what makes a verdict."""


def section(title: str) -> str:
    """The text below a heading of the page on operations."""
    return PAGE.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def words(text: str) -> set[str]:
    """Everything in backticks."""
    return set(re.findall(r"`([^`\n]+)`", text))


def prose(text: str) -> str:
    """The page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings. Source: GitHub's rule, github.com/gjtorikian/html-pipeline `TableOfContentsFilter`."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.+)$", prose(text), re.M):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        found.add(next(name for at in range(100) if (name := f"{slug}-{at}" if at else slug) not in found))
    return found


def links(page: Path) -> list[str]:
    """Where the page's relative links lead."""
    told = re.sub(r"`[^`\n]*`", "", prose(page.read_text("utf-8")))
    targets = re.findall(r"\]\(<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\)", told)
    return [target for target in targets if not re.match(r"[a-z][a-z0-9+.-]*:", target)]


def leads_somewhere(page: Path, target: str) -> bool:
    """Whether a file and, where the link names one, a heading of it exist."""
    name, _, anchor = target.partition("#")
    path = page if not name else (page.parent / name).resolve()
    if not path.exists() or not path.is_relative_to(CHECKOUT):
        return False
    return not anchor or (path.suffix == ".md" and anchor in anchors(path.read_text("utf-8")))


def paths(page: Path) -> list[str]:
    """The paths in the checkout that the page names."""
    return sorted(word for word in words(prose(page.read_text("utf-8"))) if PATH.fullmatch(word))


class Asked(dict[str, str]):
    """An empty environment that remembers what was looked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
        self.names.add(name)
        return default


def literals(reason: ast.expr, function: ast.FunctionDef) -> set[str]:
    """The strings that `reason` may be, where the function says so itself; of a name: what is assigned to it."""
    match reason:
        case ast.Constant(value=str(word)):
            return {word} if word else set()
        case ast.IfExp(body=body, orelse=orelse):
            return literals(body, function) | literals(orelse, function)
        case ast.Name(id=name):
            values = [
                node.value
                for node in ast.walk(function)
                if isinstance(node, ast.Assign) and any(isinstance(goal, ast.Name) and goal.id == name for goal in node.targets)
            ]
            return set().union(*(literals(value, function) for value in values))
        case ast.Attribute(attr="value" | "reason") | ast.JoinedStr():
            return set()  # a member of Stop or Complaint, the reason of an AgentError, a job's result: they are read elsewhere
        case _:
            raise AssertionError(f"the reason in {function.name} is read by no case: {ast.unparse(reason)}")


def reasons_given_to_verdicts() -> set[str]:
    """Every literal that the agent's code gives as the reason of a verdict."""
    found: set[str] = set()
    for path in (CHECKOUT / "agent").rglob("*.py"):
        functions = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)]
        for function in functions:
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
                at = REASON_AT.get(getattr(call.func, "id", ""))
                given = {str(keyword.arg): keyword.value for keyword in call.keywords}
                if at is not None and (reason := given.get("reason", call.args[at] if len(call.args) > at else None)):
                    found |= literals(reason, function)
    return found


def reasons_of_last_wills(directory: Path) -> set[str]:
    """The reasons in the messages that the agent leaves on disk."""
    LastWill(directory).leave(RunnerConfig(org="acme", job_id="1"), "i-1", datetime(2026, 1, 1, tzinfo=UTC), "m-1")
    return {json.loads(path.read_text("utf-8"))["reason"] for path in directory.iterdir()}


def named_reasons() -> set[str]:
    """The reasons in the third column of the table."""
    rows = [
        line.split("|") for line in section("How a life ends").split("|---|---|---|\n")[1].splitlines() if line.startswith("|")
    ]
    return set().union(*(words(row[3]) for row in rows))


def comparable(settings: Settings) -> Settings:
    """The settings with a derived parameter name written out."""
    return replace(settings, ssm_parameter=settings.parameter("{id}"))


def test_every_setting_is_in_the_table() -> None:
    environment = Asked()
    read_settings(environment)
    table: str = runpy.run_path(str(GENERATOR))["agent_table"]()

    assert section("Settings").split("<!-- settings: agent -->")[1].split("<!-- end -->")[0].strip() == table.strip()
    assert {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")} == environment.names
    assert environment.names == {PREFIX + name for name in DESCRIBED}


def test_the_tables_of_settings_are_current() -> None:
    checked = subprocess.run([sys.executable, GENERATOR, "--check"], capture_output=True, text=True, timeout=600, check=False)

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("name", LITERALS)
def test_a_default_that_the_table_names_is_the_one_that_is_used(name: str) -> None:
    absent, given = read_settings({}), read_settings({PREFIX + name: LITERALS[name]})

    assert comparable(given) == comparable(absent)


@pytest.mark.parametrize("name", LITERALS)
def test_a_setting_with_a_default_can_be_set_to_something_else(name: str) -> None:
    assert comparable(read_settings({PREFIX + name: "?"})) != comparable(read_settings({}))


def test_every_exit_code_is_in_the_table() -> None:
    table = {int(code) for code in re.findall(r"^\| (\d+) \|", section("Exit codes"), re.M)}

    assert table == {int(code) for code in Exit}


def test_the_table_of_endings_has_every_reason_and_no_other(tmp_path: Path) -> None:
    kinds = [kind for kind in vars(agent.errors).values() if isinstance(kind, type) and issubclass(kind, AgentError)]
    refusals = {complaint.value for complaint in Complaint} - {Complaint.REMOVED_BY_SERVER.value}
    results = {f"job_{result.lower()}" for result in JOB_RESULTS.values() if result not in GREEN}
    reasons = {kind.reason for kind in kinds} | {stop.value for stop in Stop} | refusals | results
    reasons |= reasons_given_to_verdicts() | reasons_of_last_wills(tmp_path)

    assert named_reasons() == reasons


def test_the_reasons_are_really_read_from_the_code(tmp_path: Path) -> None:
    assert {"job_lost", "job_unproven", "listener_killed", "runner_failed", "raced", "internal"} == reasons_given_to_verdicts()
    assert reasons_of_last_wills(tmp_path) == {"agent_died", "rebooted"}


def every(of_page: list[tuple[Path, str]]) -> list[object]:
    """One case for each thing that a page names."""
    return [pytest.param(page, what, id=f"{page.relative_to(CHECKOUT)}-{what}") for page, what in of_page]


@pytest.mark.parametrize(("page", "target"), every([(page, target) for page in PAGES for target in dict.fromkeys(links(page))]))
def test_a_relative_link_leads_somewhere(page: Path, target: str) -> None:
    assert leads_somewhere(page, target)


@pytest.mark.parametrize(("page", "path"), every([(page, path) for page in PAGES for path in paths(page)]))
def test_a_path_that_a_page_names_is_there(page: Path, path: str) -> None:
    assert any(CHECKOUT.glob(path.rstrip("/"))), f"{page.relative_to(CHECKOUT)} names {path}"


@pytest.mark.parametrize("name", sorted(word for word in words(PAGE) if word.startswith("test_")))
def test_a_test_that_the_failure_table_names_is_there(name: str) -> None:
    assert name in TESTS


def test_links_and_paths_are_really_found_and_judged() -> None:
    readme = PAGES[0]

    assert "docs/operations.md#failure-table" in links(readme)
    assert "agent/lifecycle.py" in paths(readme)
    assert not leads_somewhere(readme, "docs/operations.md#no-such-heading")
    assert not leads_somewhere(readme, "docs/no-such-page.md")


def test_the_readme_leads_to_every_page() -> None:
    assert {f"docs/{page.name}" for page in (CHECKOUT / "docs").glob("*.md")} <= {link.split("#")[0] for link in links(PAGES[0])}
