"""`runs-fleet local` as a user runs it, and the proof that it tells the truth about what is left."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.local import EXAMPLE
from sandbox.screen import KEPT, show
from sandbox.stack import STACK
from sandbox.workflow import read_workflow
from sandbox.world import Leftovers, World, play, world

COMMAND = Path(sys.executable).with_name("runs-fleet")
ONE_JOB = """
name: one
on: push
jobs:
  one:
    runs-on: [self-hosted, runs-fleet]
    steps:
      - run: echo hello
"""


def an_instance(up: World) -> None:
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "runs-fleet:stack", "Value": STACK}]}]
    up.cloud.client("ec2").run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1, TagSpecifications=tags)


def a_registration(up: World) -> None:
    up.github.state.register("forgotten", ("runs-fleet",), 1, None)


def a_parameter(up: World) -> None:
    up.cloud.client("ssm").put_parameter(Name="/runs-fleet/runners/i-0/config", Value="x", Type="SecureString")


def typed(up: World, *words: str) -> str:
    assert up.stack is not None
    environment = {**up.stack.environment, "COLUMNS": "250"}
    return subprocess.run([str(COMMAND), *words], env=environment, capture_output=True, text=True, check=True, timeout=600).stdout


def test_the_example_runs_from_webhook_to_nothing_left(tmp_path: Path) -> None:
    shown = subprocess.run([str(COMMAND), "local"], capture_output=True, text=True, cwd=tmp_path, timeout=600, check=False)

    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "0 instances, 0 registrations, 0 configurations" in shown.stdout
    rows = dict(re.findall(r"^(\w+) +(\w+) .* i-[0-9a-f]{17}$", shown.stdout, re.M))
    assert rows == {"build": "success", "test": "success", "broken": "failure"}
    assert "build: skipped here, actions are not run: actions/checkout@v4" in shown.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_orchestrator_that_ends_by_itself_is_waited_for_no_longer(tmp_path: Path) -> None:
    (tmp_path / "one.yml").write_text(ONE_JOB, "utf-8")
    with world(tmp_path) as up:
        up.serve()
        assert up.server is not None and up.ended_by_itself() == ""
        up.server.kill()
        up.server.wait()

        with pytest.raises(TimeoutError, match=r"the orchestrator has ended by itself, with status -9; one queued\."):
            play(up, read_workflow(tmp_path / "one.yml"))

        up.kill()
        assert up.ended_by_itself() == ""


def an_object(up: World) -> None:
    up.cloud.client("s3").put_object(Bucket=f"{STACK}-config", Key="configs/AROAX:i-0/config", Body=b"x")


def test_configurations_may_come_by_s3(tmp_path: Path) -> None:
    (tmp_path / "one.yml").write_text(ONE_JOB, "utf-8")
    words = [str(COMMAND), "local", "one.yml", "--config-source", "s3"]
    shown = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=600, check=False)

    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "0 instances, 0 registrations, 0 configurations" in shown.stdout
    assert shown.stdout.count("success") == 1


def test_a_place_for_configurations_that_there_is_not_is_named() -> None:
    told = subprocess.run(
        [str(COMMAND), "local", "--config-source", "disk"], capture_output=True, text=True, timeout=600, check=False
    )

    assert (told.returncode, told.stderr.strip()) == (1, "--config-source: expected ssm or s3, found 'disk'")


def test_one_leftover_of_any_kind_is_counted() -> None:
    with world() as up:
        counted = [up.leftovers()]
        for leave in (an_instance, a_registration, a_parameter, an_object):
            leave(up)
            counted.append(up.leftovers())

    found = [(left.instances, left.registrations, left.configurations) for left in counted]
    assert found == [(0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 1, 2)]
    assert [left.none for left in counted] == [True, False, False, False, False]


@pytest.mark.parametrize("left", [Leftovers(1, 0, 0), Leftovers(0, 1, 0), Leftovers(0, 0, 1)], ids=str)
def test_one_of_any_kind_is_something_left(left: Leftovers) -> None:
    assert not left.none and Leftovers(0, 0, 0).none


def test_something_that_is_left_is_no_success_and_the_logs_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "one.yml"
    path.write_text(ONE_JOB, "utf-8")

    assert show(path, before_proof=an_object) == 1

    kept = Path(capsys.readouterr().out.split(KEPT.format(""))[1].strip())
    assert "serve.ready" in (kept / "orchestrator.log").read_text("utf-8")
    shutil.rmtree(kept)


def test_a_workflow_that_cannot_be_played_stops_before_anything_runs(tmp_path: Path) -> None:
    path = tmp_path / "bad.yml"
    path.write_text(
        ONE_JOB.replace("    steps:", "    snapshot: alpine\n    steps:").replace(
            "- run: echo", "- shell: cmd\n        run: echo"
        ),
        "utf-8",
    )

    shown = subprocess.run([str(COMMAND), "local", str(path)], capture_output=True, text=True, timeout=600, check=False)

    assert shown.returncode == 2
    first, second = shown.stdout.splitlines()
    assert first.startswith(f"{path}:7: `snapshot` is not supported in job `one` (supported:")
    assert second.startswith(f"{path}:9: shell `cmd` is not supported (supported:")


def test_a_workflow_of_the_users_own_passes_values_from_job_to_job_and_the_words_show_what_happened(tmp_path: Path) -> None:
    path = tmp_path / "own.yml"
    path.write_text(
        """
on: push
defaults:
  run:
    shell: bash
env:
  WHO: world
jobs:
  make:
    runs-on: ubuntu-latest
    strategy:
      matrix:
        size: [1, 2]
    outputs:
      made: ${{ steps.m.outputs.made }}
    steps:
      - id: m
        env:
          SIZE: ${{ matrix.size }}
        run: |
          mkdir -p deep && echo "made=thing" >> "$GITHUB_OUTPUT"
          echo "FROM_ENV=$WHO-$SIZE" >> "$GITHUB_ENV"
      - run: test "$(basename "$PWD")-$FROM_ENV" = "deep-world-${{ matrix.size }}"
        working-directory: deep
  use:
    needs: make
    if: needs.make.result == 'success' && github.event_name != 'pull_request'
    runs-on: [ubuntu-latest]
    steps:
      - run: test "${{ needs.make.outputs.made }}" = thing
      - if: failure()
        run: echo never
  never:
    needs: use
    if: failure()
    runs-on: ubuntu-latest
    steps:
      - run: exit 1
""",
        "utf-8",
    )
    with world() as up:
        up.serve()
        run = play(up, read_workflow(path))

        assert {job.plan.name: job.conclusion for job in run.jobs} == {
            "make (1)": "success", "make (2)": "success", "use": "success", "never": "skipped",
        }  # fmt: skip
        assert up.leftovers().none
        assert len(up.cloud.instances.ever) == 3
        told = {word[0]: typed(up, *word) for word in (["jobs", "--all"], ["logs", str(run.jobs[0].id)])}

    assert all(job.runner_name in told["jobs"] for job in run.jobs)
    assert "Running job: make (1)" in told["logs"] and "completed with result: Succeeded" in told["logs"]


def test_without_ec2_the_machines_are_processes_and_nothing_of_them_is_left(tmp_path: Path) -> None:
    with world(tmp_path / "world", without_ec2=True) as up:
        up.serve()
        run = play(up, read_workflow(EXAMPLE))

        assert {job.plan.name: job.conclusion for job in run.jobs} == {"build": "success", "test": "success", "broken": "failure"}
        assert {session.strategy for session in up.sessions()} == {"local"} and len(up.sessions()) == 3
        assert {session.status for session in up.sessions()} == {"success", "failure"}
        assert up.leftovers().none and not up.cloud.instances.ever and up.cloud.fleet_calls == 0
