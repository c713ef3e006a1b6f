"""What a workflow file asks for, its written-out matrices taken apart: jobs with their needs, labels and steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Concurrency:
    """A group of which one member runs at a time. Texts may hold `${{ }}`. Source: "Concurrency", GitHub Actions docs."""

    group: str
    cancel_in_progress: str = "false"
    """Whether a new member ends the running one."""
    waits_in_line: bool = False
    """`queue: max`: every member waits for its turn. Otherwise a new member takes the place of the one that waits."""


@dataclass(frozen=True, kw_only=True)
class WorkflowInput:
    """One input of a workflow."""

    kind: str
    """`string`, `number`, `boolean` or `choice`."""
    default: Any = None
    is_required: bool = False


@dataclass(frozen=True, kw_only=True)
class PlannedJob:
    """One job after its matrix was taken apart. Texts may hold `${{ }}`, to be rendered when it is due."""

    key: str
    name: str
    labels: tuple[str, ...]
    """Empty where `runs_on` holds expressions."""
    needs: tuple[str, ...]
    condition: str
    matrix: dict[str, Any]
    env: dict[str, str]
    outputs: dict[str, str]
    timeout_minutes: float | str
    """A text: an expression."""
    steps: tuple[dict[str, Any], ...]
    runs_on: tuple[str, ...] = ()
    """Texts that give the labels when the job is due; empty: they are written out."""
    is_titled: bool = False
    """Whether the file names the job; otherwise the values of its matrix are added to its key."""
    matrix_source: Any = None
    """A matrix with expressions, taken apart when the job is due; None: there is none, or it is taken apart already."""
    index: int = 0
    total: int = 1
    """Its place among the jobs of its matrix, and how many they are."""
    fail_fast: str = "true"
    max_parallel: str = ""
    """Jobs of the matrix that run at once; empty: all."""
    continue_on_error: str = "false"
    concurrency: Concurrency | None = None
    left_out: tuple[str, ...] = ()
    """What of it the sandbox leaves out, such as its container."""
    calls: Workflow | None = None
    """The workflow that runs in its place."""
    inputs: dict[str, Any] = field(default_factory=dict)
    """Of the called workflow, as the caller writes them."""
    remote: str = ""
    """A workflow of another repository, which is not run; empty: there is none."""


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """A whole file."""

    name: str
    path: Path
    env: dict[str, str] = field(default_factory=dict)
    jobs: tuple[PlannedJob, ...] = ()
    concurrency: Concurrency | None = None
    inputs: dict[str, WorkflowInput] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    """Of a called workflow, from the outputs of its jobs."""
    variables: dict[str, str] = field(default_factory=dict)
    """The context `vars`."""
    event: str = "push"
    """What started the run."""

    def every_job(self) -> Iterator[PlannedJob]:
        """Its jobs, and in the place of a call the jobs of the called workflow."""
        for job in self.jobs:
            yield from job.calls.every_job() if job.calls else (job,)


def labels_of(value: Any) -> tuple[str, ...]:
    """The labels of a `runs-on`: one, a list, or `labels` of a mapping; empty: it has another shape, and no runner fits."""
    found = value.get("labels", []) if isinstance(value, dict) else value
    listed = [found] if isinstance(found, str) else found
    return tuple(map(str, listed)) if isinstance(listed, list) and listed else ()
