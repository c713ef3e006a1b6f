"""Which labels a real fleet would take by its default rules, and which no machine of it could serve."""

from __future__ import annotations

import re
from collections.abc import Iterable

from orchestrator.jobs.labels import is_ours, read_labels

_OTHER_SYSTEM = re.compile(r"(?:windows|macos)(?:-.*)?", re.I)
"""Labels of GitHub's own runners, and of self-hosted ones, that do not run Linux. Source: "Choosing the runner for a job", GitHub docs."""


def refusal(labels: tuple[str, ...]) -> str | None:
    """Why no machine here can serve these labels; None: one can."""
    system = next((label for label in labels if _OTHER_SYSTEM.fullmatch(label)), None)
    if system is not None:
        return f"the label `{system}` asks for another system: every machine here runs Linux"
    complaints = read_labels(labels).complaints if _is_for_a_fleet(labels) else ()
    return f"the fleet would refuse these labels: {'; '.join(complaints)}" if complaints else None


def of_other_runners(label_sets: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The label sets that no stack without aliases would take, each once; what is not known yet (empty) is left out."""
    return [labels for labels in dict.fromkeys(label_sets) if labels and not _is_for_a_fleet(labels)]


def _is_for_a_fleet(labels: tuple[str, ...]) -> bool:
    """Whether a stack without aliases would take them."""
    return is_ours(labels, lambda label: False)
