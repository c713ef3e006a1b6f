"""Spooled bytes become events of one CloudWatch stream, and every line that does not arrive is counted."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.aws.clients import Clients
from agent.adapters.aws.cloudwatch import CloudWatchLogs
from agent.adapters.aws.signing import Region
from agent.adapters.http import MetadataService
from agent.adapters.output import DiskSpool
from agent.adapters.system import QueueInbox, SystemClock, TextJournal, ThreadWorkers
from agent.contract.names import log_stream_name
from agent.errors import ServiceError
from agent.reports.log_stream import (
    CloudWatchLogStream,
    DisabledLogStream,
    LogEvent,
    LogService,
)
from tests.conftest import Moto

GROUP, INSTANCE = "/runs-fleet/test", "i-0123456789abcdef0"


class Refusing:
    """A LogService (agent.reports.log_stream) that always answers this code."""

    def __init__(self, code: str) -> None:
        self._code = code

    def create_stream(self, group: str, stream: str) -> None:
        raise ServiceError(f"logs:CreateLogStream in {group}", self._code)

    def put(self, group: str, stream: str, events: list[LogEvent]) -> int:
        raise ServiceError(f"logs:PutLogEvents to {group}", self._code)


class Life:
    """A log_stream on the real spool, threads and clock."""

    def __init__(
        self, directory: Path, service: Callable[[], LogService], cleaned: Callable[[bytes], bytes] | None = None
    ) -> None:
        self.spool = DiskSpool(directory / "spool", floor_bytes=0)
        self.heard = io.StringIO()
        journal = TextJournal(self.heard)
        workers = ThreadWorkers(QueueInbox())
        self.log_stream = CloudWatchLogStream(
            group=GROUP, instance_id=INSTANCE, spool=self.spool, service=cache(service), workers=workers, clock=SystemClock(),
            journal=journal, cleaned=cleaned or journal.cleaned_bytes, hold_back=journal.longest_secret,
        )  # fmt: skip


def cloudwatch() -> CloudWatchLogs:
    """The real adapter, at whatever endpoint the environment names."""
    environment = {"AWS_REGION": "us-east-1"}
    return CloudWatchLogs(Clients(Region(environment, MetadataService(environment))))


def shipped_to(moto: Moto, stream: str) -> list[str]:
    pages = moto.client("logs").get_log_events(logGroupName=GROUP, logStreamName=stream, startFromHead=True)
    return [event["message"] for event in pages["events"]]


def test_lines_and_events_arrive_in_order_in_a_group_and_stream_that_were_missing(moto: Moto, tmp_path: Path) -> None:
    life = Life(tmp_path, cloudwatch)
    life.spool.write(b"before\n")
    life.log_stream.open("77")
    life.log_stream.event("job.taken", {"n": 1})
    life.spool.write(b"after\n\nlast words")

    report = life.log_stream.finish(10.0)

    arrived = shipped_to(moto, log_stream_name(INSTANCE, "77"))
    assert (report.outcome, report.lines_shipped, report.lines_lost) == ("shipped", 5, 0)
    assert [arrived[0], *arrived[2:]] == ["before", "after", " ", "last words"]
    assert json.loads(arrived[1]).items() >= {"event": "job.taken", "n": 1}.items()


def test_a_group_that_exists_is_left_as_it_is_and_a_second_stream_of_that_name_is_no_error(moto: Moto, tmp_path: Path) -> None:
    logs = moto.client("logs")
    logs.create_log_group(logGroupName=GROUP, tags={"kept": "yes"})
    logs.create_log_stream(logGroupName=GROUP, logStreamName=log_stream_name(INSTANCE, "77"))
    life = Life(tmp_path, cloudwatch)
    life.log_stream.open("77")
    life.spool.write(b"line\n")

    report = life.log_stream.finish(10.0)

    assert (report.outcome, report.lines_shipped) == ("shipped", 1)
    assert logs.list_tags_log_group(logGroupName=GROUP)["tags"] == {"kept": "yes"}


def test_ten_thousand_lines_and_more_arrive_without_a_gap(moto: Moto, tmp_path: Path) -> None:
    life = Life(tmp_path, cloudwatch)
    life.log_stream.open("77")
    life.spool.write(b"".join(b"line %06d\n" % number for number in range(12_000)))

    report = life.log_stream.finish(10.0)

    assert (report.outcome, report.lines_shipped, report.lines_lost) == ("shipped", 12_000, 0)


@pytest.fixture
def endpoint(moto: Moto) -> Callable[[str], None]:
    """Leads the adapters' CloudWatch Logs somewhere else than to the rest of AWS; `moto` puts the environment back."""

    def lead(url: str) -> None:
        os.environ["AWS_ENDPOINT_URL_CLOUDWATCH_LOGS"] = url

    return lead


def test_a_refused_endpoint_loses_every_line_and_counts_it(endpoint: Callable[[str], None], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        endpoint(f"http://127.0.0.1:{closed.getsockname()[1]}")
    life = Life(tmp_path, cloudwatch)
    life.log_stream.open("77")
    life.spool.write(b"line\n" * 500 + b"last words")

    report = life.log_stream.finish(3.0)

    assert (report.outcome, report.lines_shipped, report.lines_lost) == ("lost", 0, 501)
    assert "Unreachable" in report.cause


def still_waits(client: socket.socket) -> bool:
    """Whether who called has sent what he wanted and not hung up."""
    client.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while client.recv(65_536):
            pass
        return False
    return True


def test_an_endpoint_that_accepts_and_never_answers_holds_nobody_up(endpoint: Callable[[str], None], tmp_path: Path) -> None:
    """Whoever gave it up has hung up, six seconds later: the client is still waiting when the bound is over."""
    with socket.create_server(("127.0.0.1", 0)) as hung:
        hung.settimeout(10.0)
        endpoint(f"http://127.0.0.1:{hung.getsockname()[1]}")
        life = Life(tmp_path, cloudwatch)
        life.log_stream.open("77")
        life.spool.write(b"line\n" * 200)
        accepted, _ = hung.accept()
        life.spool.write(b"line\n" * 300)

        report = life.log_stream.finish(0.5)

        assert still_waits(accepted)
        assert (report.outcome, report.lines_lost) == ("lost", 500)
        accepted.close()


def test_a_denied_permission_loses_every_line_and_names_action_and_code(tmp_path: Path) -> None:
    life = Life(tmp_path, lambda: Refusing("AccessDeniedException"))
    life.spool.write(b"line\n" * 3)
    life.log_stream.open("77")

    report = life.log_stream.finish(10.0)

    assert (report.outcome, report.lines_lost) == ("lost", 3)
    assert report.cause == f"logs:CreateLogStream in {GROUP} answered AccessDeniedException"
    assert "logs.not_shipped" in life.heard.getvalue()


def test_a_denial_in_the_services_own_words_is_read_as_one(endpoint: Callable[[str], None], tmp_path: Path) -> None:
    asked: list[str] = []
    with denying(asked) as url:
        endpoint(url)
        life = Life(tmp_path, cloudwatch)
        life.spool.write(b"line\n" * 3)
        life.log_stream.open("77")

        report = life.log_stream.finish(10.0)

    assert (report.outcome, report.lines_lost) == ("lost", 3)
    assert "AccessDeniedException" in report.cause
    assert set(asked) == {"Logs_20140328.CreateLogStream"}


def test_a_service_that_cannot_even_be_made_loses_every_line_and_says_why(tmp_path: Path) -> None:
    def unimportable() -> LogService:
        raise ImportError("no module named boto3")

    life = Life(tmp_path, unimportable)
    life.spool.write(b"line\n" * 3)
    life.log_stream.open("77")

    report = life.log_stream.finish(10.0)

    assert (report.outcome, report.lines_lost, report.cause) == ("lost", 3, "ImportError: no module named boto3")


class Rejecting:
    """A LogService (agent.reports.log_stream) that takes all but the first event of each batch."""

    def create_stream(self, group: str, stream: str) -> None:
        return None

    def put(self, group: str, stream: str, events: list[LogEvent]) -> int:
        return 1


def test_events_that_the_service_took_and_rejected_are_counted_as_lost(tmp_path: Path) -> None:
    life = Life(tmp_path, Rejecting)
    life.spool.write(b"line\n" * 3)
    life.log_stream.open("77")

    report = life.log_stream.finish(10.0)

    assert (report.outcome, report.lines_shipped, report.lines_lost) == ("partial", 2, 1)


def test_lines_that_never_reached_the_spool_are_counted_as_lost(tmp_path: Path) -> None:
    life = Life(tmp_path, Rejecting)
    life.spool.seal()
    life.spool.write(b"late\n" * 4)
    life.log_stream.open("77")

    report = life.log_stream.finish(10.0)

    assert (report.outcome, report.lines_lost) == ("lost", 4)


def test_lines_that_are_being_prepared_when_the_time_is_up_are_counted_as_lost(tmp_path: Path) -> None:
    taken, reported = threading.Event(), threading.Event()

    def cleaned(content: bytes) -> bytes:
        taken.set()
        reported.wait(10.0)
        return content

    life = Life(tmp_path, lambda: Refusing("Unreachable"), cleaned)
    life.spool.write(b"line\n" * 3)
    life.spool.seal()
    life.log_stream.open("77")
    assert taken.wait(10.0)

    report = life.log_stream.finish(0.05)
    reported.set()

    assert (report.outcome, report.lines_lost) == ("lost", 3)


def test_every_line_of_a_spool_that_nobody_took_is_counted_and_none_is_looked_at(tmp_path: Path) -> None:
    """The flush's bound is the promise, and this is a tenth of what the spool may hold: a call for each line were too many."""
    life = Life(tmp_path, lambda: Refusing("Unreachable"))
    for _ in range(900):
        life.spool.write((b"x" * 79 + b"\n") * 1_310)
    life.log_stream.open("77")
    calls = Counter[str]()

    sys.setprofile(lambda _, event, __: calls.update([event]))
    try:
        report = life.log_stream.finish(0.1)
    finally:
        sys.setprofile(None)

    assert report.lines_lost == 1_179_000
    assert 0 < calls["call"] + calls["c_call"] < 131_000


def test_a_stream_that_was_never_opened_is_reported_with_what_was_spooled(tmp_path: Path) -> None:
    life = Life(tmp_path, Rejecting)
    life.spool.write(b"line\n" * 3)

    report = life.log_stream.finish(1.0)

    assert (report.outcome, report.lines_lost) == ("lost", 3)


def test_without_a_log_group_the_report_says_disabled() -> None:
    assert DisabledLogStream().finish(1.0).outcome == "disabled"


class _Server(ThreadingHTTPServer):
    asked: list[str]


class denying:
    """A CloudWatch Logs on loopback that denies everything and keeps what was asked."""

    def __init__(self, asked: list[str]) -> None:
        self._server = _Server(("127.0.0.1", 0), _Denier)
        self._server.asked = asked

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Denier(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(self.headers["X-Amz-Target"])
        body = b'{"__type": "AccessDeniedException", "message": "not authorized"}'
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        return None
