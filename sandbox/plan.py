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
    needs: tuple[str, ...]
    condition: str
    matrix: dict[str, Any]
    env: dict[str, str]
    outputs: dict[str, str]
    timeout_minutes: float
    steps: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Workflow:
    """A whole file."""

    name: str
    path: Path
    env: dict[str, str] = field(default_factory=dict)
    jobs: tuple[PlannedJob, ...] = ()
