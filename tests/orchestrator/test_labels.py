"""What a `runs-on` asks of us, if anything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.jobs.labels import SEGMENTS, ParsedLabels, is_ours, read_labels
from orchestrator.setting_values import Alias
from orchestrator.store.request import Fallback, MachineRequest


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
    assert is_ours(("macos", "Ubuntu-Latest"), lambda label: Alias("ubuntu-latest").spec_of(label) is not None)


def test_an_alias_that_is_a_pattern_must_cover_the_whole_label() -> None:
    alias = Alias("ubuntu-2.", regex=True)

    assert alias.spec_of("ubuntu-24") is not None
    assert alias.spec_of("my-ubuntu-24") is None and alias.spec_of("ubuntu-24.04") is None


def test_an_alias_that_is_not_a_pattern_is_taken_literally() -> None:
    assert Alias("ubuntu-.*").spec_of("ubuntu-24.04") is None


def spec_of(label: str) -> str | None:
    return {"ubuntu-latest": "", "big": "cpu=16/ram=64/spot=false"}.get(label)


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (("runs-fleet",), "amd64"),
        (("runs-fleet=1/arch=arm64",), "arm64"),
        (("runs-fleet/ARM64",), "arm64"),
        (("runs-fleet", "ARM64"), "arm64"),
        (("runs-fleet", "aarch64"), "arm64"),
        (("runs-fleet=1/arch=x86_64",), "amd64"),
        (("runs-fleet/arch=arm64", "aarch64"), "arm64"),
        (("other/arch=arm64", "runs-fleet"), "amd64"),
        ((), "amd64"),
    ],
)
def test_the_architecture_is_what_a_marker_or_a_plain_label_asks_for(labels: tuple[str, ...], wanted: str) -> None:
    assert read_labels(labels).request.architecture == wanted


@pytest.mark.parametrize(
    ("marker", "wanted"),
    [
        ("runs-fleet", MachineRequest()),
        ("runs-fleet=77", MachineRequest()),
        ("RUNS-FLEET=77/CPU=8", MachineRequest(cpu_min=8, cpu_max=16)),
        ("runs-fleet/cpu=4", MachineRequest(cpu_min=4, cpu_max=8)),
        ("runs-fleet/cpu=4+6", MachineRequest(cpu_min=4, cpu_max=6)),
        ("runs-fleet/cpu=0", MachineRequest()),
        ("runs-fleet/ram=7.5", MachineRequest(ram_min_gib=7.5)),
        ("runs-fleet/ram=8+16", MachineRequest(ram_min_gib=8, ram_max_gib=16)),
        ("runs-fleet/family=M7i+c7", MachineRequest(families=("c7", "m7i"))),
        ("runs-fleet/gen=7", MachineRequest(generation=7)),
        ("runs-fleet/spot=false", MachineRequest(interruptible=False)),
        ("runs-fleet/spot=spot", MachineRequest()),
        ("runs-fleet/disk=200", MachineRequest(disk_gib=200)),
        ("runs-fleet/pool=build_1", MachineRequest(pool="build_1")),
        ("runs-fleet/fallback=wait", MachineRequest(fallback=Fallback.WAIT)),
        ("runs-fleet/price=0.25", MachineRequest(price_limit=0.25)),
        ("runs-fleet/fallback=fail", MachineRequest(fallback=Fallback.FAIL)),
        ("runs-fleet/fallback=on-demand/spot=on-demand", MachineRequest(interruptible=False)),
        ("runs-fleet/compute=local", MachineRequest(compute="local")),
    ],
)
def test_the_grammar(marker: str, wanted: MachineRequest) -> None:
    assert read_labels((marker,)) == ParsedLabels(wanted, complaints=())


@pytest.mark.parametrize(
    "segment",
    ["cpu=x", "cpu=-1", "cpu=8+4", "cpu=1.5", "ram=lots", "ram=16+8", "family=../x", "gen=11", "gen=x", "arch=mips", "spot=no",
     "disk=20000", "disk=1.5", "fallback=never", "price=free", "memory=4", "cpu", "cpu=", "retry=when-interrupted",
     "cpu=4/cpu=8", "gen=0", "disk=0", "price=0", "pool=!!", "pool=-a",
     "compute=../x", "compute=EC2 "],
)  # fmt: skip
def test_what_is_not_understood_is_complained_about_and_names_itself(segment: str) -> None:
    (complaint, *_) = read_labels((f"runs-fleet=7/{segment}",)).complaints

    assert segment.partition("/")[0].partition("=")[0] in complaint and "expected" in complaint


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (("runs-fleet/cpu=2", "runs-fleet/cpu=64"), "several labels"),
        (("runs-fleet/arch=arm64", "x64"), "contradict"),
        (("runs-fleet/spot=false/price=0.1",), "price="),
    ],
)
def test_what_contradicts_itself_is_complained_about_whatever_the_order(labels: tuple[str, ...], why: str) -> None:
    for told in (labels, labels[::-1]):
        assert why in "; ".join(read_labels(told).complaints)


def test_a_group_of_an_aliass_pattern_stands_in_what_it_asks_for() -> None:
    alias = Alias(r"ubuntu-(\d+)-cores", regex=True, spec="cpu=${1}")

    assert read_labels(("Ubuntu-8-Cores",), alias.spec_of).request.cpu_min == 8


def test_two_architectures_are_complained_about() -> None:
    assert "both architectures" in read_labels(("runs-fleet", "arm64", "x64")).complaints[0]


def test_an_alias_asks_for_what_the_operator_says_and_a_real_marker_beats_it() -> None:
    assert read_labels(("big",), spec_of).request == MachineRequest(cpu_min=16, cpu_max=32, ram_min_gib=64, interruptible=False)
    assert read_labels(("big", "runs-fleet"), spec_of).request == MachineRequest()
    assert read_labels(("self-hosted", "ubuntu-latest"), spec_of).request == MachineRequest()


@given(st.lists(st.text(max_size=30), max_size=4))
def test_no_label_whatever_raises(labels: list[str]) -> None:
    assert read_labels(tuple(labels)).request.cpu_min >= 1
    assert read_labels(tuple(f"runs-fleet/{label}" for label in labels)).request.cpu_max >= 1


def test_every_segment_stands_in_the_table_of_the_page_and_no_other() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text("utf-8")
    table = page.partition("## Labels")[2].partition("The table in code is `SEGMENTS`")[0]

    assert {found for line in table.splitlines() for found in re.findall(r"^\| `(\w+)=", line)} == set(SEGMENTS)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (("runs-fleet=77,cpu=16,ram=64",), "joins its segments by ','"),
        (("runs-fleet=77;cpu=16",), "joins its segments by ';'"),
        (("runs-fleet=77 cpu=16",), "joins its segments by ' '"),
        (("runs-fleet=77&cpu=16/ram=4",), "joins its segments by '&'"),
        (("runs-fleet=77", "cpu=16", "ram=64"), "the label 'cpu=16' stands by itself"),
        (("runs-fleet=77", "CPU=16"), "the label 'CPU=16' stands by itself"),
        (("runs-fleet=7/cpu=4", "arm64,linux"), "are several labels in one: expected a list, as in [arm64, linux]"),
        (("runs-fleet=7", "windows"), "asks for another system"),
        (("self-hosted", "macOS", "runs-fleet=7"), "asks for another system"),
        (("runs_fleet=7/cpu=4",), "looks like our marker and is none"),
        (("runsfleet/cpu=4",), "looks like our marker and is none"),
        (("runs-fleet:cpu=4",), "looks like our marker and is none"),
        (("runs-fleet, cpu=4",), "looks like our marker and is none"),
        (("run-fleet=7/cpu=4",), "looks like our marker and is none"),
    ],
)
def test_what_is_meant_for_us_and_would_do_nothing_is_refused_aloud(labels: tuple[str, ...], told: str) -> None:
    assert is_ours(labels, nobody)
    assert any(told in complaint for complaint in read_labels(labels).complaints), read_labels(labels).complaints


@pytest.mark.parametrize(
    "labels",
    [("runs-fleet-2",), ("runs-fleets",), ("run-fleet",), ("runs-on=7/cpu=4",), ("fleet=7/cpu=4",), ("cpu=4",), ("a,b",)],
)
def test_what_may_be_anothers_is_left_alone(labels: tuple[str, ...]) -> None:
    assert not is_ours(labels, nobody)


@pytest.mark.parametrize("labels", [("runs-fleet=7/cpu=4", "linux", "self-hosted", "x64"), ("runs-fleet=7", "team=blue")])
def test_labels_beside_the_marker_that_ask_for_nothing_of_ours_are_no_fault(labels: tuple[str, ...]) -> None:
    assert read_labels(labels).complaints == ()


@pytest.mark.parametrize("segment", ["cpu=４", "ram=１６", "disk=٣", "cpu=²"])
def test_digits_of_other_scripts_are_no_numbers(segment: str) -> None:
    assert read_labels((f"runs-fleet=7/{segment}",)).complaints
