"""A matrix becomes its combinations. Source: "Running variations of jobs in a workflow", GitHub docs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from sandbox.runner.expressions import check, evaluated, render
from sandbox.runner.functions import as_text, equal

EXPRESSION = "${{"
MOST_COMBINATIONS = 256
"""Jobs of one matrix. Source: "Usage limits", GitHub Actions docs."""


class MatrixError(ValueError):
    """A matrix from which no jobs can be made."""


def combinations(matrix: Any, contexts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every combination, less `exclude`, with `include`; expressions in it are evaluated first.

    Raises: MatrixError with what was expected; ExpressionError.
    """
    found = _evaluated(matrix, contexts)
    if not isinstance(found, dict):
        raise MatrixError(f"expected a mapping for the matrix, found `{as_text(found)}` (supported: lists, include, exclude)")
    axes = dict(found)
    include, exclude = axes.pop("include", []), axes.pop("exclude", [])
    for name, values in {**axes, "include": include, "exclude": exclude}.items():
        if not isinstance(values, list):
            raise MatrixError(f"expected a list for `{name}` (supported: lists, include, exclude)")
    if not all(isinstance(entry, dict) for entry in (*include, *exclude)):
        raise MatrixError("expected mappings in `include` and `exclude`")
    made = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())] if axes else []
    made = [one for one in made if not any(_matches(one, entry) for entry in exclude)]
    original = list(made)
    for entry in include:
        fitting = [one for one in original if all(one.get(key) == value for key, value in entry.items() if key in axes)]
        for one in fitting:
            one.update(entry)
        if not fitting:
            made.append(dict(entry))
    if not 0 < len(made) <= MOST_COMBINATIONS:
        raise MatrixError(f"a matrix makes 1 to {MOST_COMBINATIONS} jobs, this one {len(made)}")
    return made


def _matches(combination: dict[str, Any], excluded: dict[str, Any]) -> bool:
    return all(key in combination and _same(combination[key], value) for key, value in excluded.items())


def _same(left: Any, right: Any) -> bool:
    return left == right or (not isinstance(left, (dict, list)) and not isinstance(right, (dict, list)) and equal(left, right))


def _evaluated(tree: Any, contexts: Mapping[str, Any]) -> Any:
    if isinstance(tree, str):
        return evaluated(tree, contexts) if EXPRESSION in tree else tree
    if isinstance(tree, list):
        return [_evaluated(one, contexts) for one in tree]
    if isinstance(tree, dict):
        return {key: _evaluated(value, contexts) for key, value in tree.items()}
    return tree


def display_name(name: str, combination: Mapping[str, Any]) -> str:
    """The name of one job of a matrix: one without expressions is followed by the values.

    One that also needs other contexts is left as it is. Raises: ExpressionError.
    """
    if EXPRESSION in name:
        return render(name, {"matrix": combination}) if check(name) <= {"matrix"} else name
    return f"{name} ({', '.join(map(as_text, combination.values()))})" if combination else name
