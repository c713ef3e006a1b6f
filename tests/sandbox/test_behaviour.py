"""What the stand-in GitHub and its runner may do besides the usual, each by a switch: no test may share our beliefs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.errors import ServiceFailed
from orchestrator.jobs.webhook import read_delivery
from orchestrator.store.naming import Scope
from sandbox.github.server import StandInGitHub
from sandbox.workflow import read_workflow
from tests.answering import Answering, Asked
from tests.orchestrator.githubs import app_of
from tests.waiting import sooner_or_later

SCOPE = Scope("1", "octo", "sandbox")
ONE_JOB = "name: one\non: push\njobs: {one: {runs-on: [self-hosted, runs-fleet], steps: [{run: 'echo hello'}]}}\n"


@pytest.fixture
def github() -> Iterator[StandInGitHub]:
    up = StandInGitHub().start()
    yield up
    up.stop()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    written = tmp_path / "one.yml"
    written.write_text(ONE_JOB, "utf-8")
    return written


def test_a_run_that_failed_at_its_start_is_over_and_its_job_stays_queued_and_is_given_to_nobody(
    github: StandInGitHub, path: Path
) -> None:
    run = github.state.dispatch(read_workflow(path))
    run.failed_at_start = True
    runner = github.state.register("r", ("self-hosted", "runs-fleet"), 1, None)
    session = github.state.open_session(runner.id, "2.336.0")

    told = app_of(github).run(SCOPE, str(run.id))

    assert told is not None and (told.over, told.conclusion) == (True, "startup_failure")
    assert run.jobs[0].status == "queued" and github.state.next_job(session, 0.05) is None


def test_a_job_of_a_group_without_our_runners_is_given_to_nobody(github: StandInGitHub, path: Path) -> None:
    run = github.state.dispatch(read_workflow(path))
    run.jobs[0].is_withheld = True
    runner = github.state.register("r", ("self-hosted", "runs-fleet"), 1, None)

    assert github.state.next_job(github.state.open_session(runner.id, "2.336.0"), 0.05) is None
    told = app_of(github).run(SCOPE, str(run.id))
    assert told is not None and not told.over


def test_registrations_are_refused_for_good_where_the_app_lost_its_permission(github: StandInGitHub) -> None:
    github.behaviour.refuses_registrations = True

    with pytest.raises(ServiceFailed, match="Resource not accessible by integration") as refused:
        app_of(github).mint(SCOPE, "r", ("a",))

    assert refused.value.code == "403"


def test_a_run_may_be_unknown_though_its_job_is_told_of(github: StandInGitHub, path: Path) -> None:
    run = github.state.dispatch(read_workflow(path))
    github.behaviour.unknown_runs.add(run.id)

    assert app_of(github).run(SCOPE, str(run.id)) is None
    assert app_of(github).job(SCOPE, str(run.jobs[0].id)) is not None


def test_a_run_is_superseded_by_a_newer_one_of_its_workflow_and_branch(github: StandInGitHub, path: Path) -> None:
    first, second = (github.state.dispatch(read_workflow(path)) for _ in range(2))

    app = app_of(github)
    assert (app.is_superseded(SCOPE, str(first.id)), app.is_superseded(SCOPE, str(second.id))) == (True, False)


def test_a_delivery_may_come_form_encoded_and_its_answer_is_kept(github: StandInGitHub, path: Path) -> None:
    heard: list[Asked] = []

    def answer(asked: Asked) -> tuple[int, bytes]:
        heard.append(asked)
        return 400, b'{"error": "expected a workflow_job delivery"}'

    server = Answering(answer)
    github.deliveries.url, github.deliveries.behaviour.form_encoded = f"{server.url}/webhook", 1.0

    run = github.state.dispatch(read_workflow(path))
    sooner_or_later(lambda: any(one.answer for one in github.deliveries.log))

    assert heard[0].headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert read_delivery(heard[0].body, heard[0].headers["Content-Type"]).job_id == str(run.jobs[0].id)
    told = app_of(github).answer_to(str(github.deliveries.log[0].id))
    assert told == "400: " + json.dumps({"error": "expected a workflow_job delivery"})
    assert app_of(github).answer_to("999") == ""
    server.stop()


PLANNED = """
name: dynamic
on: push
jobs:
  plan:
    runs-on: x
    outputs: {where: "${{ steps.a.outputs.where }}"}
    steps: [{id: a, run: "true"}]
  use:
    needs: plan
    runs-on: ${{ fromJSON(needs.plan.outputs.where) }}
    steps: [{run: echo used}]
"""


@pytest.mark.parametrize(
    ("where", "labels"),
    [('["self-hosted", "runs-fleet=9/cpu=2"]', ("self-hosted", "runs-fleet=9/cpu=2")), ('"runs-fleet"', ("runs-fleet",))],
)
def test_labels_that_another_job_decides_are_known_when_the_job_is_queued(
    github: StandInGitHub, tmp_path: Path, where: str, labels: tuple[str, ...]
) -> None:
    (tmp_path / "dynamic.yml").write_text(PLANNED, "utf-8")
    run = github.state.dispatch(read_workflow(tmp_path / "dynamic.yml"))
    github.state.acquire(run.jobs[0].id)

    github.state.complete(run.jobs[0].id, "success", {"where": where}, [])

    told = app_of(github).job(SCOPE, str(run.jobs[1].id))
    assert told is not None and told.labels == labels
