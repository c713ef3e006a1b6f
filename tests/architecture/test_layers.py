"""The layers hold, and a module that breaks them is seen: also one that is made tomorrow."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = ("agent", "orchestrator", "sandbox", "simulation")
PURE = ("agent", "orchestrator", "simulation")
"""Packages in which only what is on a list may touch the world."""
PURITY = "Only adapters, entry points and wiring touch the world"
FOLDERS = sorted(
    str(path.parent.relative_to(CHECKOUT))
    for package in PURE
    for path in (CHECKOUT / package).rglob("__init__.py")
    if "adapters" not in path.parts
)
"""Every package but the adapters."""


def linted(directory: Path) -> subprocess.CompletedProcess[str]:
    """`lint-imports` on the packages that lie in `directory`."""
    code = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command; lint_imports_command()"
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "PYTHONPATH": str(directory), "COLUMNS": "200"}
    words = [sys.executable, "-c", code, "--no-cache"]
    return subprocess.run(words, cwd=directory, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what is linted."""
    for package in PACKAGES:
        shutil.copytree(CHECKOUT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / ".importlinter", tmp_path)
    return tmp_path


def plant(module: Path, line: str) -> None:
    """One more import at the top of a module, or a new module."""
    first = "from __future__ import annotations\n"
    text = module.read_text("utf-8") if module.exists() else first
    module.write_text(text.replace(first, f"{first}{line}\n", 1), encoding="utf-8")


def test_every_import_goes_downwards(tree: Path) -> None:
    told = linted(tree)

    assert told.returncode == 0, told.stdout + told.stderr
    assert " 0 broken" in told.stdout


def test_chance_in_a_new_module_of_any_package_is_named(tree: Path) -> None:
    for folder in FOLDERS:
        plant(tree / folder / "made_tomorrow.py", "import random")

    told = linted(tree).stdout

    assert f"{PURITY} BROKEN" in told
    named = set(re.findall(r"(\S+)\.made_tomorrow -> random", told))
    assert named == {folder.replace("/", ".") for folder in FOLDERS}
    assert len(named) >= 10


@pytest.mark.parametrize("module", ["boto3", "requests", "time", "threading", "subprocess", "os", "socket", "queue"])
def test_whatever_touches_the_world_is_on_the_list(module: str) -> None:
    contract = (CHECKOUT / ".importlinter").read_text("utf-8").split("contract:purity]")[1].split("ignore_imports")[0]

    assert f"\n    {module}\n" in contract


DOWNWARDS = "modules import downwards only"
PLANTED = {
    ("agent/supervision.py", "time"): PURITY,
    ("agent/errors.py", "sandbox.imds"): "The agent knows nobody else",
    ("agent/lifecycle.py", "agent.wiring"): f"The agent's {DOWNWARDS}",
    ("orchestrator/turns.py", "sandbox.workflow"): "The orchestrator knows neither the sandbox nor the simulation",
    ("orchestrator/turns.py", "simulation.clock"): "The orchestrator knows neither the sandbox nor the simulation",
    ("orchestrator/store/model.py", "agent.lifecycle"): "The orchestrator knows only the agent's contract",
    ("orchestrator/store/model.py", "agent.reports.telemetry"): "The orchestrator knows only the agent's contract",
    ("orchestrator/fleet/demand.py", "orchestrator.jobs.model"): "The fleet knows no source of work",
    ("orchestrator/fleet/demand.py", "orchestrator.compute.ec2.calls"): "The fleet knows no source of work",
    ("orchestrator/compute/local.py", "orchestrator.compute.ec2.calls"): "Strategies do not know each other",
    ("orchestrator/compute/made_tomorrow.py", "orchestrator.compute.local"): "Strategies do not know each other",
    ("orchestrator/compute/port.py", "orchestrator.compute.local"): "Strategies do not know each other",
    ("orchestrator/store/launch.py", "orchestrator.fleet.demand"): "The orchestrator's packages import downwards only",
}
"""Imports that are not allowed, each with the contract that says so."""


def broken(told: str) -> dict[str, str]:
    """What is said of each broken contract, by its name."""
    parts = re.split(r"\n(.+)\n-{3,}\n", told.partition("Broken contracts")[2])
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_imports_that_break_the_layers_are_named_each_under_its_contract(tree: Path) -> None:
    for module, imported in PLANTED:
        plant(tree / module, f"import {imported}")

    told = linted(tree)

    assert told.returncode != 0
    said = broken(told.stdout)
    found = {
        (module, imported): next(
            (name for name, words in said.items() if name.startswith(contract) and line(module, imported) in words), None
        )
        for (module, imported), contract in PLANTED.items()
    }
    assert [planted for planted, name in found.items() if name is None] == [], told.stdout


def line(module: str, imported: str) -> str:
    """As import-linter names an import."""
    return f"{module.removesuffix('.py').replace('/', '.')} -> {imported} "


@pytest.mark.parametrize("package", ["agent", "sandbox"])
def test_a_module_that_stands_in_no_layer_is_named(package: str, tree: Path) -> None:
    plant(tree / package / "made_tomorrow.py", "")

    told = linted(tree)

    assert told.returncode != 0
    said = [words for name, words in broken(told.stdout).items() if name.endswith(DOWNWARDS)]
    assert [f"- {package}.made_tomorrow" in words for words in said] == [True]


def test_a_new_strategy_needs_no_line_in_the_contracts_and_the_fleet_may_not_know_it(tree: Path) -> None:
    strategy = "orchestrator/compute/made_tomorrow.py"
    plant(tree / strategy, "import orchestrator.compute.port")
    plant(tree / "orchestrator/strategies.py", "import orchestrator.compute.made_tomorrow")
    by_the_table = linted(tree)

    plant(tree / "orchestrator/fleet/demand.py", "import orchestrator.compute.made_tomorrow")
    by_the_fleet = linted(tree)

    assert by_the_table.returncode == 0, by_the_table.stdout
    assert "The fleet knows no source of work and no strategy by name BROKEN" in by_the_fleet.stdout
