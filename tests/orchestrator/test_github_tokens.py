"""With which token the App asks: its own word, or that of an installation, which is made once and renewed in time."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import pytest
import requests

from orchestrator.adapters.github import GitHubApp
from orchestrator.errors import ServiceFailed
from orchestrator.store.naming import Scope
from sandbox.github.server import StandInGitHub
from simulation.clock import MORNING, VirtualTime
from tests.answering import Asked
from tests.orchestrator.githubs import (
    ELSEWHERE,
    RUNNERS,
    SCOPE,
    TOKEN,
    ScriptedGitHub,
    Told,
    app_of,
    foreign_key,
)

NOBODY: Told = (200, {"runners": []})
WAIT_S = 600.0
"""For another thread, at most."""


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
def test_a_token_about_to_end_is_replaced_before_it_does(token_s: float, tokens: int) -> None:
    with ScriptedGitHub({"/actions/runners": NOBODY}, token_s) as api:
        app = api.app()
        for _ in range(3):
            app.find(SCOPE, "x")

    assert (api.count("/access_tokens"), api.count("/actions/runners")) == (tokens, 3)


def test_a_token_is_renewed_some_minutes_before_its_end() -> None:
    clock, tokens = VirtualTime(time.time()), []
    with ScriptedGitHub({"/actions/runners": NOBODY}, 3600.0) as api:
        app = api.app(clock=clock)
        for passed_s in (0.0, 3600.0 - 310.0, 20.0):
            clock.pause(passed_s)
            app.find(SCOPE, "x")
            tokens.append(api.count("/access_tokens"))

    assert tokens == [1, 1, 2]


def test_a_token_that_is_refused_is_not_used_again() -> None:
    """Somebody suspended the installation for a moment: what GitHub gave before is void."""
    with ScriptedGitHub({"/actions/runners": (401, {"message": "Bad credentials"})}) as api:
        app = api.app()
        with pytest.raises(ServiceFailed, match="401"):
            app.find(SCOPE, "x")
        api.answers["/actions/runners"] = NOBODY

        assert [app.find(SCOPE, "x"), app.find(SCOPE, "x")] == [None, None]
    assert api.count("/access_tokens") == 2


def test_whoever_comes_while_a_token_is_made_waits_for_that_one() -> None:
    second_came, at_once = threading.Barrier(2), threading.Barrier(4)

    with ScriptedGitHub({"/actions/runners": NOBODY}) as api:
        made = api.answers["/access_tokens"]

        def slowly(asked: Asked) -> Any:
            with contextlib.suppress(threading.BrokenBarrierError):
                second_came.wait(0.2)
            return made

        def find(app: GitHubApp) -> int | None:
            at_once.wait(WAIT_S)
            return app.find(SCOPE, "x")

        api.answers["/access_tokens"] = slowly
        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(find, [api.app()] * 4)) == [None] * 4

    assert api.count("/access_tokens") == 1


def test_nobody_waits_for_the_token_of_another_installation() -> None:
    came, may_go = threading.Event(), threading.Event()

    with ScriptedGitHub({"/actions/runners": NOBODY}) as api, ThreadPoolExecutor(1) as threads:
        made = api.answers["/access_tokens"]

        def held(asked: Asked) -> Any:
            came.set()
            may_go.wait(WAIT_S)
            return made

        api.answers["/3/access_tokens"] = held
        app = api.app()
        waiting = threads.submit(app.find, SCOPE, "x")
        assert came.wait(WAIT_S) and app.find(Scope("4", "octo", "sandbox"), "x") is None and not waiting.done()
        may_go.set()
        assert waiting.result(WAIT_S) is None


def test_an_app_that_is_installed_again_is_looked_up_again() -> None:
    with ScriptedGitHub({"/installation": (200, {"id": 3}), "/3/access_tokens": (404, {}), "/actions/runners": NOBODY}) as api:
        app = api.app()
        with pytest.raises(ServiceFailed, match="installation token answered 404"):
            app.find(Scope("", "octo", "sandbox"), "x")
        api.answers["/installation"] = (200, {"id": 4})

        assert app.find(Scope("", "octo", "sandbox"), "x") is None
    assert (api.count("/3/access_tokens"), api.count("/4/access_tokens")) == (1, 1)


def test_the_key_of_another_app_is_refused(github: StandInGitHub) -> None:
    with pytest.raises(ServiceFailed, match="installation token answered 401"):
        app_of(github, private_key=foreign_key()).find(SCOPE, "x")


def test_the_id_of_another_app_is_refused(github: StandInGitHub) -> None:
    with pytest.raises(ServiceFailed, match="401"):
        app_of(github, app_id="2").find(SCOPE, "x")


@pytest.mark.parametrize(("issued", "ends"), [(-700, -100), (-60, 700)], ids=["expired", "too long"])
def test_an_app_that_asks_with_a_bad_time_is_refused(github: StandInGitHub, issued: int, ends: int) -> None:
    now = int(time.time())
    token = jwt.encode({"iss": "1", "iat": now + issued, "exp": now + ends}, github.app_private_key, "RS256")

    answer = requests.post(f"{github.url}{TOKEN[1]}", headers={"Authorization": f"Bearer {token}"}, timeout=600)

    assert answer.status_code == 401


def test_the_apps_own_word_is_good_for_less_than_ten_minutes_also_where_its_clock_is_fast() -> None:
    with ScriptedGitHub({"/actions/runners": NOBODY}) as api:
        api.app(clock=VirtualTime(), app_id="12").find(SCOPE, "x")

    token = api.asked[0].headers["Authorization"].removeprefix("Bearer ")
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["iss"], claims["iat"] <= MORNING - 60) == ("12", True)
    assert MORNING + 60 < claims["exp"] < MORNING + 600 and claims["exp"] - claims["iat"] <= 600


def test_no_failure_shows_a_token_or_the_key(github: StandInGitHub) -> None:
    with pytest.raises(ServiceFailed) as refusal:
        app_of(github).find(ELSEWHERE, "x")

    said = str(refusal.value) + repr(refusal.value.__cause__)
    assert not [token for token in github.state.tokens if token in said] and "BEGIN" not in said
