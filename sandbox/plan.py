"""What a workflow file asks for, its matrices taken apart: jobs with their needs, labels and steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class PlannedJob:
    """One job after its matrix was taken apart. Texts may hold `${{ }}`, to be rendered when it is due."""

    key: str
    name: str
    labels: tuple[str, ...]
    """Empty where `runs_on` is an expression."""
    needs: tuple[str, ...]
    condition: str
    matrix: dict[str, Any]
    env: dict[str, str]
    outputs: dict[str, str]
    timeout_minutes: float
    steps: tuple[dict[str, Any], ...]
    runs_on: str = ""
    """An expression that gives the labels when the job is due; empty: they are written out."""


@dataclass(frozen=True)
class Workflow:
    """A whole file."""

    name: str
    path: Path
    env: dict[str, str] = field(default_factory=dict)
    jobs: tuple[PlannedJob, ...] = ()


def labels_of(value: Any) -> tuple[str, ...]:
    """The labels of a `runs-on`: one, a list, or `labels` of a mapping; empty: it has another shape, and no runner fits."""
    found = value.get("labels", []) if isinstance(value, dict) else value
    listed = [found] if isinstance(found, str) else found
    return tuple(map(str, listed)) if isinstance(listed, list) and listed else ()
