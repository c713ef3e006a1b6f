"""Spooled bytes become events of one CloudWatch stream, and every line that does not arrive is counted."""

from __future__ import annotations

import contextlib
import io
import itertools
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
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.adapters.aws.clients import Clients
from agent.adapters.aws.cloudwatch import CloudWatchLogs
from agent.adapters.aws.signing import Region
from agent.adapters.http import MetadataService
from agent.adapters.output import DiskSpool
from agent.adapters.system import QueueInbox, SystemClock, TextJournal, ThreadCrew, goes_to_the_journal
from agent.contract.names import log_stream_name
from agent.contract.secret import Secret
from agent.errors import ServiceError
from agent.logs import (
    BATCH_BYTES,
    BATCH_EVENTS,
    BATCH_SPAN_MS,
    EVENT_BYTES,
    EVENT_OVERHEAD_BYTES,
    UNENDED_BYTES,
    CloudTranscript,
    Lines,
    LogEvent,
    LogService,
    Record,
    SilentTranscript,
    batches,
    pieces,
)
from agent.phases import Phase
from tests.conftest import Moto

GROUP, INSTANCE = "/runs-fleet/test", "i-0123456789abcdef0"
SECRET = "very-secret-value-0123456789"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


def lines_of(*chunks: bytes, secret: str = "") -> list[str]:
    """The messages these chunks of a child's output become."""
    journal = TextJournal(io.StringIO())
    journal.hide(Secret(secret))
    lines = Lines(journal.cleaned_bytes, journal.longest_secret)
    events = [*lines.events(Record(1, False, chunk) for chunk in chunks), *lines.rest()]
    return [text for _, text in events]


@pytest.mark.parametrize(
    ("chunks", "messages"),
    [
        ([b"one\ntwo\n"], ["one", "two"]),
        ([b"o", b"ne\nt", b"wo\n"], ["one", "two"]),
        ([b"one\n\n\ntwo\n"], ["one", " ", " ", "two"]),
        ([b"\n"], [" "]),
        ([b"dos\r\n"], ["dos"]),
        ([b"10%\r20%\r\n"], ["10%\r20%"]),
        ([b"no end"], ["no end"]),
        ([], []),
        ([b"caf\xc3", b"\xa9\n"], ["café"]),
        ([b"bro\xffken\xc3\n"], ["bro\ufffdken\ufffd"]),
        ([b"  kept  \n"], ["  kept  "]),
        (["a\u2028b\x0bc\x85d\n".encode()], ["a\u2028b\x0bc\x85d"]),
    ],
)
def test_bytes_become_these_messages(chunks: list[bytes], messages: list[str]) -> None:
    assert lines_of(*chunks) == messages


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=8))
def test_where_the_chunks_are_cut_makes_no_difference(output: bytes, cuts: list[int]) -> None:
    ends = sorted({0, len(output), *(min(cut, len(output)) for cut in cuts)})

    chunks = [output[start:end] for start, end in itertools.pairwise(ends)]

    assert lines_of(*chunks) == lines_of(output)


@given(st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line), max_size=30))
def test_every_line_is_one_message_and_none_is_empty(output: list[bytes]) -> None:
    messages = lines_of(*(line + b"\n" for line in output))

    assert len(messages) == len(output)
    assert all(messages)


@given(st.integers(1, len(SECRET) - 1), st.text("ab ", max_size=20))
def test_a_secret_is_redacted_also_when_it_is_spread_over_two_chunks(cut: int, around: str) -> None:
    output = f"{around}{SECRET}{around}\n".encode()
    middle = len(around) + cut

    assert lines_of(output[:middle], output[middle:], secret=SECRET) == [f"{around}***{around}"]


@pytest.mark.parametrize("after", [0, 1, len(SECRET) // 2, len(SECRET) - 1, len(SECRET), 2 * len(SECRET)])
def test_a_secret_is_redacted_also_where_an_endless_line_is_cut(after: int) -> None:
    """So many bytes follow the secret when the buffer is full."""
    first = b"x" * UNENDED_BYTES + SECRET.encode() + b"y" * after

    told = "".join(lines_of(first, b"y\n", secret=SECRET))

    assert told.lstrip("x") == "***" + "y" * after + "y"


def test_a_secret_that_is_not_complete_yet_when_an_endless_line_is_cut_is_redacted() -> None:
    first = b"x" * UNENDED_BYTES + SECRET[:10].encode()

    told = "".join(lines_of(first, SECRET[10:].encode() + b"\n", secret=SECRET))

    assert told.lstrip("x") == "***"


def test_the_last_words_are_redacted_too() -> None:
    assert lines_of(f"token {SECRET}".encode(), secret=SECRET) == ["token ***"]


def test_a_line_of_three_megabytes_is_split_and_no_byte_of_it_is_missing() -> None:
    line = "0123456789" * 300_000

    messages = lines_of(line.encode() + b"\nnext\n")

    assert "".join(messages[:-1]) == line
    assert max(map(len, messages)) <= EVENT_BYTES
    assert messages[-1] == "next"


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_an_endless_line_of_wide_characters_is_cut_between_them(shift: int) -> None:
    line = "x" * shift + "€" * (UNENDED_BYTES // 2)
    raw = line.encode()

    messages = lines_of(*(raw[at : at + 131_072] for at in range(0, len(raw), 131_072)), b"\n")

    assert "".join(messages).count("\ufffd") == 0
    assert "".join(messages) == line


@pytest.mark.parametrize("unit", [b"x", "é".encode(), "€".encode(), "\U0001f600".encode(), b"\xff", b"\xe2\x82", b"x\xff"])
@pytest.mark.parametrize("size", [EVENT_BYTES // 4, EVENT_BYTES // 3 + 1, EVENT_BYTES, EVENT_BYTES + 1, 3 * EVENT_BYTES + 7])
def test_no_message_is_larger_than_the_service_takes_whatever_its_bytes_are(unit: bytes, size: int) -> None:
    messages = lines_of((unit * size)[:size] + b"\n")

    assert all(0 < len(message.encode()) <= EVENT_BYTES for message in messages)


def test_a_line_of_ours_that_is_too_large_is_split_as_well() -> None:
    lines = Lines(lambda content: content, lambda: 1)

    messages = [text for _, text in lines.events([Record(1, True, b"x" * (EVENT_BYTES + 10))])]

    assert all(len(message) <= EVENT_BYTES for message in messages)


def test_a_line_of_ours_does_not_tear_the_childs() -> None:
    lines = Lines(lambda content: content, lambda: 1)
    records = [Record(1, False, b"half "), Record(2, True, b"{}"), Record(3, False, b"whole\n")]

    assert list(lines.events(records)) == [(2, "{}"), (3, "half whole")]


def test_time_never_runs_backwards_in_the_stream() -> None:
    lines = Lines(lambda content: content, lambda: 1)
    records = [Record(at_ms, False, b"line\n") for at_ms in (5, 9, 3, 10)]

    assert [at_ms for at_ms, _ in lines.events(records)] == [5, 9, 9, 10]


@given(TEXT, st.integers(4, 50))
def test_pieces_joined_are_the_text_and_each_fits(text: str, most_bytes: int) -> None:
    found = list(pieces(text, most_bytes))

    assert "".join(found) == text
    assert all(len(piece.encode()) <= most_bytes for piece in found)
    assert text == "" or all(found)


@given(st.lists(st.tuples(st.integers(0, 3 * BATCH_SPAN_MS), st.integers(1, EVENT_BYTES)), max_size=60))
@settings(max_examples=40, deadline=None)
def test_batches_respect_every_limit_of_the_service_and_keep_the_order(shapes: list[tuple[int, int]]) -> None:
    events = [(at_ms, "x" * size) for at_ms, size in sorted(shapes)]

    found = list(batches(events))

    assert [(event.at_ms, event.message) for batch in found for event in batch] == events
    assert all(sum(len(e.message) + EVENT_OVERHEAD_BYTES for e in batch) <= BATCH_BYTES for batch in found)
    assert all(batch and batch[-1].at_ms - batch[0].at_ms <= BATCH_SPAN_MS for batch in found)


def test_a_batch_has_at_most_ten_thousand_events() -> None:
    assert [len(batch) for batch in batches((1, "x") for _ in range(20_001))] == [BATCH_EVENTS, BATCH_EVENTS, 1]


def test_a_batch_may_be_full_to_the_last_byte() -> None:
    size = BATCH_BYTES // 8 - EVENT_OVERHEAD_BYTES

    assert [len(batch) for batch in batches((1, "x" * size) for _ in range(9))] == [8, 1]


def test_wide_characters_are_counted_in_bytes() -> None:
    size = BATCH_BYTES // 8 - EVENT_OVERHEAD_BYTES

    assert [len(batch) for batch in batches((1, "é" * (size // 2 + 1)) for _ in range(8))] == [7, 1]


class Refusing:
    """A LogService (agent.logs) that always answers this code."""

    def __init__(self, code: str) -> None:
        self._code = code

    def create_stream(self, group: str, stream: str) -> None:
        raise ServiceError(f"logs:CreateLogStream in {group}", self._code)

    def put(self, group: str, stream: str, events: list[LogEvent]) -> int:
        raise ServiceError(f"logs:PutLogEvents to {group}", self._code)


class Life:
    """A transcript on the real spool, threads and clock."""

    def __init__(
        self, directory: Path, service: Callable[[], LogService], cleaned: Callable[[bytes], bytes] | None = None
    ) -> None:
        self.spool = DiskSpool(directory / "spool", floor_bytes=0)
        self.heard = io.StringIO()
        journal = TextJournal(self.heard)
        crew = ThreadCrew(QueueInbox())
        self.transcript = CloudTranscript(
            GROUP, INSTANCE, self.spool, cache(service), crew, SystemClock(), journal,
            cleaned or journal.cleaned_bytes, journal.longest_secret,
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
    life.transcript.open("77")
    life.transcript.event("job.taken", {"n": 1})
    life.spool.write(b"after\n\nlast words")

    report = life.transcript.finish(10.0)

    arrived = shipped_to(moto, log_stream_name(INSTANCE, "77"))
    assert (report.outcome, report.lines_shipped, report.lines_lost) == ("shipped", 5, 0)
    assert [arrived[0], *arrived[2:]] == ["before", "after", " ", "last words"]
    assert json.loads(arrived[1]).items() >= {"event": "job.taken", "n": 1}.items()


def test_a_group_that_exists_is_left_as_it_is_and_a_second_stream_of_that_name_is_no_error(moto: Moto, tmp_path: Path) -> None:
    logs = moto.client("logs")
    logs.create_log_group(logGroupName=GROUP, tags={"kept": "yes"})
    logs.create_log_stream(logGroupName=GROUP, logStreamName=log_stream_name(INSTANCE, "77"))
    life = Life(tmp_path, cloudwatch)
    life.transcript.open("77")
    life.spool.write(b"line\n")

    report = life.transcript.finish(10.0)

    assert (report.outcome, report.lines_shipped) == ("shipped", 1)
    assert logs.list_tags_log_group(logGroupName=GROUP)["tags"] == {"kept": "yes"}


def test_ten_thousand_lines_and_more_arrive_without_a_gap(moto: Moto, tmp_path: Path) -> None:
    life = Life(tmp_path, cloudwatch)
    life.transcript.open("77")
    life.spool.write(b"".join(b"line %06d\n" % number for number in range(12_000)))

    report = life.transcript.finish(10.0)

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
    life.transcript.open("77")
    life.spool.write(b"line\n" * 500 + b"last words")

    report = life.transcript.finish(3.0)

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
        life.transcript.open("77")
        life.spool.write(b"line\n" * 200)
        accepted, _ = hung.accept()
        life.spool.write(b"line\n" * 300)

        report = life.transcript.finish(0.5)

        assert still_waits(accepted)
        assert (report.outcome, report.lines_lost) == ("lost", 500)
        accepted.close()


def test_a_denied_permission_loses_every_line_and_names_action_and_code(tmp_path: Path) -> None:
    life = Life(tmp_path, lambda: Refusing("AccessDeniedException"))
    life.spool.write(b"line\n" * 3)
    life.transcript.open("77")

    report = life.transcript.finish(10.0)

    assert (report.outcome, report.lines_lost) == ("lost", 3)
    assert report.cause == f"logs:CreateLogStream in {GROUP} answered AccessDeniedException"
    assert "logs.not_shipped" in life.heard.getvalue()


def test_a_denial_in_the_services_own_words_is_read_as_one(endpoint: Callable[[str], None], tmp_path: Path) -> None:
    asked: list[str] = []
    with denying(asked) as url:
        endpoint(url)
        life = Life(tmp_path, cloudwatch)
        life.spool.write(b"line\n" * 3)
        life.transcript.open("77")

        report = life.transcript.finish(10.0)

    assert (report.outcome, report.lines_lost) == ("lost", 3)
    assert "AccessDeniedException" in report.cause
    assert set(asked) == {"Logs_20140328.CreateLogStream"}


def test_a_service_that_cannot_even_be_made_loses_every_line_and_says_why(tmp_path: Path) -> None:
    def unimportable() -> LogService:
        raise ImportError("no module named boto3")

    life = Life(tmp_path, unimportable)
    life.spool.write(b"line\n" * 3)
    life.transcript.open("77")

    report = life.transcript.finish(10.0)

    assert (report.outcome, report.lines_lost, report.cause) == ("lost", 3, "ImportError: no module named boto3")


class Rejecting:
    """A LogService (agent.logs) that takes all but the first event of each batch."""

    def create_stream(self, group: str, stream: str) -> None:
        return None

    def put(self, group: str, stream: str, events: list[LogEvent]) -> int:
        return 1


def test_events_that_the_service_took_and_rejected_are_counted_as_lost(tmp_path: Path) -> None:
    life = Life(tmp_path, Rejecting)
    life.spool.write(b"line\n" * 3)
    life.transcript.open("77")

    report = life.transcript.finish(10.0)

    assert (report.outcome, report.lines_shipped, report.lines_lost) == ("partial", 2, 1)


def test_lines_that_never_reached_the_spool_are_counted_as_lost(tmp_path: Path) -> None:
    life = Life(tmp_path, Rejecting)
    life.spool.seal()
    life.spool.write(b"late\n" * 4)
    life.transcript.open("77")

    report = life.transcript.finish(10.0)

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
    life.transcript.open("77")
    assert taken.wait(10.0)

    report = life.transcript.finish(0.05)
    reported.set()

    assert (report.outcome, report.lines_lost) == ("lost", 3)


def test_every_line_of_a_spool_that_nobody_took_is_counted_and_none_is_looked_at(tmp_path: Path) -> None:
    """The flush's bound is the promise, and this is a tenth of what the spool may hold: a call for each line were too many."""
    life = Life(tmp_path, lambda: Refusing("Unreachable"))
    for _ in range(1_000):
        life.spool.write((b"x" * 79 + b"\n") * 1_310)
    life.transcript.open("77")
    calls = Counter[str]()

    sys.setprofile(lambda _, event, __: calls.update([event]))
    try:
        report = life.transcript.finish(0.1)
    finally:
        sys.setprofile(None)

    assert report.lines_lost == 1_310_000
    assert 0 < calls["call"] + calls["c_call"] < 131_000


def test_a_stream_that_was_never_opened_is_reported_with_what_was_spooled(tmp_path: Path) -> None:
    life = Life(tmp_path, Rejecting)
    life.spool.write(b"line\n" * 3)

    report = life.transcript.finish(1.0)

    assert (report.outcome, report.lines_lost) == ("lost", 3)


def test_without_a_log_group_the_report_says_disabled() -> None:
    assert SilentTranscript().finish(1.0).outcome == "disabled"


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


def test_only_what_says_how_far_a_machine_came_is_marked_and_only_for_the_journal() -> None:
    heard = {beacons: io.StringIO() for beacons in (True, False)}
    for beacons, stream in heard.items():
        journal = TextJournal(stream, beacons=beacons)
        journal.phase(Phase.RUNNING)
        journal.event("notice.ended", kind="busy")

    marked, plain = (heard[beacons].getvalue().splitlines() for beacons in (True, False))
    assert [line.startswith("<5>2") for line in marked] == [True, False]
    assert not any(line.startswith("<") for line in plain) and plain[0].endswith("phase.entered phase=running")


def test_standard_error_is_the_journals_only_if_it_is_the_very_one() -> None:
    ours = os.fstat(2)

    assert goes_to_the_journal({"JOURNAL_STREAM": f"{ours.st_dev}:{ours.st_ino}"})
    assert not goes_to_the_journal({"JOURNAL_STREAM": f"{ours.st_dev}:{ours.st_ino + 1}"}) and not goes_to_the_journal({})
