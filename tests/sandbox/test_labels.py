"""Which labels a real fleet would leave to other runners, and which name a system that no machine here runs."""

from __future__ import annotations

import pytest

from sandbox.workflow.labels import of_other_runners, refusal


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
    told = f"the label `{label}` asks for another system: every machine here runs Linux"

    assert refusal(("self-hosted", label, "runs-fleet")) == told


@pytest.mark.parametrize("label", ["linux", "ubuntu-24.04", "windowsill", "no-windows", "cpu=4", "runs-fleet/pool=windows"])
def test_a_label_that_names_no_other_system_is_none(label: str) -> None:
    assert refusal((label,)) is None


@pytest.mark.parametrize("labels", [("runs-fleet/cpu=many",), ("runs-fleet: cpu=4",), ("runs-fleet/arch=arm64", "x64")])
def test_labels_that_the_fleet_refuses_are_refused_before_its_jobs_would_wait_for_ever(labels: tuple[str, ...]) -> None:
    told = refusal(labels)

    assert told is not None and told.startswith("the fleet would refuse these labels: ")
