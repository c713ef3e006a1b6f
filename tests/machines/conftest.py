"""Everything here boots something, and needs root for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Moto
from tests.machines import tree
from tests.machines.boot_env import BootEnv

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marked, so that `make test` leaves it out and `make boot-test` takes it."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.root)


@pytest.fixture(scope="session")
def bundle() -> Path:
    return tree.bundle()


@pytest.fixture(scope="session")
def baked(bundle: Path) -> Path:
    return tree.baked(bundle)


@pytest.fixture
def boot_env(moto: Moto, baked: Path, tmp_path: Path) -> Iterator[BootEnv]:
    made = BootEnv(moto, baked, tmp_path)
    yield made
    made.close()
