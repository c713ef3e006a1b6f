"""Which labels a real fleet would leave to other runners, and which name a system that no machine here runs."""

from __future__ import annotations

import pytest

from sandbox.workflow.labels import of_other_runners, other_system


@pytest.mark.parametrize(
    "labels", [("self-hosted", "runs-fleet"), ("runs-fleet=7/cpu=4",), ("RUNS-FLEET/arch=arm64", "x"), ("runs-fleet: cpu=4",)]
)
def test_labels_with_the_marker_or_what_is_meant_as_one_are_the_fleets(labels: tuple[str, ...]) -> None:
    assert of_other_runners([labels]) == []


@pytest.mark.parametrize("labels", [("ubuntu-latest",), ("self-hosted", "linux", "x64"), ("my-runs-fleet",)])
def test_labels_without_it_are_other_runners_and_told_once(labels: tuple[str, ...]) -> None:
    assert of_other_runners([labels, ("runs-fleet",), labels, ()]) == [labels]


@pytest.mark.parametrize("label", ["windows", "Windows", "macos", "macOS", "windows-latest", "macos-14", "macos-15-xlarge"])
def test_a_label_of_another_system_is_found_among_the_others(label: str) -> None:
    assert other_system(("self-hosted", label, "runs-fleet")) == label


@pytest.mark.parametrize("label", ["linux", "ubuntu-24.04", "windowsill", "no-windows", "runs-fleet/pool=windows"])
def test_a_label_that_names_no_other_system_is_none(label: str) -> None:
    assert other_system((label,)) is None
