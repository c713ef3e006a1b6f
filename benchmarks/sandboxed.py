"""The same burst on the sandbox's cloud: the orchestrator as a process of its own, over HTTP to moto and to the stand-in GitHub.

CreateFleet takes 2 to 5 s and every other call 20 ms beside what moto itself takes, which is most of the time here; calls are
counted where they arrive. Machines only exist: they boot nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import http.server
import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from orchestrator.adapters.dynamodb import DynamoTables, written
from orchestrator.adapters.journal import SystemIds
from orchestrator.store.states import SessionState
from orchestrator.store.tables import JOBS, SESSIONS
from sandbox.github.limits import CORE, REGISTRATIONS
from sandbox.instances import Idle
from sandbox.rates import Rates
from sandbox.stack import STACK
from sandbox.workflow import read_workflow
from sandbox.world import CloudClients, World, world
from simulation import examples
from simulation import world as simulated

FLEET_S, CALL_S = (2.0, 5.0), (0.02, 0.02)
PATIENT_S = 300.0
"""For how long an agent waits for its configuration; machines here would wait for ever."""
SENDERS, MATRIX = 16, 50
"""Jobs of one label set: moto writes out its whole view anew for each look at it."""
POLLS = ("ReceiveMessage", "Query")
"""Asked all the time, whether there is work or not: long polls, and what is due."""
ONE_APP = {
    "RUNS_FLEET_MAX_SESSIONS": "5000", "RUNS_FLEET_MAX_SESSIONS_PER_REPOSITORY": "0", "RUNS_FLEET_MAX_VCPUS": "0",
    "RUNS_FLEET_MAX_SESSIONS_PER_LABEL_SET": "5000", "RUNS_FLEET_WATCH_SECONDS": "60",
}  # fmt: skip
MANY_APPS = {**ONE_APP, "RUNS_FLEET_LAUNCHES_PER_MINUTE": "5000", "RUNS_FLEET_EC2_INSTANCES_AT_ONCE": "1000000"}
QUIET = {"RUNS_FLEET_LEASE_SECONDS": "60", "RUNS_FLEET_SWEEP_SECONDS": "5", "RUNS_FLEET_RECOVERY_SECONDS": "300"}


def burst(number: int) -> dict[str, float]:
    """So many jobs at once, with budgets for them."""
    with tempfile.TemporaryDirectory(prefix="runs-fleet-") as root, world(Path(root), instances=Idle()) as up:
        up.github.limits.mints_a_minute = 1_000_000
        up.github.limits.hourly = {CORE: 1_000_000, REGISTRATIONS: 1_000_000}
        up.serve(**MANY_APPS, **QUIET)
        up.cloud.faults.slow = {"CreateFleet": FLEET_S, "*": CALL_S, "ReceiveMessage": (0.0, 0.0)}
        taken = _played(up, number, 600.0)
    return {"jobs": number, **taken}


def paced(number: int) -> dict[str, float]:
    """So many jobs at once with what one App, SSM and EC2 really allow: their published rates, and 180 registrations a minute."""
    with tempfile.TemporaryDirectory(prefix="runs-fleet-") as root, world(Path(root), instances=Idle()) as up:
        up.cloud.faults.rates = Rates()
        up.serve(**ONE_APP, **QUIET, RUNS_FLEET_CONFIG_WRITES_PER_SECOND="3")
        return {"jobs": number, **_played(up, number, 900.0)}


def _played(up: World, number: int, within_s: float) -> dict[str, float]:
    """Deliver, and wait until every job has a machine that is registered and configured."""
    instances = _deliveries(up, number)
    before, github_before = Counter(up.cloud.calls), len(up.github.calls)
    began_s = time.monotonic()
    senders = [threading.Thread(target=_deliver, args=(up, iter(instances[at::SENDERS]))) for at in range(SENDERS)]
    for sender in senders:
        sender.start()
    told_s = launched_s = 0.0
    fleets = 0
    while time.monotonic() - began_s < within_s:
        time.sleep(0.05)
        if not told_s and not any(sender.is_alive() for sender in senders):
            told_s = time.monotonic() - began_s
        if up.cloud.fleet_calls != fleets:
            fleets, launched_s = up.cloud.fleet_calls, time.monotonic() - began_s
        if len(up.cloud.instances.machines) >= number and up.cloud.calls["PutParameter"] >= number and _done(up, number):
            break
    configured_s = time.monotonic() - began_s
    calls, github = Counter(up.cloud.calls) - before, len(up.github.calls) - github_before
    sessions = up.sessions()
    waited = [(one.configured_at or time.time()) - (one.launched_at or 0.0) for one in sessions]
    unconfigured = sum(wait_s > PATIENT_S for wait_s in waited) + sum(
        one.state is not SessionState.CONFIGURED for one in sessions
    )
    work = sum(times for name, times in calls.items() if name not in POLLS)
    return {
        "machines": len(sessions), "unconfigured": unconfigured, "longest_s": max(waited, default=0.0), "told_s": told_s,
        "launched_s": launched_s, "configured_s": configured_s, "fleet_calls": calls["CreateFleet"],
        "github_calls_per_job": github / number, "aws_calls_per_job": work / number,
    }  # fmt: skip


def _done(up: World, number: int) -> bool:
    """Asked of the records only when it may be so: it reads all of them."""
    time.sleep(1.0)
    return sum(one.state is SessionState.CONFIGURED for one in up.sessions()) >= number


def _deliveries(up: World, number: int) -> list[bytes]:
    """What GitHub tells of a run of so many jobs, kept back to be sent all at once. To GitHub they are answered well."""
    url = up.github.webhook_url
    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Listener)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    up.github.webhook_url = f"http://127.0.0.1:{listener.server_address[1]}/webhook"
    jobs = {
        f"part{part}": {
            "runs-on": f"runs-fleet=burst-{part}", "steps": [{"run": "true"}],
            "strategy": {"matrix": {"number": list(range(min(MATRIX, number - at)))}},
        }
        for part, at in enumerate(range(0, number, MATRIX))
    }  # fmt: skip
    path = up.root / "burst.yml"
    path.write_text(json.dumps({"name": "burst", "on": "push", "jobs": jobs}), encoding="utf-8")
    up.github.state.dispatch(read_workflow(path))
    while len(up.github.deliveries.log) < number:
        time.sleep(0.01)
    while any(not delivery.status_code for delivery in up.github.deliveries.log):
        time.sleep(0.01)
    up.github.webhook_url = url
    listener.shutdown()
    listener.server_close()
    return [delivery.body for delivery in up.github.deliveries.log]


class _Listener(http.server.BaseHTTPRequestHandler):
    """Hears everything, and says nothing of it."""

    def do_POST(self) -> None:
        """200."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def _deliver(up: World, instances: Iterator[bytes]) -> None:
    assert up.stack is not None
    connection = http.client.HTTPConnection("127.0.0.1", up.stack.port, timeout=30)
    for body in instances:
        signature = "sha256=" + hmac.new(up.github.webhook_secret.encode(), body, hashlib.sha256).hexdigest()
        connection.request("POST", "/webhook", body, {"X-GitHub-Event": "workflow_job", "X-Hub-Signature-256": signature})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
    connection.close()


def turns(finished: int) -> list[dict[str, Any]]:
    """What each turn calls and examines, by DynamoDB's own `ScannedCount`, beside so many records of what is over."""
    with tempfile.TemporaryDirectory(prefix="runs-fleet-") as root, world(Path(root), instances=Idle()) as up:
        _fill(up, finished)
        clients = CloudClients(up.cloud)
        counted: Counter[str] = Counter()

        def called(parsed: dict[str, Any], model: Any, **_: Any) -> None:
            counted["calls"] += 1
            counted["examined"] += parsed.get("ScannedCount", 0) + ("Item" in parsed)

        clients.get("dynamodb").meta.events.register("after-call.dynamodb", called)
        twin = simulated.World(settings=examples.some_settings(watch_s=60.0, index_shards=16))
        tables = DynamoTables(clients, {JOBS: f"{STACK}-jobs", SESSIONS: f"{STACK}-sessions"})
        made = twin.replica(tables=tables, ids=SystemIds())
        found = []
        acts: dict[str, Callable[[], object]] = {
            "a delivery and its launch": lambda: made.on_wake([_key(made, examples.an_event(job_id="new"))]),
            "the sweep": made.on_sweep, "the tick": made.on_tick, "the backfill": made.on_backfill,
            "a pause and its end": lambda: [made.pause(paused=on) for on in (True, False)],
        }  # fmt: skip
        for name, act in acts.items():
            counted.clear()
            act()
            found.append({"turn": name, "finished": finished, **counted})
        return found


def _key(made: Any, event: Any) -> str:
    made.on_job_event(event)
    return examples.SET


def _fill(up: World, records: int) -> None:
    """Written past the records' own transactions, as many at once as DynamoDB takes."""
    twin = simulated.World()
    simulated.old_records(twin, records // 5)
    dynamodb = up.cloud.client("dynamodb")
    names = {JOBS: f"{STACK}-jobs", SESSIONS: f"{STACK}-sessions"}
    for table, name in names.items():
        items = [{key: written(value) for key, value in item.items()} for item in twin.tables.scan(table)]
        for at in range(0, len(items), 25):
            dynamodb.batch_write_item(RequestItems={name: [{"PutRequest": {"Item": item}} for item in items[at : at + 25]]})
