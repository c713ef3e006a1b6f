"""Decide what it means that EC2 did not give what was asked, by the code of each of its reasons.

Source: "Error codes for the Amazon EC2 API" in the EC2 API reference, and CreateFleetError.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Trouble(StrEnum):
    """What is to be done; as words for whoever waits."""

    CAPACITY = "EC2 has no capacity"
    """Ask for something else."""
    QUOTA = "a quota of this AWS account is used up"
    """Ask in the other market, which has a quota of its own."""
    LATER = "EC2 asks to be left alone for a while"
    """Ask for the same again, later."""
    REFUSED = "EC2 refuses what is asked"
    """Whatever is asked for like this will be refused: somebody must mend a permission, a template, a subnet."""


NO_CAPACITY = frozenset({
    "InsufficientInstanceCapacity", "UnfulfillableCapacity", "InsufficientCapacity", "Unsupported", "InvalidFleetConfiguration",
})  # fmt: skip
"""The last one is what EC2 says of a type that a zone does not offer."""
BROKEN = NO_CAPACITY | {"InternalError", "InternalFailure", "Unavailable", "ServiceUnavailable"}
"""A pool that says so is left alone for a while."""
_CAPACITY = NO_CAPACITY | {
    "InsufficientHostCapacity", "InsufficientReservedInstanceCapacity", "InsufficientFreeAddressesInSubnet",
    "InsufficientAddressCapacity", "InsufficientVolumeCapacity", "SpotMaxPriceTooLow", "InsufficientSlots",
}  # fmt: skip
_QUOTA = frozenset({"MaxSpotInstanceCountExceeded", "VcpuLimitExceeded", "InstanceLimitExceeded", "VolumeLimitExceeded"})
_LATER = frozenset({
    "RequestLimitExceeded", "Throttling", "ThrottlingException", "EC2ThrottledException", "RequestThrottled", "SlowDown",
    "TooManyRequestsException", "InternalError", "InternalFailure", "InternalServiceError", "ServerInternal",
    "ServiceUnavailable", "Unavailable", "NoAnswer",
})  # fmt: skip
_REFUSED = frozenset({
    "UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "AuthFailure", "OptInRequired", "Blocked",
    "PendingVerification", "AccountDisabled", "ValidationError", "ValidationException", "IdempotentParameterMismatch",
    "UnsupportedOperation", "OperationNotPermitted", "DryRunOperation",
})  # fmt: skip
_REFUSED_LIKE = ("Invalid", "Missing", "Malformed", "Unknown", "Client.", "AuthFailure.")


def trouble(code: str) -> Trouble | None:
    """Of one code; None: one that nobody has told us of."""
    told = {Trouble.CAPACITY: _CAPACITY, Trouble.QUOTA: _QUOTA, Trouble.LATER: _LATER, Trouble.REFUSED: _REFUSED}
    known = next((kind for kind, codes in told.items() if code in codes), None)
    return known or (Trouble.REFUSED if code.startswith(_REFUSED_LIKE) else None)


def gravest(reasons: Iterable[str]) -> Trouble:
    """Of several (`code: message`) the one that decides.

    A refusal or "later" only if there is nothing else: where one pool is refused or broken and another has no capacity, a third
    may give. What nobody knows is as no capacity: something else is asked for, and it is never given up for good.
    """
    found = {trouble(reason.partition(":")[0].strip()) or Trouble.CAPACITY for reason in reasons}
    order = (Trouble.QUOTA, Trouble.CAPACITY, Trouble.LATER, Trouble.REFUSED)
    return next((kind for kind in order if kind in found), Trouble.CAPACITY)


def compact(reasons: Iterable[str], longest: int) -> tuple[str, ...]:
    """One of each code, cut to so many characters: however many pools say the same, no code is lost."""
    of_code: dict[str, str] = {}
    for reason in reasons:
        of_code.setdefault(reason.partition(":")[0].strip(), reason[:longest])
    return tuple(of_code.values())


def told(reasons: Iterable[str]) -> str:
    """In words, with the codes that say so."""
    every = tuple(reasons)
    kind = gravest(every)
    codes = sorted({code for code in (reason.partition(":")[0].strip() for reason in every) if trouble(code) is kind})
    return f"{kind.value} ({', '.join(codes)})" if codes and kind is not Trouble.CAPACITY else kind.value
