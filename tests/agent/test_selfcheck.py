"""What makes a machine fit for a stranger's job, and what is only worth a word."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from typing import Any

import pytest

from agent.cli import VERSION
from agent.selfcheck import SECRETS, UNIT, Observed, fit, judge, render
from tests.integration.house import CHECKOUT

RULES = "hook output 169.254.169.254 fd00:ec2::254 hook forward"
GOOD = Observed(
    versions={"agent": "0.1.0"},
    runner_digest="ab" * 32,
    image_digest="ab" * 32,
    runner_executable=True,
    unit=UNIT,
    unit_verified="",
    timer="active",
    firewall=RULES,
    root_reaches_metadata=True,
    job_reaches_metadata=False,
    job_uid=1000,
    now="2026-11-21T12:00:00",
    built_at="2026-11-20T12:00:00",
    synchronised=True,
    disk_free_bytes=10**10,
    memory_bytes=8 * 10**9,
    modes={"/var/lib/runs-fleet": 0o700},
)


def changed(**fields: Any) -> Observed:
    import dataclasses

    return dataclasses.replace(GOOD, **fields)


def test_a_good_machine_is_fit_and_every_line_says_so() -> None:
    findings = judge(GOOD)

    assert fit(findings)
    assert all(finding.passed for finding in findings)
    assert render(findings).splitlines()[-1] == f"{len(findings)} of {len(findings)} hold, 0 musts failed"


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"job_reaches_metadata": True}, "metadata"),
        ({"firewall": "none"}, "firewall"),
        ({"firewall": RULES[:20]}, "firewall"),
        ({"job_uid": None}, "user"),
        ({"job_uid": 0}, "user"),
        ({"secrets": ("/tmp/x",)}, "secrets"),
        ({"modes": {"/etc/runs-fleet/agent.env": 0o644}}, "files"),
        ({"unit": {**UNIT, "FailureAction": "none"}}, "unit"),
        ({"unit": {**UNIT, "LoadState": "masked"}}, "unit"),
        ({"unit_verified": "unknown key"}, "syntax"),
        ({"timer": "inactive"}, "deadline"),
        ({"timer": None}, "deadline"),
        ({"now": "1970-01-01"}, "clock"),
        ({"now": "2026-11-19T00:00:00"}, "clock"),
        ({"disk_free_bytes": 10**8}, "disk"),
        ({"memory_bytes": 10**8}, "memory"),
        ({"runner_executable": False}, "runner"),
        ({"runner_digest": "cd" * 32}, "runner"),
        ({"versions": {}}, "versions"),
    ],
)
def test_a_failed_must_makes_the_machine_unfit_and_is_named(fields: dict[str, Any], name: str) -> None:
    findings = judge(changed(**fields))

    assert not fit(findings)
    assert [finding.name for finding in findings if finding.must and finding.passed is False] == [name]
    assert f"FAIL must    {name}" in render(findings)


@pytest.mark.parametrize(
    "fields", [{"job_groups": ("docker",)}, {"job_sudo": "may run"}, {"synchronised": False}, {"disk_free_bytes": 10**9}]
)
def test_what_is_only_worth_a_word_fails_nothing(fields: dict[str, Any]) -> None:
    findings = judge(changed(**fields))

    assert fit(findings)
    assert [finding.passed for finding in findings].count(False) == 1


def test_what_could_not_be_looked_at_is_said_and_not_counted() -> None:
    findings = judge(Observed(versions={"agent": "1"}, job_uid=1000, timer="enabled", now="2027-01-01"))

    assert fit(findings)
    assert "could not be looked at here" in render(findings)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"AKIA" + b"IOSFODNN7EXAMPLE", True),
        (b"ASIA" + b"IOSFODNN7EXAMPLE", True),
        (b"AWS_SECRET_ACCESS_KEY=x", True),
        (b"ACTIONS_RUNNER_INPUT_JITCONFIG=eyJ", True),
        (b"AWS_SECRET_ACCESS_KEY=", False),
        (b"MAKIA" + b"IOSFODNN7EXAMPLE", False),
    ],
)
def test_what_looks_like_a_secret(text: bytes, found: bool) -> None:
    assert bool(SECRETS.search(text)) is found


def test_processes_and_files_that_vanish_while_they_are_looked_at_are_passed_over() -> None:
    script = (
        "import os, subprocess, sys, tempfile, threading\n"
        "from agent.adapters import inspection\n"
        "def churn():\n"
        "    while True:\n"
        "        subprocess.run(['true'])\n"
        "        with tempfile.TemporaryDirectory() as there: open(there + '/f', 'w').close()\n"
        "for _ in range(3): threading.Thread(target=churn, daemon=True).start()\n"
        "list(inspection._secrets(None))\n"
    )

    told = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False)

    assert told.returncode == 0, told.stderr


def test_the_word_runs_on_any_machine_and_ends_none() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "agent", "selfcheck"], cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False
    )

    assert told.returncode in (0, 1), told.stderr
    assert "musts failed" in told.stdout.splitlines()[-1]


@pytest.mark.parametrize(("words", "code"), [(["--version"], 0), (["help"], 78), (["selfcheck", "--what"], 78)])
def test_any_other_word_is_told_what_there_is(words: list[str], code: int) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "agent", *words], cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False
    )

    assert told.returncode == code
    assert (VERSION in told.stdout) or "selfcheck [--image]" in told.stderr


def test_the_agent_says_the_packages_version() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]

    assert project["version"] == VERSION
