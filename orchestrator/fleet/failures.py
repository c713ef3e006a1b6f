"""What becomes of failures of work that was done side by side: all are logged, the first serious one is raised."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.errors import Conflict
from orchestrator.ports import Journal


def log_failures(journal: Journal, failures: Sequence[Exception]) -> None:
    """One log line for each failure."""
    for one in failures:
        journal.event("launching.failed", error=f"{type(one).__name__}: {one}")


def raise_first(failures: Sequence[Exception]) -> None:
    """Raise the first failure that is more than a lost race."""
    serious = [one for one in failures if not isinstance(one, Conflict)]
    if serious:
        raise serious[0]


def one_per_code(reasons: Sequence[str], longest: int) -> tuple[str, ...]:
    """One reason of each code (`code: message`), cut to so many characters: however many say the same, no code is lost."""
    of_code: dict[str, str] = {}
    for reason in reasons:
        of_code.setdefault(reason.partition(":")[0].strip(), reason[:longest])
    return tuple(of_code.values())
