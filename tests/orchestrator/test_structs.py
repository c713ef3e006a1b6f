"""Structs whose annotations are read before there are threads: msgspec does not survive two that read them at once."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

import orchestrator.wiring  # noqa: F401 - all that a process converts
from orchestrator import structs
from tests.integration.agent_harness import CHECKOUT

LIVES = 16
SHOWN = """
import os, sys, threading
from orchestrator import webhook_wiring, wiring
{prepared}

def use(n):
    start.wait()
    for turn in range(len(USES)):
        USES[(n + turn) % len(USES)]()

sys.setswitchinterval(1e-6)
ends = []
for _ in range({lives}):
    if os.fork() == 0:
        start = threading.Barrier(12)
        threads = [threading.Thread(target=use, args=(n,)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        os._exit(0)
    ends.append(os.waitstatus_to_exitcode(os.wait()[1]))
print(ends)
"""
RECORDS = """
from functools import partial
from orchestrator.store.kinds import HistoryEntry
from orchestrator.jobs.records import JobRecords
from orchestrator.store.records import read_item
from orchestrator.store.tables import plain
from simulation.examples import a_job, a_launch, a_session
from simulation.clock import VirtualTime
from simulation.tables import MemoryTables
told = (HistoryEntry(at=1.0, what="said"),)
RECORDS = (a_launch(failures=told), a_session(failures=told), a_job())
USES = [partial(read_item, type(one), plain(one)) for one in RECORDS]
JobRecords(MemoryTables(VirtualTime()))
"""
DELIVERIES = """
import json
from orchestrator.jobs.webhook import read_delivery
from simulation.examples import some_settings
given = dict(name="widgets", owner=dict(login="octo"), private=True)
job = dict(id=1, run_id=7, name="build", labels=["runs-fleet"], created_at="2026-01-31T12:00:00Z", status="queued")
BODY = json.dumps(dict(action="queued", workflow_job=job, repository=given, installation=dict(id=3))).encode()
USES = [lambda: read_delivery(BODY)]
webhook_wiring.webhook_endpoints(some_settings(), object())
"""


@pytest.mark.parametrize("prepared", [pytest.param(RECORDS, id="records"), pytest.param(DELIVERIES, id="deliveries")])
def test_a_process_that_is_put_together_survives_threads_that_read_their_first_ones_all_at_once(prepared: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", SHOWN.format(prepared=prepared, lives=LIVES)],
        capture_output=True, text=True, timeout=600, cwd=CHECKOUT, check=False,
    )  # fmt: skip

    assert (shown.stdout.strip(), shown.stderr) == (str([0] * LIVES), "")


def test_every_struct_of_the_package_is_read_once() -> None:
    structs.read_annotations()
    read = set(structs._read)

    structs.read_annotations()

    assert {one for one in structs._all(msgspec.Struct) if one.__module__.startswith("orchestrator.")} == read == structs._read
