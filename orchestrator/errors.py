"""Every way the orchestrator can fail: whose fault it is and whether trying again helps."""

from __future__ import annotations


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
"""Our own words where GitHub was not even asked: its limit is kept for others; it is not the turn of this one yet."""


class Throttled(ServiceFailed):
    """Too many calls: the same one may succeed later; `until` (epoch seconds) not before, if that is known."""

    def __init__(self, action: str, code: str, detail: str = "", until: float | None = None) -> None:
        super().__init__(action, code, detail)
        self.until = until


class Unanswered(ServiceFailed):
    """No answer: whether the call took effect is unknown, and the next turn must find out."""

    def __init__(self, action: str, detail: str = "") -> None:
        super().__init__(action, "NoAnswer", detail)


class Conflict(OrchestratorError):
    """Somebody else changed the record since it was read: read again and decide again."""


class NotServed(OrchestratorError):
    """An operator asked for machines that no job could ask for; the message says why."""


class Unlaunchable(OrchestratorError):
    """This session can never be configured, however often it is tried: it ends with that reason."""


class DeliveryRefused(OrchestratorError):
    """A webhook delivery that is not GitHub's, or not usable; `status` is the HTTP answer."""

    def __init__(self, status: int, complaint: str) -> None:
        self.status = status
        super().__init__(complaint)
