"""`python -m benchmarks.late`: how soon a configuration is read that arrives after its agent, and what the waiting costs SSM.

The agent's own waiting (`agent/configuration.py`) over real HTTP, one thread for each agent, against a stand-in of SSM that
grants 40 reads a second, and of S3 that grants all. Beside it, in the same run, waits that double from 0.25 to 5 s.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from agent.adapters.aws.objects import S3Configurations
from agent.adapters.aws.signing import CredentialChain, Region, SignedCalls
from agent.adapters.aws.ssm import SsmParameters
from agent.adapters.http import MetadataService
from agent.adapters.network import Network
from agent.adapters.system import SystemClock
from agent.calls.retries import RetryPolicy
from agent.configuration import Configuration
from agent.errors import ServiceError
from agent.ports import Parameters

FRAME = Path(__file__).with_name("page.md")
QUOTA_PER_S = 40.0
"""Source: "Systems Manager endpoints and quotas": GetParameter, 40 transactions a second."""
ARRIVALS_S = (5.0, 22.0)
CASES = (("ssm", 1), ("ssm", 20), ("ssm", 200), ("s3", 200))
DOUBLING = RetryPolicy(300.0, 0.25, 5.0, jitter=0.2)
OWN = "AROAEXAMPLE:i-1"
CONFIGURATION = json.dumps({"org": "acme", "job_id": "1", "jit_token": "token", "repo": "widgets", "labels": ["a"]})


class Quiet:
    """A Journal (agent/ports.py) that keeps nothing."""

    def event(self, name: str, **fields: object) -> None:
        """Nothing."""

    def phase(self, phase: object) -> None:
        """Nothing."""

    def hide(self, *secrets: object) -> None:
        """Nothing."""

    def cleaned(self, text: str) -> str:
        """As it is."""
        return text


class Store:
    """SSM and S3 on loopback: a name is there from its moment on, and SSM answers 40 reads a second."""

    def __init__(self, *, is_throttled: bool) -> None:
        self.there_at: dict[str, float] = {}
        self.asked: list[tuple[float, bool]] = []
        """When, and whether it was answered."""
        self._lock, self._left, self._counted_s = threading.Lock(), QUOTA_PER_S, time.monotonic()
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._tell(*store.looked(self.path.split("/")[1], 404, "<Error><Code>NoSuchKey</Code></Error>", CONFIGURATION))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if body.startswith(b"Action="):
                    self._tell(200, f"<GetCallerIdentityResponse><UserId>{OWN}</UserId></GetCallerIdentityResponse>")
                    return
                if is_throttled and not store.granted():
                    self._tell(400, json.dumps({"__type": "ThrottlingException", "message": "Rate exceeded"}))
                    return
                found = json.dumps({"Parameter": {"Value": CONFIGURATION}})
                self._tell(*store.looked(json.loads(body)["Name"], 400, json.dumps({"__type": "ParameterNotFound"}), found))

            def _tell(self, status: int, text: str) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 512

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def granted(self) -> bool:
        """Whether the quota has a read left, as a token bucket that holds a second's worth."""
        with self._lock:
            now_s = time.monotonic()
            self._left = min(QUOTA_PER_S, self._left + (now_s - self._counted_s) * QUOTA_PER_S)
            self._counted_s = now_s
            if self._left < 1:
                self.asked.append((now_s, False))
                return False
            self._left -= 1
            return True

    def looked(self, name: str, status: int, absent: str, found: str) -> tuple[int, str]:
        """The answer to a read of `name`."""
        now_s = time.monotonic()
        self.asked.append((now_s, True))
        return (200, found) if now_s >= self.there_at[name] else (status, absent)

    def stop(self) -> None:
        """No more answers."""
        self._server.shutdown()
        self._server.server_close()


def _parameters(source: str, url: str) -> Parameters:
    known = {"AWS_ENDPOINT_URL": url, "AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "sk"}
    metadata, clock = MetadataService(known), lambda: datetime.now(UTC)
    chain, region, network = CredentialChain(known, metadata), Region(known, metadata), Network(known)

    def calls(service: str) -> SignedCalls:
        return SignedCalls(service, known, chain, region, clock, network)

    return S3Configurations(calls("s3"), calls("sts")) if source == "s3" else SsmParameters(calls("ssm"))


def ours(parameters: Parameters, name: str) -> None:
    """The agent's own waiting."""
    configuration = Configuration(parameters, name, 300.0, SystemClock(), Quiet())
    if configuration.now() is None:
        configuration.wait()


def doubling(parameters: Parameters, name: str) -> None:
    """Waits that double, whatever the answer was."""
    attempt = 0
    while True:
        try:
            parameters.read(name)
            return
        except ServiceError:
            attempt += 1
            time.sleep(DOUBLING.wait_s(attempt, random.random()))


def measure(source: str, agents: int, waiting: Callable[[Parameters, str], None]) -> dict[str, Any]:
    """Seconds from each configuration's arrival until it was read, and reads a second while all were waiting."""
    store, late = Store(is_throttled=source == "ssm"), list[float]()
    chance = random.Random(14)  # the same arrivals for both

    def live(number: int) -> None:
        name = f"config-{number}"
        time.sleep(begins_after_s[number])
        waiting(_parameters(source, store.url), name)
        late.append(time.monotonic() - store.there_at[name])

    begins_after_s = [chance.uniform(0, 1) for _ in range(agents)]
    began_s = time.monotonic()
    for number in range(agents):
        store.there_at[f"config-{number}"] = began_s + begins_after_s[number] + chance.uniform(*ARRIVALS_S)
    threads = [threading.Thread(target=live, args=(number,), daemon=True) for number in range(agents)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first_s, last_s = began_s + 2.0, began_s + ARRIVALS_S[0]
    while_all = [answered for at_s, answered in store.asked if first_s <= at_s < last_s]
    store.stop()
    return {
        "latency_s": sorted(late),
        "reads_per_s": len(while_all) / (last_s - first_s),
        "answered_per_s": sum(while_all) / (last_s - first_s),
    }


def section(found: dict[str, Any]) -> str:
    """The part of the page."""
    lines = [
        "| source, agents waiting | way | arrival to read, median | p95 | reads a second while all wait | of these answered |",
        "|---|---|---|---|---|---|",
    ]
    for one in found["cases"]:
        late = one["latency_s"]
        p95 = quantiles(late, n=20)[-1] if len(late) > 1 else late[0]
        figures = f"{median(late):.2f} s | {p95:.2f} s | {one['reads_per_s']:.0f} | {one['answered_per_s']:.0f}"
        lines.append(f"| {one['source']}, {one['agents']} | {one['way']} | {figures} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure every case both ways, in turn."""
    cases = []
    for source, agents in CASES:
        for way, waiting in (("the agent", ours), ("doubling to 5 s", doubling)):
            found = {"source": source, "agents": agents, "way": way, **measure(source, agents, waiting)}
            late, rate = median(found["latency_s"]), found["reads_per_s"]
            print(f"{source} {agents} {way}: median {late:.2f} s, {rate:.0f} reads/s", flush=True)
            cases.append(found)
    FRAME.with_name("results-late.json").write_text(json.dumps({"cases": cases}, indent=1) + "\n", encoding="utf-8")
    FRAME.with_name("results-late.md").write_text(section({"cases": cases}), encoding="utf-8")


if __name__ == "__main__":
    main()
