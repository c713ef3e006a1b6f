"""What `runs-fleet local` says before and after a run of what it does otherwise than GitHub."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from sandbox.screen import show_plan, show_red_jobs, show_what_was_left_out
from tests.sandbox.dispatched import Dispatched


class Screen:
    """A terminal that keeps its lines."""

    def __init__(self) -> None:
        self._written = io.StringIO()
        self.console = Console(file=self._written, width=300)

    @property
    def lines(self) -> list[str]:
        return self._written.getvalue().splitlines()


def test_labels_of_other_runners_are_told_once_before_the_run(tmp_path: Path) -> None:
    text = """
jobs:
  a: {runs-on: ubuntu-latest, steps: []}
  b: {runs-on: ubuntu-latest, steps: []}
  c: {runs-on: [self-hosted, runs-fleet], steps: []}
"""
    screen = Screen()

    show_plan(screen.console, Dispatched(tmp_path, text).run.workflow)

    assert screen.lines == [
        "main: 3 jobs, from webhook to gone machine",
        "labels ubuntu-latest are not this fleet's: run here all the same (GitHub would wait for another runner)",
    ]


def test_a_matrix_that_another_job_decides_makes_the_number_of_jobs_a_least_one(tmp_path: Path) -> None:
    text = 'jobs:\n  a: {runs-on: runs-fleet, strategy: {matrix: {n: "${{ fromJSON(vars.N) }}"}}, steps: []}\n'
    screen = Screen()

    show_plan(screen.console, Dispatched(tmp_path, text, N="[1, 2]").run.workflow)

    assert screen.lines == ["main: 1 job or more, from webhook to gone machine"]


def test_labels_that_another_job_decided_are_told_after_the_run(tmp_path: Path) -> None:
    up = Dispatched(tmp_path, "jobs:\n  a: {runs-on: '${{ vars.WHERE }}', steps: []}\n", WHERE="big")
    screen = Screen()
    up.end("a")

    show_what_was_left_out(screen.console, up.run)

    assert screen.lines == ["labels big are not this fleet's: run here all the same (GitHub would wait for another runner)"]


def test_actions_containers_and_workflows_of_other_repositories_are_told_after_the_run(tmp_path: Path) -> None:
    text = """
jobs:
  a: {runs-on: runs-fleet, container: node:20, services: {db: {image: postgres}}, steps: [{uses: actions/checkout@v4}]}
  b: {uses: octo/shared/lint.yml@v1}
  d: {runs-on: runs-fleet, steps: [{uses: actions/checkout@v4}]}
  c: {runs-on: runs-fleet, if: false, container: node:20, steps: [{uses: actions/checkout@v4}]}
"""
    up, screen = Dispatched(tmp_path, text), Screen()
    up.end("a", "d")

    show_what_was_left_out(screen.console, up.run)

    assert screen.lines == [
        "a, d: skipped here, actions are not run: actions/checkout@v4",
        "a: skipped here, no containers, services or environments are made: container node:20, service db",
        "b: skipped here, what needs it runs without its outputs: octo/shared/lint.yml@v1 is another repository's",
    ]


def test_what_ended_without_a_runner_is_told_with_its_reason_and_a_tolerated_failure_as_such(tmp_path: Path) -> None:
    text = """
jobs:
  a: {runs-on: x, concurrency: g, steps: []}
  b: {runs-on: x, concurrency: g, steps: []}
  c: {runs-on: x, concurrency: g, steps: []}
  d: {runs-on: x, continue-on-error: true, steps: []}
"""
    up, screen = Dispatched(tmp_path, text), Screen()
    up.end("d", conclusion="failure")

    show_red_jobs(screen.console, up.run)

    assert screen.lines == [
        "b cancelled: a newer one took its place in the concurrency group g",
        "d ended red, and by continue-on-error stops nothing; its last lines:",
    ]
