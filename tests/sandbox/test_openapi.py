"""What the stand-in GitHub answers, and what we send to GitHub, fits GitHub's published OpenAPI description."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from jsonschema import Draft202012Validator
from requests.adapters import HTTPAdapter

from agent.contract.secret import Secret
from orchestrator.adapters.github import GitHubApp
from orchestrator.jobs.github import Run
from orchestrator.store.naming import Scope
from sandbox.github.server import StandInGitHub
from sandbox.runner import release
from tests.sandbox.github_clients import App, receiving, single, workflow

DESCRIPTION: dict[str, Any] = json.loads((Path(__file__).parent / "openapi" / "github.json").read_text("utf-8"))
ERROR = {"$ref": "#/components/schemas/basic-error"}
UNSAID = frozenset({"400", "401", "403", "404"})
"""Statuses any call may end with; where an operation does not list them, they have the form of every error."""
SCOPE = Scope(installation_id="", owner="octo", repo="sandbox")


@dataclass(frozen=True)
class Exchange:
    """One request and its answer, as they went over the wire."""

    method: str
    url: str
    sent: bytes | None
    status: int
    body: bytes

    def name(self) -> str:
        """The operation's, as the description has it."""
        return f"{self.method} {self.path()[0]}"

    def path(self) -> tuple[str, dict[str, Any]]:
        """The described path and its operation."""
        for path, methods in DESCRIPTION["paths"].items():
            pattern = re.sub(r"\{\w+\}", "[^/]+", path)
            if self.method.lower() in methods and re.fullmatch(pattern, urlsplit(self.url).path):
                return path, methods[self.method.lower()]
        raise AssertionError(f"GitHub's description has no {self.method} {self.url}")

    def faults_of_the_answer(self) -> list[str]:
        """Everything in which it differs from the description."""
        responses = self.path()[1]["responses"]
        if str(self.status) not in responses:
            return _faults(ERROR, self.body) if str(self.status) in UNSAID else [f"{self.status} is not documented"]
        schema = responses[str(self.status)]
        if schema is None:
            return [f"{self.status} has no body, found {self.body!r}"] if self.body else []
        return _faults(schema, self.body)

    def faults_of_the_request(self) -> list[str]:
        """The same for what was sent: query and body."""
        operation = self.path()[1]
        unknown = [
            f"no such parameter: {name}" for name, _ in parse_qsl(urlsplit(self.url).query) if name not in operation["query"]
        ]
        if "request" not in operation:
            return unknown + ([f"expected no body, found {self.sent!r}"] if self.sent else [])
        if not self.sent:
            return unknown + (["expected a body"] if operation["request"]["required"] else [])
        properties = operation["request"]["schema"]["properties"]
        extra = [f"no such field: {name}" for name in json.loads(self.sent) if name not in properties]
        return unknown + extra + _faults(operation["request"]["schema"], self.sent)


def _faults(schema: dict[str, Any], body: bytes) -> list[str]:
    whole = {**schema, "components": DESCRIPTION["components"]}
    found = Draft202012Validator(whole).iter_errors(json.loads(body))
    return [f"{error.json_path}: {error.message[:200]}" for error in found]


class Recorder(HTTPAdapter):
    """A transport that keeps every exchange."""

    def __init__(self) -> None:
        super().__init__()
        self.exchanges: list[Exchange] = []

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """As always, and noted."""
        answer = super().send(request, *args, **options)
        self.exchanges.append(noted(request, answer))
        return answer


def noted(request: requests.PreparedRequest, answer: requests.Response) -> Exchange:
    """What went over the wire."""
    sent = request.body.encode() if isinstance(request.body, str) else request.body
    return Exchange(str(request.method), str(request.url), sent, answer.status_code, answer.content)


@pytest.fixture(scope="module")
def github() -> Iterator[StandInGitHub]:
    driver = StandInGitHub(archive=release.archive()).start()
    yield driver
    driver.stop()


THREE_STATES = """
jobs:
  skipped: {runs-on: x, if: false, steps: [{run: echo}]}
  pending: {runs-on: x, needs: queued, steps: [{run: echo}]}
  queued: {runs-on: x, steps: [{run: echo}]}
"""


@pytest.fixture(scope="module")
def answers(github: StandInGitHub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exchange]:
    """Every answer the stand-in can give, by what it is about."""
    app, directory = App(github), tmp_path_factory.mktemp("workflows")
    found: dict[str, Exchange] = {}

    def ask(about: str, method: str, path: str, body: Any = None, bearer: str | None = None) -> None:
        answer = app.call(method, path, body, bearer=bearer)
        found[about] = noted(answer.request, answer)

    runs = f"{app.repository}/actions/runs"
    jobs = f"{app.repository}/actions/jobs"
    mixed = github.state.dispatch(workflow(directory, THREE_STATES))
    lived = github.state.dispatch(single(directory, "lived"))
    taken = github.state.dispatch(single(directory, "taken"))
    idle, busy = app.register("idle"), app.register("taken")
    ask("runner.offline", "GET", f"{app.runners}/{idle.id}")
    idle.connect()
    busy.take()
    app.register("lived").work("failure")

    ask("app", "GET", "/app", bearer=app.signed())
    ask("app.refused", "GET", "/app", bearer="no")
    github.webhook_url = "https://fleet.test/webhook"
    ask("app.hook", "GET", "/app/hook/config", bearer=app.signed())
    github.webhook_url = None
    ask("token", "POST", "/app/installations/1/access_tokens", bearer=app.signed())
    ask("token.refused", "POST", "/app/installations/1/access_tokens", bearer="no")
    ask("installation", "GET", f"{app.repository}/installation", bearer=app.signed())
    ask("jitconfig", "POST", f"{app.runners}/generate-jitconfig", {"name": "a", "runner_group_id": 1, "labels": ["x"]})
    ask("jitconfig.taken", "POST", f"{app.runners}/generate-jitconfig", {"name": "a", "runner_group_id": 1, "labels": ["x"]})
    ask("jitconfig.invalid", "POST", f"{app.runners}/generate-jitconfig", {"name": "b"})
    ask("registration-token", "POST", f"{app.runners}/registration-token")
    ask("runners", "GET", app.runners)
    ask("runners.none", "GET", f"{app.runners}?name=nobody")
    ask("runners.refused", "GET", app.runners, bearer="no")
    ask("runner.online", "GET", f"{app.runners}/{idle.id}")
    ask("runner.busy", "GET", f"{app.runners}/{busy.id}")
    ask("runner.unknown", "GET", f"{app.runners}/999999")
    ask("runner.busy.delete", "DELETE", f"{app.runners}/{busy.id}")
    ask("runner.delete", "DELETE", f"{app.runners}/{idle.id}")
    ask("runner.delete.again", "DELETE", f"{app.runners}/{idle.id}")
    for job in mixed.jobs:
        ask(f"job.{job.plan.key}", "GET", f"{jobs}/{job.id}")
    ask("job.in_progress", "GET", f"{jobs}/{taken.jobs[0].id}")
    ask("job.completed", "GET", f"{jobs}/{lived.jobs[0].id}")
    ask("job.unknown", "GET", f"{jobs}/999999")
    ask("run.jobs", "GET", f"{runs}/{mixed.id}/jobs")
    ask("runs", "GET", f"{runs}?status=completed")
    ask("run", "GET", f"{runs}/{lived.id}")
    ask("run.unknown", "GET", f"{runs}/999999")
    ask("run.rerun.running", "POST", f"{runs}/{mixed.id}/rerun-failed-jobs")
    ask("run.rerun", "POST", f"{runs}/{lived.id}/rerun-failed-jobs")
    ask("job.rerun.running", "POST", f"{jobs}/{lived.jobs[0].id}/rerun")
    github.state.cancel(lived.id)
    ask("job.rerun", "POST", f"{jobs}/{lived.jobs[0].id}/rerun")
    begun = {"name": "n", "head_sha": "0" * 40}
    over = {**begun, "status": "completed", "conclusion": "neutral", "output": {"title": "t", "summary": "s"}}
    ask("check-run", "POST", f"{app.repository}/check-runs", over)
    ask("check-run.queued", "POST", f"{app.repository}/check-runs", begun)
    checks = github.permissions.pop("checks")
    ask("check-run.forbidden", "POST", f"{app.repository}/check-runs", over)
    github.permissions["checks"] = checks
    github.deliveries.put("queued", b"{}")
    ask("rate-limit", "GET", "/rate_limit")
    ask("rate-limit.refused", "GET", "/rate_limit", bearer="no")
    ask("deliveries", "GET", "/app/hook/deliveries", bearer=app.signed())
    ask("deliveries.refused", "GET", "/app/hook/deliveries")
    ask("delivery.again", "POST", f"/app/hook/deliveries/{github.deliveries.log[0].id}/attempts", bearer=app.signed())
    ask("delivery.unknown", "POST", "/app/hook/deliveries/999999/attempts", bearer=app.signed())
    ask("run.cancel", "POST", f"{runs}/{mixed.id}/cancel")
    ask("release", "GET", "/repos/actions/runner/releases/latest", bearer="")
    ask("release.tagged", "GET", "/repos/actions/runner/releases/tags/v2.999.0", bearer="")
    ask("release.unknown", "GET", "/repos/actions/runner/releases/tags/v0.0.1", bearer="")
    return found


@pytest.mark.parametrize(
    ("about", "status"),
    [
        ("app", 200), ("app.refused", 401), ("app.hook", 200),
        ("token", 201), ("token.refused", 401), ("installation", 200), ("jitconfig", 201), ("jitconfig.taken", 409),
        ("jitconfig.invalid", 422), ("registration-token", 201), ("runners", 200), ("runners.none", 200),
        ("runners.refused", 401),
        ("runner.offline", 200), ("runner.online", 200), ("runner.busy", 200), ("runner.unknown", 404),
        ("runner.busy.delete", 422),
        ("runner.delete", 204), ("runner.delete.again", 404), ("job.skipped", 200), ("job.pending", 200), ("job.queued", 200),
        ("job.in_progress", 200), ("job.completed", 200), ("job.unknown", 404), ("run.jobs", 200), ("run.cancel", 202),
        ("runs", 200), ("run", 200), ("run.unknown", 404), ("run.rerun.running", 403), ("run.rerun", 201),
        ("job.rerun.running", 403), ("job.rerun", 201), ("check-run", 201), ("check-run.queued", 201),
        ("check-run.forbidden", 403), ("rate-limit", 200), ("rate-limit.refused", 401),
        ("deliveries", 200), ("deliveries.refused", 401),
        ("delivery.again", 202), ("delivery.unknown", 404),
        ("release", 200), ("release.tagged", 200), ("release.unknown", 404),
    ],
)  # fmt: skip
def test_each_answer_is_as_described(about: str, status: int, answers: dict[str, Exchange]) -> None:
    exchange = answers[about]

    assert exchange.status == status
    assert exchange.faults_of_the_answer() == []


def test_every_described_operation_was_asked(answers: dict[str, Exchange]) -> None:
    described = {f"{method.upper()} {path}" for path, methods in DESCRIPTION["paths"].items() for method in methods}

    assert {exchange.name() for exchange in answers.values()} == described


def test_the_job_in_a_webhook_is_as_the_api_has_it(github: StandInGitHub, tmp_path: Path) -> None:
    with receiving(github) as receiver:
        github.state.dispatch(single(tmp_path, "hooked"))
        App(github).register("hooked", name="hooked").work("failure")
        jobs = [json.dumps(json.loads(delivery.body)["workflow_job"]).encode() for delivery in receiver.next(3)]

    assert [fault for job in jobs for fault in _faults({"$ref": "#/components/schemas/job"}, job)] == []


def test_every_request_of_the_orchestrator_is_as_described(github: StandInGitHub, tmp_path: Path) -> None:
    github.state.dispatch(single(tmp_path, "waits-for-ever"))
    recorder, session = Recorder(), requests.Session()
    session.mount("http://", recorder)
    app = GitHubApp(github.url, github.app_id, Secret(github.app_private_key), session)

    assert (app.registrations(SCOPE).left or 0) > 0
    minted = app.mint(SCOPE, "of-the-orchestrator", ("self-hosted", "runs-fleet"))
    assert app.mint(SCOPE, "of-the-orchestrator", ("self-hosted",)) is None
    assert minted is not None and app.find(SCOPE, "of-the-orchestrator") == minted.runner_id
    assert app.remove(SCOPE, minted.runner_id)
    waiting = list(app.waiting_jobs(SCOPE))
    job = app.job(SCOPE, waiting[0].job_id)
    assert job == waiting[0] and app.run(SCOPE, job.run_id) == Run(over=False, attempt=job.run_attempt)
    assert (
        app.ended_badly(SCOPE, job.run_id) == []
        and not app.rerun(SCOPE, job.run_id)
        and not app.rerun(SCOPE, job.run_id, job.job_id)
    )
    assert job.job_id in {one.job_id for one in app.jobs_of(SCOPE, job.run_id)}
    assert list(app.jobs_of(SCOPE, "999999")) == list(app.jobs_of(SCOPE, "../../user")) == []
    list(app.registered(SCOPE))
    assert app.post_notice(SCOPE, "0" * 40, "a title", "x" * 70_000)
    for failed in app.failed_deliveries(0.0)[:1]:
        app.redeliver(failed.delivery_id)

    seen = dict.fromkeys((exchange.name(), *exchange.faults_of_the_request()) for exchange in recorder.exchanges)
    assert list(seen) == [
        ("GET /repos/{owner}/{repo}/installation",),
        ("POST /app/installations/{installation_id}/access_tokens",),
        ("GET /rate_limit",),
        ("POST /repos/{owner}/{repo}/actions/runners/generate-jitconfig",),
        ("GET /repos/{owner}/{repo}/actions/runners",),
        ("DELETE /repos/{owner}/{repo}/actions/runners/{runner_id}",),
        ("GET /repos/{owner}/{repo}/actions/runs",),
        ("GET /repos/{owner}/{repo}/actions/runs/{run_id}/jobs",),
        ("GET /repos/{owner}/{repo}/actions/jobs/{job_id}",),
        ("GET /repos/{owner}/{repo}/actions/runs/{run_id}",),
        ("POST /repos/{owner}/{repo}/actions/runs/{run_id}/rerun-failed-jobs",),
        ("POST /repos/{owner}/{repo}/actions/jobs/{job_id}/rerun",),
        ("POST /repos/{owner}/{repo}/check-runs",),
        ("GET /app/hook/deliveries",),
        ("POST /app/hook/deliveries/{delivery_id}/attempts",),
    ]


def test_an_answer_that_lacks_a_field_is_not_as_described(answers: dict[str, Exchange]) -> None:
    good = answers["job.completed"]
    told = {name: value for name, value in json.loads(good.body).items() if name != "runner_id"}

    poor = Exchange(good.method, good.url, None, 200, json.dumps(told).encode())

    assert poor.faults_of_the_answer() == ["$: 'runner_id' is a required property"]
    assert Exchange(good.method, good.url, None, 418, b"").faults_of_the_answer() == ["418 is not documented"]


def test_a_request_with_an_unknown_field_or_without_a_needed_one_is_not_as_described(github: StandInGitHub) -> None:
    url, body = f"{github.url}/repos/octo/sandbox/actions/runners/generate-jitconfig", {"name": "a", "labels": ["x"], "group": 1}

    poor = Exchange("POST", url + "?page=1", json.dumps(body).encode(), 201, b"{}")

    assert poor.faults_of_the_request() == [
        "no such parameter: page", "no such field: group", "$: 'runner_group_id' is a required property",
    ]  # fmt: skip


def test_the_description_says_where_it_comes_from() -> None:
    assert DESCRIPTION["source"] == {
        "name": "@octokit/openapi",
        "version": "23.0.2",
        "license": "MIT",
        "integrity": "sha512-pV8M7L9GY23AybNvTmo2nyjmpmnt6+2sRE/tqr0ZLQcPS4lnw7u5eZGNmwRNkBC3D7gZXbFx5AHzLUVRBXGDhg==",
    }
