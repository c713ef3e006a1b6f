"""Which labels a real fleet would take by its default rules, and which no machine of it could serve."""

from __future__ import annotations

import re
from collections.abc import Iterable

from orchestrator.jobs.labels import is_ours

_OTHER_SYSTEM = re.compile(r"(?:windows|macos)(?:-.*)?", re.I)
"""Labels of GitHub's own runners, and of self-hosted ones, that do not run Linux. Source: "Choosing the runner for a job", GitHub docs."""


def other_system(labels: tuple[str, ...]) -> str | None:
    """The label that names another system than Linux; None: there is none."""
    return next((label for label in labels if _OTHER_SYSTEM.fullmatch(label)), None)


def of_other_runners(label_sets: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The label sets that no stack without aliases would take, each once; what is not known yet (empty) is left out."""
    return [labels for labels in dict.fromkeys(label_sets) if labels and not is_ours(labels, lambda label: False)]
