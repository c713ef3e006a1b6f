"""The stand-in GitHub, for the tests of everything that calls GitHub."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.github.server import StandInGitHub
from tests.orchestrator.githubs import as_on_its_first_day


@pytest.fixture(scope="module")
def standing() -> Iterator[StandInGitHub]:
    """One for all tests here: its keys take a while."""
    github = StandInGitHub().start()
    yield github
    github.stop()


@pytest.fixture
def github(standing: StandInGitHub) -> StandInGitHub:
    """Without runners, tokens or memory of calls."""
    return as_on_its_first_day(standing)
