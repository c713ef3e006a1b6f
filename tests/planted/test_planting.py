"""A planted fault is seen or not; the tree is as it was afterwards. On a tree of the test's own, with real pytest."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.planted.__main__ import planted
from tests.planted.catalogue import Fault

GOOD = "def double(n):\n    return n * 2\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A product of one module, and a test that looks at one number."""
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "product.py").write_text(GOOD, "utf-8")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', "utf-8")
    (tmp_path / ".venv" / "bin" / "python").chmod(0o755)
    test = "import product\n\ndef test_three():\n    assert product.double(3) == 6\n"
    (tmp_path / "test_product.py").write_text(test, "utf-8")
    (tmp_path / "conftest.py").write_text("import sys\nsys.path.insert(0, 'agent')\n", "utf-8")
    return tmp_path


def fault(content: str) -> Fault:
    return Fault(name="f", what="w", path="agent/product.py", content=content)


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        ("def double(n):\n    return n * 3\n", True),
        ("def double(n):\n    return n * 2 if n < 100 else 0\n", False),
        ("raise ValueError\n", True),
    ],
    ids=["seen", "not seen", "cannot be imported"],
)
def test_what_a_test_looks_at_is_seen_and_nothing_else(tree: Path, content: str, seen: bool) -> None:
    found = planted(tree, fault(content), {"test_product.py": 1.0}, "digest", lambda path, durations: ["test_product.py"])

    assert (found.seen, bool(found.by), found.tests == "digest") == (seen, seen, not seen)
    assert (tree / "agent" / "product.py").read_text("utf-8") == GOOD


def test_the_first_test_that_fails_is_named(tree: Path) -> None:
    found = planted(tree, fault("def double(n):\n    return 0\n"), {}, "d", lambda path, durations: ["test_product.py"])

    assert found.by == "test_product.py::test_three"


def test_a_test_that_fails_without_the_fault_too_proves_nothing_and_is_told(tree: Path) -> None:
    (tree / "test_product.py").write_text("def test_never_green():\n    assert False\n", "utf-8")

    with pytest.raises(RuntimeError, match="test_never_green fails without the fault, too"):
        planted(tree, fault("def double(n):\n    return 0\n"), {}, "d", lambda path, durations: ["test_product.py"])
