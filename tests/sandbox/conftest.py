"""What tests of the boot script run beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.imds import Metadata
from tests.sandbox.boot_script import Service


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    made = Metadata("i-0123456789abcdef0", "us-east-1")
    yield made
    made.stop()


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.stop()
