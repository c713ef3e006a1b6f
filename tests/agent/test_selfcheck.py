"""What makes a machine fit for a stranger's job, and what is only worth a word."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from typing import Any

import pytest

from agent.cli import VERSION
from agent.selfcheck import METADATA_ADDRESSES, SECRETS, UNIT, WAYS_OUT, Observed, Reach, fit, judge, render
from tests.integration.agent_harness import CHECKOUT

NOT_ROOT = {"match": {"op": "!=", "left": {"meta": {"key": "skuid"}}, "right": 0}}
TCP = {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 443}}
COUNTER = {"counter": {"packets": 7, "bytes": 300}}


def goes_to(address: str) -> dict[str, Any]:
    protocol = "ip6" if ":" in address else "ip"
    return {"match": {"op": "==", "left": {"payload": {"protocol": protocol, "field": "daddr"}}, "right": address}}


def rule(chain: str, *said: dict[str, Any]) -> dict[str, Any]:
    return {"rule": {"family": "inet", "table": "runs_fleet", "chain": chain, "expr": list(said)}}


def hooked(name: str) -> dict[str, Any]:
    return {"chain": {"family": "inet", "table": "runs_fleet", "name": name, "hook": name, "policy": "accept"}}


V4, V6 = METADATA_ADDRESSES.values()
OUTPUT = [rule("output", goes_to(at), NOT_ROOT, COUNTER, {"reject": {"type": "icmp"}}) for at in (V4, V6)]
FORWARD = [rule("forward", goes_to(at), COUNTER, {"drop": None}) for at in (V4, V6)]
RULES = [hooked("output"), hooked("forward"), *OUTPUT, *FORWARD]
"""As the kernel tells them: test_life_and_death holds the same check against a real one's answer."""
GOOD = Observed(
    ways_out=dict.fromkeys(WAYS_OUT, ""),
    versions={"agent": "0.1.0"},
    runner_executable=True,
    runner_files=3,
    unit=UNIT,
    unit_verified="",
    timer="active",
    firewall=RULES,
    metadata={V4: Reach(True, False), V6: Reach(False, False)},
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
        ({"metadata": {V4: Reach(True, True), V6: Reach(False, False)}}, "metadata"),
        ({"metadata": {V4: Reach(True, False), V6: Reach(True, True)}}, "metadata"),
        ({"metadata": {V4: Reach(None, None), V6: Reach(False, False)}}, "metadata"),
        ({"firewall": []}, "firewall"),
        ({"firewall": RULES[2:]}, "firewall"),
        *(({"firewall": [item for item in RULES if item is not lost]}, "firewall") for lost in RULES),
        ({"firewall": [*RULES[:2], rule("output", goes_to(V4), {"accept": None}), *RULES[2:]]}, "firewall"),
        ({"firewall": [*RULES[:2], rule("forward", {"jump": {"target": "others"}}), *RULES[2:]]}, "firewall"),
        ({"firewall": [*RULES[:2], rule("output", goes_to(V6), NOT_ROOT, {"accept": None}), *RULES[3:]]}, "firewall"),
        ({"firewall": [*RULES[:2], rule("output", goes_to(V6), NOT_ROOT, COUNTER), *OUTPUT[:1], *FORWARD]}, "firewall"),
        ({"firewall": [*RULES[:2], rule("output", goes_to(V6), TCP, {"drop": None}), *OUTPUT[:1], *FORWARD]}, "firewall"),
        ({"firewall": [*RULES[:4], rule("forward", goes_to(V4), NOT_ROOT, {"drop": None}), *RULES[5:]]}, "firewall"),
        ({"job_uid": None}, "user"),
        ({"job_uid": 0}, "user"),
        ({"secrets": ("/tmp/x",)}, "secrets"),
        *(({"ways_out": {**dict.fromkeys(WAYS_OUT, ""), way: "it is open"}}, way) for way in WAYS_OUT),
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
        ({"runner_files": None}, "runner"),
        ({"runner_files": 0}, "runner"),
        ({"runner_changed": ("run.sh",)}, "runner"),
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


@pytest.mark.parametrize(
    "table",
    [
        [rule("mine", {"accept": None}), *RULES],  # a chain of no hook is asked by nobody
        [*RULES, rule("output", {"accept": None})],
        [*RULES[:2], rule("output", COUNTER), rule("output", goes_to(V4), {"drop": None}), *RULES[3:]],
        [*RULES[:2], *reversed(RULES[2:])],
    ],
)
def test_a_firewall_may_be_said_in_other_rules(table: list[dict[str, Any]]) -> None:
    assert fit(judge(changed(firewall=table)))


def test_in_strict_mode_nobody_is_answered_which_is_as_good() -> None:
    findings = judge(changed(metadata={V4: Reach(False, False), V6: Reach(False, False)}))

    assert fit(findings)
    assert "nor does root: switched off" in render(findings)


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


WITHOUT_TMP = """
mount -t tmpfs none /mnt
mkdir /mnt/tree /mnt/venv
mount --bind "$0" /mnt/tree
mount --bind "$1" /mnt/venv
mount -t tmpfs none /tmp
cd /mnt/tree
exec /mnt/venv/bin/python -m agent selfcheck
"""
"""What lies in /tmp is no affair of this test; the checkout itself may lie there."""


def test_the_word_runs_on_any_machine_and_ends_none() -> None:
    words = [sys.executable, "-m", "agent", "selfcheck"]
    if os.getuid() == 0:
        words = ["unshare", "--mount", "bash", "-ec", WITHOUT_TMP, str(CHECKOUT), sys.prefix]

    told = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True, timeout=600, check=False)

    assert told.returncode in (0, 1), told.stderr
    assert "musts failed" in told.stdout.splitlines()[-1]


@pytest.mark.parametrize(("words", "code"), [(["--version"], 0), (["help"], 78), (["selfcheck", "--what"], 78)])
def test_any_other_word_is_told_what_there_is(words: list[str], code: int) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "agent", *words], cwd=CHECKOUT, capture_output=True, text=True, timeout=600, check=False
    )

    assert told.returncode == code
    assert (VERSION in told.stdout) or "selfcheck [--image]" in told.stderr


def test_the_agent_says_the_packages_version() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]

    assert project["version"] == VERSION
