"""What an operator types, against a stack that runs."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.workflow import read_workflow
from sandbox.world import World, play, world
from tests.integration.commands import Commands
from tests.waiting import sooner_or_later

COMMAND = Path(sys.executable).with_name("runs-fleet")
WORKFLOW = """
on: push
jobs:
  one:
    runs-on: runs-fleet=1/cpu=2
    steps: [{run: echo hello}]
"""


class Operator:
    """A sandbox in which one job was played to its end, and somebody who types."""

    def __init__(self, up: World, commands: Commands) -> None:
        assert up.stack is not None
        self.up, self.environment, self._commands = up, up.stack.environment, commands

    def typed(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self._commands.typed(environment or self.environment, *words)

    def told(self, *words: str) -> Any:
        shown = self.typed(*words, "--json")
        assert shown.returncode == 0, shown.stderr
        return json.loads(shown.stdout)

    @property
    def job(self) -> str:
        return str(next(iter(self.up.github.state.runs.values())).jobs[0].id)


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    root = tmp_path_factory.mktemp("operator")
    (root / "one.yml").write_text(WORKFLOW, "utf-8")
    with contextlib.closing(Commands()) as commands, world(root) as made:
        made.serve()
        play(made, read_workflow(root / "one.yml"))
        yield Operator(made, commands)


def test_explain_tells_the_whole_life_of_a_job(operator: Operator) -> None:
    shown = operator.typed("explain", f"https://github.com/octo/sandbox/actions/runs/1/job/{operator.job}")

    assert shown.returncode == 0, shown.stderr
    lines = [line.split("  ", 2)[-1] for line in shown.stdout.splitlines()[1:]]
    wanted = ["queued by GitHub", "launch l-", "ec2 asked for 1 spot", "session s-", "taken by runner", "completed: success"]
    assert [any(line.startswith(words) for line in lines) for words in wanted] == [True] * len(wanted), shown.stdout
    assert "waits for" not in shown.stdout


def test_explain_as_json_has_the_same_lines(operator: Operator) -> None:
    found = operator.told("explain", operator.job)

    assert found["job"]["conclusion"] == "success" and found["waits_for"] == ""
    assert [line["at"] for line in found["lines"]] == sorted(line["at"] for line in found["lines"])


@pytest.mark.parametrize(("job", "words"), [("999999", "no job 999999 is known"), ("build", "expected its id, or a URL")])
def test_a_job_that_is_not_known_is_said_with_what_to_do(operator: Operator, job: str, words: str) -> None:
    shown = operator.typed("explain", job)

    assert shown.returncode == 1 and words in shown.stderr


def test_what_ran_is_listed(operator: Operator) -> None:
    (job,) = operator.told("jobs", "--all")
    (session,) = operator.told("sessions", "--all")

    assert (job["job"], job["conclusion"], session["job"], session["state"]) == (operator.job, "success", operator.job, "closed")
    assert operator.told("sessions") == operator.told("jobs") == []


def test_machines_are_made_before_they_are_asked_for_and_ended_by_hand(operator: Operator) -> None:
    operator.told("launch", "octo/sandbox", "runs-fleet=2")
    assert sooner_or_later(lambda: operator.up.cloud.instances.machines)
    operator.told("pause")
    (session,) = operator.told("sessions")

    (ended,) = operator.told("terminate", session["session"])

    assert ended["status"] == "interrupted dismissed"
    assert sooner_or_later(lambda: not operator.up.cloud.instances.machines)
    assert operator.told("drain") == [] and operator.told("resume") == [{"paused": False}]


def test_the_auditor_runs_with_credentials_and_the_stacks_name_alone(operator: Operator) -> None:
    named = ("PATH", "HOME", "RUNS_FLEET_STACK_ID")
    few = {name: value for name, value in operator.environment.items() if name.startswith("AWS_") or name in named}

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
def test_who_only_looks_needs_no_secret(operator: Operator, word: str) -> None:
    few = {name: value for name, value in operator.environment.items() if name not in SECRETS}

    shown = operator.typed(word, "--all", **few)

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
def test_what_cannot_be_done_is_said_in_one_line_and_fails(operator: Operator, words: list[str], expected: str) -> None:
    shown = operator.typed(*words)

    assert shown.returncode == 1 and expected in shown.stderr
    assert len(shown.stderr.splitlines()) == 1


@pytest.mark.parametrize("word", ["sessions", "audit"])
def test_without_aws_one_line_says_what_is_missing(operator: Operator, word: str, tmp_path: Path) -> None:
    bare = {name: value for name, value in operator.environment.items() if not name.startswith("AWS_")}
    nowhere = {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_CONFIG_FILE": str(tmp_path),
    }

    shown = operator.typed(word, **bare, **nowhere)

    assert shown.returncode == 1 and "region" in shown.stderr
    assert len(shown.stderr.splitlines()) == 1
