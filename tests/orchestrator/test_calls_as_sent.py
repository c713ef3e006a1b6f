"""What is really said to AWS and GitHub: parameters on which decisions rest, and pages beyond the first."""

from __future__ import annotations

from typing import Any

import boto3
import pytest

from orchestrator.adapters.aws import Clients
from orchestrator.adapters.dynamodb import DynamoTables
from orchestrator.adapters.ec2 import Ec2Api
from sandbox.github.records import JobRecord
from sandbox.github.server import StandInGitHub
from sandbox.workflow import read_workflow
from simulation.examples import some_wanted
from simulation.world import World
from tests.conftest import Moto
from tests.orchestrator.githubs import SCOPE, app_of

ONE = "name: one\non: push\njobs: {one: {runs-on: [runs-fleet], steps: [{run: 'true'}]}}\n"


@pytest.fixture
def said(moto: Moto) -> tuple[DynamoTables, list[tuple[str, dict[str, Any]]]]:
    """Tables whose calls are looked at on their way out."""
    session, calls = boto3.session.Session(), list[tuple[str, dict[str, Any]]]()

    def look(params: dict[str, Any], model: Any, **_: Any) -> None:
        calls.append((model.name, dict(params)))

    session.events.register("provide-client-params.dynamodb.*", look)
    client = moto.client("dynamodb")
    for name in ("jobs", "sessions"):
        keys = [{"AttributeName": "id", "KeyType": "HASH"}, {"AttributeName": "row", "KeyType": "RANGE"}]
        types = [{"AttributeName": part, "AttributeType": "S"} for part in ("id", "row")]
        client.create_table(TableName=name, KeySchema=keys, AttributeDefinitions=types, BillingMode="PAY_PER_REQUEST")
    return DynamoTables(Clients(session), {"jobs": "jobs", "sessions": "sessions"}), calls


def test_single_items_and_views_are_read_consistently(said: tuple[DynamoTables, list[tuple[str, dict[str, Any]]]]) -> None:
    tables, calls = said

    tables.get("jobs", ("1", "job"))
    tables.rows("sessions", "s")

    assert [(name, params.get("ConsistentRead")) for name, params in calls] == [("GetItem", True), ("Query", True)]


def test_another_stacks_machines_are_not_among_ours() -> None:
    world = World()
    mine, theirs = world.ec2_strategy(world.records, world.compute), World().ec2_strategy(world.records, world.compute)
    asked: list[list[dict[str, Any]]] = []
    world.calls.script("ec2.describe", times=None, before=asked.append)
    for strategy in (mine, theirs):
        plan = strategy.plan(some_wanted())
        assert plan is not None
        strategy.start_sessions(plan.request, {}, sent_before=False)

    list(mine.list_sessions())

    assert {"Name": "tag:runs-fleet:stack", "Values": [world.settings.stack_id]} in asked[-1]
    assert {"Name": "tag:runs-fleet:managed", "Values": ["true"]} in asked[-1]


def test_runners_beyond_the_first_hundred_are_listed(github: StandInGitHub) -> None:
    for number in range(205):
        github.state.register(f"r-{number}", ("a",), 1, None)

    assert {one.name for one in app_of(github).registered(SCOPE)} == {f"r-{number}" for number in range(205)}


def test_jobs_of_a_run_beyond_the_first_hundred_are_told_of_and_so_is_how_they_ended(
    github: StandInGitHub, tmp_path: Any
) -> None:
    (tmp_path / "one.yml").write_text(ONE, "utf-8")
    run = github.state.dispatch(read_workflow(tmp_path / "one.yml"))
    plan = run.jobs[0].plan
    run.jobs += [
        JobRecord(id=90_000 + n, run_id=run.id, plan=plan, status="completed", conclusion="failure", labels=plan.labels)
        for n in range(150)
    ]

    assert len(list(app_of(github).jobs_of(SCOPE, str(run.id)))) == 151
    assert len(app_of(github).ended_badly(SCOPE, str(run.id))) == 151 - 1


def test_runs_beyond_the_first_hundred_are_searched_for_jobs_that_wait(github: StandInGitHub, tmp_path: Any) -> None:
    (tmp_path / "one.yml").write_text(ONE, "utf-8")
    for _ in range(105):
        github.state.dispatch(read_workflow(tmp_path / "one.yml"))

    assert len({job.job_id for job in app_of(github).waiting_jobs(SCOPE)}) == 105


def test_every_page_of_the_list_of_machines_is_read(moto: Moto) -> None:
    for _ in range(101):  # a reservation each: pages are of reservations
        moto.client("ec2").run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)

    found = list(Ec2Api(Clients()).describe([{"Name": "instance-state-name", "Values": ["pending", "running"]}]))

    assert len({one["InstanceId"] for one in found}) == 101
