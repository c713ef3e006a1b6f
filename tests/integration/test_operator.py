"""What an operator types, against a stack that runs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.workflow import read_workflow
from sandbox.world import World, play, world

pytestmark = pytest.mark.xdist_group("operator")
"""One process, one world."""
COMMAND = Path(sys.executable).with_name("runs-fleet")
WORKFLOW = """
on: push
jobs:
  one:
    runs-on: runs-fleet=1/cpu=2
    steps: [{run: echo hello}]
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A sandbox in which one job was played to its end."""
    root = tmp_path_factory.mktemp("operator")
    (root / "one.yml").write_text(WORKFLOW, "utf-8")
    with world(root) as made:
        made.serve()
        play(made, read_workflow(root / "one.yml"))
        yield made


def typed(up: World, *words: str) -> subprocess.CompletedProcess[str]:
    assert up.stack is not None
    return subprocess.run(
        [str(COMMAND), *words], env=up.stack.environment, capture_output=True, text=True, timeout=600, check=False
    )


def told(up: World, *words: str) -> Any:
    shown = typed(up, *words, "--json")
    assert shown.returncode == 0, shown.stderr
    return json.loads(shown.stdout)


def job_of(up: World) -> str:
    return str(next(iter(up.github.state.runs.values())).jobs[0].id)


def test_explain_tells_the_whole_life_of_a_job(up: World) -> None:
    shown = typed(up, "explain", f"https://github.com/octo/sandbox/actions/runs/1/job/{job_of(up)}")

    assert shown.returncode == 0, shown.stderr
    lines = [line.split("  ", 2)[-1] for line in shown.stdout.splitlines()[1:]]
    wanted = ["queued by GitHub", "launch l-", "ec2 asked for 1 spot", "session s-", "taken by runner", "completed: success"]
    assert [any(line.startswith(words) for line in lines) for words in wanted] == [True] * len(wanted), shown.stdout
    assert "waits for" not in shown.stdout


def test_explain_as_json_has_the_same_lines(up: World) -> None:
    found = told(up, "explain", job_of(up))

    assert found["job"]["conclusion"] == "success" and found["waits_for"] == ""
    assert [line["at"] for line in found["lines"]] == sorted(line["at"] for line in found["lines"])


@pytest.mark.parametrize(("job", "words"), [("999999", "no job 999999 is known"), ("build", "expected its id, or a URL")])
def test_a_job_that_is_not_known_is_said_with_what_to_do(up: World, job: str, words: str) -> None:
    shown = typed(up, "explain", job)

    assert shown.returncode == 1 and words in shown.stderr


def test_what_ran_is_listed(up: World) -> None:
    (job,) = told(up, "jobs", "--all")
    (session,) = told(up, "sessions", "--all")

    assert (job["job"], job["conclusion"], session["job"], session["state"]) == (job_of(up), "success", job_of(up), "closed")
    assert told(up, "sessions") == told(up, "jobs") == []


def test_machines_are_made_before_they_are_asked_for_and_ended_by_hand(up: World) -> None:
    told(up, "launch", "octo/sandbox", "runs-fleet=2")
    until_s = time.monotonic() + 600.0
    while not up.cloud.instances.machines and time.monotonic() < until_s:
        time.sleep(0.1)
    told(up, "pause")
    (session,) = told(up, "sessions")

    (ended,) = told(up, "terminate", session["session"])

    assert ended["status"] == "interrupted dismissed"
    while up.cloud.instances.machines and time.monotonic() < until_s:
        time.sleep(0.1)
    assert not up.cloud.instances.machines
    assert told(up, "drain") == [] and told(up, "resume") == [{"paused": False}]


def test_the_auditor_runs_with_credentials_and_the_stacks_name_alone(up: World) -> None:
    assert up.stack is not None
    named = ("PATH", "HOME", "RUNS_FLEET_STACK_ID")
    few = {name: value for name, value in up.stack.environment.items() if name.startswith("AWS_") or name in named}

    shown = subprocess.run([str(COMMAND), "audit"], env=few, capture_output=True, text=True, timeout=600, check=False)

    assert (shown.returncode, shown.stdout[:15]) == (0, "stack sandbox: ")
    assert "0 outlived their end and are terminated" in shown.stdout


SECRETS = (
    "RUNS_FLEET_GITHUB_WEBHOOK_SECRET",
    "RUNS_FLEET_GITHUB_APP_PRIVATE_KEY",
    "RUNS_FLEET_QUEUE_URL",
    "RUNS_FLEET_SUBNET_IDS",
)


@pytest.mark.parametrize("word", ["jobs", "sessions"])
def test_who_only_looks_needs_no_secret(up: World, word: str) -> None:
    assert up.stack is not None
    few = {name: value for name, value in up.stack.environment.items() if name not in SECRETS}

    shown = subprocess.run([str(COMMAND), word, "--all"], env=few, capture_output=True, text=True, timeout=600, check=False)

    assert (shown.returncode, shown.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["launch", "octo/sandbox", "runs-fleet/cpu=many"], "nothing is launched for"),
        (["launch", "octo/a/b", "runs-fleet"], "expected owner/repo"),
        (["launch", "octo/sandbox", "runs-fleet", "--minutes", "-5"], "minutes"),
        (["terminate", "s-nobody"], "no session s-nobody is open"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_and_fails(up: World, words: list[str], expected: str) -> None:
    shown = typed(up, *words)

    assert shown.returncode == 1 and expected in shown.stderr
    assert len(shown.stderr.splitlines()) == 1


@pytest.mark.parametrize("word", ["sessions", "audit"])
def test_without_aws_one_line_says_what_is_missing(up: World, word: str, tmp_path: Path) -> None:
    assert up.stack is not None
    bare = {name: value for name, value in up.stack.environment.items() if not name.startswith("AWS_")}
    nowhere = {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_CONFIG_FILE": str(tmp_path),
    }

    shown = subprocess.run([str(COMMAND), word], env=bare | nowhere, capture_output=True, text=True, timeout=600, check=False)

    assert shown.returncode == 1 and "region" in shown.stderr
    assert len(shown.stderr.splitlines()) == 1
