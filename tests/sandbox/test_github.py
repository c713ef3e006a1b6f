"""The stand-in GitHub keeps GitHub's rules: who gets which job, what a registration is worth, what the webhooks say."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sandbox.github.context import RunnerKeys
from sandbox.github.records import JobRecord, Refusal, RunnerRecord, RunRecord
from sandbox.github.server import StandInGitHub
from sandbox.github.state import GitHubState
from sandbox.runner import release
from sandbox.runner.wire import Refused
from sandbox.workflow import read_workflow
from tests.sandbox.github_clients import PATIENCE_S, App, receiving, single, workflow

ARCHIVE = release.archive()


@pytest.fixture(scope="module")
def github() -> Iterator[StandInGitHub]:
    """One for the module; each test has labels and runs of its own."""
    driver = StandInGitHub(archive=ARCHIVE).start()
    yield driver
    driver.stop()


@pytest.fixture(scope="module")
def app(github: StandInGitHub) -> App:
    return App(github)


class Rules:
    """The state alone, without HTTP; `changes` are what webhooks would be sent for."""

    def __init__(self, lost_after_s: float = 600.0) -> None:
        self.changes: list[tuple[str, str]] = []
        self.state = GitHubState(
            "octo", "sandbox", lambda action, job: self.changes.append((action, job.plan.name)), lost_after_s
        )

    def runner(self, *labels: str, name: str = "") -> RunnerRecord:
        """Registered and online."""
        runner = self.state.register(name or f"runner-{len(self.state.runners)}", labels, 1, None)
        self.state.open_session(runner.id, "2.999.0")
        return runner

    def job_for(self, runner: RunnerRecord) -> JobRecord | None:
        """What it is given at once."""
        return self.state.next_job(runner.session, 0.0)

    def live(self, run: RunRecord, key: str, conclusion: str = "success", **outputs: str) -> None:
        """A runner of its own runs the queued job `key` to its end."""
        job = next(job for job in run.jobs if job.plan.key == key)
        assert self.job_for(self.runner(*job.plan.labels, name=f"for-{job.id}")) is job
        self.state.acquire(job.id)
        self.state.complete(job.id, conclusion, outputs, [])


# Matching


@pytest.mark.parametrize(
    ("runner", "wanted", "fits"),
    [
        (("self-hosted", "linux", "fast"), ("self-hosted", "fast"), True),
        (("Self-Hosted", "FAST"), ("self-hosted", "fast"), True),
        (("self-hosted",), ("self-hosted",), True),
        (("self-hosted",), ("self-hosted", "fast"), False),
        (("faster",), ("fast",), False),
    ],
)
def test_a_job_goes_to_a_runner_that_has_all_its_labels_whatever_their_case(
    runner: tuple[str, ...], wanted: tuple[str, ...], fits: bool, tmp_path: Path
) -> None:
    rules = Rules()
    rules.state.dispatch(single(tmp_path, *wanted))

    found = rules.job_for(rules.runner(*runner))

    assert (found is not None) is fits


def test_a_runner_made_for_one_job_takes_another_that_waits_longer(tmp_path: Path) -> None:
    rules = Rules()
    first, second = (rules.state.dispatch(single(tmp_path, "fast", name=name)) for name in ("first", "second"))
    made_for_second = rules.runner("fast", f"job-{second.jobs[0].id}")

    taken = rules.job_for(made_for_second)

    assert taken is first.jobs[0]
    assert second.jobs[0].runner_id is None


def test_a_job_is_given_to_one_runner_alone(tmp_path: Path) -> None:
    rules = Rules()
    rules.state.dispatch(single(tmp_path, "fast"))
    first, second = rules.runner("fast"), rules.runner("fast")

    assert rules.job_for(first) is not None
    assert rules.job_for(second) is None


def test_a_runner_gets_one_job_in_its_life(tmp_path: Path) -> None:
    rules = Rules()
    run = rules.state.dispatch(single(tmp_path, "fast"))
    rules.state.dispatch(single(tmp_path, "fast"))
    runner = rules.runner("fast")
    assert rules.job_for(runner) is not None

    while_it_works = rules.job_for(runner)
    rules.state.acquire(run.jobs[0].id)
    rules.state.complete(run.jobs[0].id, "success", {}, [])

    assert while_it_works is None
    with pytest.raises(Refusal, match="Runner not found") as refused:
        rules.job_for(runner)
    assert (refused.value.status, refused.value.kind) == (404, "RunnerNotFound")


def test_a_job_queued_while_a_runner_waits_reaches_it(tmp_path: Path) -> None:
    rules, labels = Rules(), Watched("fast")
    runner = rules.runner(*labels)
    runner.labels = labels
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(rules.state.next_job, runner.session, 2 * PATIENCE_S)
        labels.looked_at.wait(PATIENCE_S)

        run = rules.state.dispatch(single(tmp_path, "fast"))

        assert waiting.result(PATIENCE_S) is run.jobs[0]


def test_an_idle_runner_that_is_deregistered_hears_so_in_its_poll() -> None:
    rules, labels = Rules(), Watched("fast")
    runner = rules.runner(*labels)
    runner.labels = labels
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(rules.state.next_job, runner.session, 2 * PATIENCE_S)
        labels.looked_at.wait(PATIENCE_S)

        rules.state.remove(runner.id)

        refused = waiting.exception(PATIENCE_S)
    assert isinstance(refused, Refusal)
    assert (refused.status, refused.kind) == (404, "RunnerNotFound")


class Watched(tuple[str, ...]):
    """Labels that tell when they are compared: whoever compares them holds the lock until it waits."""

    def __new__(cls, *labels: str) -> Watched:
        made = super().__new__(cls, labels)
        made.looked_at = threading.Event()
        return made

    looked_at: threading.Event

    def __iter__(self) -> Iterator[str]:
        if hasattr(self, "looked_at"):
            self.looked_at.set()
        return super().__iter__()


def test_a_job_whose_runner_went_silent_has_failed(tmp_path: Path) -> None:
    rules = Rules(lost_after_s=-1.0)
    run = rules.state.dispatch(single(tmp_path, "fast"))
    assert rules.job_for(rules.runner("fast")) is run.jobs[0]
    rules.state.acquire(run.jobs[0].id)

    rules.state.reap()

    assert run.jobs[0].conclusion == "failure"
    assert not rules.state.runners


# Runs

CHAIN = """
jobs:
  build:
    runs-on: fast
    outputs:
      name: ${{ steps.pack.outputs.name }}
    steps: [{run: echo}]
  test:
    needs: build
    runs-on: fast
    env:
      MADE: ${{ needs.build.outputs.name }}
      HOW: ${{ needs.build.result }}
    steps: [{run: echo}]
  mourn:
    needs: [build]
    if: failure()
    runs-on: fast
    steps: [{run: echo}]
  tidy:
    needs: [test, mourn]
    if: always()
    runs-on: fast
    steps: [{run: echo}]
"""


def test_a_job_is_queued_when_all_it_needs_has_ended(tmp_path: Path) -> None:
    rules = Rules()
    run = rules.state.dispatch(workflow(tmp_path, CHAIN))
    assert rules.changes == [("queued", "build")]

    rules.live(run, "build", name="app.tar")

    assert rules.changes == [
        ("queued", "build"), ("in_progress", "build"), ("completed", "build"), ("queued", "test"), ("completed", "mourn"),
    ]  # fmt: skip


def test_a_job_sees_the_outputs_and_the_result_of_what_it_needed(tmp_path: Path) -> None:
    rules = Rules()
    run = rules.state.dispatch(workflow(tmp_path, CHAIN))
    rules.live(run, "build", name="app.tar")

    contexts = rules.state.contexts(run, run.jobs[1])

    assert contexts["needs"] == {"build": {"result": "success", "outputs": {"name": "app.tar"}}}
    assert contexts["env"] == {"MADE": "app.tar", "HOW": "success"}


def test_after_a_failure_dependents_are_skipped_but_for_those_that_ask_for_it(tmp_path: Path) -> None:
    rules = Rules()
    run = rules.state.dispatch(workflow(tmp_path, CHAIN))

    rules.live(run, "build", "failure")
    rules.live(run, "mourn")
    rules.live(run, "tidy")

    assert {job.plan.key: job.conclusion for job in run.jobs} == {
        "build": "failure", "test": "skipped", "mourn": "success", "tidy": "success",
    }  # fmt: skip
    assert ("queued", "test") not in rules.changes


def test_a_skip_is_handed_down_the_chain(tmp_path: Path) -> None:
    rules = Rules()
    text = "jobs:\n  a: {runs-on: x, if: false, steps: [{run: a}]}\n  b: {runs-on: x, needs: a, steps: [{run: b}]}\n"

    run = rules.state.dispatch(workflow(tmp_path, text))

    assert [job.conclusion for job in run.jobs] == ["skipped", "skipped"]


def test_each_combination_of_a_matrix_is_a_job_and_dependents_wait_for_all(tmp_path: Path) -> None:
    rules = Rules()
    text = """
jobs:
  build:
    strategy: {matrix: {size: [1, 2]}}
    runs-on: "size-${{ matrix.size }}"
    steps: [{run: echo}]
  after: {needs: build, runs-on: fast, steps: [{run: echo}]}
"""
    run = rules.state.dispatch(workflow(tmp_path, text))
    first, second, after = run.jobs
    for job, label in ((first, "size-1"), (second, "size-2")):
        assert after.status == "pending"
        assert rules.job_for(rules.runner(label)) is job
        rules.state.acquire(job.id)
        rules.state.complete(job.id, "success", {}, [])

    assert [job.plan.name for job in run.jobs] == ["build (1)", "build (2)", "after"]
    assert after.status == "queued"


def test_a_cancelled_run_ends_what_is_queued_and_tells_what_is_running(tmp_path: Path) -> None:
    rules = Rules()
    text = "jobs:\n  a: {runs-on: x, steps: [{run: a}]}\n  b: {runs-on: y, steps: [{run: b}]}\n"
    run = rules.state.dispatch(workflow(tmp_path, text))
    assert rules.job_for(rules.runner("x")) is run.jobs[0]
    rules.state.acquire(run.jobs[0].id)

    rules.state.cancel(run.id)

    assert rules.state.renew(run.jobs[0].id) is True
    assert (run.jobs[0].status, run.jobs[1].conclusion) == ("in_progress", "cancelled")


def test_a_second_report_of_a_jobs_end_changes_nothing(tmp_path: Path) -> None:
    rules = Rules()
    run = rules.state.dispatch(single(tmp_path, "fast"))
    rules.live(run, "build", "failure")

    rules.state.complete(run.jobs[0].id, "success", {}, [])

    assert run.jobs[0].conclusion == "failure"
    assert rules.changes.count(("completed", "build")) == 1


# Over HTTP: the App


@pytest.mark.parametrize(
    "claims", [{"iss": "2"}, {"exp": 1}, {"iat": 1_000_000_000}, {"exp": None}], ids=["app", "expired", "long", "endless"]
)
def test_an_app_whose_jwt_is_wrong_gets_no_token(claims: dict[str, Any], app: App) -> None:
    answer = app.call("POST", "/app/installations/1/access_tokens", bearer=app.signed(**claims))

    assert answer.status_code == 401


def test_a_jwt_signed_with_another_key_gets_no_token(app: App) -> None:
    header, claims, signature = app.signed().split(".")
    forged = signature[:20] + ("A" if signature[20] != "A" else "B") + signature[21:]

    answer = app.call("POST", "/app/installations/1/access_tokens", bearer=f"{header}.{claims}.{forged}")

    assert answer.status_code == 401


def test_calls_without_a_token_of_ours_are_refused(app: App) -> None:
    answers = [app.call("GET", app.runners, bearer=bearer) for bearer in ("", "ghs_made_up", app.signed())]

    assert [answer.status_code for answer in answers] == [401, 401, 401]


def test_a_name_can_be_registered_once(app: App) -> None:
    app.register("once", name="the-one")

    again = app.call("POST", f"{app.runners}/generate-jitconfig", {"name": "The-One", "runner_group_id": 1, "labels": ["x"]})

    assert again.status_code == 409


@pytest.mark.parametrize(
    "body",
    [
        {"runner_group_id": 1, "labels": ["x"]},
        {"name": "a", "labels": ["x"]},
        {"name": "a", "runner_group_id": 1},
        {"name": "a", "runner_group_id": 1, "labels": []},
        {"name": "a", "runner_group_id": 1, "labels": ["x"] * 101},
        {"name": "a" * 65, "runner_group_id": 1, "labels": ["x"]},
    ],
    ids=["no name", "no group", "no labels", "empty labels", "too many labels", "long name"],
)
def test_a_jit_configuration_that_breaks_the_rules_is_unprocessable(body: dict[str, Any], app: App) -> None:
    answer = app.call("POST", f"{app.runners}/generate-jitconfig", body)

    assert answer.status_code == 422


def test_a_runner_is_found_by_its_name(app: App) -> None:
    runner = app.register("found", name="sought-for")

    found = app.call("GET", f"{app.runners}?name=sought-for&per_page=100").json()

    assert (found["total_count"], [one["id"] for one in found["runners"]]) == (1, [runner.id])


def test_a_registration_is_removed_with_204_and_then_it_is_404(app: App) -> None:
    runner = app.register("removed")

    answers = [app.call("DELETE", f"{app.runners}/{runner.id}") for _ in range(2)]

    assert [(answer.status_code, answer.content == b"") for answer in answers] == [(204, True), (404, False)]
    assert app.call("GET", f"{app.runners}/{runner.id}").status_code == 404


def test_the_message_of_a_job_carries_what_its_expressions_may_name(github: StandInGitHub, app: App, tmp_path: Path) -> None:
    text = """
on: {workflow_dispatch: {inputs: {level: {default: low}}}}
jobs:
  a: {runs-on: "carries-${{ matrix.n }}", strategy: {matrix: {n: [1]}, max-parallel: 1}, steps: [{run: echo}]}
"""
    (tmp_path / "w.yml").write_text(text, "utf-8")
    github.state.dispatch(read_workflow(tmp_path / "w.yml", {"COLOUR": "red"}))

    _, message = app.register("carries-1").take()

    job = message["job"]
    assert (job["vars"], job["inputs"], job["matrix"]) == ({"COLOUR": "red"}, {"level": "low"}, {"n": 1})
    assert job["strategy"] == {"fail-fast": True, "job-index": 0, "job-total": 1, "max-parallel": 1}


def test_a_runner_at_work_cannot_be_removed(app: App, github: StandInGitHub, tmp_path: Path) -> None:
    github.state.dispatch(single(tmp_path, "busy"))
    runner = app.register("busy")
    runner.take()

    answer = app.call("DELETE", f"{app.runners}/{runner.id}")

    assert answer.status_code == 422
    assert app.call("GET", f"{app.runners}/{runner.id}").json()["busy"] is True


def test_what_nobody_answers_is_404(app: App) -> None:
    assert app.call("GET", f"{app.repository}/issues").status_code == 404
    assert app.call("POST", app.runners).status_code == 404


def test_a_body_that_is_not_an_object_is_a_bad_request(app: App) -> None:
    answers = [app.call("POST", f"{app.runners}/generate-jitconfig", body) for body in ("text", [1], 7)]

    assert [answer.status_code for answer in answers] == [400, 400, 400]


def test_a_run_that_does_not_exist_is_404_whatever_is_asked_of_it(app: App) -> None:
    run = f"{app.repository}/actions/runs/99999"

    answers = [app.call("GET", f"{run}/jobs"), app.call("POST", f"{run}/cancel")]

    assert [answer.status_code for answer in answers] == [404, 404]


def test_an_enterprise_address_is_answered_alike(app: App) -> None:
    assert app.call("GET", f"/api/v3{app.runners}").status_code == 200


# Over HTTP: the runner


def test_a_jit_blob_is_worth_one_session(app: App) -> None:
    runner = app.register("single-use")
    runner.connect()

    with pytest.raises(Refused) as refused:
        runner.connect()

    assert (refused.value.status, refused.value.kind) == (409, "TaskAgentSessionConflictException")


def test_a_runner_is_online_while_it_has_a_session(app: App) -> None:
    runner = app.register("seen")
    states = [app.call("GET", f"{app.runners}/{runner.id}").json()["status"]]
    service = runner.connect()
    states.append(app.call("GET", f"{app.runners}/{runner.id}").json()["status"])

    service.call("DELETE", f"session?sessionId={runner.session}")
    states.append(app.call("GET", f"{app.runners}/{runner.id}").json()["status"])

    assert states == ["offline", "online", "offline"]


def test_a_deregistered_runner_cannot_sign_in_any_more(app: App) -> None:
    runner = app.register("gone")
    app.call("DELETE", f"{app.runners}/{runner.id}")

    with pytest.raises(Refused) as refused:
        runner.connect()

    assert (refused.value.status, refused.value.kind) == (400, "invalid_client")


def test_the_poll_of_a_runner_removed_meanwhile_is_answered_runner_not_found(app: App) -> None:
    runner = app.register("polling")
    service = runner.connect()
    app.call("DELETE", f"{app.runners}/{runner.id}")

    with pytest.raises(Refused) as refused:
        service.call("GET", f"message?sessionId={runner.session}")

    assert (refused.value.status, refused.value.kind) == (404, "RunnerNotFound")


def test_a_job_that_was_cancelled_before_it_was_acquired_is_not_to_be_had(
    app: App, github: StandInGitHub, tmp_path: Path
) -> None:
    run = github.state.dispatch(single(tmp_path, "raced"))
    runner = app.register("raced")
    service = runner.connect()
    _, message = service.call("GET", f"message?sessionId={runner.session}")
    app.call("POST", f"{app.repository}/actions/runs/{run.id}/cancel")

    with pytest.raises(Refused) as refused:
        service.call("POST", f"{github.url}/run/acquirejob", {"jobMessageId": json.loads(message["body"])["runner_request_id"]})

    assert refused.value.status in (404, 409)


def test_the_registration_is_gone_when_its_job_has_ended(app: App, github: StandInGitHub, tmp_path: Path) -> None:
    run = github.state.dispatch(single(tmp_path, "ended"))
    runner = app.register("ended")

    runner.work("success")

    assert app.call("GET", f"{app.runners}/{runner.id}").status_code == 404
    job = app.call("GET", f"{app.repository}/actions/jobs/{run.jobs[0].id}").json()
    assert (job["status"], job["conclusion"], job["runner_id"]) == ("completed", "success", runner.id)
    logs = app.call("GET", f"{app.repository}/actions/jobs/{run.jobs[0].id}/logs")
    assert logs.text == "##[group]say\nhi\n##[endgroup]\n"


# Over HTTP: releases


def test_a_release_names_its_digest_twice_and_the_bytes_have_it(app: App, github: StandInGitHub) -> None:
    latest = app.call("GET", "/repos/actions/runner/releases/latest", bearer="").json()
    asset = latest["assets"][0]
    marked = re.search(r"<!-- BEGIN SHA linux-x64 -->([0-9a-f]{64})<!-- END SHA linux-x64 -->", latest["body"])

    moved = app.call("GET", asset["browser_download_url"].removeprefix(github.url), bearer="")
    content = app.call("GET", moved.headers["Location"].removeprefix(github.url), bearer="").content

    assert moved.status_code == 302
    assert marked is not None
    assert hashlib.sha256(content).hexdigest() == marked.group(1) == asset["digest"].removeprefix("sha256:")
    assert len(content) == asset["size"]


def test_a_release_is_found_by_its_tag_and_no_other(app: App) -> None:
    answers = [app.call("GET", f"/repos/actions/runner/releases/tags/{tag}") for tag in ("v2.999.0", "v1.0.0", "2.999.0")]

    assert [answer.status_code for answer in answers] == [200, 404, 404]


@pytest.mark.parametrize(
    ("wanted", "status", "part", "told"),
    [
        ("bytes=100-", 206, slice(100, None), "bytes 100-{last}/{size}"),
        ("bytes=0-9", 206, slice(0, 10), "bytes 0-9/{size}"),
        ("bytes=5-999999999", 206, slice(5, None), "bytes 5-{last}/{size}"),
        ("bytes={size}-", 416, slice(0, 0), "bytes */{size}"),
    ],
)
def test_a_download_can_be_resumed(wanted: str, status: int, part: slice, told: str, app: App) -> None:
    size = len(ARCHIVE.content)

    answer = app.call("GET", "/cdn/release.tar.gz", headers={"Range": wanted.format(size=size)})

    assert (answer.status_code, answer.content) == (status, ARCHIVE.content[part])
    assert answer.headers["Content-Range"] == told.format(size=size, last=size - 1)


# Webhooks


def test_every_webhook_is_signed_over_exactly_its_bytes(github: StandInGitHub, tmp_path: Path) -> None:
    with receiving(github) as receiver:
        github.state.dispatch(single(tmp_path, "signed"))
        (delivery,) = receiver.next()

    wanted = "sha256=" + hmac.new(github.webhook_secret.encode(), delivery.body, hashlib.sha256).hexdigest()
    assert delivery.headers["X-Hub-Signature-256"] == wanted
    assert delivery.headers["X-GitHub-Event"] == "workflow_job"


def test_a_jobs_life_is_three_webhooks_and_a_skip_is_one(app: App, github: StandInGitHub, tmp_path: Path) -> None:
    text = "jobs:\n  a: {runs-on: told, steps: [{run: a}]}\n  b: {runs-on: told, needs: a, steps: [{run: b}]}\n"
    with receiving(github) as receiver:
        github.state.dispatch(workflow(tmp_path, text))
        app.register("told").work("failure")
        events = [delivery.event for delivery in receiver.next(4)]

    assert events == [
        ("queued", "a", None), ("in_progress", "a", None), ("completed", "a", "failure"), ("completed", "b", "skipped"),
    ]  # fmt: skip


def test_a_webhook_names_the_runner_once_there_is_one(app: App, github: StandInGitHub, tmp_path: Path) -> None:
    with receiving(github) as receiver:
        github.state.dispatch(single(tmp_path, "named"))
        runner = app.register("named")
        runner.work()
        jobs = [json.loads(delivery.body)["workflow_job"] for delivery in receiver.next(3)]

    assert [job["runner_id"] for job in jobs] == [None, runner.id, runner.id]
    assert [job["labels"] for job in jobs] == [["named"]] * 3


def test_a_refused_webhook_is_delivered_again_with_the_same_bytes_and_id(github: StandInGitHub, tmp_path: Path) -> None:
    with receiving(github, 500) as receiver:
        github.state.dispatch(single(tmp_path, "again"))
        first, second = receiver.next(2)

    assert (first.body, first.headers["X-GitHub-Delivery"]) == (second.body, second.headers["X-GitHub-Delivery"])


FAN = """
jobs:
  first: {runs-on: x, steps: [{run: echo}]}
  second: {runs-on: x, needs: first, steps: [{run: echo}]}
  third: {runs-on: x, steps: [{run: echo}]}
"""


def concluded(github: StandInGitHub, run: RunRecord, **conclusions: str) -> None:
    for key, conclusion in conclusions.items():
        (job,) = [job for job in run.jobs if job.plan.key == key]
        github.state.complete(job.id, conclusion, {}, [])


def latest(run: RunRecord) -> dict[str, tuple[str, int]]:
    return {job.plan.key: (job.status, job.attempt) for job in run.jobs}


def test_failed_jobs_run_again_with_what_needs_them_under_new_ids(github: StandInGitHub, tmp_path: Path) -> None:
    run = github.state.dispatch(workflow(tmp_path, FAN))
    old = {job.plan.key: job.id for job in run.jobs}
    concluded(github, run, first="failure", third="success")

    answer = App(github).call("POST", f"/repos/octo/sandbox/actions/runs/{run.id}/rerun-failed-jobs")

    new = {job.plan.key: job.id for job in run.jobs}
    assert (answer.status_code, run.attempt) == (201, 2)
    assert latest(run) == {"first": ("queued", 2), "second": ("pending", 2), "third": ("completed", 1)}
    assert {key for key in old if old[key] == new[key]} == {"third"} and github.state.job(old["first"])


def test_one_job_runs_again_and_other_failed_ones_stay_failed(github: StandInGitHub, tmp_path: Path) -> None:
    run = github.state.dispatch(workflow(tmp_path, FAN))
    third = next(job.id for job in run.jobs if job.plan.key == "third")
    concluded(github, run, first="failure", third="failure")

    answer = App(github).call("POST", f"/repos/octo/sandbox/actions/jobs/{third}/rerun")

    assert answer.status_code == 201
    assert latest(run) == {"first": ("completed", 1), "second": ("completed", 1), "third": ("queued", 2)}


def test_a_run_that_is_not_over_is_not_run_again(github: StandInGitHub, tmp_path: Path) -> None:
    run = github.state.dispatch(workflow(tmp_path, FAN))
    concluded(github, run, first="failure")

    answer = App(github).call("POST", f"/repos/octo/sandbox/actions/runs/{run.id}/rerun-failed-jobs")

    assert (answer.status_code, run.attempt) == (403, 1)


def test_a_job_that_its_runner_never_takes_waits_again_for_another(github: StandInGitHub, tmp_path: Path) -> None:
    run = github.state.dispatch(single(tmp_path, "dropped"))
    lazy, other = App(github).register("dropped", name="lazy"), App(github).register("dropped", name="other")
    for runner in (lazy, other):
        runner.session = github.state.open_session(runner.id, "2.999.0")
    given = github.state.next_job(lazy.session, PATIENCE_S)
    github.state.requeued_after_s = 0.0

    github.state.reap()

    assert given is run.jobs[0] and github.state.next_job(other.session, PATIENCE_S) is given
    github.state.requeued_after_s = 60.0


def test_registrations_one_after_the_other_have_different_keys() -> None:
    keys = RunnerKeys()
    keys.make()
    keys.make()

    given = [keys.get() for _ in range(2 * keys.DIFFERENT)]

    assert len(set(map(id, given[: keys.DIFFERENT]))) == keys.DIFFERENT
    assert given[keys.DIFFERENT :] == given[: keys.DIFFERENT]
