"""The proof after a run sees what it is there to see: each thing that must not be is made, and is named."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from orchestrator.store.kinds import changed
from orchestrator.store.model import WaitlistEntry
from orchestrator.store.states import SessionState
from sandbox.github.records import RunRecord
from sandbox.proof import cost_of, drained, faults_of, planted_secrets
from sandbox.stack import STACK
from sandbox.workflow import read_workflow
from sandbox.world import World, play, records, world

WORKFLOW = "on: push\njobs: {one: {runs-on: runs-fleet=1/cpu=2, steps: [{run: echo hello}]}}\n"


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, RunRecord]]:
    """A world in which one job was run, and the orchestrator has gone."""
    root = tmp_path_factory.mktemp("proof")
    (root / "one.yml").write_text(WORKFLOW, "utf-8")
    with world(root) as up:
        up.serve()
        run = play(up, read_workflow(root / "one.yml"))
        drained(up)
        up.stop_serving()
        yield up, run


def test_after_a_good_run_there_is_nothing_to_say(played: tuple[World, RunRecord]) -> None:
    up, run = played

    assert faults_of(up, [run]) == []


@pytest.mark.parametrize("name", ["the webhook's secret", "the App's key", "AWS's secret key", "token 0", "JIT configuration 0"])
def test_a_secret_in_the_orchestrators_log_is_named_and_not_told(played: tuple[World, RunRecord], name: str) -> None:
    up, run = played
    secret = planted_secrets(up.github)[name]
    log = up.root / "orchestrator-9.log"
    log.write_text(f"something failed: {secret}", "utf-8")

    found = faults_of(up, [run])
    log.unlink()

    assert found == [f"{name} lies in the log orchestrator-9.log"]
    assert secret not in found[0]


def test_a_secret_in_a_message_a_notice_a_console_and_a_log_stream_is_named(played: tuple[World, RunRecord]) -> None:
    up, run = played
    secret = planted_secrets(up.github)["JIT configuration 0"]
    up.cloud.messages.append(f'{{"error": "{secret}"}}')
    up.github.state.check("0" * 40, "runs-fleet", {"output": {"title": "t", "summary": secret}})
    console = next(up.root.glob("instances/*/console.log"))
    before = console.read_text("utf-8")
    console.write_text(before + secret, "utf-8")
    logs = up.cloud.client("logs")
    stream = logs.describe_log_streams(logGroupName="/runs-fleet/agent")["logStreams"][0]["logStreamName"]
    event = {"timestamp": int(time.time() * 1000), "message": f"x {secret}"}
    logs.put_log_events(logGroupName="/runs-fleet/agent", logStreamName=stream, logEvents=[event])

    found = faults_of(up, [run])
    up.cloud.messages.pop()
    up.github.state.checks.pop()
    console.write_text(before, "utf-8")
    logs.delete_log_stream(logGroupName="/runs-fleet/agent", logStreamName=stream)

    where = {fault.partition(" lies in ")[2].split()[0 if "notice" not in fault else 1] for fault in found}
    assert where == {"message", "notice", "the", "log"} and len(found) == 4


def test_a_message_that_nobody_took_is_named(played: tuple[World, RunRecord]) -> None:
    up, run = played
    assert up.stack is not None
    sqs, url = up.cloud.client("sqs"), up.stack.termination_queue_url
    sqs.send_message(QueueUrl=url, MessageBody="{}")

    found = faults_of(up, [run])
    sqs.purge_queue(QueueUrl=url)

    assert found == ["sandbox-termination still holds 1 messages"]


def test_a_session_that_is_still_open_and_its_item_are_named(played: tuple[World, RunRecord]) -> None:
    up, run = played
    known = records(up.cloud, STACK)
    (session,) = known.sessions()
    opened = known.put(changed(session, state=SessionState.READY, due=time.time() + 3600.0, closed_at=None))

    found = faults_of(up, [run])
    known.put(changed(opened, state=SessionState.CLOSED, closed_at=session.closed_at))

    assert f"session {session.session_id} is still ready" in found
    assert any(fault.endswith(f"still has an open item: session {session.session_id}") for fault in found)


def test_a_label_set_that_still_waits_is_named(played: tuple[World, RunRecord]) -> None:
    up, run = played
    known = records(up.cloud, STACK)
    known.waitlist.add(WaitlistEntry(set_key="somebody", since=1.0, jobs=1, at=time.time()))

    found = faults_of(up, [run])
    known.waitlist.remove("somebody")

    assert found == ["somebody still waits for a limit"]


def test_two_jobs_of_one_runner_are_named(played: tuple[World, RunRecord]) -> None:
    up, run = played
    runner = run.jobs[0].runner_name

    assert faults_of(up, [run, run]) == [f"runner {runner} did 2 jobs"]


def test_machines_that_ran_too_long_are_named_with_what_they_may(played: tuple[World, RunRecord]) -> None:
    up, run = played
    known = records(up.cloud, STACK)
    (session,) = known.sessions()
    assert session.launched_at is not None
    dear = known.put(changed(session, launched_at=session.launched_at - 7_200.0))

    (found,) = faults_of(up, [run])
    known.put(changed(dear, launched_at=session.launched_at))

    assert found.startswith("machines ran for 72") and "expected at most" in found
    cost = cost_of([run], [session])
    assert 0.0 < cost.jobs_s < cost.machine_s < cost.allowed_s


def test_machines_for_nobody_are_named(played: tuple[World, RunRecord]) -> None:
    up, run = played
    known = records(up.cloud, STACK)
    (session,) = known.sessions()
    for number in range(6):
        idle = {"session_id": f"s-idle-{number}", "instance_id": f"i-idle-{number}", "bound_job": "", "registration_name": ""}
        known.put(changed(session, version=0, launched_at=session.closed_at, **idle))

    found = faults_of(up, [run])

    assert found == ["6 machines got no job, expected at most 4 for 1 attempts of jobs"]
