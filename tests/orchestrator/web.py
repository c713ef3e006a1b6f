"""The webhook's server on a loopback port, as `serve` makes it, on the world's twins."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests
import uvicorn
from starlette.applications import Starlette

from orchestrator.adapters.http_server import Connections, config_of
from orchestrator.readiness import Check, Fault, Readiness
from orchestrator.serve import application
from orchestrator.webhook_wiring import endpoints_of
from simulation.process import InlineWorkerPool
from simulation.world import World

PATIENCE_S = 600.0
"""Seconds after which an answer counts as missing; nothing here takes longer when it works."""
JOB = {
    "id": 1, "run_id": 7, "run_attempt": 1, "name": "build", "labels": ["runs-fleet"], "created_at": "2026-01-31T12:00:00Z",
}  # fmt: skip
DELIVERY = json.dumps(
    {"action": "queued", "workflow_job": JOB, "repository": {"name": "widgets", "owner": {"login": "octo"}}}
).encode()


def signed_request(body: bytes = DELIVERY, secret: str = "hush", event: str = "workflow_job") -> bytes:
    """A delivery's bytes on the wire."""
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    head = f"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nX-GitHub-Event: {event}\r\n"
    return f"{head}X-Hub-Signature-256: sha256={signature}\r\n\r\n".encode() + body


@dataclass
class Served:
    """A server, and the world it acts on."""

    port: int
    world: World
    app: Starlette

    def post(self, body: bytes, event: str = "workflow_job", secret: str = "hush", **headers: str) -> tuple[int, Any]:
        """Deliver as GitHub does."""
        signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        told = {"X-GitHub-Event": event, "X-Hub-Signature-256": signature, **headers}
        answer = requests.post(f"http://127.0.0.1:{self.port}/webhook", body, headers=told, timeout=PATIENCE_S)
        return answer.status_code, answer.json()

    def connect(self, address: str = "127.0.0.1") -> socket.socket:
        """A connection from one of this machine's addresses."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S, source_address=(address, 0))

    def get(self, path: str) -> tuple[int, Any]:
        """As a load balancer asks."""
        answer = requests.get(f"http://127.0.0.1:{self.port}/{path}", timeout=PATIENCE_S)
        return answer.status_code, answer.json()

    def raw(self, head: str, *pieces: bytes) -> int:
        """The status that comes for a request sent by hand, piece by piece."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as connection:
            connection.sendall(f"POST /webhook HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode())
            for piece in pieces:
                connection.sendall(piece)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            return answer.status


def checked(world: World, *faults: Fault) -> Readiness:
    """A server that has looked, once, at one thing."""
    look = Check(name="queue-jobs", look=lambda: faults)
    readiness = Readiness([look], world.journal, InlineWorkerPool())
    readiness.look()
    return readiness


@contextlib.contextmanager
def serving(world: World, readiness: Readiness | None = None, connections: Connections | None = None) -> Iterator[Served]:
    """A server of its own, for as long as that lasts."""
    endpoints = endpoints_of(world.settings, world.turns.acceptance, world.journal)
    app = application(endpoints, readiness or checked(world))
    listening = socket.create_server(("127.0.0.1", 0))
    connections = connections or Connections(100, endpoints.dropped)
    server = uvicorn.Server(config_of(app, "127.0.0.1", 0, connections))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        yield Served(listening.getsockname()[1], world, app)
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        listening.close()
