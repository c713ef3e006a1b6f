"""How the App asks: how often, how long, and what becomes of an answer that is none. Its tokens: `test_github_tokens.py`."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from orchestrator.adapters.github import NOT_LET_IN
from orchestrator.adapters.github_wire import OVERVIEW_S, SHUT_OUT_S
from orchestrator.errors import ServiceFailed, Throttled, Unanswered
from orchestrator.store.naming import Scope, place_of
from sandbox.github.limits import REGISTRATIONS, Limits
from sandbox.github.server import StandInGitHub
from simulation.clock import VirtualTime
from tests.answering import Asked
from tests.orchestrator.githubs import (
    ELSEWHERE,
    LABELS,
    NO_PERMISSION,
    SCOPE,
    ScriptedGitHub,
    Told,
    app_of,
)

NOBODY: Told = (200, {"runners": []})
WAIT_S = 600.0
"""For another thread, at most."""


class Bounded(requests.Session):
    """A session that remembers how long each call was ready to wait: to connect, and to read."""

    def __init__(self) -> None:
        super().__init__()
        self.bounds: list[tuple[float, float]] = []

    def request(self, *args: Any, **named: Any) -> requests.Response:
        self.bounds.append(named["timeout"])
        return super().request(*args, **named)


def test_s6_github_is_never_waited_for_without_end(github: StandInGitHub) -> None:
    session = Bounded()
    app = app_of(github, session=session)

    app.mint(SCOPE, "x", LABELS)
    app.find(SCOPE, "x")

    assert len(session.bounds) >= 3, "also for its token"
    assert all(0 < connect_s <= 10 and 0 < read_s <= 30 for connect_s, read_s in session.bounds)


def test_a_github_that_is_not_there_is_unanswered(github: StandInGitHub) -> None:
    with pytest.raises(Unanswered):
        app_of(github, api_url="http://127.0.0.1:9").find(SCOPE, "x")


def test_a_repository_the_app_does_not_see_is_a_failure(github: StandInGitHub) -> None:
    with pytest.raises(ServiceFailed, match="list runners answered 404"):
        app_of(github).find(ELSEWHERE, "x")


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"{}", b""], ids=["a page", "a list", "an empty object", "nothing"])
def test_an_answer_of_another_shape_is_a_failure_with_a_name(content: bytes) -> None:
    with ScriptedGitHub({"/actions/runners": (200, content)}) as api, pytest.raises(ServiceFailed, match="Unreadable"):
        api.app().find(SCOPE, "x")


@pytest.mark.parametrize("status", [403, 429])
def test_a_refusal_for_too_many_calls_is_one_whichever_status_github_gives_it(github: StandInGitHub, status: int) -> None:
    clock = VirtualTime(time.time())
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


def test_a_new_process_asks_what_is_left_before_it_has_machines_made_and_that_costs_nothing(github: StandInGitHub) -> None:
    github.limits = Limits()
    github.limits.hourly[REGISTRATIONS] = 3
    app_of(github).mint(SCOPE, "one", LABELS)

    app = app_of(github)
    first, again = app.registrations(SCOPE).left, app.registrations(SCOPE).left

    assert (first, again) == (2, 2)
    assert [path for _, path in github.calls].count("/rate_limit") == 1
    github.limits = Limits()


@pytest.mark.parametrize("status", [403, 429])
def test_g3_a_secondary_limit_that_names_no_time_is_a_limit_all_the_same(github: StandInGitHub, status: int) -> None:
    clock = VirtualTime(time.time())
    app = app_of(github, clock=clock)
    app.find(SCOPE, "x")
    github.limits.refused, github.limits.status, github.limits.says_when = 1.0, status, False
    try:
        with pytest.raises(Throttled):
            app.mint(SCOPE, "two", LABELS)
        asked = len(github.calls)
        with pytest.raises(Throttled):
            app.mint(SCOPE, "two", LABELS)
    finally:
        github.limits = Limits()

    assert (len(github.calls), app.registrations(SCOPE).left) == (asked, 0)
    assert app.registrations(SCOPE).why != NOT_LET_IN


def test_every_call_names_the_version_of_the_api_and_carries_the_installations_token() -> None:
    with ScriptedGitHub({"/actions/runners": NOBODY}) as api:
        api.app().find(SCOPE, "x")

    of_the_app, of_the_installation = (asked.headers for asked in api.asked)
    assert {asked.headers["X-GitHub-Api-Version"] for asked in api.asked} == {"2022-11-28"}
    assert of_the_installation["Authorization"] == "Bearer t" and of_the_app["Authorization"].startswith("Bearer ey")


def test_an_installation_that_is_shut_shuts_all_its_repositories_for_a_while_and_then_they_are_on_trial() -> None:
    clock = VirtualTime(time.time())
    with ScriptedGitHub({"/3/access_tokens": NO_PERMISSION}) as api:
        app = api.app(clock=clock)
        with pytest.raises(ServiceFailed, match="403"):
            app.find(SCOPE, "x")
    places = [SCOPE, ELSEWHERE, Scope("4", "other", "sandbox")]

    assert [app.is_shut_out(place) for place in places] == [True, True, False]
    clock.pause(SHUT_OUT_S + 1.0)
    assert [(app.is_shut_out(place), app.is_on_trial(place)) for place in places] == [
        (False, True),
        (False, True),
        (False, False),
    ]
    app.let_in(SCOPE)
    assert not app.is_on_trial(SCOPE)


def test_a_repository_that_is_shut_shuts_no_other_one_of_its_installation() -> None:
    with ScriptedGitHub({}) as api:
        app = api.app()
    app.shut(place_of(SCOPE))

    assert [app.is_shut_out(place) for place in (SCOPE, Scope("3", "Octo", "SANDBOX"), ELSEWHERE)] == [True, True, False]


def test_the_overview_is_asked_for_once_a_minute_for_each_repository_also_where_it_fails() -> None:
    clock, left = VirtualTime(time.time()), []
    with ScriptedGitHub({"/rate_limit": (500, {})}) as api:
        app = api.app(clock=clock)
        for passed_s in (0.0, 1.0, OVERVIEW_S):
            clock.pause(passed_s)
            app.look_over(SCOPE)
            left.append((api.count("/rate_limit"), app.left(SCOPE)))
            told = {"limit": 5000, "remaining": 70, "reset": clock.now() + 900.0}
            api.answers["/rate_limit"] = (200, {"resources": {"core": told}})

    assert left == [(1, None), (1, None), (2, 70)]


@pytest.mark.parametrize(
    ("message", "is_limit"),
    [
        ({"message": "You have exceeded a secondary rate limit. Please wait a few minutes."}, True),
        (
            {"message": "Slow down", "documentation_url": "https://docs.github.com/rest/rate-limits-for-the-rest-api"},
            True,
        ),
        (
            {"message": "Resource not accessible by integration", "documentation_url": "https://docs.github.com/actions"},
            False,
        ),
        (["rate limit"], False),
        (b"rate limit", False),
    ],
)
def test_a_403_without_a_word_in_its_headers_is_a_limit_if_it_calls_itself_one(message: Any, is_limit: bool) -> None:
    with ScriptedGitHub({"/actions/runners": (403, message)}) as api, pytest.raises(ServiceFailed) as refusal:
        api.app().find(SCOPE, "x")

    assert isinstance(refusal.value, Throttled) is is_limit


@pytest.mark.parametrize(("runners", "pages"), [(0, 1), (99, 1), (100, 2), (250, 3)])
def test_a_list_is_read_to_its_last_page(runners: int, pages: int) -> None:
    every = [{"id": number, "name": f"r{number}", "status": "online", "busy": False} for number in range(runners)]

    def page(asked: Asked) -> Told:
        query = {name: int(values[0]) for name, values in parse_qs(urlsplit(asked.path).query).items()}
        first = (query["page"] - 1) * query["per_page"]
        return 200, {"runners": every[first : first + query["per_page"]]}

    with ScriptedGitHub({"/actions/runners": page}) as api:
        found = [runner.runner_id for runner in api.app().registered(SCOPE)]

    assert (found, api.count("/actions/runners")) == (list(range(runners)), pages)
