"""Reads a workflow file, with the workflows of its repository that it calls, into a plan of jobs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from sandbox.plan import Workflow
from sandbox.workflow.calls import declared_inputs
from sandbox.workflow.jobs import Jobs, concurrency
from sandbox.workflow.nodes import Complaints, Nodes
from sandbox.workflow.steps import Steps

TOP = frozenset({"name", "run-name", "on", "env", "defaults", "jobs", "permissions", "concurrency"})
MOST_LEVELS = 10
"""A workflow and the nine levels that it may call. Source: "Reusing workflow configurations", GitHub docs."""


def read_workflow(path: Path, variables: Mapping[str, str] | None = None) -> Workflow:
    """The plan in the file at `path`. `variables`: the context `vars`.

    Raises: Unsupported with everything that the sandbox does not do.
    """
    complaints = Complaints()
    workflow = _Reading(complaints, root_of(path), dict(variables or {})).read(path, ())
    complaints.insist_on_none()
    assert workflow is not None
    return workflow


def root_of(path: Path) -> Path:
    """The top of the repository that holds the file: where `.git` or `.github` lies, else the file's own directory."""
    above = path.absolute().parents
    return next((one for one in above if (one / ".git").exists() or (one / ".github" / "workflows") in above), above[0])


class _Reading:
    """One workflow and all that it calls."""

    def __init__(self, complaints: Complaints, root: Path, variables: dict[str, str]) -> None:
        self._complaints, self._root, self._variables = complaints, root, variables

    def read(self, path: Path, callers: tuple[Path, ...]) -> Workflow | None:
        """The workflow at `path`, called by these; None if that was complained of."""
        nodes = Nodes(path, self._complaints)
        root = nodes.root()
        if root is None:
            return None
        top = nodes.mapping(root, TOP, "the workflow")
        events = self._events(nodes, top.get("on"))
        event = next((one for one in ("push", "workflow_dispatch", *events) if one in events), "push")
        trigger = events.get("workflow_call" if callers else "workflow_dispatch" if event == "workflow_dispatch" else "")
        told = nodes.mapping(trigger, None, "the event") if isinstance(trigger, yaml.MappingNode) else {}
        if callers and "workflow_call" not in events:
            nodes.complain(root, "expected `on: workflow_call`: another workflow calls this one")
        if "jobs" not in top:
            nodes.complain(root, "there is no `jobs:`")
        env, defaults = nodes.texts(top.get("env"), "env"), Steps(nodes).defaults(top.get("defaults"))
        jobs = Jobs(nodes, defaults, lambda node, called: self._called(nodes, node, called, (*callers, path.absolute())))
        return Workflow(
            name=nodes.text(top["name"]) if "name" in top else path.stem,
            path=path,
            env=env,
            jobs=jobs.jobs(top["jobs"]) if "jobs" in top else (),
            concurrency=concurrency(nodes, top.get("concurrency")),
            inputs=declared_inputs(nodes, told.get("inputs")),
            outputs=self._outputs(nodes, told.get("outputs")),
            variables=self._variables,
            event=event,
        )

    def _called(self, nodes: Nodes, node: yaml.Node, text: str, callers: tuple[Path, ...]) -> Workflow | None:
        """The workflow that a call names by its path from the top of the repository."""
        path = self._root / text
        if not path.is_file():
            nodes.complain(node, f"expected a workflow file at {path}")
        elif path.absolute() in callers:
            nodes.complain(node, f"`{text}` calls itself, directly or by another workflow")
        elif len(callers) >= MOST_LEVELS:
            nodes.complain(node, f"expected at most {MOST_LEVELS} levels of workflows that call each other")
        else:
            return self.read(path, callers)
        return None

    @staticmethod
    def _events(nodes: Nodes, node: yaml.Node | None) -> dict[str, yaml.Node | None]:
        """The events of `on:`; None: nothing is said of one."""
        if isinstance(node, yaml.MappingNode):
            return dict(nodes.mapping(node, None, "on"))
        return dict.fromkeys(nodes.names(node, "on"))

    @staticmethod
    def _outputs(nodes: Nodes, node: yaml.Node | None) -> dict[str, str]:
        """`outputs:` of `workflow_call`."""
        found = {}
        for name, entry in (nodes.mapping(node, None, "outputs") if node is not None else {}).items():
            fields = nodes.mapping(entry, frozenset({"description", "value"}), f"output `{name}`")
            found[name] = nodes.text(fields["value"]) if "value" in fields else ""
        return found
