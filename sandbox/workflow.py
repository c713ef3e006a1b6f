"""A workflow file becomes a plan of jobs, or a refusal that names file, line and what is supported, before anything runs."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import yaml

from sandbox.plan import PlannedJob, Workflow, labels_of
from sandbox.runner.expressions import check, evaluated, render
from sandbox.runner.functions import ExpressionError, as_text

TOP = frozenset({"name", "run-name", "on", "env", "defaults", "jobs", "permissions", "concurrency"})
JOB = frozenset(
    {"name", "runs-on", "needs", "if", "strategy", "env", "defaults", "outputs", "timeout-minutes", "permissions", "steps"}
)
STEP = frozenset(
    {"name", "id", "if", "run", "uses", "with", "env", "shell", "working-directory", "timeout-minutes", "continue-on-error"}
)
STRATEGY = frozenset({"matrix", "fail-fast", "max-parallel"})
GROUP = "Default"
"""The runner group of a repository's own runners. Source: "Managing access to self-hosted runners using groups", GitHub docs."""
SHELLS = frozenset({"bash", "sh"})
MOST_COMBINATIONS = 256
"""Jobs of one matrix. Source: "Usage limits", GitHub Actions docs."""


class Unsupported(ValueError):
    """The file asks for something the sandbox does not do; the message is `file:line: what (supported: …)`."""


def read_workflow(path: Path) -> Workflow:
    """The plan in the file at `path`.

    Raises: Unsupported.
    """
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=_Loader)
    except OSError as error:
        raise Unsupported(f"{path}: expected a workflow file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Unsupported(f"{path}: expected a workflow file in UTF-8: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise Unsupported(f"{path}:{mark.line + 1 if mark else 1}: not YAML: {getattr(error, 'problem', error)}") from error
    reader = _Reader(path)
    if not isinstance(root, yaml.MappingNode):
        raise Unsupported(f"{path}:1: expected a mapping with `jobs:`")
    top = reader.mapping(root, TOP, "the workflow")
    if "jobs" not in top:
        raise reader.complaint(root, "there is no `jobs:`")
    env = reader.texts(top.get("env"), "env")
    shared = reader.defaults(top.get("defaults"))
    jobs = tuple(job for key, node in reader.mapping(top["jobs"], None, "jobs").items() for job in reader.job(key, node, shared))
    _insist_on_needs(jobs, reader, top["jobs"])
    name = reader.value(top["name"]) if "name" in top else path.stem
    return Workflow(str(name), path, env, jobs)


class _Loader(yaml.SafeLoader):
    """YAML 1.2 as GitHub reads it: `yes`, `no`, `on` and `off` are texts."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path

    def complaint(self, node: yaml.Node, what: str) -> Unsupported:
        """The refusal of what stands at this node."""
        return Unsupported(f"{self._path}:{node.start_mark.line + 1}: {what}")

    def mapping(self, node: yaml.Node, allowed: frozenset[str] | None, where: str) -> dict[str, yaml.Node]:
        """The node as a mapping with allowed keys only."""
        if not isinstance(node, yaml.MappingNode):
            raise self.complaint(node, f"expected a mapping for {where}")
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.complaint(key, f"expected a single value as a key in {where}")
            name = str(key.value)
            if name in found:
                raise self.complaint(key, f"`{name}` is already defined in {where}")
            if allowed is not None and name not in allowed:
                raise self.complaint(key, f"`{name}` is not supported in {where} (supported: {', '.join(sorted(allowed))})")
            found[name] = value
        return found

    def value(self, node: yaml.Node) -> Any:
        """The node as plain values."""
        loader = _Loader("")
        try:
            return loader.construct_object(node, deep=True)
        except yaml.YAMLError as error:
            raise self.complaint(node, str(error)) from error

    def texts(self, node: yaml.Node | None, where: str) -> dict[str, str]:
        """The node as a mapping of texts."""
        if node is None:
            return {}
        found = {}
        for name, value in self.mapping(node, None, where).items():
            found[name] = self.text(value)
        return found

    def text(self, node: yaml.Node) -> str:
        """The node as a text."""
        if not isinstance(node, yaml.ScalarNode):
            raise self.complaint(node, "expected a single value")
        raw = self.value(node)
        text = as_text(raw) if raw is None or isinstance(raw, (bool, float)) else str(node.value)
        self.checked(node, text)
        return text

    def checked(self, node: yaml.Node, text: str, *, bare: bool = False) -> None:
        """Check the expressions of a text. Raises: Unsupported."""
        try:
            check(text, bare=bare)
        except ExpressionError as error:
            raise self.complaint(node, str(error)) from error

    def checked_below(self, node: yaml.Node) -> None:
        """The matrix is taken apart before anything runs: no expression in it could be rendered."""
        if isinstance(node, yaml.ScalarNode):
            if "${{" in node.value:
                raise self.complaint(node, f"expected a value written out in the matrix, found `{node.value}`")
            return
        for part in node.value:
            for child in part if isinstance(part, tuple) else (part,):
                self.checked_below(child)

    def defaults(self, node: yaml.Node | None) -> dict[str, str]:
        """The shell and directory that steps use."""
        if node is None:
            return {}
        run = self.mapping(node, frozenset({"run"}), "defaults").get("run")
        if run is None:
            return {}
        found = self.mapping(run, frozenset({"shell", "working-directory"}), "defaults.run")
        if "shell" in found and self.text(found["shell"]) not in SHELLS:
            raise self.complaint(found["shell"], f"shell `{self.text(found['shell'])}` is not supported (supported: bash, sh)")
        return {name: self.text(value) for name, value in found.items()}

    def job(self, key: str, node: yaml.Node, shared: dict[str, str]) -> list[PlannedJob]:
        """The jobs of one entry of `jobs`, its matrix taken apart."""
        found = self.mapping(node, JOB, f"job `{key}`")
        for needed in ("runs-on", "steps"):
            if needed not in found:
                raise self.complaint(node, f"job `{key}` has no `{needed}:`")
        combinations = self.matrix(found.get("strategy"))
        own = {**shared, **self.defaults(found.get("defaults"))}
        if not isinstance(found["steps"], yaml.SequenceNode):
            raise self.complaint(found["steps"], "expected a list of steps")
        steps = tuple(self.step(step, own) for step in found["steps"].value)
        condition = self.condition(found.get("if"))
        name = self.text(found["name"]) if "name" in found else key
        return [
            PlannedJob(
                key=key, name=_display_name(name, combination, titled="name" in found), matrix=combination, condition=condition,
                **self.runs_on(found["runs-on"], combination), needs=self.names(found.get("needs")), steps=steps,
                env=self.texts(found.get("env"), "env"), outputs=self.texts(found.get("outputs"), "outputs"),
                timeout_minutes=self.minutes(found.get("timeout-minutes"), 360.0),
            )
            for combination in combinations
        ]  # fmt: skip

    def step(self, node: yaml.Node, defaults: dict[str, str]) -> dict[str, Any]:
        """One step of a job."""
        found = self.mapping(node, STEP, "a step")
        if ("run" in found) == ("uses" in found):
            raise self.complaint(node, "expected either `run:` or `uses:` in a step")
        step: dict[str, Any] = dict(defaults) if "run" in found else {}
        for name in ("name", "id", "run", "uses", "shell", "working-directory"):
            if name in found:
                step[name] = self.text(found[name])
        if step.get("shell", "bash") not in SHELLS:
            raise self.complaint(found["shell"], f"shell `{step['shell']}` is not supported (supported: bash, sh)")
        if "if" in found:
            step["if"] = self.condition(found["if"])
        if "env" in found:
            step["env"] = self.texts(found["env"], "env")
        if "timeout-minutes" in found:
            step["timeout-minutes"] = self.minutes(found["timeout-minutes"], 0.0)
        if "continue-on-error" in found:
            value = self.value(found["continue-on-error"])
            if not isinstance(value, bool):
                told = found["continue-on-error"].value
                raise self.complaint(
                    found["continue-on-error"], f"expected true or false in `continue-on-error:`, found `{told}`"
                )
            step["continue-on-error"] = value
        return step

    def condition(self, node: yaml.Node | None) -> str:
        """The expression of an `if`."""
        if node is None:
            return "success()"
        text = str(node.value)
        self.checked(node, text, bare=True)
        return text

    def minutes(self, node: yaml.Node | None, default: float) -> float:
        """A time limit in minutes."""
        if node is None:
            return default
        value = self.value(node)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or value <= 0:
            raise self.complaint(node, f"expected a number of minutes, found `{node.value}`")
        return float(value)

    def names(self, node: yaml.Node | None) -> tuple[str, ...]:
        """A list of names, or one name."""
        value = self.value(node) if node is not None else []
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise self.complaint(node, "expected the name of a job, or a list of names, in `needs:`")  # type: ignore[arg-type]
        return tuple(listed)

    def runs_on(self, node: yaml.Node, matrix: dict[str, Any]) -> dict[str, Any]:
        """The labels of `runs-on`, or the expression that gives them once what it names is there."""
        value = self.value(node)
        if isinstance(value, dict) and value.get("group") not in (None, GROUP):
            told = f"the runner group `{value['group']}` is not served: machines register in the group `{GROUP}`, so none is given this job"
            raise self.complaint(node, told)
        texts = [str(label) for label in labels_of(value)]
        if not texts:
            raise self.complaint(node, "expected a label, or a list of labels, in `runs-on:`")
        for text in texts:
            self.checked(node, text)
        if isinstance(value, str) and re.search(r"\$\{\{(?!\s*matrix\.[\w-]+\s*\}\})", value):
            return {"labels": (), "runs_on": value}
        return {"labels": tuple(label for text in texts for label in labels_of(evaluated(text, {"matrix": matrix})))}

    def matrix(self, node: yaml.Node | None) -> list[dict[str, Any]]:
        """Every combination, less `exclude`, with `include`. Source: "Running variations of jobs", GitHub docs."""
        if node is None:
            return [{}]
        strategy = self.mapping(node, STRATEGY, "strategy")
        if "matrix" not in strategy:
            return [{}]
        if not isinstance(strategy["matrix"], yaml.MappingNode):
            raise self.complaint(strategy["matrix"], "expected the matrix written out (supported: lists, include, exclude)")
        self.checked_below(strategy["matrix"])
        matrix = {name: self.value(value) for name, value in self.mapping(strategy["matrix"], None, "matrix").items()}
        include, exclude = matrix.pop("include", []), matrix.pop("exclude", [])
        for name, values in {**matrix, "include": include, "exclude": exclude}.items():
            if not isinstance(values, list):
                raise self.complaint(strategy["matrix"], f"expected a list for `{name}` (supported: lists, include, exclude)")
        if not all(isinstance(entry, dict) for entry in (*include, *exclude)):
            raise self.complaint(strategy["matrix"], "expected mappings in `include` and `exclude`")
        combinations = (
            [dict(zip(matrix, values, strict=True)) for values in itertools.product(*matrix.values())] if matrix else []
        )
        combinations = [c for c in combinations if not any(all(c.get(k) == v for k, v in out.items()) for out in exclude)]
        original = list(combinations)
        for extra in include:
            fitting = [c for c in original if all(c.get(k) == v for k, v in extra.items() if k in matrix)]
            for combination in fitting:
                combination.update(extra)
            if not fitting:
                combinations.append(dict(extra))
        if not 0 < len(combinations) <= MOST_COMBINATIONS:
            raise self.complaint(node, f"a matrix makes 1 to {MOST_COMBINATIONS} jobs, this one {len(combinations)}")
        return combinations


def _display_name(name: str, combination: dict[str, Any], *, titled: bool) -> str:
    if titled:
        return render(name, {"matrix": combination})
    if not combination:
        return name
    return f"{name} ({', '.join(str(value) for value in combination.values())})"


def _insist_on_needs(jobs: tuple[PlannedJob, ...], reader: _Reader, node: yaml.Node) -> None:
    """Every needed job exists and none waits for itself."""
    keys = {job.key for job in jobs}
    settled: set[str] = set()
    for job in jobs:
        for needed in job.needs:
            if needed not in keys:
                raise reader.complaint(node, f"job `{job.key}` needs `{needed}`, and there is no such job")
    while len(settled) < len(keys):
        ready = {job.key for job in jobs if job.key not in settled and set(job.needs) <= settled}
        if not ready:
            raise reader.complaint(node, f"these jobs wait for each other: {', '.join(sorted(keys - settled))}")
        settled |= ready
