"""What a workflow file says of a job, evaluated when the job is due."""

from __future__ import annotations

import dataclasses
from typing import Any

from sandbox.github.records import JobRecord
from sandbox.plan import Concurrency, WorkflowInput, labels_of
from sandbox.runner.expressions import evaluated, render
from sandbox.runner.functions import ExpressionError, as_text, number
from sandbox.workflow.calls import typed
from sandbox.workflow.labels import refusal


def evaluate(job: JobRecord, contexts: dict[str, Any]) -> None:
    """What the file says of the job, with the values that are there now."""
    plan = job.plan
    job.is_fail_fast = is_true(plan.fail_fast, contexts)
    job.most_at_once = int(_positive("max-parallel", plan.max_parallel, contexts)) if plan.max_parallel else 0
    contexts["strategy"] |= {"fail-fast": job.is_fail_fast, "max-parallel": job.most_at_once or plan.total}
    minutes = _positive("timeout-minutes", str(plan.timeout_minutes), contexts)
    job.plan = dataclasses.replace(plan, name=render(plan.name, contexts), timeout_minutes=minutes)
    job.is_tolerated = bool(plan.remote) or is_true(plan.continue_on_error, contexts)
    job.labels = plan.labels or tuple(label for text in plan.runs_on for label in labels_of(evaluated(text, contexts)))
    if plan.runs_on and not job.labels:
        raise ExpressionError("expected a label, or a list of labels, in `runs-on:`, and its expression gives none")
    if (told := refusal(job.labels)) is not None and not plan.labels:
        raise ExpressionError(told)
    if (concurrency := concurrency_of(job)) is not None:
        job.group = render(concurrency.group, contexts).lower()
    if plan.calls is not None:
        job.inputs = {
            name: input_value(name, wanted, plan.inputs.get(name), contexts) for name, wanted in plan.calls.inputs.items()
        }


def concurrency_of(job: JobRecord) -> Concurrency | None:
    """The group of a job; of a call that has none, the one of the called workflow."""
    return job.plan.concurrency or (job.plan.calls.concurrency if job.plan.calls else None)


def input_value(name: str, wanted: WorkflowInput, given: Any, contexts: dict[str, Any]) -> Any:
    """The value of an input; what the caller gives or the default says may hold expressions."""
    value = wanted.default if given is None else given
    return typed(name, wanted, evaluated(value, contexts) if isinstance(value, str) else value)


def _positive(name: str, text: str, contexts: dict[str, Any]) -> float:
    value = evaluated(text, contexts)
    if not number(value) > 0:
        raise ExpressionError(f"expected a number above 0 in `{name}:`, and `{text}` gives `{as_text(value)}`")
    return number(value)


def is_true(text: str, contexts: dict[str, Any]) -> bool:
    """Whether a text, or the value of its expression, is `true`."""
    return as_text(evaluated(text, contexts)) == "true"
