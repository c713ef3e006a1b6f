"""Which test files can reach a file of the product, the quickest first."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tests.planted.catalogue import CHECKOUT

PACKAGES = ("agent", "orchestrator", "sandbox", "simulation", "tests")
WHOLE_WORLDS = ("tests/integration/", "tests/machines/")
"""They start processes: the product is not imported by them, and it takes minutes."""
BY_COMMAND: Mapping[str, tuple[str, ...]] = {
    "agent/adapters/": ("tests/integration/test_agent.py", "tests/integration/test_agent_network.py"),
    "agent/wiring.py": ("tests/integration/test_agent.py",),
    "agent/cli.py": ("tests/integration/test_agent.py",),
    "agent/selfcheck.py": ("tests/integration/test_agent.py",),
    "orchestrator/adapters/": ("tests/integration/test_ready.py", "tests/integration/test_operator.py"),
    "orchestrator/commands/": ("tests/integration/test_operator.py",),
    "orchestrator/wiring.py": ("tests/integration/test_operator.py",),
    "orchestrator/serve.py": ("tests/integration/test_ready.py", "tests/integration/test_serve_stop.py"),
    "userdata/run-agent.sh": ("tests/sandbox/test_instances.py", "tests/integration/test_agent.py"),
    "userdata/runs-fleet.sh": (
        "tests/sandbox/test_boot_life.py",
        "tests/sandbox/test_boot_calls.py",
        "tests/sandbox/test_instances.py",
        "tests/machines/test_life_and_death.py",
    ),
    "packer/bundle.py": ("tests/machines/test_bundle.py",),
    "packer/validate.sh": ("tests/test_image_validate.py",),
    "packer/bake.sh": ("tests/test_image_bake.py",),
    "packer/": (
        "tests/test_install.py",
        "tests/sandbox/test_deadline.py",
        "tests/machines/test_packer.py",
        "tests/machines/test_life_and_death.py",
    ),
}
"""Beginnings of paths, and the tests that start what lies there as a process of its own."""
NO_TESTS_OF_BEHAVIOUR = ("tests/architecture/", "tests/planted/")
"""They look at how files are written, not at what they do."""


def files_for(path: str, durations: Mapping[str, float], checkout: Path = CHECKOUT) -> list[str]:
    """Test files that can reach `path`; its own first, then by how long they take (`durations`: seconds by file)."""
    found = set(_importing(path, checkout)) if path.endswith(".py") and path.startswith(("agent/", "orchestrator/")) else set()
    found = {file for file in found if not file.startswith((*WHOLE_WORLDS, *NO_TESTS_OF_BEHAVIOUR))}
    started = [test for begin, tests in BY_COMMAND.items() if path.startswith(begin) for test in tests]
    name = f"test_{Path(path).stem}.py"
    package = path.partition("/")[0]
    own = sorted(file for file in found if Path(file).name == name and file.startswith(f"tests/{package}/"))
    rest = sorted(found - set(own), key=lambda file: (durations.get(file, 0.0), file))
    return [*own, *rest, *started]


def _importing(path: str, checkout: Path) -> list[str]:
    """The test files that import it, or something that does."""
    module = path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    graph = _graph(checkout)
    if module not in graph.modules:
        return []
    importing = graph.find_downstream_modules(module)
    files = [f"{one.replace('.', '/')}.py" for one in importing if one.startswith("tests.")]
    return [file for file in files if Path(file).name.startswith("test_")]


@cache
def _graph(checkout: Path):  # type: ignore[no-untyped-def]
    import grimp

    return grimp.build_graph(*PACKAGES, cache_dir=None)
