"""What we depend on is pinned by hash, and nothing we ship says where to fetch it."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
INDEX = re.compile(
    r"--(?:extra-)?index-url|--find-links|--trusted-host|index_url|pypi\.org|files\.pythonhosted|pythonhosted\.org"
    r"|registry\.npmjs|/simple/|artifactory|UV_INDEX|PIP_INDEX",
    re.I,
)
ALLOWED = ("tests/architecture/test_pins.py",)
"""This file has to name what it looks for."""


def tracked() -> list[Path]:
    """Every file that git knows, as text."""
    told = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    return [CHECKOUT / name for name in told.stdout.split("\0") if name and name not in ALLOWED and (CHECKOUT / name).is_file()]


def pinned(name: str) -> dict[str, list[str]]:
    """Each package of a constraints file with its hashes."""
    found: dict[str, list[str]] = {}
    package = ""
    for line in (CHECKOUT / "constraints" / name).read_text("utf-8").splitlines():
        if pin := re.match(r"([a-z0-9][a-z0-9._-]*)(?:\[.*\])?==\S+", line):
            package = canonical(pin.group(1))
            found[package] = []
        elif digest := re.match(r"\s+--hash=sha256:([0-9a-f]{64})", line):
            found[package].append(digest.group(1))
    return found


def canonical(requirement: str) -> str:
    """The package a requirement is about. Source: PEP 503."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", requirement)[0]).lower()


def test_no_tracked_file_names_an_index_or_a_registry() -> None:
    files = tracked()
    found = [
        f"{path.relative_to(CHECKOUT)}:{number}: {line.strip()[:120]}"
        for path in files
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1)
        if INDEX.search(line) and "--no-emit-index-url" not in line
    ]

    assert len(files) > 100
    assert found == []


@pytest.mark.parametrize(("file", "extras"), [("agent.txt", ()), ("dev.txt", ("orchestrator", "sandbox", "dev"))])
def test_every_dependency_is_pinned_with_hashes(file: str, extras: tuple[str, ...]) -> None:
    asked = [*PROJECT["dependencies"], *(requirement for extra in extras for requirement in EXTRAS[extra])]
    wanted = {canonical(requirement) for requirement in asked} - {"runs-fleet"}

    pins = pinned(file)

    assert wanted - set(pins) == set()
    assert [package for package, hashes in pins.items() if not hashes] == []


def test_the_agents_pins_are_the_developers_pins_too() -> None:
    agent, everything = pinned("agent.txt"), pinned("dev.txt")

    assert {package: hashes for package, hashes in everything.items() if package in agent} == agent


def test_compiled_dependencies_have_hashes_for_both_architectures_of_three_pythons() -> None:
    """A wheel for each of 3.11 to 3.13 on x64 and arm64, and the source: at least seven files of whatever is compiled."""
    pins = pinned("agent.txt")

    assert {package: len(pins[package]) >= 7 for package in ("isal", "msgspec", "psutil")} == {
        "isal": True, "msgspec": True, "psutil": True,
    }  # fmt: skip


def test_the_agent_alone_needs_nothing_of_the_orchestrator_or_the_sandbox() -> None:
    own = {canonical(requirement) for requirement in PROJECT["dependencies"]}
    others = {canonical(requirement) for extra in ("orchestrator", "sandbox") for requirement in EXTRAS[extra]}

    assert own & others == set()
    assert others & set(pinned("agent.txt")) == set()
