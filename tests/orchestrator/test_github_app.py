"""An App that cannot do its work is told what it lacks, by the stand-in GitHub's own answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.checks.github_app import NEEDED, faults_of_app, unknown_app
from orchestrator.errors import ServiceFailed
from orchestrator.readiness import Fault
from sandbox.github.server import StandInGitHub
from tests.orchestrator.githubs import app_of, foreign_key

PERMISSIONS = Path(__file__).resolve().parents[2] / "docs" / "permissions.md"


@pytest.fixture
def github() -> Iterator[StandInGitHub]:
    driver = StandInGitHub().start()
    driver.webhook_url = "https://fleet.test/webhook"
    yield driver
    driver.stop()


def looked(github: StandInGitHub, *, hears: bool = True) -> list[Fault]:
    return list(faults_of_app("RUNS_FLEET_GITHUB_APP_ID", app_of(github).facts(hears=hears)))


def test_an_app_as_it_is_documented_has_no_fault(github: StandInGitHub) -> None:
    assert looked(github) == []


@pytest.mark.parametrize(
    ("permission", "has"), [("administration", "read"), ("administration", ""), ("actions", "read"), ("metadata", "")]
)
def test_a_permission_that_is_too_weak_is_named_at_the_app_and_where_it_is_installed(
    github: StandInGitHub, permission: str, has: str
) -> None:
    github.permissions = {name: level for name, level in {**github.permissions, permission: has}.items() if level}

    at_app, at_installation = looked(github)

    needed = f"{permission}: {NEEDED[permission]}"
    assert (at_app.found, at_app.expected) == (f"runs-fleet has {permission}: {has or 'no access'}", needed)
    assert at_installation.found.endswith(f"{permission}: {has or 'no access'} at octo") and at_installation.expected == needed


def test_more_than_is_needed_will_do(github: StandInGitHub) -> None:
    github.permissions["metadata"] = "write"
    github.permissions["administration"] = "admin"

    assert looked(github) == []


def test_notices_are_optional(github: StandInGitHub) -> None:
    del github.permissions["checks"]

    assert looked(github) == []


def test_an_app_that_is_not_told_of_jobs_hears_nothing(github: StandInGitHub) -> None:
    github.events = ["push"]

    (fault,) = looked(github)

    assert fault.found == "runs-fleet is not told of workflow_job"


def test_an_app_without_a_webhook_hears_nothing(github: StandInGitHub) -> None:
    github.webhook_url = ""

    assert [fault.found for fault in looked(github)] == ["runs-fleet has no webhook"]


def test_of_an_app_that_only_lends_its_limits_no_webhook_and_no_event_is_wanted(github: StandInGitHub) -> None:
    github.events, github.webhook_url = [], ""

    assert looked(github, hears=False) == []


def test_an_app_that_is_installed_nowhere_can_register_nothing(github: StandInGitHub) -> None:
    github.uninstalled.add(github.app_id)

    (fault,) = looked(github)

    assert fault.found == "runs-fleet is installed nowhere" and "/installations/new" in fault.remedy


def test_a_suspended_installation_is_named_with_its_account(github: StandInGitHub) -> None:
    github.is_suspended = True

    assert [fault.found for fault in looked(github)] == ["runs-fleet is suspended at octo"]


def test_a_key_of_another_app_is_refused_by_github_itself(github: StandInGitHub) -> None:
    with pytest.raises(ServiceFailed) as refused:
        app_of(github, private_key=foreign_key()).facts(hears=True)

    assert refused.value.code == "401"
    assert "does not accept the App's signature" in unknown_app("S", "401", github.url).found


def test_the_permissions_are_those_of_the_documentation() -> None:
    text = PERMISSIONS.read_text("utf-8")

    for name, level in NEEDED.items():
        assert f"| {name.capitalize()} | {'read and write' if level == 'write' else level} |" in text


def test_an_app_whose_webhook_github_does_not_know_has_none(github: StandInGitHub) -> None:
    app = app_of(github, api_url=github.url)
    github.webhook_url = None

    assert [fault.found for fault in faults_of_app("S", app.facts(hears=True))] == ["runs-fleet has no webhook"]


def test_an_installation_of_somebody_else_that_is_suspended_is_named_and_keeps_nobody_waiting(github: StandInGitHub) -> None:
    facts = app_of(github).facts(hears=True)
    suspended = {**facts.installations[0], "account": {"login": "other"}, "suspended_at": "2026-01-01T00:00:00Z"}

    (fault,) = faults_of_app("S", replace(facts, installations=[*facts.installations, suspended]))

    assert fault.found.endswith("is suspended at other") and fault.is_partial


def test_an_app_that_is_blocked_is_told_in_githubs_own_words() -> None:
    assert "not let the App in: blocked" in unknown_app("S", "403", "u", "blocked").found
