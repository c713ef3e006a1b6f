"""The GitHub App's view of runners, against a GitHub that checks what it is sent."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from orchestrator.adapters.github import NOT_LET_IN
from orchestrator.errors import ServiceFailed
from orchestrator.fleet.work import RegistrationQuota
from orchestrator.jobs.github import EndedJob, FailedDelivery, RegisteredRunner, Run
from orchestrator.store.naming import Scope
from sandbox.github import views
from sandbox.github.deliveries import Delivery
from sandbox.github.server import StandInGitHub
from sandbox.github.state import GitHubState
from simulation.clock import VirtualTime
from tests.answering import Asked
from tests.orchestrator.githubs import ELSEWHERE, LABELS, NO_PERMISSION, SCOPE, ScriptedGitHub, Told, app_of
from tests.sandbox.github_clients import single


def test_a_minted_runner_is_registered_under_its_name_with_its_labels(github: StandInGitHub) -> None:
    minted = app_of(github).mint(msgspec.structs.replace(SCOPE, group_id=4), "tests-s-1", LABELS)

    assert minted is not None
    runner = github.state.runners[minted.runner_id]
    assert (runner.name, runner.labels, runner.group_id) == ("tests-s-1", LABELS, 4)


def test_the_blob_is_handed_on_as_github_gave_it(github: StandInGitHub) -> None:
    minted = app_of(github).mint(SCOPE, "tests-s-1", LABELS)

    assert minted is not None and "***" in repr(minted)
    files = json.loads(base64.b64decode(minted.blob.reveal()))
    assert json.loads(base64.b64decode(files[".runner"]))["AgentName"] == "tests-s-1"


def test_a_name_that_is_taken_is_none_and_no_failure(github: StandInGitHub) -> None:
    app = app_of(github)
    app.mint(SCOPE, "tests-s-1", LABELS)

    assert app.mint(SCOPE, "tests-s-1", LABELS) is None
    assert len(github.state.runners) == 1


def test_g4_a_mint_that_github_refuses_is_a_failure_with_its_words(github: StandInGitHub) -> None:
    with pytest.raises(ServiceFailed, match="generate-jitconfig answered 422: Invalid input"):
        app_of(github).mint(SCOPE, "tests-s-1", ())


def test_a_runner_is_found_by_its_exact_name(github: StandInGitHub) -> None:
    app = app_of(github)
    app.mint(SCOPE, "tests-s-11", LABELS)
    minted = app.mint(SCOPE, "tests-s-1", LABELS)

    assert minted is not None and app.find(SCOPE, "tests-s-1") == minted.runner_id
    assert app.find(SCOPE, "tests-s") is None


def test_a_runner_that_is_listed_under_another_name_is_not_the_one() -> None:
    listed = {"runners": [{"id": 1, "name": "tests-s-11"}, {"id": 2, "name": "tests-s-1"}]}

    with ScriptedGitHub({"/actions/runners": (200, listed)}) as api:
        app = api.app()
        found = [app.find(SCOPE, name) for name in ("tests-s-1", "tests-s")]

    assert found == [2, None]


def test_a_removed_runner_is_gone_and_gone_already_is_gone_too(github: StandInGitHub) -> None:
    app = app_of(github)
    minted = app.mint(SCOPE, "tests-s-1", LABELS)
    assert minted is not None

    removed = [app.remove(SCOPE, minted.runner_id) for _ in range(2)]

    assert (removed, github.state.runners) == ([True, True], {})


def test_a_runner_that_runs_a_job_is_not_gone(github: StandInGitHub) -> None:
    app = app_of(github)
    minted = app.mint(SCOPE, "tests-s-1", LABELS)
    assert minted is not None
    github.state.runners[minted.runner_id].busy = True

    assert app.remove(SCOPE, minted.runner_id) is False
    assert list(github.state.runners) == [minted.runner_id]


def test_every_failed_delivery_is_listed_however_many_pages_they_fill(github: StandInGitHub) -> None:
    failed: dict[str, Any] = {"action": "queued", "body": b"{}", "at": time.time(), "status_code": 503}
    log = [Delivery(id=number, guid=f"g{number}", **failed) for number in range(1, 251)]
    answered = Delivery(id=251, guid="g7", **{**failed, "status_code": 200}, redelivery=True)
    before = Delivery(id=0, guid="g0", **{**failed, "at": time.time() - 7200.0})
    github.deliveries.log[:] = [before, *log, answered]

    found = app_of(github).failed_deliveries(time.time() - 3600.0)

    github.deliveries.log.clear()
    assert found == [FailedDelivery(str(number), f"g{number}") for number in range(250, 0, -1) if number != 7]


def test_where_the_app_is_not_let_in_nothing_is_registered_for_a_while(github: StandInGitHub) -> None:
    app = app_of(github)
    github.uninstalled.add(github.app_id)
    try:
        with pytest.raises(ServiceFailed, match="installation token answered 404"):
            app.find(SCOPE, "x")
    finally:
        github.uninstalled.clear()

    assert app.registrations(SCOPE) == RegistrationQuota(0, NOT_LET_IN)
    assert (app.registrations(Scope("4", "octo", "gadgets")).left or 0) > 0


def test_after_it_was_shut_out_one_registration_shows_whether_it_is_let_in_again() -> None:
    """Else the whole backlog is bought again every ten minutes, and dies unconfigured."""
    clock, seen = VirtualTime(time.time()), []
    with ScriptedGitHub({"/generate-jitconfig": NO_PERMISSION}, token_s=86_400.0) as api:
        app = api.app(clock=clock)
        for _ in range(2):
            with pytest.raises(ServiceFailed, match="403"):
                app.mint(SCOPE, "one", LABELS)
            seen.append(app.registrations(SCOPE))
            clock.pause(601.0)
            seen.append(app.registrations(SCOPE))
        api.answers["/generate-jitconfig"] = (201, {"runner": {"id": 7}, "encoded_jit_config": "blob"})
        app.mint(SCOPE, "one", LABELS)

        assert seen == [RegistrationQuota(0, NOT_LET_IN), RegistrationQuota(1, NOT_LET_IN, on_trial=True)] * 2
        assert app.registrations(SCOPE) == RegistrationQuota(None, "GitHub's limit of registrations")


def test_an_app_that_may_not_register_runners_is_no_reason_to_buy_machines() -> None:
    with ScriptedGitHub({"/generate-jitconfig": NO_PERMISSION}) as api:
        app = api.app()
        with pytest.raises(ServiceFailed, match="403"):
            app.mint(SCOPE, "one", LABELS)

        assert app.registrations(SCOPE) == RegistrationQuota(0, NOT_LET_IN)


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
    tmp_path: Path, repository: dict[str, Any], head_repository: Any, fork: bool, public: bool
) -> None:
    state = GitHubState("octo", "sandbox", lambda *_: None)
    told = views.run(state, state.dispatch(single(tmp_path, "x")), "https://api.github.com")
    told["repository"] |= repository
    told["head_repository"] = head_repository and {**told["head_repository"], **repository, **head_repository}

    with ScriptedGitHub({"/actions/runs/7": (200, told)}) as api:
        run = api.app().run(SCOPE, "7")

    assert run == Run(over=False, attempt=1, fork=fork, public=public)


def test_a_note_stands_on_the_page_of_its_commit_and_as_long_as_github_takes_it(github: StandInGitHub) -> None:
    said = app_of(github).post_notice(SCOPE, "0f" * 20, "This job waits", "x" * 70_000)

    (check,) = github.state.checks
    assert said and (check.head_sha, check.name, check.title) == ("0f" * 20, "runs-fleet", "This job waits")
    assert (check.status, check.conclusion) == ("completed", "neutral")
    assert check.summary.startswith("```text\nxxx") and check.summary.endswith("xxx…\n(65000 more characters)\n```")


def test_an_app_that_may_not_write_checks_says_nothing_and_that_is_no_failure(github: StandInGitHub) -> None:
    del github.permissions["checks"]

    said = app_of(github).post_notice(SCOPE, "0f" * 20, "This job waits", "for a machine")

    assert (said, github.state.checks) == (False, [])


def test_a_note_in_a_repository_the_app_does_not_see_is_said_to_nobody_and_no_failure(github: StandInGitHub) -> None:
    assert app_of(github).post_notice(ELSEWHERE, "0f" * 20, "This job waits", "for a machine") is False


def test_runners_are_listed_as_they_are(github: StandInGitHub) -> None:
    app = app_of(github)
    for number in (1, 2):
        app.mint(SCOPE, f"tests-s-{number}", LABELS)
    first, second = sorted(github.state.runners)
    github.state.runners[second].busy = True

    found = sorted(app.registered(SCOPE), key=lambda runner: runner.runner_id)

    assert [(one.runner_id, one.name, one.busy) for one in found] == [(first, "tests-s-1", False), (second, "tests-s-2", True)]


def test_a_runner_is_online_where_github_says_so() -> None:
    told = [{"id": 1, "name": "r", "status": status, "busy": False} for status in ("online", "offline")]

    with ScriptedGitHub({"/actions/runners": (200, {"runners": told})}) as api:
        found = list(api.app().registered(SCOPE))

    assert found == [RegisteredRunner(1, "r", online, False) for online in (True, False)]


def test_a_job_or_a_run_that_github_does_not_know_is_none_and_any_other_refusal_is_a_failure() -> None:
    with ScriptedGitHub({}) as api:
        app = api.app()
        unknown = [app.job(SCOPE, "1"), app.run(SCOPE, "7"), list(app.jobs_of(SCOPE, "7"))]
        api.answers |= {"/jobs/1": (500, {}), "/runs/7": (500, {}), "/runs/7/jobs": (500, {})}
        for ask in (lambda: app.job(SCOPE, "1"), lambda: app.run(SCOPE, "7"), lambda: list(app.jobs_of(SCOPE, "7"))):
            with pytest.raises(ServiceFailed, match="500"):
                ask()

    assert unknown == [None, None, []]


@pytest.mark.parametrize("run_id", ["", "7/../../..", "x", "-1"])
def test_a_run_that_is_no_number_is_never_part_of_a_path(run_id: str) -> None:
    """An agent hints at it, and a job can write what the agent reads."""
    with ScriptedGitHub({}) as api:
        assert list(api.app().jobs_of(SCOPE, run_id)) == [] and api.asked == []


def job(number: int, status: str = "queued", conclusion: str | None = None) -> dict[str, Any]:
    """As GitHub's API describes it."""
    return {"id": number, "run_id": 7, "name": f"job {number}", "labels": ["x"], "status": status, "conclusion": conclusion}


def test_jobs_wait_that_are_queued_in_runs_that_are_not_over() -> None:
    def runs(asked: Asked) -> Told:
        number = {"queued": 7, "in_progress": 8}.get(parse_qs(urlsplit(asked.path).query)["status"][0], 9)
        return 200, {"workflow_runs": [{"id": number}]}

    lists = {"/runs/7/jobs": [job(1), job(2)], "/runs/8/jobs": [job(3, "in_progress"), job(4), job(5, "completed", "success")]}
    with ScriptedGitHub({"/actions/runs": runs, **{path: (200, {"jobs": jobs}) for path, jobs in lists.items()}}) as api:
        found = list(api.app().waiting_jobs(SCOPE))

    assert [(one.job_id, one.action) for one in found] == [("1", "queued"), ("2", "queued"), ("4", "queued")]
    assert {(one.owner, one.repo, one.installation_id) for one in found} == {("octo", "sandbox", "3")}


def test_a_job_ended_badly_unless_it_succeeded_or_was_left_out_or_is_not_over() -> None:
    ends = ["success", "failure", "skipped", "cancelled", "neutral", "timed_out", None]

    with ScriptedGitHub({"/runs/7/jobs": (200, {"jobs": [job(n, conclusion=end) for n, end in enumerate(ends)]})}) as api:
        found = api.app().ended_badly(SCOPE, "7")

    assert found == [EndedJob(str(n), f"job {n}", str(ends[n])) for n in (1, 3, 5)]


@pytest.mark.parametrize(("job_id", "path"), [("", "/runs/7/rerun-failed-jobs"), ("1", "/jobs/1/rerun")])
def test_a_rerun_is_of_all_that_failed_or_of_one_job_and_may_be_refused(job_id: str, path: str) -> None:
    with ScriptedGitHub({path: (201, {})}) as api:
        app = api.app()
        done = app.rerun(SCOPE, "7", job_id)
        api.answers[path] = (403, {"message": "This workflow run cannot be retried"})
        refused = app.rerun(SCOPE, "7", job_id)
        api.answers[path] = (500, {})
        with pytest.raises(ServiceFailed, match="re-run answered 500"):
            app.rerun(SCOPE, "7", job_id)

    assert (done, refused) == (True, False)


def test_a_delivery_that_is_not_sent_again_is_a_failure_with_githubs_code() -> None:
    with ScriptedGitHub({"/app/hook/deliveries/5/attempts": (202, {})}) as api:
        app = api.app()
        app.redeliver("5")
        with pytest.raises(ServiceFailed) as refusal:
            app.redeliver("6")

    assert refusal.value.code == "404" and api.count("/access_tokens") == 0, "the App asks as itself"
