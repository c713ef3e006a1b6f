"""`hashFiles()`: which files patterns choose, and the hash over them. Source: `hashFiles` in actions/runner, `@actions/glob`."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from sandbox.runner.expressions import evaluate
from sandbox.runner.file_hashes import hash_files
from sandbox.runner.functions import ExpressionError

FILES = ("b.lock", "a.lock", "src/deep/c.lock", "src/d.txt", "src/.hidden.lock", "node_modules/e.lock")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, "utf-8")
    return tmp_path


def over(*names: str) -> str:
    """The hash over the hashes of these files, in this order."""
    return hashlib.sha256(b"".join(hashlib.sha256(name.encode()).digest() for name in names)).hexdigest()


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["a.lock"], ["a.lock"]), (["./a.lock"], ["a.lock"]), (["*.lock"], ["a.lock", "b.lock"]),
        (["?.lock"], ["a.lock", "b.lock"]),
        (["[a]*"], ["a.lock"]), (["**/*.txt"], ["src/d.txt"]), (["src"], ["src/.hidden.lock", "src/d.txt", "src/deep/c.lock"]),
        (["**/*.lock", "!node_modules/**"], ["a.lock", "b.lock", "src/.hidden.lock", "src/deep/c.lock"]),
        (["src/**/*.lock"], ["src/.hidden.lock", "src/deep/c.lock"]), (["b.lock", "a.lock"], ["a.lock", "b.lock"]),
        (["*.lock", "!*.lock", "b.lock"], ["b.lock"]), (["# a.lock\nb.lock\n"], ["b.lock"]),
    ],
)  # fmt: skip
def test_patterns_choose_these_files_and_the_hash_is_over_theirs(patterns: list[str], names: list[str], workspace: Path) -> None:
    assert hash_files(workspace, patterns) == over(*names)


@pytest.mark.parametrize("pattern", ["nothing", "*.md", "c.lock", "A.lock"])
def test_where_no_file_is_chosen_the_hash_is_empty(pattern: str, workspace: Path) -> None:
    assert hash_files(workspace, [pattern]) == ""


def test_an_absolute_pattern_within_the_workspace_counts_from_its_top(workspace: Path) -> None:
    assert hash_files(workspace, [f"{workspace}/a.lock"]) == over("a.lock")


def test_the_function_looks_in_the_workspace_of_the_job(workspace: Path) -> None:
    contexts = {"github": {"workspace": str(workspace)}}

    assert evaluate("hashFiles('a.lock', 'b.lock')", contexts) == over("a.lock", "b.lock")


def test_where_there_is_no_workspace_it_says_so() -> None:
    with pytest.raises(ExpressionError, match="in steps only"):
        evaluate("hashFiles('a.lock')", {"github": {}})
