"""Decide what EC2's error codes mean, in the terms of the compute port.

Source: "Error codes for the Amazon EC2 API" in the EC2 API reference, and CreateFleetError.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.errors import FailureKind

WORDS = {
    FailureKind.NO_CAPACITY: "EC2 has no capacity",
    FailureKind.QUOTA: "a quota of this AWS account is used up",
    FailureKind.THROTTLED: "EC2 asks to be left alone for a while",
    FailureKind.REFUSED: "EC2 refuses what is asked",
    FailureKind.UNKNOWN: "EC2 has no capacity",
}
"""Each kind of failure for whoever waits."""
HINTS = {
    FailureKind.NO_CAPACITY: "another row is tried, or another launch",
    FailureKind.QUOTA: "ask AWS for a higher quota (Service Quotas, EC2)",
    FailureKind.THROTTLED: "EC2 has not answered well for ten minutes: another launch is made",
    FailureKind.REFUSED: "nothing can be launched like this: look at the role's permissions, the launch template and the subnets",
    FailureKind.UNKNOWN: "a code we do not know: another launch is made",
}
"""What to do about each kind of failure, for the log."""
NO_CAPACITY = frozenset({
    "InsufficientInstanceCapacity", "UnfulfillableCapacity", "InsufficientCapacity", "Unsupported", "InvalidFleetConfiguration",
})  # fmt: skip
"""The last one is what EC2 says of a type that a zone does not offer."""
BROKEN = NO_CAPACITY | {"InternalError", "InternalFailure", "Unavailable", "ServiceUnavailable"}
"""Codes of a pool that is left alone for a while."""
_CAPACITY = NO_CAPACITY | {
    "InsufficientHostCapacity", "InsufficientReservedInstanceCapacity", "InsufficientFreeAddressesInSubnet",
    "InsufficientAddressCapacity", "InsufficientVolumeCapacity", "SpotMaxPriceTooLow",
}  # fmt: skip
_QUOTA = frozenset({"MaxSpotInstanceCountExceeded", "VcpuLimitExceeded", "InstanceLimitExceeded", "VolumeLimitExceeded"})
_THROTTLED = frozenset({
    "RequestLimitExceeded", "Throttling", "ThrottlingException", "EC2ThrottledException", "RequestThrottled", "SlowDown",
    "TooManyRequestsException", "InternalError", "InternalFailure", "InternalServiceError", "ServerInternal",
    "ServiceUnavailable", "Unavailable", "NoAnswer",
})  # fmt: skip
_REFUSED = frozenset({
    "UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "AuthFailure", "OptInRequired", "Blocked",
    "PendingVerification", "AccountDisabled", "ValidationError", "ValidationException", "IdempotentParameterMismatch",
    "UnsupportedOperation", "OperationNotPermitted", "DryRunOperation",
})  # fmt: skip
_REFUSED_PREFIXES = ("Invalid", "Missing", "Malformed", "Unknown", "Client.", "AuthFailure.")
_BY_KIND = {
    FailureKind.NO_CAPACITY: _CAPACITY,
    FailureKind.QUOTA: _QUOTA,
    FailureKind.THROTTLED: _THROTTLED,
    FailureKind.REFUSED: _REFUSED,
}


def classify(code: str) -> FailureKind:
    """What one code means; UNKNOWN: EC2's documentation does not name it."""
    known = next((kind for kind, codes in _BY_KIND.items() if code in codes), None)
    return known or (FailureKind.REFUSED if code.startswith(_REFUSED_PREFIXES) else FailureKind.UNKNOWN)


def decisive(reasons: Iterable[str]) -> FailureKind:
    """Of several reasons (`code: message`) the kind that decides what is asked for next.

    A refusal or throttling decides only if there is nothing else: where one pool is refused or broken and another has no
    capacity, a third may give. An unknown code counts as no capacity: something else is asked for, and it is never given up for
    good.
    """
    found = {classify(code_of(reason)) for reason in reasons}
    found = {FailureKind.NO_CAPACITY if kind is FailureKind.UNKNOWN else kind for kind in found}
    order = (FailureKind.QUOTA, FailureKind.NO_CAPACITY, FailureKind.THROTTLED, FailureKind.REFUSED)
    return next((kind for kind in order if kind in found), FailureKind.NO_CAPACITY)


def describe(reasons: Iterable[str]) -> str:
    """The decisive kind of failure in words for people, with the codes that say so."""
    every = tuple(reasons)
    kind = decisive(every)
    codes = sorted({code for code in map(code_of, every) if classify(code) is kind})
    return f"{WORDS[kind]} ({', '.join(codes)})" if codes and kind is not FailureKind.NO_CAPACITY else WORDS[kind]


def code_of(reason: str) -> str:
    """The code of a reason (`code: message`)."""
    return reason.partition(":")[0].strip()
