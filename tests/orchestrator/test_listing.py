"""The rows of `runs-fleet jobs` and `runs-fleet sessions`."""

from __future__ import annotations

import pytest

from orchestrator.commands.listing import job_row, session_row, web_url
from orchestrator.jobs.model import JobState
from orchestrator.store.states import SessionState
from simulation.clock import MORNING
from simulation.examples import a_job, a_session

PAGES = "https://github.com"


def test_a_job_that_waits_shows_for_how_long_and_where_it_is_on_github() -> None:
    row = job_row(a_job(), None, PAGES, MORNING + 200.0)

    assert (row["waited"], row["queued"]) == ("3m 20s", "2026-01-31T12:00:00Z")
    assert row["url"] == "https://github.com/octo/widgets/actions/runs/7/job/1"


@pytest.mark.parametrize(
    "changes",
    [
        {"state": JobState.IN_PROGRESS, "started_at": MORNING + 5.0},
        {"state": JobState.COMPLETED, "completed_at": MORNING + 5.0},
    ],
)
def test_a_job_that_was_taken_or_is_over_waits_no_longer(changes: dict[str, object]) -> None:
    assert job_row(a_job(**changes), None, PAGES, MORNING + 900.0)["waited"] == "5s"


def test_a_refused_job_is_called_refused_and_says_why() -> None:
    row = job_row(a_job(refused="cpu=64: at most 32 are allowed"), None, PAGES, MORNING)

    assert (row["state"], row["reason"]) == ("refused", "cpu=64: at most 32 are allowed")


def test_a_refused_job_that_is_over_is_over() -> None:
    over = a_job(refused="cpu=64", state=JobState.COMPLETED, conclusion="cancelled", completed_at=MORNING)

    assert job_row(over, None, PAGES, MORNING)["state"] == "completed"


def test_the_reason_of_a_job_that_lost_its_machine_is_its_sessions() -> None:
    lost = a_session(state=SessionState.ENDED, status="failure", reason="instance_gone")

    assert job_row(a_job(), lost, PAGES, MORNING)["reason"] == "failure instance_gone"


def test_a_session_shows_its_age_and_when_its_machine_ends_at_the_latest() -> None:
    row = session_row(a_session(launched_at=MORNING, expires_at=MORNING + 7_200.0), MORNING + 90.0)

    assert (row["age"], row["deadline"]) == ("1m 30s", "2026-01-31T14:00:00Z")


def test_a_session_that_is_over_grows_no_older_and_has_no_deadline() -> None:
    over = a_session(state=SessionState.CLOSED, launched_at=MORNING, closed_at=MORNING + 60.0, expires_at=MORNING + 7_200.0)

    row = session_row(over, MORNING + 9_000.0)

    assert (row["age"], row["deadline"]) == ("1m", "")


@pytest.mark.parametrize(
    ("api", "pages"),
    [
        ("https://api.github.com", "https://github.com"), ("https://git.example.com/api/v3", "https://git.example.com"),
        ("https://api.octo.ghe.com", "https://octo.ghe.com"),
    ],
)  # fmt: skip
def test_githubs_pages_are_found_by_its_api(api: str, pages: str) -> None:
    assert web_url(api) == pages


def test_a_job_that_waits_while_the_stack_is_paused_says_so() -> None:
    assert job_row(a_job(), None, PAGES, MORNING, paused=True)["reason"] == "the stack is paused: `runs-fleet resume`"
    assert job_row(a_job(), None, PAGES, MORNING)["reason"] == ""
