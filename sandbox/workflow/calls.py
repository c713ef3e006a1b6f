"""Workflows that call others of their repository: the inputs of both sides. Source: "Reuse workflows", GitHub docs."""

from __future__ import annotations

import re
from typing import Any

import yaml

from sandbox.plan import Workflow, WorkflowInput
from sandbox.runner.functions import as_text
from sandbox.workflow.nodes import EXPRESSION, Nodes

REMOTE = re.compile(r"[\w.-]+/[\w.-]+/\S+@\S+")
"""A workflow of another repository."""
ABSENT = {"boolean": False, "number": 0}
"""What an input without value and default is; a text is empty."""
KINDS = frozenset({"string", "number", "boolean", "choice", "environment"})


class InputError(ValueError):
    """A called workflow is given a value of another type than its input has."""


def declared_inputs(nodes: Nodes, node: yaml.Node | None) -> dict[str, WorkflowInput]:
    """`inputs:` of `workflow_call` or `workflow_dispatch`."""
    found = {}
    for name, entry in (nodes.mapping(node, None, "inputs") if node is not None else {}).items():
        fields = nodes.mapping(entry, None, f"input `{name}`") if isinstance(entry, yaml.MappingNode) else {}
        kind = nodes.text(fields["type"]) if "type" in fields else "string"
        if kind not in KINDS:
            nodes.complain(fields["type"], f"`{kind}` is no type of an input (supported: {', '.join(sorted(KINDS))})")
        if "default" in fields:
            nodes.contexts_below(fields["default"])
        default = nodes.value(fields["default"]) if "default" in fields else None
        required = nodes.truth(fields.get("required"), "required") == "true"
        found[name] = WorkflowInput(kind=kind, default=default, is_required=required)
        if "default" in fields:
            _insist_on_type(nodes, fields["default"], name, found[name], default)
    return found


def arguments(nodes: Nodes, node: yaml.Node | None, called: Workflow, caller: yaml.Node) -> dict[str, Any]:
    """`with:` of a call, held against the inputs of the called workflow."""
    given = nodes.mapping(node, None, "with") if node is not None else {}
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name not in called.inputs:
            told = ", ".join(sorted(called.inputs)) or "none"
            nodes.complain(value, f"{called.path.name} has no input `{name}` (supported: {told})")
            continue
        nodes.contexts_below(value)
        found[name] = nodes.value(value)
        _insist_on_type(nodes, value, name, called.inputs[name], found[name])
    for name, wanted in called.inputs.items():
        if wanted.is_required and name not in given:
            nodes.complain(caller, f"{called.path.name} requires the input `{name}`: expected it in `with:`")
    return found


def _insist_on_type(nodes: Nodes, node: yaml.Node, name: str, wanted: WorkflowInput, value: Any) -> None:
    """What an expression gives is judged when the workflow is called."""
    if isinstance(value, str) and EXPRESSION in value:
        return
    try:
        typed(name, wanted, value)
    except InputError as error:
        nodes.complain(node, str(error))


def typed(name: str, wanted: WorkflowInput, value: Any) -> Any:
    """The value of an input; None: it was not given.

    Raises: InputError.
    """
    value = wanted.default if value is None else value
    if value is None:
        return ABSENT.get(wanted.kind, "")
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if wanted.kind == "boolean" and not isinstance(value, bool):
        raise InputError(f"input `{name}` takes true or false, found `{as_text(value)}`")
    if wanted.kind == "number" and not is_number:
        raise InputError(f"input `{name}` takes a number, found `{as_text(value)}`")
    return value if wanted.kind in ABSENT else as_text(value)
