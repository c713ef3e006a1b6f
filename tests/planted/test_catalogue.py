"""Every fault that was written by hand still fits the code, and says what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.planted.catalogue import CHECKOUT, Fault, Moved, equivalents, equivalents_table, written_faults

FAULT = """
[[fault]]
name = "one"
file = "product.py"
what = "Wrong."
old = '''
    return 1
'''
new = '''
    return 2
'''
"""


def test_each_fault_fits_its_file_once_changes_it_and_says_what_is_wrong() -> None:
    faults = written_faults()

    assert len(faults) >= 100
    assert all(fault.what.endswith(".") and fault.by_hand for fault in faults)
    assert {fault.path.partition("/")[0] for fault in faults} == {"agent", "orchestrator", "packer", "userdata"}


def planted(tmp_path: Path, product: str, told: str = FAULT) -> list[Fault]:
    (tmp_path / "product.py").write_text(product, "utf-8")
    (tmp_path / "faults.toml").write_text(told, "utf-8")
    return written_faults(tmp_path, tmp_path)


def test_a_fault_is_the_whole_file_with_one_replacement(tmp_path: Path) -> None:
    (fault,) = planted(tmp_path, "def f():\n    return 1\n")

    assert fault.content == "def f():\n    return 2\n"


@pytest.mark.parametrize("product", ["def f():\n    return 3\n", "def f():\n    return 1\n    return 1\n"])
def test_a_fault_that_does_not_fit_once_is_told_loudly(tmp_path: Path, product: str) -> None:
    with pytest.raises(Moved, match=r"one: expected its old text once in product\.py"):
        planted(tmp_path, product)


def test_two_faults_of_one_name_are_told(tmp_path: Path) -> None:
    with pytest.raises(Moved, match="found twice: one"):
        planted(tmp_path, "def f():\n    return 1\n", FAULT + FAULT)


def test_a_fault_with_which_the_module_cannot_be_compiled_is_no_fault(tmp_path: Path) -> None:
    with pytest.raises(Moved, match="cannot be compiled"):
        planted(tmp_path, "def f():\n    return 1\n", FAULT.replace("return 2", "return ("))


def test_each_equivalent_is_argued_in_the_documentation_and_nothing_else_is() -> None:
    page = (CHECKOUT / "docs" / "testing.md").read_text("utf-8")

    assert equivalents_table() in page
    assert all(why.endswith(".") for why in equivalents().values())
