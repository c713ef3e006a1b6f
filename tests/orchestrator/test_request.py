"""What a machine must be: requests that differ anywhere never share a launch, and equal ones always do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from orchestrator.store.request import ARCHITECTURES, DEFAULT_ARCHITECTURE, LEAST_CPU, Fallback, MachineRequest
from orchestrator.store.tables import plain

FIELDS = [field.name for field in msgspec.structs.fields(MachineRequest)]


def another(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, Fallback):
        return next(one for one in Fallback if one is not value)
    return value + {int: 1, float: 1.0, str: "x", tuple: ("m7",)}[type(value)]


def request_with(field: str, value: Any = None) -> MachineRequest:
    """The default request but for one field."""
    given = another(getattr(MachineRequest(), field)) if value is None else value
    return msgspec.structs.replace(MachineRequest(), **{field: given})


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_of_a_request_is_part_of_a_launchs_identity(field: str) -> None:
    assert request_with(field) != MachineRequest()
    assert request_with(field).spec() != MachineRequest().spec()


def test_no_two_requests_that_differ_in_one_field_share_a_spec() -> None:
    requests = [MachineRequest(), *(request_with(field) for field in FIELDS)]
    requests += [request_with("fallback", one) for one in Fallback if one is not MachineRequest().fallback]
    requests += [request_with("families", families) for families in (("m7", "c7"), ("c7", "m7"), ("m7c7",), ("m7, c7",))]

    assert len({request.spec() for request in requests}) == len(set(requests)) >= len(FIELDS) + 6


def test_values_that_change_places_are_another_request() -> None:
    pairs = [("pool", "compute"), ("cpu_min", "cpu_max"), ("ram_min_gib", "ram_max_gib"), ("generation", "disk_gib")]

    for one, other in pairs:
        value = "64" if one == "pool" else 64
        assert request_with(one, value).spec() != request_with(other, value).spec()


@pytest.mark.parametrize("field", FIELDS)
def test_a_request_that_was_kept_has_the_spec_it_had(field: str) -> None:
    request = request_with(field)

    kept = msgspec.convert(plain(request), MachineRequest)

    assert (kept, kept.spec()) == (request, request.spec())
    assert plain(MachineRequest()) == {}


def test_every_process_makes_the_same_spec() -> None:
    code = "from orchestrator.store.request import MachineRequest; print(MachineRequest(families=('m7', 'c7')).spec(), end='')"

    made = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }

    assert made == {MachineRequest(families=("m7", "c7")).spec()}


def test_a_spec_says_to_people_what_counts_most_and_is_short_enough_for_a_tag() -> None:
    specs = [MachineRequest().spec(), MachineRequest(architecture="arm64", cpu_min=96, interruptible=False).spec()]

    assert [re.sub("-[0-9a-f]{8}$", "", spec) for spec in specs] == ["amd64-2cpu-interruptible", "arm64-96cpu-lasting"]
    assert all(len(spec) < 64 for spec in specs)


@pytest.mark.parametrize("field", [field for field in FIELDS if field != "interruptible"])
def test_capacity_that_is_not_taken_back_is_asked_for_with_everything_else_as_it_was(field: str) -> None:
    request = request_with(field)

    lasting = request.non_interruptible()

    assert not lasting.interruptible and request.interruptible
    assert msgspec.structs.replace(lasting, interruptible=True) == request
    assert lasting.non_interruptible() == lasting


@pytest.mark.parametrize(
    ("fallback", "limit", "may"),
    [
        (Fallback.NON_INTERRUPTIBLE, 0.0, True), (Fallback.NON_INTERRUPTIBLE, 0.01, False), (Fallback.WAIT, 0.0, False),
        (Fallback.WAIT, 0.01, False), (Fallback.FAIL, 0.0, False), (Fallback.FAIL, 0.01, False),
    ],
)  # fmt: skip
def test_dearer_capacity_serves_only_whom_neither_fallback_nor_price_forbids_it(
    fallback: Fallback, limit: float, may: bool
) -> None:
    assert MachineRequest(fallback=fallback, price_limit=limit).may_be_non_interruptible is may


def test_every_spelling_of_an_architecture_is_one_of_those_we_use() -> None:
    used = set(ARCHITECTURES.values())

    assert used == {"arm64", "amd64"} and all(ARCHITECTURES[name] == name for name in used)
    assert (ARCHITECTURES["aarch64"], ARCHITECTURES["x64"], ARCHITECTURES["x86_64"]) == ("arm64", "amd64", "amd64")
    assert MachineRequest().architecture == DEFAULT_ARCHITECTURE in used


def test_who_asks_for_nothing_gets_a_small_interruptible_machine_that_may_become_a_lasting_one() -> None:
    request = MachineRequest()

    assert (request.cpu_min, request.cpu_max, request.interruptible) == (LEAST_CPU, 2 * LEAST_CPU, True)
    assert request.may_be_non_interruptible
