"""What each service's words mean: one table, whichever service said them."""

from __future__ import annotations

import pytest
from botocore.retries import standard

from agent.calls.error_codes import PASSING, Meaning, meaning_of
from agent.calls.retries import is_passing
from agent.errors import ServiceError


@pytest.mark.parametrize("code", sorted(standard.ThrottledRetryableChecker._THROTTLED_ERROR_CODES))
def test_what_botocore_takes_for_throttling_is_throttling(code: str) -> None:
    assert meaning_of(code) is Meaning.THROTTLED


@pytest.mark.parametrize("code", sorted(standard.TransientRetryableChecker._TRANSIENT_ERROR_CODES))
def test_what_botocore_takes_for_passing_passes(code: str) -> None:
    assert is_passing(ServiceError("call", code))


@pytest.mark.parametrize(
    ("service", "code"),
    [
        ("sts", "SignatureDoesNotMatch"),
        ("ssm", "InvalidSignatureException"),
        ("s3", "RequestTimeTooSkewed"),
        ("ec2", "RequestExpired"),
        ("sqs", "SignatureDoesNotMatch"),
        ("logs", "InvalidSignatureException"),
    ],
)
def test_a_clock_that_is_not_set_yet_passes_whichever_service_notices_it(service: str, code: str) -> None:
    assert meaning_of(code) is Meaning.CLOCK
    assert is_passing(ServiceError(service, code))


@pytest.mark.parametrize("code", ["InvalidClientTokenId", "UnrecognizedClientException", "AuthFailure", "InvalidAccessKeyId"])
def test_credentials_that_a_service_does_not_know_yet_pass(code: str) -> None:
    assert meaning_of(code) is Meaning.NO_CREDENTIALS


@pytest.mark.parametrize(
    "code", ["AccessDenied", "AccessDeniedException", "ParameterNotFound", "ValidationException", "NoSuchBucket", "404", "403"]
)
def test_a_refusal_does_not_pass_by_itself(code: str) -> None:
    assert meaning_of(code) not in PASSING
