"""The GitHub App's view of runners, against a GitHub that checks what it is sent."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from agent.contract.secret import Secret
from orchestrator.adapters.github import NOT_LET_IN, GitHubApp
from orchestrator.errors import ServiceFailed, Throttled, Unanswered
from orchestrator.services import Allowance, Failed, Run, Scope
from sandbox.github import views
from sandbox.github.deliveries import Delivery
from sandbox.github.limits import REGISTRATIONS, Limits
from sandbox.github.server import StandInGitHub
from sandbox.github.state import GitHubState
from tests.answering import Answering, Asked
from tests.orchestrator.memory import HastyClock
from tests.sandbox.visitors import single

SCOPE = Scope("3", "octo", "sandbox")
LABELS = ("runs-fleet=7", "linux")
RUNNERS = "/repos/octo/sandbox/actions/runners"
TOKEN = ("POST", "/app/installations/3/access_tokens")


@pytest.fixture(scope="module")
def standing() -> Iterator[StandInGitHub]:
    """One for all tests here: its keys take a while."""
    github = StandInGitHub().start()
    yield github
    github.stop()


@pytest.fixture
def github(standing: StandInGitHub) -> StandInGitHub:
    """Without runners, tokens or memory of calls."""
    standing.state.runners.clear()
    standing.state.tokens.clear()
    standing.state.checks.clear()
    standing.permissions = dict(views.PERMISSIONS)
    standing.calls.clear()
    return standing


class Bounded(requests.Session):
    """A session that remembers how long each call was ready to wait: to connect, and to read."""

    def __init__(self) -> None:
        super().__init__()
        self.bounds: list[tuple[float, float]] = []

    def request(self, *args: Any, **named: Any) -> requests.Response:
        self.bounds.append(named["timeout"])
        return super().request(*args, **named)


@pytest.fixture(scope="module")
def foreign_key() -> Secret:
    """A key that no App here has."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Secret(key.private_bytes(*pem).decode())


class Strange:
    """An API that believes everybody, and whose tokens and answers a test chooses."""

    def __init__(self, token_s: float, answer: bytes) -> None:
        self.asked: list[str] = []
        ends_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + token_s))
        token = json.dumps({"token": "t", "expires_at": ends_at}).encode()
        world = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self._answer(201, token)

            def do_GET(self) -> None:
                self._answer(200, answer)

            def _answer(self, status: int, content: bytes) -> None:
                world.asked.append(self.command)
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Strange:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def app_of(github: StandInGitHub, **changes: Any) -> GitHubApp:
    given = {"api_url": github.url, "app_id": github.app_id, "private_key": Secret(github.app_private_key), **changes}
    return GitHubApp(**given)


def test_s6_github_is_never_waited_for_without_end(github: StandInGitHub) -> None:
    session = Bounded()
    app = app_of(github, session=session)

    app.mint(SCOPE, "x", LABELS, 1)
    app.find(SCOPE, "x")

    assert len(session.bounds) >= 3, "also for its token"
    assert all(0 < connect_s <= 10 and 0 < read_s <= 30 for connect_s, read_s in session.bounds)


def test_a_minted_runner_is_registered_under_its_name_with_its_labels(github: StandInGitHub) -> None:
    minted = app_of(github).mint(SCOPE, "tests-s-1", LABELS, 4)

    assert minted is not None
    runner = github.state.runners[minted.runner_id]
    assert (runner.name, runner.labels, runner.group_id) == ("tests-s-1", LABELS, 4)


def test_the_blob_is_handed_on_as_github_gave_it(github: StandInGitHub) -> None:
    minted = app_of(github).mint(SCOPE, "tests-s-1", LABELS, 1)

    assert minted is not None and "***" in repr(minted)
    files = json.loads(base64.b64decode(minted.blob.reveal()))
    assert json.loads(base64.b64decode(files[".runner"]))["AgentName"] == "tests-s-1"


def test_a_name_that_is_taken_is_none_and_no_failure(github: StandInGitHub) -> None:
    app = app_of(github)
    app.mint(SCOPE, "tests-s-1", LABELS, 1)

    assert app.mint(SCOPE, "tests-s-1", LABELS, 1) is None
    assert len(github.state.runners) == 1


def test_g4_a_mint_that_github_refuses_is_a_failure_with_its_words(github: StandInGitHub) -> None:
    with pytest.raises(ServiceFailed, match="generate-jitconfig answered 422: Invalid input"):
        app_of(github).mint(SCOPE, "tests-s-1", (), 1)


def test_a_runner_is_found_by_its_exact_name(github: StandInGitHub) -> None:
    app = app_of(github)
    app.mint(SCOPE, "tests-s-11", LABELS, 1)
    minted = app.mint(SCOPE, "tests-s-1", LABELS, 1)

    assert minted is not None and app.find(SCOPE, "tests-s-1") == minted.runner_id
    assert app.find(SCOPE, "tests-s") is None


def test_a_runner_that_is_listed_under_another_name_is_not_the_one(foreign_key: Secret) -> None:
    listed = {"runners": [{"id": 1, "name": "tests-s-11"}, {"id": 2, "name": "tests-s-1"}]}

    with Strange(3600, json.dumps(listed).encode()) as api:
        app = GitHubApp(api.url, "1", foreign_key)
        found = [app.find(SCOPE, name) for name in ("tests-s-1", "tests-s")]

    assert found == [2, None]


def test_a_removed_runner_is_gone_and_gone_already_is_gone_too(github: StandInGitHub) -> None:
    app = app_of(github)
    minted = app.mint(SCOPE, "tests-s-1", LABELS, 1)
    assert minted is not None

    removed = [app.remove(SCOPE, minted.runner_id) for _ in range(2)]

    assert (removed, github.state.runners) == ([True, True], {})


def test_a_runner_that_runs_a_job_is_not_gone(github: StandInGitHub) -> None:
    app = app_of(github)
    minted = app.mint(SCOPE, "tests-s-1", LABELS, 1)
    assert minted is not None
    github.state.runners[minted.runner_id].busy = True

    assert app.remove(SCOPE, minted.runner_id) is False
    assert list(github.state.runners) == [minted.runner_id]


def test_g1_one_token_serves_many_calls(github: StandInGitHub) -> None:
    app = app_of(github)

    for number in range(4):
        app.find(SCOPE, f"tests-s-{number}")

    assert github.calls == [TOKEN, *[("GET", RUNNERS)] * 4]


def test_r10_each_installation_has_a_token_of_its_own(github: StandInGitHub) -> None:
    app = app_of(github)

    for installation in ("3", "4", "3", "4"):
        app.find(Scope(installation, "octo", "sandbox"), "x")

    tokens = [path for method, path in github.calls if method == "POST"]
    assert tokens == ["/app/installations/3/access_tokens", "/app/installations/4/access_tokens"]


def test_an_installation_nobody_named_is_looked_up_once(github: StandInGitHub) -> None:
    app = app_of(github)

    for _ in range(2):
        app.find(Scope("", "octo", "sandbox"), "x")

    assert github.calls.count(("GET", "/repos/octo/sandbox/installation")) == 1
    assert github.calls.count(("GET", RUNNERS)) == 2


@pytest.mark.parametrize(("token_s", "tokens"), [(60, 3), (3600, 1)])
def test_a_token_about_to_end_is_replaced_before_it_does(foreign_key: Secret, token_s: float, tokens: int) -> None:
    with Strange(token_s, b'{"runners": []}') as api:
        app = GitHubApp(api.url, "1", foreign_key)
        for _ in range(3):
            app.find(SCOPE, "x")

    assert (api.asked.count("POST"), api.asked.count("GET")) == (tokens, 3)


def test_the_key_of_another_app_is_refused(github: StandInGitHub, foreign_key: Secret) -> None:
    with pytest.raises(ServiceFailed, match="installation token answered 401"):
        app_of(github, private_key=foreign_key).find(SCOPE, "x")


def test_the_id_of_another_app_is_refused(github: StandInGitHub) -> None:
    with pytest.raises(ServiceFailed, match="401"):
        app_of(github, app_id="2").find(SCOPE, "x")


@pytest.mark.parametrize(("issued", "ends"), [(-700, -100), (-60, 700)], ids=["expired", "too long"])
def test_an_app_that_asks_with_a_bad_time_is_refused(github: StandInGitHub, issued: int, ends: int) -> None:
    now = int(time.time())
    token = jwt.encode({"iss": "1", "iat": now + issued, "exp": now + ends}, github.app_private_key, "RS256")

    answer = requests.post(f"{github.url}{TOKEN[1]}", headers={"Authorization": f"Bearer {token}"}, timeout=10)

    assert answer.status_code == 401


def test_a_github_that_is_not_there_is_unanswered(github: StandInGitHub) -> None:
    with pytest.raises(Unanswered):
        app_of(github, api_url="http://127.0.0.1:9").find(SCOPE, "x")


def test_a_repository_the_app_does_not_see_is_a_failure(github: StandInGitHub) -> None:
    with pytest.raises(ServiceFailed, match="list runners answered 404"):
        app_of(github).find(Scope("3", "octo", "elsewhere"), "x")


def test_no_failure_shows_a_token_or_the_key(github: StandInGitHub) -> None:
    with pytest.raises(ServiceFailed) as refusal:
        app_of(github).find(Scope("3", "octo", "elsewhere"), "x")

    said = str(refusal.value) + repr(refusal.value.__cause__)
    assert not [token for token in github.state.tokens if token in said] and "BEGIN" not in said


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"{}", b""], ids=["a page", "a list", "an empty object", "nothing"])
def test_an_answer_of_another_shape_is_a_failure_with_a_name(foreign_key: Secret, content: bytes) -> None:
    with Strange(3600, content) as api, pytest.raises(ServiceFailed):
        GitHubApp(api.url, "1", foreign_key).find(SCOPE, "x")


def test_every_failed_delivery_is_listed_however_many_pages_they_fill(github: StandInGitHub) -> None:
    log = [Delivery(number, f"g{number}", "queued", b"{}", at=time.time(), status_code=503) for number in range(1, 251)]
    answered = Delivery(251, "g7", "queued", b"{}", at=time.time(), status_code=200, redelivery=True)
    before = Delivery(0, "g0", "queued", b"{}", at=time.time() - 7200.0, status_code=503)
    github.deliveries.log[:] = [before, *log, answered]

    found = app_of(github).failed_deliveries(time.time() - 3600.0)

    github.deliveries.log.clear()
    assert found == [Failed(str(number), f"g{number}") for number in range(250, 0, -1) if number != 7]


@pytest.mark.parametrize("status", [403, 429])
def test_a_refusal_for_too_many_calls_is_one_whichever_status_github_gives_it(github: StandInGitHub, status: int) -> None:
    clock = HastyClock()
    app = app_of(github, clock=clock)
    app.find(SCOPE, "x")
    github.limits.refused, github.limits.status = 1.0, status
    try:
        with pytest.raises(Throttled, match=str(status)):
            app.find(SCOPE, "x")
    finally:
        github.limits.refused, github.limits.status = 0.0, 403
    asked = len(github.calls)

    with pytest.raises(Throttled, match="BudgetSpent"):
        app.find(SCOPE, "x")
    assert len(github.calls) == asked, "nothing is asked before the time that GitHub named"
    clock.pause(1.1)
    assert app.find(SCOPE, "x") is None


def test_where_the_app_is_not_let_in_nothing_is_registered_for_a_while(github: StandInGitHub) -> None:
    app = app_of(github)
    github.uninstalled.add(github.app_id)
    try:
        with pytest.raises(ServiceFailed, match="installation token answered 404"):
            app.find(SCOPE, "x")
    finally:
        github.uninstalled.clear()

    assert app.registrations(SCOPE) == Allowance(0, NOT_LET_IN)
    assert (app.registrations(Scope("4", "octo", "gadgets")).left or 0) > 0


def test_after_it_was_shut_out_one_registration_shows_whether_it_is_let_in_again(github: StandInGitHub) -> None:
    """Else the whole backlog is bought again every ten minutes, and dies unconfigured."""
    refused = (403, {"message": "Resource not accessible by integration"})
    told = {"access_tokens": (201, {"token": "t", "expires_at": "2099-01-01T00:00:00Z"}), "generate-jitconfig": refused}

    def answer(asked: Asked) -> tuple[int, bytes]:
        status, content = told.get(asked.path.rsplit("/", 1)[-1], (404, {}))
        return status, json.dumps(content).encode()

    server, clock = Answering(answer), HastyClock()
    app = GitHubApp(server.url, "1", Secret(github.app_private_key), clock=clock)
    seen = []
    for _ in range(2):
        with pytest.raises(ServiceFailed, match="403"):
            app.mint(SCOPE, "one", LABELS, 1)
        seen.append(app.registrations(SCOPE))
        clock.pause(601.0)
        seen.append(app.registrations(SCOPE))
    told["generate-jitconfig"] = (201, {"runner": {"id": 7}, "encoded_jit_config": "blob"})
    app.mint(SCOPE, "one", LABELS, 1)
    server.stop()

    assert seen == [Allowance(0, NOT_LET_IN), Allowance(1, NOT_LET_IN, on_trial=True)] * 2
    assert app.registrations(SCOPE) == Allowance(None)


def test_a_new_process_asks_what_is_left_before_it_has_machines_made_and_that_costs_nothing(github: StandInGitHub) -> None:
    github.limits = Limits()
    github.limits.hourly[REGISTRATIONS] = 3
    app_of(github).mint(SCOPE, "one", LABELS, 1)

    app = app_of(github)
    first, again = app.registrations(SCOPE).left, app.registrations(SCOPE).left

    assert (first, again) == (2, 2)
    assert [path for _, path in github.calls].count("/rate_limit") == 1
    github.limits = Limits()


@pytest.mark.parametrize("status", [403, 429])
def test_g3_a_secondary_limit_that_names_no_time_is_a_limit_all_the_same(github: StandInGitHub, status: int) -> None:
    clock = HastyClock()
    app = app_of(github, clock=clock)
    app.find(SCOPE, "x")
    github.limits.refused, github.limits.status, github.limits.says_when = 1.0, status, False
    try:
        with pytest.raises(Throttled):
            app.mint(SCOPE, "two", LABELS, 1)
        asked = len(github.calls)
        with pytest.raises(Throttled):
            app.mint(SCOPE, "two", LABELS, 1)
    finally:
        github.limits = Limits()

    assert (len(github.calls), app.registrations(SCOPE).left) == (asked, 0)
    assert app.registrations(SCOPE).why != NOT_LET_IN


def test_an_app_that_may_not_register_runners_is_no_reason_to_buy_machines(github: StandInGitHub) -> None:
    token = {"token": "t", "expires_at": "2099-01-01T00:00:00Z"}
    refusal = {"message": "Resource not accessible by integration"}
    told = {"access_tokens": (201, token), "generate-jitconfig": (403, refusal)}

    def answer(asked: Asked) -> tuple[int, bytes]:
        status, content = told[asked.path.rsplit("/", 1)[-1]]
        return status, json.dumps(content).encode()

    server = Answering(answer)
    app = GitHubApp(server.url, "1", Secret(github.app_private_key))

    with pytest.raises(ServiceFailed, match="403"):
        app.mint(SCOPE, "one", LABELS, 1)

    assert app.registrations(SCOPE) == Allowance(0, NOT_LET_IN)
    server.stop()


@pytest.mark.parametrize(
    ("repository", "head_repository", "fork", "public"),
    [
        ({"private": True}, {"full_name": "octo/sandbox"}, False, False),
        ({"private": False}, {"full_name": "octo/sandbox"}, False, True),
        ({"private": True}, {"full_name": "stranger/sandbox", "fork": True}, True, False),
        ({"private": False}, {"full_name": "stranger/sandbox", "fork": True}, True, True),
        ({"private": True}, None, True, False),
    ],
    ids=["its own code", "a public repository", "a fork", "a public repository's fork", "a fork that is gone"],
)
def test_a_run_says_whether_its_code_is_a_forks_and_whether_its_repository_is_public(
    foreign_key: Secret, tmp_path: Path, repository: dict[str, Any], head_repository: Any, fork: bool, public: bool
) -> None:
    state = GitHubState("octo", "sandbox", lambda *_: None)
    told = views.run(state, state.dispatch(single(tmp_path, "x")), "https://api.github.com")
    told["repository"] |= repository
    told["head_repository"] = head_repository and {**told["head_repository"], **repository, **head_repository}

    with Strange(3600, json.dumps(told).encode()) as api:
        run = GitHubApp(api.url, "1", foreign_key).run(SCOPE, "7")

    assert run == Run(over=False, attempt=1, fork=fork, public=public)


def test_a_note_stands_on_the_page_of_its_commit_and_as_long_as_github_takes_it(github: StandInGitHub) -> None:
    said = app_of(github).note(SCOPE, "0f" * 20, "This job waits", "x" * 70_000)

    (check,) = github.state.checks
    assert said and (check.head_sha, check.name, check.title) == ("0f" * 20, "runs-fleet", "This job waits")
    assert (check.status, check.conclusion, check.summary) == ("completed", "neutral", "x" * 60_000)


def test_an_app_that_may_not_write_checks_says_nothing_and_that_is_no_failure(github: StandInGitHub) -> None:
    del github.permissions["checks"]

    said = app_of(github).note(SCOPE, "0f" * 20, "This job waits", "for a machine")

    assert (said, github.state.checks) == (False, [])


def test_a_note_in_a_repository_the_app_does_not_see_is_said_to_nobody_and_no_failure(github: StandInGitHub) -> None:
    assert app_of(github).note(Scope("3", "octo", "elsewhere"), "0f" * 20, "This job waits", "for a machine") is False
