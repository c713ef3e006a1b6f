"""Thousands of connections that say nothing, or half of something, held open at a real orchestrator while it works."""

from __future__ import annotations

import contextlib
import http.client
import re
import resource
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from sandbox.workflow import read_workflow
from sandbox.world import World, play, world
from tests.orchestrator.web import signed_request
from tests.waiting import sooner_or_later

pytestmark = [pytest.mark.attack, pytest.mark.long]
IDLE, HALF_HEADERS, HALF_BODIES, FAKED = 2_000, 500, 500, 10
EVERY_S = 1.0
"""How often what was closed is opened anew."""
THEIR_ADDRESS = "127.0.0.2"
"""Where the strangers are; GitHub is elsewhere."""
USUAL_FILES = 1_024
"""The soft limit of open files that a service has if nobody sets another."""
SIGNED = b"POST /webhook HTTP/1.1\r\nHost: x\r\nX-GitHub-Event: workflow_job\r\nX-Hub-Signature-256: sha256=" + b"0f" * 32
HALF_HEADER, HALF_BODY = (
    b"POST /webhook HTTP/1.1\r\nHost: x\r\nX-Git",
    SIGNED + b"\r\nContent-Length: 20000\r\n\r\n" + b"x" * 9_000,
)
FAKE_SIGNED = SIGNED + b"\r\nContent-Length: %d\r\n\r\n" % (1 << 20) + b"x" * (1 << 20)
WORKFLOW = """
on: push
jobs:
  build:
    strategy: {matrix: {part: [1, 2, 3]}}
    runs-on: runs-fleet=1/cpu=2
    steps: [{run: echo hello}]
"""


class Attack(threading.Thread):
    """Holds so many connections of each kind, and opens each one anew that is closed, until it is told to stop."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port, self._over = port, threading.Event()
        self.full, self.opened, self.refused = threading.Event(), 0, 0

    def stop(self) -> None:
        """Close them all."""
        self._over.set()
        self.join(600)

    def run(self) -> None:
        """Hold them."""
        wanted = [b""] * IDLE + [HALF_HEADER] * HALF_HEADERS + [HALF_BODY] * HALF_BODIES + [FAKE_SIGNED] * FAKED
        with selectors.DefaultSelector() as held:
            while True:
                for sent in wanted:
                    self._open(held, sent)
                self.full.set()
                if self._over.wait(EVERY_S):
                    break
                wanted = [self._closed(held, key) for key, _ in held.select(0) if isinstance(key.fileobj, socket.socket)]
            for key in list(held.get_map().values()):
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.close()

    def _open(self, held: selectors.BaseSelector, sent: bytes) -> None:
        connection = socket.socket()
        try:
            connection.settimeout(5.0)
            connection.bind((THEIR_ADDRESS, 0))
            connection.connect(("127.0.0.1", self._port))
            if sent:
                connection.sendall(sent)
        except OSError:
            self.refused += 1
        held.register(connection, selectors.EVENT_READ, sent)
        self.opened += 1

    def _closed(self, held: selectors.BaseSelector, key: selectors.SelectorKey) -> bytes:
        assert isinstance(key.fileobj, socket.socket) and isinstance(key.data, bytes)
        held.unregister(key.fileobj)
        key.fileobj.close()
        return key.data


class Sender(threading.Thread):
    """Sends a genuine delivery twice a second, and notes each status and how long it took."""

    def __init__(self, port: int, request: bytes) -> None:
        super().__init__(daemon=True)
        self._port, self._request, self._over = port, request, threading.Event()
        self.statuses: list[int] = []
        self.took_s: list[float] = []

    def stop(self) -> None:
        """No more."""
        self._over.set()
        self.join(600)

    def run(self) -> None:
        """Until it is told to stop."""
        while not self._over.wait(0.5):
            begun_s = time.monotonic()
            self.statuses.append(self._status())
            self.took_s.append(time.monotonic() - begun_s)

    def _status(self) -> int:
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            socket.create_connection(("127.0.0.1", self._port), 60) as way,
        ):
            way.sendall(self._request)
            answer = http.client.HTTPResponse(way)
            answer.begin()
            return answer.status
        return 0


@contextlib.contextmanager
def open_files(soft: int) -> Iterator[None]:
    """This process's soft limit, which children inherit."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[World]:
    with open_files(USUAL_FILES), world(tmp_path) as made:
        made.serve()
        with open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1]):
            yield made


def test_deliveries_are_answered_and_machines_launched_and_ended_while_strangers_hold_three_thousand_connections(
    up: World, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    assert up.stack is not None and up.server is not None
    (tmp_path / "three.yml").write_text(WORKFLOW, "utf-8")
    process, log = psutil.Process(up.server.pid), up.root / "orchestrator.log"
    before_mb = process.memory_info().rss >> 20
    attack, sender = Attack(up.stack.port), Sender(up.stack.port, signed_request(b"{}", up.github.webhook_secret, "push"))
    attack.start()
    assert attack.full.wait(600)
    begun_s = time.monotonic()
    sender.start()

    run = play(up, read_workflow(tmp_path / "three.yml"))
    assert sooner_or_later(lambda: len(sender.statuses) >= 30)
    minutes = (time.monotonic() - begun_s) / 60.0
    sender.stop()
    attack.stop()

    told = log.read_text("utf-8")
    grown_mb = (process.memory_info().rss >> 20) - before_mb
    record_property("slowest answer, s", round(max(sender.took_s), 3))
    record_property("memory grown, MiB", grown_mb)
    assert set(sender.statuses) == {200}
    assert [job.conclusion for job in run.jobs] == ["success"] * 3 and up.leftovers().none
    assert len(re.findall(r"connection\.dropped|webhook\.refused", told)) <= 8 * (minutes + 2), "each reason once a minute"
    assert "Traceback" not in told and "out of system resource" not in told
    assert grown_mb < 150
