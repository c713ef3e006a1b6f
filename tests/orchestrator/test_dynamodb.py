"""Tables, whoever keeps them: the twin in memory and DynamoDB keep the same promises and refuse the same things."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from orchestrator.adapters.aws import Clients
from orchestrator.adapters.dynamodb import DynamoTables
from orchestrator.errors import Conflict, ServiceFailed, Unanswered
from orchestrator.ports import Due, Tables, Write
from sandbox.cloud import Cloud
from sandbox.world import CloudClients
from simulation.clock import VirtualTime
from simulation.tables import MemoryTables
from tests.conftest import Moto
from tests.orchestrator.dynamo import CLIENTS, KEEPERS, dynamo, tables_of

RESERVED = ("name", "state", "status", "count", "role", "index", "timestamp", "value", "pool", "row", "attribute", "version")
"""Some of DynamoDB's 573 reserved words. Source: "Reserved words in DynamoDB"."""


@pytest.fixture(params=KEEPERS)
def tables(request: pytest.FixtureRequest) -> Tables:
    """Empty, of each keeper."""
    return tables_of(request)


def put(tables: Tables, key: tuple[str, str], item: dict[str, Any], read: int | None = None, table: str = "jobs") -> None:
    tables.write([Write(table, key, item, read)])


def test_what_was_never_written_is_none(tables: Tables) -> None:
    assert tables.get("jobs", ("1", "job")) is None
    assert list(tables.rows("jobs", "1")) == list(tables.scan("jobs")) == list(tables.due("jobs", "0", 9e9)) == []


def test_an_item_comes_back_as_it_was(tables: Tables) -> None:
    item = {
        "text": "bäuen \u2028 🚀\n", "number": 12_345_678_901, "fraction": 1_769_860_800.123456, "small": 0.1, "truth": True,
        "list": ["a", "ü", 1.5], "map": {"boot": 7, "zero": 0}, "empty": "", "version": 1,
    }  # fmt: skip

    put(tables, ("1", "job"), item)

    assert tables.get("jobs", ("1", "job")) == {**item, "id": "1", "row": "job"}


@pytest.mark.parametrize("word", RESERVED)
def test_h2_no_word_is_reserved(tables: Tables, word: str) -> None:
    version = {"version": 1}
    put(tables, ("1", "job"), {word: "x", **version} if word not in ("row", "version") else version, 0)

    tables.count("jobs", ("1", "job"), {word: "y"} if word not in ("row", "version") else {"other": 1})

    found = tables.get("jobs", ("1", "job"))
    assert found is not None and found["version"] == 2


def test_who_makes_an_item_second_is_told(tables: Tables) -> None:
    put(tables, ("1", "job"), {"by": "first", "version": 1}, 0)

    with pytest.raises(Conflict):
        put(tables, ("1", "job"), {"by": "second", "version": 1}, 0)

    assert tables.get("jobs", ("1", "job"))["by"] == "first"  # type: ignore[index]


def test_who_read_before_somebody_wrote_is_told(tables: Tables) -> None:
    put(tables, ("1", "job"), {"version": 1}, 0)
    put(tables, ("1", "job"), {"version": 2}, 1)

    for late in ({"version": 2}, None):
        with pytest.raises(Conflict):
            tables.write([Write("jobs", ("1", "job"), late, 1)])

    assert tables.get("jobs", ("1", "job"))["version"] == 2  # type: ignore[index]


def test_a_transaction_writes_all(tables: Tables) -> None:
    put(tables, ("old", "item"), {"version": 1}, 0, "sessions")

    tables.write(
        [
            Write("jobs", ("1", "job"), {"version": 1}, 0),
            Write("sessions", ("s", "session"), {"version": 1}, 0),
            Write("sessions", ("old", "item"), None),
        ]
    )

    assert tables.get("jobs", ("1", "job")) and tables.get("sessions", ("s", "session"))
    assert tables.get("sessions", ("old", "item")) is None


def test_a_transaction_that_loses_one_race_writes_nothing(tables: Tables) -> None:
    put(tables, ("2", "job"), {"version": 5}, None)

    with pytest.raises(Conflict):
        tables.write([Write("jobs", ("1", "job"), {"version": 1}, 0), Write("jobs", ("2", "job"), {"version": 5}, 4)])

    assert tables.get("jobs", ("1", "job")) is None


def test_a_transaction_of_a_hundred_items_is_the_largest(tables: Tables) -> None:
    tables.write([Write("jobs", (str(n), "job"), {"version": 1}, 0) for n in range(100)])

    with pytest.raises(ServiceFailed):
        tables.write([Write("jobs", (str(n), "other"), {"version": 1}, 0) for n in range(101)])

    assert len(list(tables.scan("jobs"))) == 100


def test_one_item_twice_in_a_transaction_is_refused(tables: Tables) -> None:
    with pytest.raises(ServiceFailed):
        tables.write([Write("jobs", ("1", "job"), {"version": 1}, 0), Write("jobs", ("1", "job"), {"version": 1}, 0)])


def test_an_item_of_more_than_400_kb_is_refused(tables: Tables) -> None:
    with pytest.raises(ServiceFailed):
        put(tables, ("1", "job"), {"text": "x" * (410 * 1024), "version": 1})


@pytest.mark.parametrize("name", ["instance_id", "shard"])
def test_s8_an_empty_index_key_is_refused(tables: Tables, name: str) -> None:
    with pytest.raises(ServiceFailed):
        put(tables, ("1", "session"), {name: "", "due": 1.0, "version": 1}, 0, "sessions")


def test_counting_makes_the_item_and_never_loses_one(tables: Tables) -> None:
    counted = [tables.count("sessions", ("s", "wake"), {"due": 5.0, "shard": "0"}) for _ in range(3)]

    assert counted == [1, 2, 3]
    assert tables.get("sessions", ("s", "wake")) == {"id": "s", "row": "wake", "version": 3, "due": 5.0, "shard": "0"}


def test_s7_a_partition_is_read_whole_and_alone(tables: Tables) -> None:
    for n in range(6):
        put(tables, ("s", f"item#{n}"), {"text": "x" * 300_000, "version": 1}, 0, "sessions")
    put(tables, ("other", "item#0"), {"version": 1}, 0, "sessions")

    found = tables.rows("sessions", "s")

    assert [item["row"] for item in found] == [f"item#{n}" for n in range(6)]
    assert len(list(tables.scan("sessions"))) == 7


def test_what_is_due_comes_earliest_first_and_only_from_its_shard(tables: Tables) -> None:
    for name, shard, due in (("late", "0", 30.0), ("first", "0", 10.25), ("second", "0", 20.0), ("elsewhere", "1", 10.0)):
        put(tables, (name, "job"), {"shard": shard, "due": due, "version": 1}, 0)
    put(tables, ("never", "job"), {"version": 1}, 0)

    assert list(tables.due("jobs", "0", 20.0)) == [Due(("first", "job"), 10.25), Due(("second", "job"), 20.0)]


def test_what_has_no_deadline_any_more_leaves_the_index(tables: Tables) -> None:
    put(tables, ("1", "job"), {"shard": "0", "due": 1.0, "version": 1}, 0)

    put(tables, ("1", "job"), {"version": 2}, 1)

    assert list(tables.due("jobs", "0", 9.0)) == []


def test_an_instance_leads_to_its_session(tables: Tables) -> None:
    put(tables, ("s-1", "session"), {"instance_id": "i-1", "version": 1}, 0, "sessions")
    put(tables, ("s-2", "session"), {"instance_id": "i-2", "version": 1}, 0, "sessions")

    assert [item["id"] for item in tables.of_instance("sessions", "i-2")] == ["s-2"]
    assert tables.of_instance("sessions", "i-3") == []


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """The sandbox's AWS, where nothing fails."""
    up = Cloud(tmp_path).start()
    yield up
    up.stop()


def test_of_two_who_write_at_once_one_is_told(cloud: Cloud) -> None:
    """Through the sandbox's front, which takes one transaction after the other: moto alone keeps half of one that lost."""
    tables, told, together = dynamo(CloudClients(cloud)), [], threading.Barrier(8)

    def write(n: int) -> None:
        together.wait()
        try:
            tables.write(
                [Write("jobs", ("1", "job"), {"by": n, "version": 1}, 0), Write("jobs", (f"{n}", "x"), {"version": 1}, 0)]
            )
        except Conflict:
            told.append(n)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(told) == 7 and len(list(tables.scan("jobs"))) == 2


def test_a_table_that_is_not_there_is_a_failure_that_names_it(moto: Moto) -> None:
    with pytest.raises(ServiceFailed, match="GetItem on nowhere answered ResourceNotFoundException"):
        DynamoTables(CLIENTS, {"jobs": "nowhere"}).get("jobs", ("1", "job"))


def test_the_twins_index_lags_as_long_as_it_is_told() -> None:
    clock = VirtualTime()
    tables = MemoryTables(clock, index_lag_s=5.0)
    put(tables, ("1", "job"), {"shard": "0", "due": 1.0, "version": 1}, 0)

    at_once = list(tables.due("jobs", "0", 9.0))
    clock.at += 5.0

    assert (at_once, list(tables.due("jobs", "0", 9.0))) == ([], [Due(("1", "job"), 1.0)])


class Impatient(Clients):
    """Clients of a service that takes every call and never answers."""

    def __init__(self, port: int) -> None:
        config = Config(read_timeout=0.2, retries={"total_max_attempts": 1})
        keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "us-east-1"}
        self._client = boto3.session.Session(**keys).client("dynamodb", endpoint_url=f"http://127.0.0.1:{port}", config=config)

    def get(self, service: str, region: str | None = None) -> Any:
        return self._client


@pytest.mark.parametrize("number", [1, 2], ids=["one item", "a transaction"])
def test_a_write_that_is_never_answered_is_unanswered(number: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tables = DynamoTables(Impatient(silent.getsockname()[1]), {"jobs": "some-jobs"})
        writes = [Write("jobs", (str(n), "job"), {"version": 1}, 0) for n in range(number)]

        with pytest.raises(Unanswered):
            tables.write(writes)
