"""The agent's failures: the reason and the exit code of each, the texts of a service's errors, and the net around a step."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from agent.contract.config import RunnerConfig
from agent.errors import (
    AgentError,
    ConfigurationDenied,
    ConfigurationExpired,
    ConfigurationMalformed,
    ConfigurationMissing,
    DigestMismatch,
    Exit,
    MetadataExposed,
    NoCredentials,
    Outcome,
    QueueUnusable,
    RegistrationFailed,
    ReleaseRefused,
    ReleaseUnavailable,
    RunnerUnstartable,
    ServiceError,
    SettingsError,
    Unreachable,
    caught,
)
from agent.runner.publisher import AssetMissing
from agent.runner.release import NoSuchRelease

MEANINGS: dict[type[AgentError], tuple[str, int]] = {
    AgentError: ("internal", os.EX_SOFTWARE),
    SettingsError: ("settings", os.EX_CONFIG),
    ConfigurationMissing: ("configuration_missing", os.EX_TEMPFAIL),
    ConfigurationDenied: ("configuration_denied", os.EX_NOPERM),
    ConfigurationMalformed: ("configuration_malformed", os.EX_DATAERR),
    ConfigurationExpired: ("configuration_expired", os.EX_DATAERR),
    ReleaseUnavailable: ("download_failed", os.EX_SOFTWARE),
    ReleaseRefused: ("release_refused", os.EX_DATAERR),
    DigestMismatch: ("digest_mismatch", os.EX_DATAERR),
    AssetMissing: ("download_failed", os.EX_SOFTWARE),
    NoSuchRelease: ("digest_mismatch", os.EX_DATAERR),
    RegistrationFailed: ("registration_failed", os.EX_SOFTWARE),
    RunnerUnstartable: ("runner_unstartable", os.EX_SOFTWARE),
    MetadataExposed: ("metadata_exposed", os.EX_SOFTWARE),
    QueueUnusable: ("queue_unusable", os.EX_UNAVAILABLE),
}
"""The reason and the exit code of each failure. The reasons are part of the final message: orchestrators read them."""


def kinds(root: type[AgentError] = AgentError) -> Iterator[type[AgentError]]:
    """This class of failures and every class below it."""
    yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


@pytest.mark.parametrize(
    ("code", "sysexit"),
    [
        (Exit.LIVED, os.EX_OK),
        (Exit.MALFORMED, os.EX_DATAERR),
        (Exit.UNDELIVERED, os.EX_UNAVAILABLE),
        (Exit.INTERNAL, os.EX_SOFTWARE),
        (Exit.NEVER_CAME, os.EX_TEMPFAIL),
        (Exit.DENIED, os.EX_NOPERM),
        (Exit.SETTINGS, os.EX_CONFIG),
    ],
)
def test_an_exit_code_has_the_value_of_its_meaning_in_sysexits(code: Exit, sysexit: int) -> None:
    assert code == sysexit


def test_every_failure_has_the_reason_and_the_exit_code_of_the_table() -> None:
    assert {kind: (kind.reason, int(kind.exit_code)) for kind in kinds()} == MEANINGS


def test_no_failure_returns_the_exit_code_of_a_life_that_was_lived() -> None:
    assert [kind for kind in kinds() if kind.exit_code is Exit.LIVED] == []


def test_a_settings_error_holds_every_problem_and_names_it_in_its_text() -> None:
    error = SettingsError(("A is missing", "B is no number"))

    assert error.problems == ("A is missing", "B is no number")
    assert str(error) == "the settings are not usable: A is missing; B is no number"


def test_a_handler_of_malformed_configurations_or_refused_releases_handles_their_special_cases_too() -> None:
    assert issubclass(ConfigurationExpired, ConfigurationMalformed)
    assert issubclass(DigestMismatch, ReleaseRefused)


def test_an_expired_configuration_is_kept_by_its_own_error_alone() -> None:
    refused, other = ConfigurationExpired("too late"), ConfigurationExpired("too late")

    refused.config = RunnerConfig(org="acme", job_id="1")

    assert (refused.config.job_id, other.config) == ("1", None)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ServiceError("sqs:SendMessage", "Throttled"), "Throttled", "sqs:SendMessage answered Throttled"),
        (ServiceError("ssm:GetParameter", "Denied", "no"), "Denied", "ssm:GetParameter answered Denied: no"),
        (Unreachable("s3:GetObject", "refused"), "Unreachable", "s3:GetObject answered Unreachable: refused"),
        (NoCredentials("ec2:Call"), "NoCredentials", "ec2:Call answered NoCredentials"),
    ],
)
def test_a_services_error_says_which_call_failed_with_which_code_and_why(error: ServiceError, code: str, text: str) -> None:
    assert (error.code, str(error)) == (code, text)


@pytest.mark.parametrize("kind", [ServiceError, Unreachable, NoCredentials])
def test_a_services_error_decides_no_exit_code_before_it_is_translated(kind: type[ServiceError]) -> None:
    assert not issubclass(kind, AgentError)


@pytest.mark.parametrize("value", [7, None, 0])
def test_the_outcome_of_a_step_that_returns_is_its_value(value: object) -> None:
    outcome = caught(lambda: value)

    assert (outcome.value, outcome.returned, outcome.error) == (value, value, None)


@pytest.mark.parametrize("error", [RuntimeError("x"), OSError(28, "full"), ServiceError("a", "b"), RegistrationFailed("c")])
def test_the_outcome_of_a_step_that_raises_is_its_exception_which_its_value_raises_unchanged(error: Exception) -> None:
    def step() -> int:
        raise error

    outcome = caught(step)

    assert (outcome.returned, outcome.error) == (None, error)
    with pytest.raises(type(error)) as raised:
        _ = outcome.value
    assert raised.value is error


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_the_net_does_not_hold_what_ends_the_process(end: type[BaseException]) -> None:
    def step() -> None:
        raise end

    with pytest.raises(end):
        caught(step)


def test_an_outcome_cannot_be_changed() -> None:
    outcome = Outcome(7)

    with pytest.raises(AttributeError):
        outcome.returned = 8  # type: ignore[misc]
