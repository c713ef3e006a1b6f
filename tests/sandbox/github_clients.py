"""Who calls the stand-in GitHub: the App with its key, runners with their registrations, and whoever gets its webhooks."""

from __future__ import annotations

import base64
import contextlib
import json
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import requests

from sandbox.github.server import StandInGitHub
from sandbox.plan import Workflow
from sandbox.runner.listener import FILES
from sandbox.runner.wire import Service
from sandbox.workflow import read_workflow

PATIENCE_S = 600.0


class App:
    """The GitHub App: its calls over HTTP carry an installation token, unless they say otherwise."""

    def __init__(self, github: StandInGitHub) -> None:
        self._github = github
        self._serial = 0
        self.repository = f"/repos/{github.state.owner}/{github.state.repo}"
        self.runners = f"{self.repository}/actions/runners"
        self.token = str(self.call("POST", "/app/installations/1/access_tokens", bearer=self.signed()).json()["token"])

    def signed(self, **claims: Any) -> str:
        """A JWT of the App, valid unless a claim makes it wrong; None leaves a claim out."""
        now = int(time.time())
        whole = {"iss": self._github.app_id, "iat": now - 60, "exp": now + 480, **claims}
        return jwt.encode(
            {name: value for name, value in whole.items() if value is not None}, self._github.app_private_key, algorithm="RS256"
        )

    def call(
        self, method: str, path: str, body: Any = None, *, bearer: str | None = None, headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """One call; redirects are not followed."""
        authorization = {"Authorization": f"Bearer {self.token if bearer is None else bearer}"}
        return requests.request(
            method, self._github.url + path, json=body, headers={**authorization, **(headers or {})}, timeout=30,
            allow_redirects=False,
        )  # fmt: skip

    def register(self, *labels: str, name: str = "") -> Registered:
        """A runner with a JIT configuration."""
        self._serial += 1
        body = {"name": name or f"runner-{self._serial}", "runner_group_id": 1, "labels": list(labels)}
        answer = self.call("POST", f"{self.runners}/generate-jitconfig", body)
        assert answer.status_code == 201, answer.text
        return Registered(int(answer.json()["runner"]["id"]), answer.json()["encoded_jit_config"])


@dataclass
class Registered:
    """A runner that has its blob and nothing else."""

    id: int
    blob: str
    session: str = ""

    def service(self) -> Service:
        """Signed in with what stands in the blob."""
        files = {name: base64.b64decode(content) for name, content in json.loads(base64.b64decode(self.blob)).items()}
        runner, credentials, key = (json.loads(files[name]) for name in FILES)
        return Service(runner, credentials, key)

    def connect(self) -> Service:
        """Open the one session. Raises: wire.Refused."""
        service = self.service()
        agent = {"id": self.id, "name": service.runner["AgentName"], "version": "2.999.0"}
        _, answer = service.call("POST", "session", {"agent": agent})
        self.session = answer["sessionId"]
        return service

    def take(self) -> tuple[Service, dict[str, Any]]:
        """Connect, be given a job, acquire it."""
        service = self.connect()
        _, message = service.call("GET", f"message?sessionId={self.session}")
        request = json.loads(message["body"])
        _, job = service.call("POST", f"{request['run_service_url']}/acquirejob", {"jobMessageId": request["runner_request_id"]})
        return service, job

    def work(self, conclusion: str = "success", **outputs: str) -> dict[str, Any]:
        """Take a job and report its end; returns the job's message."""
        service, job = self.take()
        steps = [
            {"number": 1, "name": "say", "conclusion": conclusion, "started_at": MOMENT, "completed_at": MOMENT, "lines": ["hi"]}
        ]
        told = {"jobId": job["job"]["id"], "conclusion": conclusion, "outputs": outputs, "steps": steps}
        service.call("POST", f"{job['run_service_url']}/completejob", told)
        return job


MOMENT = "2026-01-31T12:00:00Z"


@dataclass(frozen=True)
class Delivery:
    """One webhook as it arrived."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def event(self) -> tuple[str, str, str | None]:
        """Action, job and conclusion."""
        told = json.loads(self.body)
        return told["action"], told["workflow_job"]["name"], told["workflow_job"]["conclusion"]


class Receiver:
    """Takes webhooks; the first answers are `statuses`, all others 202."""

    def __init__(self, *statuses: int) -> None:
        self._statuses = list(statuses)
        self._arrived: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
        self.url = ""

    def next(self, count: int = 1) -> list[Delivery]:
        """So many deliveries, in the order of their arrival."""
        return [self._arrived.get(timeout=PATIENCE_S) for _ in range(count)]

    def take(self, delivery: Delivery) -> int:
        """The status to answer with."""
        self._arrived.put(delivery)
        return self._statuses.pop(0) if self._statuses else 202


@contextlib.contextmanager
def receiving(github: StandInGitHub, *statuses: int) -> Iterator[Receiver]:
    """GitHub's webhooks come here for as long as the block lasts."""
    receiver = Receiver(*statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(receiver.take(Delivery(dict(self.headers), body)))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the deliveries are kept."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    receiver.url = github.webhook_url = f"http://127.0.0.1:{server.server_address[1]}/webhook"
    try:
        yield receiver
    finally:
        github.webhook_url = None
        server.shutdown()
        server.server_close()
        thread.join()


def workflow(directory: Path, text: str) -> Workflow:
    """The plan in `text`."""
    path = directory / "workflow.yml"
    path.write_text(text, encoding="utf-8")
    return read_workflow(path)


def single(directory: Path, *labels: str, name: str = "build") -> Workflow:
    """One job that wants these labels."""
    return workflow(directory, f"jobs:\n  {name}:\n    runs-on: [{', '.join(labels)}]\n    steps:\n      - run: echo hi\n")
