"""What a step finds around it: the contexts of its expressions, and its environment. Source: "Contexts reference", GitHub docs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox.runner import expressions

OF_THE_MESSAGE = ("matrix", "strategy", "needs", "vars", "inputs")
"""Contexts that the job message brings along."""


class Surroundings:
    """Of all steps of one job. `env` and `steps` grow while the job runs."""

    def __init__(self, root: Path, message: dict[str, Any]) -> None:
        self._root, self._message = root, message
        self._job = message["job"]
        repository = str(self._job.get("repository", "sandbox/sandbox")).split("/")[-1]
        self.workspace = root / "_work" / repository / repository
        self.temp = root / "_work" / "_temp"
        self.steps: dict[str, dict[str, Any]] = {}
        self.env = {str(name): str(value) for name, value in self._job.get("env", {}).items()}

    def contexts(self, env: Mapping[str, Any], status: str) -> dict[str, Any]:
        """What expressions may refer to. `env`: a step's own; `status`: the job's so far, `success`, `failure` or `cancelled`."""
        contexts = {
            **{name: self._job.get(name, {}) for name in OF_THE_MESSAGE}, "github": self._github(), "runner": self._runner(),
            "steps": self.steps, "job": {"status": status}, "env": dict(self.env),
        }  # fmt: skip
        own = {str(name): expressions.render(str(text), contexts) for name, text in env.items()}
        contexts["env"] = {**self.env, **own}
        return contexts

    def environment(self) -> dict[str, str]:
        """The variables that every step has, besides `env`."""
        github = {f"GITHUB_{name.upper()}": str(value) for name, value in self._github().items()}
        runner = {f"RUNNER_{name.upper()}": str(value) for name, value in self._runner().items()}
        return {**os.environ, **github, **runner, "CI": "true", "GITHUB_ACTIONS": "true"}

    def _github(self) -> dict[str, Any]:
        return {**self._job.get("github", {}), "workspace": str(self.workspace)}

    def _runner(self) -> dict[str, Any]:
        machine = {"x86_64": "X64", "aarch64": "ARM64"}.get(os.uname().machine, "X64")
        cache = os.environ.get("RUNNER_TOOL_CACHE") or str(self._root / "_work" / "_tool")
        name = self._message.get("runner_name", "")
        return {"name": name, "os": "Linux", "arch": machine, "temp": str(self.temp), "tool_cache": cache}
