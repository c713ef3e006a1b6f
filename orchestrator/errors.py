"""Every way the orchestrator can fail: whose fault it is, and whether the same call may succeed later."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

Value = TypeVar("Value")


class OrchestratorError(Exception):
    """A failure with a name."""


class SettingsInvalid(OrchestratorError):
    """The operator's environment is wrong or incomplete; `problems` holds all of it."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("the settings are not usable: " + "; ".join(problems))


class ServiceFailed(OrchestratorError):
    """AWS or GitHub answered with an error; `code` is its own word. Retry through the queue or the next tick."""

    def __init__(self, action: str, code: str, detail: str = "") -> None:
        self.action, self.code = action, code
        super().__init__(f"{action} answered {code}" + (f": {detail}" if detail else ""))


BUDGET_SPENT, PACED = "BudgetSpent", "Paced"
"""Our own codes for calls that were not made: the rest of a limit is kept for others; this caller's turn has not come yet."""


class Throttled(ServiceFailed):
    """Too many calls: the same one may succeed later; `until` (epoch seconds) not before, if that is known."""

    def __init__(self, action: str, code: str, detail: str = "", until: float | None = None) -> None:
        super().__init__(action, code, detail)
        self.until = until


class Unanswered(ServiceFailed):
    """No answer: whether the call took effect is unknown, and the next turn must find out."""

    def __init__(self, action: str, detail: str = "") -> None:
        super().__init__(action, "NoAnswer", detail)


class FailureKind(StrEnum):
    """What follows from it that a strategy did not start what was asked for; each strategy translates its own codes."""

    NO_CAPACITY = "no capacity"
    """Ask for something else."""
    QUOTA = "quota used up"
    """Ask for capacity that counts against another quota."""
    THROTTLED = "throttled"
    """Ask for the same again, later."""
    REFUSED = "refused"
    """The same will be refused until somebody mends a permission, a template or a setting."""
    UNKNOWN = "unknown"
    """The strategy does not know the code: treated like no capacity, and never given up for good."""


class Conflict(OrchestratorError):
    """Another writer changed the record since it was read: read again and decide again."""


class NotServed(OrchestratorError):
    """An operator asked for machines that no job could ask for; the message says why."""


class Unlaunchable(OrchestratorError):
    """This session can never be configured, however often it is tried: it ends with that reason."""


class DeliveryRefused(OrchestratorError):
    """A webhook delivery that is not GitHub's, or not usable; `status` is the HTTP answer."""

    def __init__(self, status: int, complaint: str) -> None:
        self.status = status
        super().__init__(complaint)


def without_header(words: str) -> str:
    """The words of an HTTP library without the header that it quotes: it may carry a token."""
    return re.sub(r"(?is)(invalid .{0,100}header value).*", r"\1", words)


def failure_of(task: Callable[[], object]) -> Exception | None:
    """What `task` raised, None if it returned: the one broad net of the deciding code.

    For entries of a list that must not stop each other; the caller reports the failure.
    """
    try:
        task()
    except Exception as error:  # noqa: BLE001 - the net
        return error
    return None
