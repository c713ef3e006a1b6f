"""Which process of a parallel run runs which tests: those of one file run in one, for they share what it set up for them.

What takes long begins first, so that no process is left alone with it at the end; where a file would hold a process for most of
the run, it is cut.
"""

from __future__ import annotations

import zlib
from typing import Any

import pytest

LONG = {
    "tests/integration/test_storm.py": 1,
    "tests/integration/test_orchestrator_kills.py": 3,
    "tests/integration/test_agent.py": 4,
    "tests/integration/test_local.py": 4,
    "tests/orchestrator/test_cut_off.py": 4,
    "tests/integration/test_operator.py": 1,
    "tests/integration/test_release_life.py": 1,
    "tests/integration/test_permissions.py": 1,
    "tests/integration/test_ready.py": 1,
    "tests/integration/test_proof.py": 1,
    "tests/orchestrator/test_cli.py": 1,
    "tests/sandbox/test_instances.py": 1,
    "tests/sandbox/test_runner_signals.py": 1,
    "tests/test_install.py": 1,
    "tests/agent/test_unpack.py": 1,
    "tests/sandbox/test_runner_exit_codes.py": 1,
}
"""Files with tests that take long or wait long, the longest first: file -> into how many parts it is cut."""
ORDER = {path: at for at, path in enumerate(LONG)}


def rank(nodeid: str) -> int:
    """Where a test stands among the others; those of a rank stay in their order."""
    return ORDER.get(nodeid.partition("::")[0], len(ORDER))


def part(nodeid: str) -> str:
    """What is run by one process, by name."""
    path = nodeid.partition("::")[0]
    return f"{path}#{zlib.crc32(nodeid.encode()) % LONG.get(path, 1)}"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of a run by files: xdist's own, of these parts and in this order. None leaves it to xdist."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByPart(LoadScopeScheduling):  # type: ignore[misc]
        """Tests by part."""

        def _split_scope(self, nodeid: str) -> str:
            return part(nodeid)

    config.option.loadscopereorder = False
    return ByPart(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a parallel run what takes long comes first."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: rank(item.nodeid))
