"""The functions of expressions. Source: "Evaluate expressions in workflows and actions", GitHub Actions docs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sandbox.runner.file_hashes import hash_files

STATUS = ("success", "failure", "always", "cancelled")
"""Those that ask how the job stands; the parser answers them."""
HASH_FILES = "hashfiles"


class ExpressionError(ValueError):
    """An expression outside what the sandbox supports, or malformed."""


def as_text(value: Any) -> str:
    """How a value is written into a string."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if not isinstance(value, (dict, list)) else "Object" if isinstance(value, dict) else "Array"


def equal(left: Any, right: Any) -> bool:
    """Loose equality: strings without regard to case, different kinds as numbers."""
    if isinstance(left, str) and isinstance(right, str):
        return left.lower() == right.lower()
    if type(left) is type(right):
        return bool(left == right)
    return number(left) == number(right)


def number(value: Any) -> float:
    """A value as a number; what is none is not a number."""
    if value is None or value == "":
        return 0.0
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def called(name: str, arguments: list[Any], *, known: bool, workspace: str | None = None) -> Any:
    """The value of a function. `known`: the arguments are real; otherwise only name and number are looked at.

    `workspace`: the directory of the job's files, while there is one.

    Raises: ExpressionError.
    """
    folded = name.lower()
    if folded not in _FUNCTIONS:
        raise ExpressionError(f"there is no function {name}(); there are {', '.join(sorted((*NAMED, *STATUS)))}")
    function, least, most = _FUNCTIONS[folded]
    if not least <= len(arguments) <= most:
        wanted = str(least) if least == most else f"{least} or more" if most > 9 else f"{least} or {most}"
        raise ExpressionError(f"{name}() takes {wanted} arguments, not {len(arguments)}")
    if folded == "case" and len(arguments) % 2 == 0:
        raise ExpressionError("case() takes pairs of a condition and a value, then a default")
    if not known:
        return None
    if folded == HASH_FILES:
        if workspace is None:
            raise ExpressionError("hashFiles() has a value in steps only, where there are files")
        return hash_files(Path(workspace), list(map(as_text, arguments)))
    return function(*arguments)


def _contains(where: Any, what: Any) -> bool:
    if isinstance(where, list):
        return any(equal(one, what) for one in where)
    return as_text(what).lower() in as_text(where).lower()


def _format(pattern: Any, *values: Any) -> str:
    def put(found: re.Match[str]) -> str:
        if found[0] in ("{{", "}}"):
            return found[0][0]
        at = int(found[1])
        if at >= len(values):
            raise ExpressionError(f"format() has no value for {{{at}}}")
        return as_text(values[at])

    return re.sub(r"\{\{|\}\}|\{(\d+)\}", put, as_text(pattern))


def _join(values: Any, separator: Any = ",") -> str:
    return as_text(separator).join(map(as_text, values)) if isinstance(values, list) else as_text(values)


def _case(*arguments: Any) -> Any:
    *pairs, default = arguments
    for condition, value in zip(pairs[::2], pairs[1::2], strict=True):
        if not isinstance(condition, bool):
            raise ExpressionError(f"case() expected a condition that is true or false, found {as_text(condition)!r}")
        if condition:
            return value
    return default


def _to_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _from_json(text: Any) -> Any:
    try:
        return json.loads(as_text(text))
    except ValueError as error:
        raise ExpressionError(f"fromJSON() expected JSON, found {as_text(text)[:60]!r}") from error


NAMED: Mapping[str, tuple[Callable[..., Any], int, int]] = {
    "contains": (_contains, 2, 2),
    "startsWith": (lambda text, start: as_text(text).lower().startswith(as_text(start).lower()), 2, 2),
    "endsWith": (lambda text, end: as_text(text).lower().endswith(as_text(end).lower()), 2, 2),
    "format": (_format, 1, 99),
    "join": (_join, 1, 2),
    "toJSON": (_to_json, 1, 1),
    "fromJSON": (_from_json, 1, 1),
    "case": (_case, 3, 99),
    "hashFiles": (lambda *patterns: "", 1, 99),
}
"""Name to the function and the least and most of its arguments; GitHub reads names without regard to case."""
_FUNCTIONS = {name.lower(): function for name, function in NAMED.items()}
