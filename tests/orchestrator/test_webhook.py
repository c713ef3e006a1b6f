"""Whether a delivery is genuine and ours, and what it says."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.secret import Secret
from orchestrator.errors import DeliveryRefused, ServiceFailed
from orchestrator.jobs.webhook import Acceptance, JobEvent, as_told, deduplication_id, is_genuine, read_delivery
from simulation.services import MemoryQueue

SECRET = Secret("hush")
DELIVERY: dict[str, Any] = {
    "action": "queued",
    "workflow_job": {
        "id": 29679449, "run_id": 940463255, "run_attempt": 2, "name": "bäuen", "labels": ["runs-fleet", "linux"],
        "created_at": "2026-01-31T12:00:00Z", "started_at": None, "completed_at": None, "conclusion": None, "runner_name": None,
    },
    "repository": {"name": "widgets", "owner": {"login": "octo"}},
    "installation": {"id": 5},
}  # fmt: skip


def signed(body: bytes, secret: str = "hush") -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def delivery(**job: object) -> bytes:
    changed = copy.deepcopy(DELIVERY)
    changed["workflow_job"] |= job
    return json.dumps(changed).encode()


def test_the_signature_is_over_the_raw_bytes() -> None:
    body = b'{"name": "b\xc3\xa4uen"}'

    assert is_genuine(body, signed(body), SECRET)


def test_the_same_document_in_other_bytes_is_not_genuine() -> None:
    body = json.dumps(DELIVERY).encode()

    assert not is_genuine(json.dumps(DELIVERY, ensure_ascii=False).encode(), signed(body), SECRET)


def test_another_secret_is_not_genuine() -> None:
    assert not is_genuine(b"{}", signed(b"{}", "hash"), SECRET)


def test_a_body_with_one_bit_turned_is_not_genuine() -> None:
    assert not is_genuine(b"{|", signed(b"{}"), SECRET)


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "sha256=",
        signed(b"{}")[7:],
        signed(b"{}").replace("256", "1"),
        signed(b"{}") + "0",
        "sha256=ü",
        "\udc80",
        "x" * 10_000,
    ],
    ids=["none", "empty", "bare", "sha1", "longer", "not ascii", "half a character", "long"],
)
def test_a_signature_of_another_shape_is_not_genuine(signature: str) -> None:
    assert not is_genuine(b"{}", signature, SECRET)


def test_the_known_example_of_the_documentation_is_genuine() -> None:
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"  # pragma: allowlist secret

    assert is_genuine(b"Hello, World!", signature, Secret("It's a Secret to Everybody"))


def test_a_delivery_is_read_into_what_we_act_on() -> None:
    assert read_delivery(json.dumps(DELIVERY).encode()) == JobEvent(
        action="queued", job_id="29679449", run_id="940463255", run_attempt=2, owner="octo", repo="widgets", name="bäuen",
        labels=("runs-fleet", "linux"), installation_id="5", at=1_769_860_800.0,
    )  # fmt: skip


def test_the_time_of_an_event_is_that_of_the_latest_thing_that_happened() -> None:
    event = read_delivery(delivery(started_at="2026-01-31T12:00:05Z", completed_at="2026-01-31T12:00:09Z"))

    assert event.at == 1_769_860_809.0


def test_a_job_was_taken_when_it_started_if_a_runner_has_it() -> None:
    """GitHub gives a time to jobs, too, that were cancelled before any runner had them."""
    told = {"started_at": "2026-01-31T12:00:05Z", "completed_at": "2026-01-31T12:00:09Z"}

    assert read_delivery(delivery(**told, runner_name="r")).taken_at == 1_769_860_805.0
    assert (read_delivery(delivery(**told)).taken_at, read_delivery(delivery(runner_name="r")).taken_at) == (0.0, 0.0)


def test_a_delivery_without_an_installation_is_readable() -> None:
    without = {name: value for name, value in DELIVERY.items() if name != "installation"}

    assert read_delivery(json.dumps(without).encode()).installation_id == ""


HOSTILE = {
    "nothing": b"",
    "no json": b"action=queued",
    "not text": b"\xff\xfe\x00",
    "a list": b"[]",
    "null": b"null",
    "a number": b"7",
    "deep": b"[" * 200_000,
    "an infinite attempt": delivery(run_attempt=float("inf")),
    "an attempt that is no number": delivery(run_attempt=float("nan")),
    "an attempt in words": delivery(run_attempt="first"),
    "half a character": delivery(name="\ud800"),
    "a time that is none": delivery(created_at="yesterday"),
    "labels that are a text": delivery(labels="runs-fleet"),
    "labels that are an object": delivery(labels={"runs-fleet": 1}),
    "no labels": delivery(labels=None),
    "no id": delivery(id=None),
    "an id that is an object": delivery(id={"a": 1}),
    "an owner that is a text": json.dumps({**DELIVERY, "repository": {"name": "x", "owner": "octo"}}).encode(),
    "no repository": json.dumps({**DELIVERY, "repository": None}).encode(),
    "an installation that is a text": json.dumps({**DELIVERY, "installation": "5"}).encode(),
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_document_of_another_shape_is_refused_with_400(body: bytes) -> None:
    with pytest.raises(DeliveryRefused) as refusal:
        read_delivery(body)

    assert refusal.value.status == 400


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates().map(str) | st.datetimes().map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
parts = st.sampled_from([(), ("workflow_job",), ("repository",), ("repository", "owner")])


@given(parts, st.sampled_from([*DELIVERY, *DELIVERY["workflow_job"], "login"]), anything)
def test_no_value_in_any_place_raises_anything_but_a_refusal_or_makes_an_event_that_cannot_be_queued(
    path: tuple[str, ...], name: str, value: object
) -> None:
    document = copy.deepcopy(DELIVERY)
    place = document
    for part in path:
        place = place[part]
    place[name] = value

    try:
        event = read_delivery(json.dumps(document).encode())
    except DeliveryRefused as refusal:
        assert refusal.status == 400
    else:
        assert msgspec.json.decode(msgspec.json.encode(event), type=JobEvent) == event


@given(st.binary(max_size=64))
def test_no_bytes_raise_anything_but_a_refusal(body: bytes) -> None:
    with pytest.raises(DeliveryRefused):
        read_delivery(body)


def test_a_redelivery_has_the_same_deduplication_id_and_another_delivery_has_not() -> None:
    assert deduplication_id(delivery()) == deduplication_id(delivery())
    assert deduplication_id(delivery()) != deduplication_id(delivery(name="other"))
    assert len(deduplication_id(delivery())) <= 128


def test_the_deduplication_id_is_the_sha256_of_the_raw_bytes() -> None:
    known = "dffd6021bb2bd5b0af676290809ec3a53191dd81c7f70a4b28688a362182986f"  # pragma: allowlist secret

    assert deduplication_id(b"Hello, World!") == known


def accepted(queue: MemoryQueue, body: bytes) -> bool:
    """Where only a marker makes a job ours."""
    return Acceptance(lambda labels: "runs-fleet" in labels, queue).accept(body, read_delivery(body))


def test_a_delivery_that_is_ours_is_in_the_queue_once_and_as_it_was_read() -> None:
    queue = MemoryQueue()

    assert [accepted(queue, delivery()), accepted(queue, delivery()), accepted(queue, delivery(name="other"))] == [True] * 3
    first, second = queue.receive(0)
    assert msgspec.json.decode(first.body, type=JobEvent) == read_delivery(delivery())
    assert msgspec.json.decode(second.body, type=JobEvent).name == "other"


def test_a_delivery_with_nothing_to_act_on_or_that_is_not_ours_is_not_queued() -> None:
    queue = MemoryQueue()
    unknown = json.dumps({**DELIVERY, "action": "deleted"}).encode()

    assert [accepted(queue, body) for body in (unknown, delivery(labels=["linux"]), delivery(labels=[]))] == [False] * 3
    assert queue.depth() == 0


@pytest.mark.parametrize("action", ["waiting", "queued", "in_progress", "completed"])
def test_every_step_of_a_jobs_life_is_acted_on(action: str) -> None:
    assert accepted(MemoryQueue(), json.dumps({**DELIVERY, "action": action}).encode())


def test_what_the_queue_does_not_take_is_not_accepted() -> None:
    queue = MemoryQueue()
    queue.refuses = True

    with pytest.raises(ServiceFailed):
        accepted(queue, delivery())


def test_a_repository_is_public_only_if_the_delivery_says_so() -> None:
    bodies = [
        {**DELIVERY, "repository": {**DELIVERY["repository"], **told}} for told in ({}, {"private": True}, {"private": False})
    ]

    assert [read_delivery(json.dumps(body).encode()).public for body in bodies] == [False, False, True]


@pytest.mark.parametrize(
    ("status", "action"),
    [
        ("queued", "queued"),
        ("in_progress", "in_progress"),
        ("completed", "completed"),
        ("waiting", "waiting"),
        ("requested", "waiting"),
        ("pending", "waiting"),
        (None, "waiting"),
    ],
)
def test_the_apis_word_of_a_job_is_read_as_the_delivery_that_told_it(status: str | None, action: str) -> None:
    told = as_told({**DELIVERY["workflow_job"], "status": status}, "octo", "widgets", "5")

    assert told == msgspec.structs.replace(read_delivery(delivery()), action=action)


def test_a_job_of_another_shape_is_no_job() -> None:
    shapes: list[object] = [None, [], {"id": 1}, {**DELIVERY["workflow_job"], "labels": "x"}]
    for strange in shapes:
        with pytest.raises(msgspec.ValidationError):
            as_told(strange, "octo", "widgets", "5")
