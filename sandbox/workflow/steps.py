"""The steps of a job, and the shell and directory that they run in."""

from __future__ import annotations

from typing import Any

import yaml

from sandbox.runner.shells import SUPPORTED, is_supported
from sandbox.workflow.nodes import EXPRESSION, Nodes

STEP = frozenset(
    {"name", "id", "if", "run", "uses", "with", "env", "shell", "working-directory", "timeout-minutes", "continue-on-error"}
)


class Steps:
    """Reads `steps:` and `defaults:` of one file."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    def defaults(self, node: yaml.Node | None) -> dict[str, str]:
        """The shell and directory that steps use."""
        if node is None:
            return {}
        run = self._nodes.mapping(node, frozenset({"run"}), "defaults").get("run")
        if run is None:
            return {}
        found = self._nodes.mapping(run, frozenset({"shell", "working-directory"}), "defaults.run")
        texts = {name: self._nodes.text(value) for name, value in found.items()}
        if "shell" in found:
            self._insist_on_shell(found["shell"], texts["shell"])
        return texts

    def steps(self, node: yaml.Node, defaults: dict[str, str]) -> tuple[dict[str, Any], ...]:
        """All steps of a job."""
        if not isinstance(node, yaml.SequenceNode):
            self._nodes.complain(node, "expected a list of steps")
            return ()
        return tuple(self._step(step, defaults) for step in node.value)

    def _step(self, node: yaml.Node, defaults: dict[str, str]) -> dict[str, Any]:
        found = self._nodes.mapping(node, STEP, "a step")
        if not isinstance(node, yaml.MappingNode):
            return {}
        if ("run" in found) == ("uses" in found):
            self._nodes.complain(node, "expected either `run:` or `uses:` in a step")
        step: dict[str, Any] = dict(defaults) if "run" in found else {}
        for name in ("name", "id", "run", "uses", "shell", "working-directory"):
            if name in found:
                step[name] = self._nodes.text(found[name])
        if "run" not in found:  # an action: it is not run, so what it would be given may be anything
            return step
        if "shell" in found:
            self._insist_on_shell(found["shell"], step["shell"])
        if "if" in found:
            step["if"] = self._nodes.condition(found["if"])
        if "env" in found:
            step["env"] = self._nodes.texts(found["env"], "env")
        if "timeout-minutes" in found:
            step["timeout-minutes"] = self._nodes.minutes(found["timeout-minutes"], 360.0)
        if "continue-on-error" in found:
            told = self._nodes.truth(found["continue-on-error"], "continue-on-error")
            step["continue-on-error"] = {"true": True, "false": False}.get(told, told)
        return step

    def _insist_on_shell(self, node: yaml.Node, shell: str) -> None:
        """A shell that an expression decides is judged when the step runs."""
        if EXPRESSION not in shell and not is_supported(shell):
            self._nodes.complain(node, f"shell `{shell}` is not supported (supported: {SUPPORTED})")
