"""What an error code of AWS or GitHub means for whoever made the call: one table for every service and every HTTP stack."""

from __future__ import annotations

from enum import Enum


class Meaning(Enum):
    """What a code says about the same call made a little later."""

    ABSENT = "what was asked for is not there, or not yet"
    DENIED = "the role may not, or may not yet: a policy by tag denies what does not exist"
    THROTTLED = "the service asks for fewer calls"
    UNAVAILABLE = "the service or the network did not answer properly"
    NO_CREDENTIALS = "there are no credentials, or none that the service knows yet; those of a role take seconds to appear"
    CLOCK = "the signature's time is not the service's: this machine's clock is not set yet, or wrong"
    REFUSED = "the same call will be refused again"


_CODES = {
    Meaning.ABSENT: ("ParameterNotFound", "NoSuchKey"),
    Meaning.DENIED: ("AccessDenied", "AccessDeniedException"),
    Meaning.THROTTLED: (
        "429",
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "KmsThrottled",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RateLimited",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    ),
    Meaning.UNAVAILABLE: (
        "500",
        "502",
        "503",
        "504",
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "Unavailable",
        "Unreachable",
    ),
    Meaning.NO_CREDENTIALS: (
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "NoCredentials",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    ),
    Meaning.CLOCK: (
        "InvalidSignatureException",
        "RequestExpired",
        "RequestInTheFuture",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    ),
}
"""Source: "Error retries" of the AWS general reference, "Common errors" of each service's API reference, "Error responses" of
S3, and the lists of botocore (`standard` retries) and of the AWS SDK for Go (clock skew). `Unreachable` and `NoCredentials` are
ours (`agent/errors.py`), `RateLimited` is GitHub's 403 or 429 (`adapters/http.py`)."""
_MEANINGS = {code: meaning for meaning, codes in _CODES.items() for code in codes}
PASSING = frozenset({Meaning.THROTTLED, Meaning.UNAVAILABLE, Meaning.NO_CREDENTIALS, Meaning.CLOCK})
"""After these the same call may succeed: the service, the network, the credentials or the clock were not ready."""


def meaning_of(code: str) -> Meaning:
    """What `code` says; a code that nobody has described is a refusal."""
    return _MEANINGS.get(code, Meaning.REFUSED)
