"""What the layout promises beside its layers: sizes of files and folders, keyword-only constructors, whose words stand where."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = ("agent", "orchestrator", "sandbox", "simulation")
MODULES = sorted(path for package in PACKAGES for path in (CHECKOUT / package).rglob("*.py"))
MOST_LINES, MOST_MODULES, MOST_POSITIONAL = 300, 20, 7
OF_A_STRATEGY_OR_SOURCE = re.compile(
    r"ec2|github|subnet|launch.template|spot|\bamis?\b|_ami|ami_|webhook|workflow|\bjit|check.run|imds|runner.(group|name|id)"
    r"|availability.zone|\bregion|createfleet|rebalanc|\bpools?\b",
    re.I,
)
"""Words of EC2 and of GitHub."""


def positional(node: ast.ClassDef) -> int:
    """How many arguments its constructor takes by position."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return len(item.args.posonlyargs + item.args.args) - 1
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    records = [d for d in decorators if d.split("(")[0].endswith("dataclass")]
    struct = [base for base in node.bases if ast.unparse(base).rpartition(".")[2] in ("Struct", "Record")]
    words = [*records, *(ast.unparse(keyword) for keyword in node.keywords)]
    if not (records or struct) or any("kw_only=True" in word for word in words):
        return 0
    return sum(isinstance(item, ast.AnnAssign) and "ClassVar" not in ast.unparse(item.annotation) for item in node.body)


def classes() -> Iterator[tuple[str, ast.ClassDef]]:
    """Every class of the packages, and where it stands."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                yield f"{path.relative_to(CHECKOUT)}:{node.lineno} {node.name}", node


def test_no_file_is_longer_than_three_hundred_lines() -> None:
    lengths = {str(path.relative_to(CHECKOUT)): path.read_text("utf-8").count("\n") for path in MODULES}

    assert {path: lines for path, lines in lengths.items() if lines > MOST_LINES} == {}


def test_no_folder_holds_more_than_twenty_modules() -> None:
    folders = Counter(path.parent.relative_to(CHECKOUT) for path in MODULES if path.name != "__init__.py")

    assert {str(folder): number for folder, number in folders.items() if number > MOST_MODULES} == {}


def test_a_constructor_of_more_than_seven_parameters_takes_them_by_keyword() -> None:
    found = dict(classes())

    assert len(found) > 200
    assert {where: positional(node) for where, node in found.items() if positional(node) > MOST_POSITIONAL} == {}


@pytest.mark.parametrize(
    "text",
    [
        "class A:\n    def __init__(self, a, b, c, d, e, f, g, h): ...",
        "@dataclass\nclass A:\n" + "\n".join(f"    {name}: int" for name in "abcdefgh"),
        "@dataclasses.dataclass(frozen=True)\nclass A:\n" + "\n".join(f"    {name}: int" for name in "abcdefgh"),
        "class A(msgspec.Struct, frozen=True):\n" + "\n".join(f"    {name}: int" for name in "abcdefgh"),
    ],
)
def test_eight_parameters_by_position_are_seen(text: str) -> None:
    (node,) = ast.parse(text).body

    assert isinstance(node, ast.ClassDef)
    assert positional(node) == 8


def test_no_word_of_ec2_or_of_github_stands_in_the_fleet() -> None:
    fleet = sorted((CHECKOUT / "orchestrator" / "fleet").rglob("*.py"))
    lines = [(path.name, line) for path in fleet for line in path.read_text("utf-8").splitlines()]

    assert len(fleet) > 10
    assert [(name, line) for name, line in lines if OF_A_STRATEGY_OR_SOURCE.search(line)] == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        path for path in MODULES if path.read_text("utf-8").strip() and not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]

    assert silent == []


def imported_by(tree: ast.AST) -> Iterator[str]:
    """The full name of every module that this code imports, and of every name that it imports from one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module or ''}.{alias.name}" for alias in node.names)


def is_test_module(name: str) -> bool:
    """Whether this is the name of a file of tests."""
    return name.rpartition(".")[2].startswith("test_")


def test_no_test_file_imports_another_test_file() -> None:
    files = sorted((CHECKOUT / "tests").rglob("test_*.py"))
    imports = {str(path.relative_to(CHECKOUT)): imported_by(ast.parse(path.read_text("utf-8"))) for path in files}

    assert len(files) > 100
    assert {path: found for path, names in imports.items() if (found := sorted(filter(is_test_module, names)))} == {}


@pytest.mark.parametrize(
    "text", ["from tests.a.test_b import c", "from tests.a import test_b", "import tests.a.test_b as b", "from . import test_b"]
)
def test_an_import_of_a_test_file_is_seen(text: str) -> None:
    assert any(map(is_test_module, imported_by(ast.parse(text))))
