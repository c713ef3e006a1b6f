"""A file's tests share a process and what it set up, and what takes long begins first. xdist is asked, in a run of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from tests.scheduling import LONG, part, rank

CHECKOUT = Path(__file__).resolve().parents[1]
CONFTEST = "from tests.scheduling import pytest_collection_modifyitems, pytest_xdist_make_scheduler\n"
TESTS = """
import os
import pytest

@pytest.mark.parametrize("number", range(6))
def test_one(number):
    with open("ran", "a") as ran:
        ran.write(f"{__name__} {os.getpid()}\\n")
"""


def test_the_files_that_take_long_are_there() -> None:
    assert [path for path in LONG if not (CHECKOUT / path).is_file()] == []


def test_a_file_is_one_part_or_as_many_as_it_is_cut_into() -> None:
    cut, whole = "tests/integration/test_agent.py", "tests/integration/test_operator.py"
    parts = {path: {part(f"{path}::test_{number}[a@b]") for number in range(200)} for path in (cut, whole, "tests/x/test_x.py")}

    assert [len(found) for found in parts.values()] == [LONG[cut], 1, 1]
    assert rank(f"{cut}::test_1") < rank(f"{whole}::test_1") < rank("tests/x/test_x.py::test_1")


def test_each_file_is_run_by_one_process_and_the_long_one_first(tmp_path: Path) -> None:
    long = tmp_path / "tests" / "integration"
    long.mkdir(parents=True)
    (tmp_path / "conftest.py").write_text(CONFTEST, "utf-8")
    for path in (tmp_path / "test_a.py", tmp_path / "test_b.py", tmp_path / "test_c.py", long / "test_operator.py"):
        path.write_text(TESTS, "utf-8")
    words = ["-n", "2", "--dist", "loadfile", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "--rootdir", str(tmp_path)]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}

    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, str(tmp_path)], cwd=tmp_path, env={**plain, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    ran = [line.split() for line in (tmp_path / "ran").read_text("utf-8").splitlines()]
    processes = defaultdict(set)
    for module, pid in ran:
        processes[module].add(pid)
    assert len(ran) == 24 and {len(pids) for pids in processes.values()} == {1}
    assert len({pid for _, pid in ran}) == 2
    own = [module for module, pid in ran if {pid} == processes["test_operator"]]
    assert own[0] == "test_operator"
