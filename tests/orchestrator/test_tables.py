"""What lies in a table: nothing that is empty, and every number, also the ones that are zero."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.store.model import Session
from orchestrator.store.records import Records
from orchestrator.store.tables import plain
from simulation.clock import VirtualTime
from simulation.examples import a_session
from simulation.tables import MemoryTables


@pytest.mark.parametrize(("field", "empty"), [("instance_id", ""), ("error", ""), ("gone_at", None), ("phases_ms", {})])
def test_what_is_empty_is_absent_from_an_item(field: str, empty: Any) -> None:
    assert field not in plain(a_session(**{field: empty}))


@pytest.mark.parametrize(("field", "zero"), [("registration_id", 0), ("gone_at", 0.0), ("non_interruptible", False)])
def test_what_is_zero_or_false_is_not_empty(field: str, zero: Any) -> None:
    assert plain(a_session(**{field: zero}))[field] == zero


def test_a_session_without_a_machine_can_be_kept_though_its_machine_is_an_index_key() -> None:
    records = Records(MemoryTables(VirtualTime()))

    saved = records.put(a_session(instance_id=""))

    assert records.read(Session, "s-1") == saved
    assert records.session_of("") is None
