"""What a burst of jobs costs the orchestrator: calls, and seconds from the first delivery to the last launch.

    python -m benchmarks.burst

The unmodified turns, threads and coalescing of `serve`, on the tests' twins of DynamoDB, EC2, GitHub and SSM with the
time each call takes on AWS put in (`TAKES_S`): moto answers some hundred writes a second and would be all that is
measured. Then the same on the sandbox's cloud, where calls are counted, and there once more with what one App, SSM
and EC2 really allow. Beside it what each turn examines with few and with many finished records in the tables, and
`POST /webhook` next to a server that only checks the signature. Writes results-burst.json and results-burst.md beside
this file, which the page reads.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from benchmarks import page, sandboxed
from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.journal import SystemIds
from orchestrator.adapters.loops import Loops, WakeQueue
from orchestrator.adapters.threads import ThreadWorkerPool
from orchestrator.endpoints import Endpoints, Pace
from orchestrator.jobs.webhook import JobEvent
from orchestrator.ports import Received
from orchestrator.readiness import Readiness
from orchestrator.serve import CONSUMERS, RECONCILERS, application
from orchestrator.setting_values import Limits
from simulation.calls import Calls
from simulation.examples import an_event, some_settings
from simulation.process import InlineWorkerPool, MemoryJournal
from simulation.services import MemoryQueue
from simulation.world import World

RESULTS = Path(__file__).with_name("results-burst.json")
BURSTS = (1, 100, 1000)
TAKES_S: dict[str, tuple[float, float]] = {
    "tables": (0.01, 0.02), "ec2.create_fleet": (2.0, 5.0), "ec2": (0.1, 0.3), "github": (0.15, 0.3),
    "configurations": (0.02, 0.05), "queue": (0.01, 0.02),
}  # fmt: skip
"""Least and most seconds of a call, by the longest name that fits."""
ROUNDS, SENDERS, DELIVERIES = 5, 4, 400


class Slow(Calls):
    """Counts every call of every port, and takes the time that it would take."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: Counter[str] = Counter()
        self._chance = random.Random(3)
        self._waits = threading.local()

    def record(self, name: str) -> None:
        """Called inside the twin's lock: the time passes after it is given back."""
        self.counted[name] += 1
        least, most = next(TAKES_S[known] for known in (name, name.partition(".")[0]) if known in TAKES_S)
        self._waits.owed_s = getattr(self._waits, "owed_s", 0.0) + self._chance.uniform(least, most)

    def pay(self) -> None:
        """The time of the call that was just made."""
        owed_s, self._waits.owed_s = getattr(self._waits, "owed_s", 0.0), 0.0
        time.sleep(owed_s)


class Served:
    """A twin that many threads may use: one at a time inside, none waits for another's network."""

    def __init__(self, twin: Any, calls: Slow) -> None:
        self._twin, self._calls, self._lock = twin, calls, threading.Lock()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._twin, name)
        if not callable(found):
            return found

        def called(*args: Any, **how: Any) -> Any:
            with self._lock:
                answer = found(*args, **how)
                answer = list(answer) if hasattr(answer, "__next__") else answer
            self._calls.pay()
            return iter(answer) if isinstance(answer, list) and name in ("due", "scan", "describe", "registered") else answer

        return called


class Patient(Served):
    """A queue whose receive waits for a message, as a long poll does."""

    def receive(self, wait_s: int) -> list[Received]:
        """Up to ten, as soon as there are any."""
        until_s = time.monotonic() + 0.5
        while time.monotonic() < until_s:
            with self._lock:
                found = self._twin.receive(wait_s)
            if found:
                self._calls.pay()
                return list(found)
            time.sleep(0.01)
        return []


def burst(number: int, *, sets: int = 1) -> dict[str, float]:
    """One burst of jobs, of one label set or of so many, with budgets for it."""
    calls = Slow()
    world = World(
        calls,
        some_settings(
            index_shards=16, launches_per_minute=1e6, watch_s=60.0, max_sessions=5000, per_label_set=Limits(sessions=5000)
        ),
    )
    queue = MemoryQueue(calls)
    wake_queue, journal = WakeQueue(), MemoryJournal()
    pools, configurers = ThreadWorkerPool(world.settings.workers), ThreadWorkerPool(world.settings.workers)
    jobs = Patient(queue, calls)
    turns = world.replica(
        tables=Served(world.tables, calls), ec2=Served(world.compute, calls), github=Served(world.github, calls),
        configurations=Served(world.configurations, calls), job_queue=jobs, termination_queue=Served(world.terminations, calls),
        clock=SystemClock(), ids=SystemIds(), journal=journal, workers=pools, configurers=configurers, sweepers=pools,
        wakes=wake_queue,
    )  # fmt: skip
    loops = Loops(journal, 1)
    loops.reconcile_woken("reconciler", wake_queue, turns.on_wake, RECONCILERS)
    loops.consume("jobs", jobs, lambda m: turns.on_job_event(msgspec.json.decode(m.body, type=JobEvent)), CONSUMERS)
    began_s = time.monotonic()
    senders = [threading.Thread(target=_deliver, args=(turns, range(at, number, 8), sets)) for at in range(8)]
    for sender in senders:
        sender.start()
    launched_s = _until(lambda: world.compute.launched >= number, began_s)
    configured_s = _until(lambda: len(world.configurations.values) >= number, began_s)
    loops.stop(10.0)
    pools.stop()
    configurers.stop()
    counted = calls.counted
    aws = sum(n for name, n in counted.items() if not name.startswith("github") and name != "queue.receive")
    return {
        "jobs": number, "sets": sets, "launched_s": launched_s, "configured_s": configured_s, "machines": world.compute.launched,
        "fleet_calls": counted["ec2.create_fleet"],
        "github_calls_per_job": sum(n for name, n in counted.items() if name.startswith("github")) / number,
        "aws_calls_per_job": aws / number,
    }  # fmt: skip


def _deliver(turns: Any, numbers: range, sets: int) -> None:
    for n in numbers:
        turns.on_webhook(str(n).encode(), an_event(job_id=str(n), at=time.time(), labels=(f"runs-fleet={n % sets}",)))


def _until(reached: Callable[[], bool], began_s: float) -> float:
    while not reached() and time.monotonic() - began_s < 300:
        time.sleep(0.01)
    return time.monotonic() - began_s


def paced(number: int) -> float:
    """Minutes until the last of so many is launched at the default pace, in virtual time."""
    world = World(settings=some_settings(index_shards=16, watch_s=60.0, max_sessions=5000, per_label_set=Limits(sessions=5000)))
    for n in range(number):
        world.turns.on_job_event(an_event(job_id=str(n)))
    world.reconcile()
    begun = world.clock.at
    while world.compute.launched < number:
        world.tick(after_s=1.0)
    return (world.clock.at - begun) / 60.0


def webhooks() -> dict[str, dict[str, float]]:
    """Deliveries a second and ms of each, ours beside one that only checks the signature; taking turns, median of the rounds."""
    world = World(Calls())
    ours = Endpoints([world.settings.webhook_secret], world.turns.on_webhook, world.journal, Pace(world.clock))
    apps = {"ours": application(ours, Readiness((), world.journal, InlineWorkerPool())), "signature only": _minimal(b"hush")}
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in apps}
    ports = {name: _serving(app) for name, app in apps.items()}
    for _ in range(ROUNDS):
        for name, port in ports.items():
            taken[name].append(_load(port))
            world.queue.forget()
    return {name: {key: median(one[key] for one in found) for key in found[0]} for name, found in taken.items()}


def _minimal(secret: bytes) -> Starlette:
    async def webhook(request: Request) -> Response:
        body = await request.body()
        wanted = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
        fine = hmac.compare_digest(wanted, request.headers.get("x-hub-signature-256", ""))
        return JSONResponse({"taken": fine}, status_code=200 if fine else 401)

    return Starlette(routes=[Route("/webhook", webhook, methods=["POST"])])


def _serving(app: Starlette) -> int:
    listening = socket.socket(
        socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )  # of a kind that asyncio lets answer at once
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", access_log=False))
    threading.Thread(target=server.run, args=([listening],), daemon=True).start()
    return int(listening.getsockname()[1])


def _load(port: int) -> dict[str, float]:
    """So many deliveries of a real one's size over a few connections that stay open."""
    job = {
        "id": 1,
        "run_id": 7,
        "name": "build",
        "labels": ["runs-fleet"],
        "created_at": "2026-01-31T12:00:00Z",
        "steps": ["x" * 100] * 150,
    }
    took_ms: list[float] = []

    def send(at: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else 40 ms of the kernel's patience are measured
        for n in range(DELIVERIES // SENDERS):
            told = {"action": "queued", "workflow_job": {**job, "id": at * 10_000 + n}}
            body = json.dumps({**told, "repository": {"name": "w", "owner": {"login": "o"}}}).encode()
            signature = "sha256=" + hmac.new(b"hush", body, hashlib.sha256).hexdigest()
            begun_s = time.perf_counter()
            connection.request("POST", "/webhook", body, {"X-GitHub-Event": "workflow_job", "X-Hub-Signature-256": signature})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            took_ms.append((time.perf_counter() - begun_s) * 1000)
        connection.close()

    begun_s = time.perf_counter()
    senders = [threading.Thread(target=send, args=(at,)) for at in range(SENDERS)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    took_s = time.perf_counter() - begun_s
    took_ms.sort()
    return {"per_s": len(took_ms) / took_s, "p50_ms": took_ms[len(took_ms) // 2], "p99_ms": took_ms[int(len(took_ms) * 0.99)]}


def section(found: dict[str, Any]) -> str:
    """The page's part."""
    head = "jobs at once | of label sets | last CreateFleet sent, s | last one configured, s | machines | fleet calls"
    head += " | GitHub calls per job"
    lines = [f"| {head} | AWS calls per job (but polls) |", "|" + "---|" * 8]
    for one in found["bursts"]:
        lines.append(
            f"| {one['jobs']:,} | {one['sets']:,} | **{one['launched_s']:.1f}** | {one['configured_s']:.1f} | {one['machines']:,}"
            f" | **{one['fleet_calls']}** |"
            f" {one['github_calls_per_job']:.1f} | {one['aws_calls_per_job']:.1f} |"
        )
    lines += [
        "",
        "At the default pace (170 a minute, one App's budget) the last of 1,000 is launched after"
        f" **{found['paced_min']:.1f} min** (virtual time).",
        "",
    ]
    lines += _on_the_cloud(found)
    few, many = found["turns"]
    columns = [f"{told[0]['finished']:,} records: {what}" for told in (few, many) for what in ("calls", "items examined")]
    lines += [f"| one turn beside | {' | '.join(columns)} |", "|---|---|---|---|---|"]
    lines += [
        f"| {one['turn']} | {one['calls']} | **{one.get('examined', 0)}** | {other['calls']} | **{other.get('examined', 0)}** |"
        for one, other in zip(few, many, strict=True)
    ]
    ours, bare = found["webhooks"]["ours"], found["webhooks"]["signature only"]
    lines += [
        "", "| `POST /webhook`, 16 KB, four connections | deliveries/s | p50, ms | p99, ms |", "|---|---|---|---|",
        f"| ours (bounded, checked, parsed, queued) | **{ours['per_s']:.0f}** | {ours['p50_ms']:.1f} |"
        f" **{ours['p99_ms']:.1f}** |",
        f"| a Starlette app that only checks the signature | {bare['per_s']:.0f} | {bare['p50_ms']:.1f} | {bare['p99_ms']:.1f} |",
        "", f"Ratio: {ours['per_s'] / bare['per_s']:.2f} of its deliveries a second.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _on_the_cloud(found: dict[str, Any]) -> list[str]:
    """The sandbox's part of the page."""
    lines = [
        "On the sandbox's cloud (moto and the stand-in GitHub over HTTP, the orchestrator a process of its own; 2 to 5 s put",
        "into CreateFleet, 20 ms into every other call). Times are moto's, which shares one core with GitHub; the counts are",
        "ours. (A thousand deliveries alone take it a minute: it counts its whole queue for each message.)",
        "",
        "| jobs at once | last CreateFleet, s | last one configured, s | machines | fleet calls | GitHub calls per job |"
        " AWS calls per job (but polls) |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one['jobs']:,} | {one['launched_s']:.1f} | {one['configured_s']:.1f} | {one['machines']:,} |"
        f" **{one['fleet_calls']}** | **{one['github_calls_per_job']:.1f}** | **{one['aws_calls_per_job']:.1f}** |"
        for one in found["cloud"]
    ]
    real = found["real"]
    launched_min, configured_min = real["launched_s"] / 60, real["configured_s"] / 60
    return [
        *lines,
        "",
        "The same with what one App, SSM and EC2 really allow (180 registrations a minute, PutParameter three times a second,",
        f"EC2's buckets): of {real['jobs']:,} jobs at once the last is launched after **{launched_min:.1f} min** and configured",
        f"after {configured_min:.1f} min, in {real['fleet_calls']} fleet calls. The longest wait of a machine for its",
        f"configuration is {real['longest_s']:.0f} s (its agent waits 300 s); machines that would have died unconfigured:",
        f"**{real['unconfigured']}**.",
        "",
    ]


def main() -> None:
    """Everything once; what was measured is on the disk after it."""
    found: dict[str, Any] = {"machine": page.machine(), "bursts": []}
    for number in BURSTS:
        found["bursts"].append(burst(number))
        print(found["bursts"][-1], flush=True)
    found["bursts"].append(burst(1000, sets=1000))
    print(found["bursts"][-1], flush=True)
    found["paced_min"] = paced(1000)
    found["cloud"] = []
    for number in BURSTS:
        found["cloud"].append(sandboxed.burst(number))
        print(found["cloud"][-1], flush=True)
    found["turns"] = [sandboxed.turns(1_000), sandboxed.turns(100_000)]
    print(found["turns"], flush=True)
    found["real"] = sandboxed.paced(1000)
    print(found["real"], flush=True)
    found["webhooks"] = webhooks()
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    RESULTS.with_suffix(".md").write_text(section(found), encoding="utf-8")
    print(section(found))


if __name__ == "__main__":
    main()
