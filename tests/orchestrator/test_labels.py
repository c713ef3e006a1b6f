"""What a `runs-on` asks of us, if anything."""

from __future__ import annotations

import pytest

from orchestrator.labels import architecture, is_ours
from orchestrator.settings import Alias


def nobody(_label: str) -> bool:
    return False


@pytest.mark.parametrize(
    "labels",
    [("runs-fleet",), ("Runs-Fleet=123",), ("runs-fleet/arch=arm64",), ("self-hosted", "runs-fleet=1/arch=amd64")],
)
def test_a_marker_anywhere_makes_a_job_ours(labels: tuple[str, ...]) -> None:
    assert is_ours(labels, nobody)


@pytest.mark.parametrize("labels", [(), ("ubuntu-latest",), ("runs-fleetish",), ("my-runs-fleet",), ("runs-fleet-2",), ("",)])
def test_what_only_resembles_the_marker_is_not_ours(labels: tuple[str, ...]) -> None:
    assert not is_ours(labels, nobody)


def test_an_alias_makes_a_label_ours() -> None:
    assert is_ours(("macos", "Ubuntu-Latest"), Alias("ubuntu-latest").covers)


def test_an_alias_that_is_a_pattern_must_cover_the_whole_label() -> None:
    alias = Alias("ubuntu-2.", regex=True)

    assert alias.covers("ubuntu-24")
    assert not alias.covers("my-ubuntu-24") and not alias.covers("ubuntu-24.04")


def test_an_alias_that_is_not_a_pattern_is_taken_literally() -> None:
    assert not Alias("ubuntu-.*").covers("ubuntu-24.04")


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (("runs-fleet",), "amd64"),
        (("runs-fleet=1/arch=arm64",), "arm64"),
        (("runs-fleet/ARM64",), "arm64"),
        (("runs-fleet", "ARM64"), "arm64"),
        (("runs-fleet", "aarch64"), "arm64"),
        (("runs-fleet=1/arch=amd64",), "amd64"),
        (("other/arch=arm64", "runs-fleet"), "amd64"),
        ((), "amd64"),
    ],
)
def test_the_architecture_is_what_a_marker_or_a_plain_label_asks_for(labels: tuple[str, ...], wanted: str) -> None:
    assert architecture(labels) == wanted
