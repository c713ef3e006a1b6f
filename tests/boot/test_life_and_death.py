"""Machines that really boot: systemd, cloud-init, our units. However a life goes, the word is said and the machine is off."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.contract.messages import Status
from tests.boot import tree
from tests.boot.ground import Ground
from tests.conftest import Moto

NEEDED = [tool for tool in ("systemd-nspawn", "mmdebstrap", "nft", "ip") if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or bool(NEEDED), reason=f"BOOTS NOTHING: needs root and {', '.join(NEEDED) or 'no more tools'}"
)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree.bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def baked(bundle: Path) -> Path:
    return tree.baked(bundle)


@pytest.fixture
def ground(moto: Moto, baked: Path, tmp_path: Path) -> Iterator[Ground]:
    made = Ground(moto, baked, tmp_path)
    yield made
    made.close()


def test_a_green_job_on_a_baked_image(ground: Ground) -> None:
    ground.configure()
    ground.play("echo one; id -un")
    ground.boot()

    ground.machine.wait_off(30)

    word = ground.word()
    assert (word.status, word.error, ground.state()) == (Status.SUCCESS, "", "terminated"), f"{word.error}\n{ground.machine.console}"
