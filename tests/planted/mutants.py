"""Faults drawn by a mutation tool, cosmic-ray, over the modules that decide: the same seed and code give the same faults.

Left out: operators that need arguments, numbers of module constants (a limit that is off by one is a matter of taste, not a
fault), and whatever leaves the module's syntax tree the same but for annotations and docstrings.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.planted.catalogue import CHECKOUT, Fault

SEED = 20261201
NUMBER = 116
DECIDING = (
    "agent/calls", "agent/contract", "agent/configuration.py", "agent/executor.py", "agent/hosts", "agent/lifecycle.py",
    "agent/mailbox.py", "agent/observer.py", "agent/reports", "agent/runner", "agent/safety.py", "agent/shutdown.py",
    "agent/supervision.py", "agent/termination.py", "agent/work.py", "orchestrator/checks", "orchestrator/compute",
    "orchestrator/endpoints.py", "orchestrator/environment.py", "orchestrator/fleet", "orchestrator/jobs",
    "orchestrator/readiness.py", "orchestrator/retry_policy.py", "orchestrator/setting_readers.py", "orchestrator/settings.py",
    "orchestrator/store", "orchestrator/turns.py",
)  # fmt: skip
NEED_ARGUMENTS = ("core/VariableReplacer", "core/VariableInserter", "core/NoOp")


Place = tuple[str, str, str, Any, int]
"""The key by which places are ranked, the module's path, the operator's name, the operator, its occurrence in the module."""


def drawn_faults(checkout: Path = CHECKOUT, number: int = NUMBER, seed: int = SEED) -> list[Fault]:
    """`number` faults, each in another line. Needs cosmic-ray (`pip install -r constraints/faults.txt`).

    Places are ranked by a hash of the seed, the operator and the line: a change of the code changes the faults near it alone.
    """
    from cosmic_ray.plugins import get_operator, operator_names

    operators = [(name, get_operator(name)()) for name in sorted(operator_names()) if name not in NEED_ARGUMENTS]
    places = sorted((p for path in modules(checkout) for p in _places(checkout / path, path, operators, seed)), key=_key)
    found: list[Fault] = []
    lines: set[tuple[str, int]] = set()
    for _, path, name, operator, occurrence in places:
        if len(found) == number:
            break
        fault, line = _mutated(checkout, path, name, operator, occurrence)
        if fault is not None and (path, line) not in lines:
            lines.add((path, line))
            found.append(fault)
    return sorted(found, key=lambda fault: fault.name)


def modules(checkout: Path = CHECKOUT) -> list[str]:
    """The modules that decide, by path."""
    found = [checkout / part for part in DECIDING]
    files = [file for part in found for file in (sorted(part.rglob("*.py")) if part.is_dir() else [part])]
    return sorted(str(file.relative_to(checkout)) for file in files if file.name != "__init__.py")


def _key(place: Place) -> tuple[str, str, str, int]:
    return place[0], place[1], place[2], place[4]


def _places(file: Path, path: str, operators: list[tuple[str, Any]], seed: int) -> Iterator[Place]:
    """Every place in a module at which some operator changes something."""
    from cosmic_ray.ast import ast_nodes, get_ast

    text = file.read_text("utf-8")
    nodes, lines = list(ast_nodes(get_ast(text))), text.splitlines()
    for name, operator in operators:
        again: Counter[str] = Counter()
        starts = [begin[0] for node in nodes for begin, _ in operator.mutation_positions(node)]
        for occurrence, line in enumerate(starts):
            words = lines[line - 1].strip()
            again[words] += 1
            ranked = f"{seed}:{path}:{name}:{words}:{again[words]}"
            yield hashlib.sha256(ranked.encode()).hexdigest(), path, name, operator, occurrence


def _mutated(checkout: Path, path: str, name: str, operator: Any, occurrence: int) -> tuple[Fault | None, int]:
    """The fault, and the first line in which it differs; None: it is none."""
    from cosmic_ray.mutating import mutate_code

    text = (checkout / path).read_text("utf-8")
    content = mutate_code(text, operator, occurrence)
    if content is None or content == text:
        return None, 0
    pairs = enumerate(zip(text.splitlines(), content.splitlines(), strict=False), 1)
    line, (old, new) = next((at, pair) for at, pair in pairs if pair[0] != pair[1])
    constant = old[:1].isupper() and name == "core/NumberReplacer"
    try:
        if constant or _behaviour(text) == _behaviour(content):
            return None, line
    except SyntaxError:
        return None, line
    words = hashlib.sha256(f"{path}:{name}:{old}:{new}".encode()).hexdigest()[:6]
    title = f"{path.removesuffix('.py').replace('/', '.')}:{name.removeprefix('core/')}:{words}"
    return Fault(
        name=title, what=f"line {line}: {old.strip()}  ->  {new.strip()}", path=path, content=content, by_hand=False
    ), line


def _behaviour(text: str) -> str:
    """The syntax tree without annotations, which nobody evaluates, and without docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            for argument in [*node.args.args, *node.args.kwonlyargs, *node.args.posonlyargs]:
                argument.annotation = None
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(value=None)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            node.value.value = ""
    return ast.dump(tree)


if __name__ == "__main__":
    for one in drawn_faults():
        sys.stdout.write(f"{one.name}\n    {one.what}\n")
