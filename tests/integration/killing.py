"""A proxy that kills a process before or after one of its calls, and a puppet fleet that plays the agents' part at once."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from agent.contract.config import read_config
from agent.contract.messages import FinalWord, Started, Status, write_message
from agent.contract.names import parameter_name
from sandbox.github.server import StandInGitHub

HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class KillingProxy:
    """Forwards to `target`; `plan` names the call (what, n-th) and whether to kill before or after it."""

    def __init__(self, target: str, watch: Watch) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(target, watch))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Watch:
    """Counts the calls of all proxies and decides which one is the last."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._counted: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.plan: tuple[str, int, str] | None = None
        self.pid = 0
        self.killed = threading.Event()

    def seen(self, call: str) -> str | None:
        """Count it; `before` or `after` if this is the one to die at."""
        with self._lock:
            self.calls.append(call)
            self._counted[call] += 1
            if self.plan and self.plan[:2] == (call, self._counted[call]):
                when = self.plan[2]
                self.plan = None
                return when
            return None

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.killed.set()


class PuppetFleet:
    """LocalInstances whose agents need no process: each waits for its configuration, takes a job, ends green, and terminates."""

    def __init__(self, github: StandInGitHub, client: Callable[[str], Any], client_of: Callable[[str, str], Any]) -> None:
        """`client_of`: signing as that instance."""
        self.machines: dict[str, Any] = {}
        self.booted: list[str] = []
        self._github, self._client, self._client_of = github, client, client_of
        self.queue_url = ""

    def boot(self, instance_id: str, user_data: str) -> None:
        self.booted.append(instance_id)
        self.machines[instance_id] = threading.Thread(target=self._live, args=(instance_id,), daemon=True)
        self.machines[instance_id].start()

    def end(self, instance_id: str) -> None:
        self.machines.pop(instance_id, None)

    def stop(self) -> None:
        self.machines.clear()

    def console(self, instance_id: str) -> str:
        return ""

    def _live(self, instance_id: str) -> None:
        ssm, sqs = self._client("ssm"), self._client_of(instance_id, "sqs")
        config, wait = None, threading.Event()
        while config is None and instance_id in self.machines:
            try:
                config = read_config(
                    ssm.get_parameter(Name=parameter_name(instance_id), WithDecryption=True)["Parameter"]["Value"]
                )
            except ssm.exceptions.ParameterNotFound:
                wait.wait(0.2)
        if config is None:
            return
        common = {"instance_id": instance_id, "job_id": config.job_id, "session_id": config.session_id, "attempt": config.attempt}
        sqs.send_message(QueueUrl=self.queue_url, MessageBody=write_message(Started(**common)))
        self._run_the_job(config.runner_name)
        from datetime import UTC, datetime

        now = datetime.now(UTC)
        word = FinalWord(**common, status=Status.SUCCESS, exit_code=0, duration_seconds=1, started_at=now, completed_at=now)
        sqs.send_message(QueueUrl=self.queue_url, MessageBody=write_message(word))
        self._client("ec2").terminate_instances(InstanceIds=[instance_id])

    def _run_the_job(self, runner_name: str) -> None:
        state = self._github.state
        runner = next((r for r in state.runners.values() if r.name == runner_name), None)
        if runner is None:
            return
        session = state.open_session(runner.id, "2.999.0")
        job = state.next_job(session, 20.0)
        if job is not None:
            state.acquire(job.id)
            state.complete(job.id, "success", {}, [])


def _named(path: str, headers: Any, body: bytes) -> str:
    """What a call is: the AWS action, or GitHub's method and path without its ids."""
    if target := headers.get("X-Amz-Target"):
        return str(target).rpartition(".")[2]
    if found := re.search(rb"(?:^|&)Action=(\w+)", body):
        return found.group(1).decode()
    return re.sub(r"/\d+|/s-\w+", "/#", urlsplit(path).path)


def _handler(target: str, watch: Watch) -> type[BaseHTTPRequestHandler]:
    parts = urlsplit(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            name = _named(self.path, self.headers, body)
            when = watch.seen(name if name[0] != "/" else f"{self.command} {name}")
            if when == "before":
                watch.kill()
                self.close_connection = True
                return
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=40)
            headers = {key: value for key, value in self.headers.items() if key.lower() not in HOP}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            if when == "after":
                watch.kill()
                self.close_connection = True
                return
            self.send_response(answer.status)
            for key, value in answer.getheaders():
                if key.lower() not in HOP:
                    self.send_header(key, value)
            if answer.status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = do_PUT = _forward

        def log_message(self, *_: Any) -> None:
            pass

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (OSError, http.client.HTTPException):
                self.close_connection = True

    return Handler


def spawn(zygote: Any, environment: dict[str, str]) -> int:
    """Fork an orchestrator; returns its pid."""
    zygote.stdin.write(json.dumps(environment) + "\n")
    zygote.stdin.flush()
    return int(zygote.stdout.readline())
