"""One entry of `jobs:` becomes planned jobs: a matrix that is written out is taken apart, one with expressions waits for the run."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

import yaml

from sandbox.plan import Concurrency, PlannedJob, Workflow, labels_of
from sandbox.runner.expressions import evaluated
from sandbox.runner.functions import ExpressionError, as_text
from sandbox.workflow.calls import REMOTE, arguments
from sandbox.workflow.labels import refusal
from sandbox.workflow.matrix import MatrixError, combinations, display_name
from sandbox.workflow.nodes import EXPRESSION, Nodes
from sandbox.workflow.steps import Steps

BOTH = frozenset({"name", "needs", "if", "strategy", "permissions", "concurrency"})
JOB = BOTH | frozenset(
    {
        "runs-on",
        "env",
        "defaults",
        "outputs",
        "timeout-minutes",
        "continue-on-error",
        "container",
        "services",
        "environment",
        "steps",
    }
)
CALL = BOTH | frozenset({"uses", "with", "secrets"})
STRATEGY = frozenset({"matrix", "fail-fast", "max-parallel"})
CONCURRENCY = frozenset({"group", "cancel-in-progress", "queue"})
GROUP = "Default"
"""The runner group of a repository's own runners. Source: "Managing access to self-hosted runners using groups", GitHub docs."""


class Jobs:
    """Reads `jobs:` of one file. `find_called` gives the workflow that a path names, or complains and gives None."""

    def __init__(self, nodes: Nodes, defaults: dict[str, str], find_called: Callable[[yaml.Node, str], Workflow | None]) -> None:
        self._nodes, self._steps = nodes, Steps(nodes)
        self._defaults, self._find_called = defaults, find_called

    def jobs(self, node: yaml.Node) -> tuple[PlannedJob, ...]:
        """All of them, in the order of the file."""
        entries = self._nodes.mapping(node, None, "jobs")
        made = [job for key, entry in entries.items() for job in self._entry(key, entry)]
        self._insist_on_needs(made, entries, node)
        return tuple(made)

    def _entry(self, key: str, node: yaml.Node) -> list[PlannedJob]:
        is_call = isinstance(node, yaml.MappingNode) and any(name.value == "uses" for name, _ in node.value)
        found = self._nodes.mapping(node, CALL if is_call else JOB, f"job `{key}`")
        if not found:
            return []
        shared = self._shared(key, found)
        if is_call:
            own = self._call(found)
        else:
            missing = [needed for needed in ("runs-on", "steps") if needed not in found]
            for needed in missing:
                self._nodes.complain(node, f"job `{key}` has no `{needed}:`")
            if missing:
                return []
            own = self._own(found)
        source, made = self._matrix(found.get("strategy"))
        template = PlannedJob(key=key, matrix={}, labels=(), matrix_source=source, total=len(made), **shared, **own)
        return [self._one(template, found, combination, at) for at, combination in enumerate(made)]

    def _shared(self, key: str, found: dict[str, yaml.Node]) -> dict[str, Any]:
        """What a job and a call of a workflow have in common."""
        strategy = self._nodes.mapping(found["strategy"], STRATEGY, "strategy") if "strategy" in found else {}
        return {
            "name": self._nodes.text(found["name"]) if "name" in found else key,
            "needs": self._nodes.names(found.get("needs"), "needs"), "condition": self._nodes.condition(found.get("if")),
            "concurrency": concurrency(self._nodes, found.get("concurrency")),
            "fail_fast": self._nodes.truth(strategy.get("fail-fast"), "fail-fast", "true"),
            "max_parallel": self._most(strategy.get("max-parallel")),
        }  # fmt: skip

    def _own(self, found: dict[str, yaml.Node]) -> dict[str, Any]:
        """What only a job with steps has."""
        defaults = {**self._defaults, **self._steps.defaults(found.get("defaults"))}
        return {
            "steps": self._steps.steps(found["steps"], defaults), "env": self._nodes.texts(found.get("env"), "env"),
            "outputs": self._nodes.texts(found.get("outputs"), "outputs"),
            "timeout_minutes": self._nodes.minutes(found.get("timeout-minutes"), 360.0),
            "continue_on_error": self._nodes.truth(found.get("continue-on-error"), "continue-on-error"),
            "left_out": self._left_out(found),
        }  # fmt: skip

    def _call(self, found: dict[str, yaml.Node]) -> dict[str, Any]:
        """What only a call of a workflow has."""
        node, inputs = found["uses"], {}
        path = self._nodes.text(node)
        called = self._find_called(node, path) if path.startswith("./") else None
        if called is not None:
            inputs = arguments(self._nodes, found.get("with"), called, node)
        elif not path.startswith("./") and not REMOTE.fullmatch(path):
            self._nodes.complain(node, f"expected ./.github/workflows/<file> or <owner>/<repository>/<path>@<ref> in `uses:`, found `{path}`")  # fmt: skip
        remote = "" if path.startswith("./") else path
        return {
            "steps": (), "env": {}, "outputs": {}, "timeout_minutes": 360.0, "calls": called, "inputs": inputs, "remote": remote,
        }  # fmt: skip

    def _one(self, template: PlannedJob, found: dict[str, yaml.Node], combination: dict[str, Any], at: int) -> PlannedJob:
        """The job of one combination."""
        fields: dict[str, Any] = {**vars(template), "matrix": combination, "index": at}
        if template.matrix_source is None:
            with contextlib.suppress(ExpressionError):  # complained of where the name was read
                fields["name"] = display_name(template.name, combination)
        if "runs-on" in found:
            fields |= self._runs_on(found["runs-on"], combination, is_known=template.matrix_source is None)
        return PlannedJob(**fields)

    def _runs_on(self, node: yaml.Node, matrix: dict[str, Any], *, is_known: bool) -> dict[str, Any]:
        """The labels of `runs-on`, or the texts that give them once what they name is there."""
        value = self._nodes.value(node)
        if isinstance(value, dict) and value.get("group") not in (None, GROUP):
            told = f"the runner group `{value['group']}` is not served: machines register in the group `{GROUP}`, so none is given this job"
            self._nodes.complain(node, told)
            return {}
        texts = labels_of(value)
        if not texts:
            self._nodes.complain(node, "expected a label, or a list of labels, in `runs-on:`")
            return {}
        before = self._nodes.complaints
        named = frozenset().union(*(self._nodes.checked(node, text) for text in texts))
        if self._nodes.complaints > before:
            return {}
        if named - ({"matrix"} if is_known else set()):
            return {"runs_on": texts}
        try:
            labels = tuple(label for text in texts for label in labels_of(evaluated(text, {"matrix": matrix})))
        except ExpressionError as error:
            self._nodes.complain(node, str(error))
            return {}
        if (refused := refusal(labels)) is not None:
            self._nodes.complain(node, refused)
        return {"labels": labels}

    def _matrix(self, node: yaml.Node | None) -> tuple[Any, list[dict[str, Any]]]:
        """A matrix with expressions for later, or its combinations now; one empty combination where there is none."""
        found = {name.value: value for name, value in node.value} if isinstance(node, yaml.MappingNode) else {}
        matrix = found.get("matrix")
        if matrix is None:
            return None, [{}]
        before = self._nodes.complaints
        named, tree = self._nodes.contexts_below(matrix), self._nodes.value(matrix)
        if self._nodes.complaints > before:
            return None, [{}]
        if named:
            return tree, [{}]
        try:
            return None, combinations(tree, {})
        except (MatrixError, ExpressionError) as error:
            self._nodes.complain(matrix, str(error))
            return None, [{}]

    def _most(self, node: yaml.Node | None) -> str:
        """`max-parallel`: a whole number from 1, or an expression; empty: none."""
        if node is None:
            return ""
        text = self._nodes.text(node)
        if EXPRESSION not in text and not re.fullmatch(r"[1-9]\d{0,3}", text):
            self._nodes.complain(node, f"expected a whole number from 1 in `max-parallel:`, found `{text}`")
        return text

    def _left_out(self, found: dict[str, yaml.Node]) -> tuple[str, ...]:
        """What of a job is not done here."""
        told = []
        if "container" in found:
            value = self._nodes.value(found["container"])
            told.append(f"container {as_text(value.get('image') if isinstance(value, dict) else value)}")
        if "services" in found:
            told += [f"service {name}" for name in self._nodes.mapping(found["services"], None, "services")]
        if "environment" in found:
            value = self._nodes.value(found["environment"])
            told.append(f"environment {as_text(value.get('name') if isinstance(value, dict) else value)}")
        return tuple(told)

    def _insist_on_needs(self, jobs: list[PlannedJob], entries: dict[str, yaml.Node], node: yaml.Node) -> None:
        """Every needed job exists and none waits for itself."""
        waiting = {job.key: set(job.needs) & entries.keys() for job in jobs}
        for key in dict.fromkeys(job.key for job in jobs):
            needs = next(job.needs for job in jobs if job.key == key)
            for needed in dict.fromkeys(needs):
                if needed not in entries:
                    self._nodes.complain(entries[key], f"job `{key}` needs `{needed}`, and there is no such job")
        settled = entries.keys() - waiting.keys()
        while ready := {key for key, needed in waiting.items() if needed <= settled}:
            settled |= ready
            waiting = {key: needed for key, needed in waiting.items() if key not in ready}
        if waiting:
            self._nodes.complain(node, f"these jobs wait for each other: {', '.join(sorted(waiting))}")


def concurrency(nodes: Nodes, node: yaml.Node | None) -> Concurrency | None:
    """A group by its name, or a mapping of it."""
    if node is None:
        return None
    if isinstance(node, yaml.ScalarNode):
        return Concurrency(group=nodes.text(node))
    found = nodes.mapping(node, CONCURRENCY, "concurrency")
    if "group" not in found:
        nodes.complain(node, "expected `group:` in concurrency")
        return None
    queue = nodes.text(found["queue"]) if "queue" in found else "single"
    if queue not in ("single", "max"):
        nodes.complain(found["queue"], f"expected single or max in `queue:`, found `{queue}`")
    cancels = nodes.truth(found.get("cancel-in-progress"), "cancel-in-progress")
    return Concurrency(group=nodes.text(found["group"]), cancel_in_progress=cancels, waits_in_line=queue == "max")
