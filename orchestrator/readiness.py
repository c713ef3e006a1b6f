"""What must be true outside before the orchestrator can work, each as a check, and what the last look at them found.

A check reads and never changes anything. `checks/` judges what was read; `checks_wiring.py` has the list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.errors import ServiceFailed, Throttled, Unanswered
from orchestrator.ports import Journal, WorkerPool

DENIED = frozenset(
    {
        "AccessDenied", "AccessDeniedException", "AuthorizationError", "AuthorizationErrorException", "UnauthorizedOperation",
        "UnauthorizedAccess", "403",
    }
)  # fmt: skip
"""Codes of a call that needs a permission. Source: "Common errors" of EC2, SQS, DynamoDB and S3; 403 is GitHub's."""
NOT_LET_IN = frozenset(
    {
        "AuthFailure", "ExpiredToken", "ExpiredTokenException", "IncompleteSignature", "InvalidAccessKeyId",
        "InvalidClientTokenId", "NoCredentials", "RequestExpired", "SignatureDoesNotMatch", "UnrecognizedClientException",
    }
)  # fmt: skip
"""Codes of credentials that are missing, wrong or too old. Source: "Common errors" of the services; NoCredentials is our own."""
CREDENTIALS_HINT = (
    "set AWS_REGION and credentials, or an AWS profile, as every AWS tool finds them; try: aws sts get-caller-identity"
)


class Standing(StrEnum):
    """How a check stands."""

    FINE = "fine"
    FAILED = "failed"
    """Something is missing or wrong, and stays so until somebody corrects it."""
    UNREACHED = "not known now"
    """Whoever knows could not be reached, or answered with an error that may pass; it is asked again."""
    UNCHECKED = "could not be checked"
    """The permission to read it is missing. It neither helps nor hinders."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is missing or wrong."""

    found: str
    expected: str
    remedy: str
    """The command or the page that corrects it."""
    setting: str = ""
    """The environment variable that names the thing; empty: none does."""
    holds: bool = False
    """Whether nothing may be begun while it is so, because records or messages would be lost or misread."""
    is_partial: bool = False
    """Whether the rest works without it: it is named, and nobody waits for it."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One look at something outside."""

    name: str
    look: Callable[[], Iterable[Fault]]
    """Reads, and names every fault. Raises: ServiceFailed: it could not be read."""
    needs: str = ""
    """The permission that reading needs."""
    is_first: bool = False
    """Whether it is looked at before anything is begun."""
    is_optional: bool = False
    """Whether nothing else needs whoever is asked: where he cannot be reached, it could not be checked."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check found. `why`: in words, where it could not be read."""

    check: str
    standing: Standing
    faults: tuple[Fault, ...] = ()
    why: str = ""

    @property
    def holds(self) -> bool:
        """Whether nothing may be begun while it is so."""
        return any(fault.holds for fault in self.faults)

    @property
    def is_passed(self) -> bool:
        """Whether nobody has to wait for it: it is fine, could not be checked, or only a part does not work."""
        passed = self.standing in (Standing.FINE, Standing.UNCHECKED)
        return passed or (self.standing is Standing.FAILED and all(fault.is_partial for fault in self.faults))


def examine(check: Check) -> Finding:
    """Do one check. Never raises for what AWS or GitHub answer."""
    try:
        faults = tuple(check.look())
    except (Unanswered, Throttled) as error:
        standing = Standing.UNCHECKED if check.is_optional else Standing.UNREACHED
        return Finding(check=check.name, standing=standing, why=str(error))
    except ServiceFailed as error:
        if error.code in NOT_LET_IN:
            found = str(error).partition(" answered ")[2] or str(error)
            fault = Fault(found=found, expected="a region, and credentials that AWS accepts", remedy=CREDENTIALS_HINT, holds=True)
            return Finding(check=check.name, standing=Standing.FAILED, faults=(fault,))
        if error.code in DENIED:
            return Finding(check=check.name, standing=Standing.UNCHECKED, why=f"needs {check.needs}: {error}")
        return Finding(check=check.name, standing=Standing.UNREACHED, why=str(error))
    return Finding(check=check.name, standing=Standing.FAILED if faults else Standing.FINE, faults=faults)


class Readiness:
    """The checks, and what the last look found. One thread looks; any may ask.

    Ready once means ready: a delivery that is stored is not lost, so that what fails later is named and refuses nothing.
    """

    def __init__(self, checks: Sequence[Check], journal: Journal, workers: WorkerPool) -> None:
        self._checks, self._journal, self._workers = tuple(checks), journal, workers
        self._found: dict[str, Finding] = {}
        self._was_ready = False

    def look(self, *, first: bool = False) -> None:
        """Do every check, side by side, and log what has changed. `first`: only those that come before anything is begun."""
        wanted = [check for check in self._checks if check.is_first or not first]
        looks = [_Look(check) for check in wanted]
        self._workers.run_all([look.take for look in looks])
        for look in looks:
            self._keep(look.found)
        if not first and len(self._found) == len(self._checks) and all(one.is_passed for one in self._found.values()):
            self._was_ready = True

    def examined(self) -> tuple[Finding, ...]:
        """Do every check, side by side, for somebody who looks at the findings himself; nothing is logged or kept."""
        looks = [_Look(check) for check in self._checks]
        self._workers.run_all([look.take for look in looks])
        return tuple(look.found for look in looks)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found, in the order of the checks."""
        return tuple(self._found[check.name] for check in self._checks if check.name in self._found)

    @property
    def is_ready(self) -> bool:
        """Whether every check that could be made has been passed at one time."""
        return self._was_ready

    @property
    def may_begin(self) -> bool:
        """Whether nothing was found under which turns would lose or misread records and messages."""
        first = [check.name for check in self._checks if check.is_first]
        return all(name in self._found and not self._found[name].holds for name in first)

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the checks that are not passed now."""
        passed = (Standing.FINE, Standing.UNCHECKED)
        return tuple(one.check for one in self.findings if one.standing not in passed)

    @property
    def pending(self) -> tuple[str, ...]:
        """The names of the checks that were not made yet."""
        return tuple(check.name for check in self._checks if check.name not in self._found)

    @property
    def unchecked(self) -> tuple[str, ...]:
        """The names of the checks that could not be made."""
        return tuple(one.check for one in self.findings if one.standing is Standing.UNCHECKED)

    def _keep(self, found: Finding) -> None:
        """What was fine, or wrong, and cannot be read at the moment is still believed to be so."""
        known = self._found.get(found.check)
        if known is not None and found.standing is Standing.UNREACHED and known.standing in (Standing.FINE, Standing.FAILED):
            return
        self._found[found.check] = found
        if known == found:
            return
        if found.standing in (Standing.UNREACHED, Standing.UNCHECKED):
            self._journal.event("readiness.unknown", check=found.check, standing=found.standing.value, why=found.why)
        for fault in found.faults:
            told = {"found": fault.found, "expected": fault.expected, "remedy": fault.remedy}
            setting = {"setting": fault.setting} if fault.setting else {}
            self._journal.event("readiness.failed", check=found.check, **setting, **told)
        if found.standing is Standing.FINE and known is not None:
            self._journal.event("readiness.corrected", check=found.check)


class _Look:
    """One check, done on a worker."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self.found = Finding(check=check.name, standing=Standing.UNREACHED, why="the look itself failed")

    def take(self) -> None:
        self.found = examine(self._check)
