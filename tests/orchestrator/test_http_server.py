"""Peers that nobody knows: however many come and whatever they send, a genuine delivery is answered, and the log stays short."""

from __future__ import annotations

import contextlib
import http.client
import resource
import socket
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from orchestrator.adapters.http_server import (
    BACKLOG,
    KEPT_FILES,
    MOST_CONNECTIONS,
    Connections,
    Dropped,
    Patience,
    most_connections,
)
from simulation.world import World
from tests.orchestrator.web import DELIVERY, PATIENCE_S, Served, serving, signed_request

pytestmark = pytest.mark.attack
SIGNED = b"POST /webhook HTTP/1.1\r\nHost: x\r\nX-GitHub-Event: workflow_job\r\nX-Hub-Signature-256: sha256=" + b"0f" * 32
"""The head of a delivery whose signature has the right shape and is wrong."""
LONG = Patience(header_s=900.0, body_s=900.0, idle_s=900.0, linger_s=900.0)
SHORT = Patience(header_s=0.2, body_s=0.2, idle_s=1.0, linger_s=0.2)
HALF_BODY = SIGNED + b"\r\nContent-Length: 1000\r\n\r\nhalf"
MOST = 20


class Side:
    """A server with few connections, and what it dropped."""

    def __init__(self, stack: contextlib.ExitStack, patience: Patience = LONG, most_body_bytes: int = 1 << 20) -> None:
        self.dropped: Counter[Dropped] = Counter()
        self.connections = Connections(MOST, lambda why: self.dropped.update([why]), most_body_bytes, patience)
        self.world, self._stack = World(), stack
        self.served: Served = stack.enter_context(serving(self.world, connections=self.connections))

    def hold(self, number: int, sent: bytes = b"", address: str = "127.0.0.1") -> list[socket.socket]:
        """So many connections that have sent this, and then nothing more."""
        held = []
        for _ in range(number):
            held.append(self._stack.enter_context(self.served.connect(address)))
            if sent:
                held[-1].sendall(sent)
        return held


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    """Closes the connections, and then the server."""
    with contextlib.ExitStack() as stack:
        yield stack


def is_closed(connection: socket.socket) -> bool:
    """Whether the server closes it, without an answer."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def answer_on(connection: socket.socket) -> int:
    """The status of the answer that comes."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST /webhook HT", HALF_BODY],
    ids=["nothing", "half-header", "half-body"],
)
def test_silent_peers_keep_nobody_out_and_the_oldest_of_them_is_closed(stack: contextlib.ExitStack, sent: bytes) -> None:
    side = Side(stack)
    held = side.hold(3 * MOST, sent)

    assert [side.served.post(DELIVERY)[0] for _ in range(5)] == [200] * 5
    assert all(is_closed(one) for one in held[: 2 * MOST]) and side.dropped[Dropped.TOO_MANY] >= 2 * MOST
    assert side.connections.number <= MOST


def test_who_holds_many_connections_loses_his_own_and_not_those_of_others(stack: contextlib.ExitStack) -> None:
    side = Side(stack)
    request = signed_request()
    (genuine,) = side.hold(1, request[:-10], "127.0.0.2")
    side.hold(3 * MOST, b"POST", "127.0.0.3")

    genuine.sendall(request[-10:])

    assert answer_on(genuine) == 200


def test_who_is_being_answered_is_not_closed_for_others(stack: contextlib.ExitStack) -> None:
    side = Side(stack)
    begun, go_on = threading.Event(), threading.Event()

    def slow(*_: object) -> None:
        begun.set()
        go_on.wait(PATIENCE_S)

    side.world.calls.script("queue.send", before=slow)
    (genuine,) = side.hold(1, signed_request())
    assert begun.wait(PATIENCE_S)
    held = side.hold(2 * MOST)
    assert is_closed(held[0])

    go_on.set()

    assert answer_on(genuine) == 200


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"", Dropped.SLOW_HEADER),
        (b"POST /webhook HT", Dropped.SLOW_HEADER),
        (HALF_BODY, Dropped.SLOW_BODY),
    ],
)
def test_a_peer_that_is_too_slow_is_closed_and_counted(stack: contextlib.ExitStack, sent: bytes, why: Dropped) -> None:
    side = Side(stack, SHORT)
    (slow,) = side.hold(1, sent)

    assert is_closed(slow) and side.dropped == {why: 1}


def test_a_second_request_on_a_connection_has_an_end_of_its_own(stack: contextlib.ExitStack) -> None:
    side = Side(stack, SHORT)
    (slow,) = side.hold(1, signed_request())
    assert answer_on(slow) == 200

    slow.sendall(b"POST /webhook HT")

    assert is_closed(slow) and side.dropped == {Dropped.SLOW_HEADER: 1}


def test_several_deliveries_on_one_connection_are_all_answered(stack: contextlib.ExitStack) -> None:
    side = Side(stack)
    (connection,) = side.hold(1)

    statuses = []
    for _ in range(3):
        connection.sendall(signed_request())
        statuses.append(answer_on(connection))

    assert statuses == [200] * 3 and not side.dropped


@pytest.mark.parametrize(
    "sent",
    [b"\x16\x03\x01\x02\x00\x01\x00", b"\r\n" * 40_000, b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000, b"GET /\x00 HTTP/1.1\r\n\r\n"],
    ids=["tls", "lines", "header", "zero"],
)
def test_what_is_not_http_is_counted_and_printed_nowhere(
    stack: contextlib.ExitStack, sent: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    side = Side(stack)
    (stranger,) = side.hold(1)
    with contextlib.suppress(ConnectionError):
        stranger.sendall(sent)
        while stranger.recv(1 << 16):
            pass

    assert side.dropped == {Dropped.MALFORMED: 1}
    assert side.served.post(DELIVERY)[0] == 200 and capfd.readouterr() == ("", "")


def test_nonsense_behind_a_request_that_is_being_answered_breaks_nothing(
    stack: contextlib.ExitStack, capfd: pytest.CaptureFixture[str]
) -> None:
    side = Side(stack)
    head = SIGNED + b"\r\nTransfer-Encoding: chunked\r\n\r\n"

    for sent in (head + b"zz\r\n", signed_request() + b"\x00\x00\r\n\r\n", head.replace(b"X-Hub", b"Y-Hub") + b"zz\r\n"):
        (stranger,) = side.hold(1, sent)
        with contextlib.suppress(ConnectionError):
            stranger.shutdown(socket.SHUT_WR)
            while stranger.recv(1 << 16):
                pass

    assert side.served.post(DELIVERY)[0] == 200 and capfd.readouterr() == ("", "")


def test_a_body_that_is_broken_off_is_counted_and_printed_nowhere(
    stack: contextlib.ExitStack, capfd: pytest.CaptureFixture[str]
) -> None:
    world = World()
    served = stack.enter_context(serving(world))
    for _ in range(5):
        with served.connect() as connection:
            connection.sendall(HALF_BODY)

    assert served.post(DELIVERY)[0] == 200
    told = [(one["why"], one["more"]) for one in world.journal.of("connection.dropped")]
    assert told == [(Dropped.ABORTED.value, 0)] and capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("head", "status"), [(b"POST /webhook HTTP/1.1\r\nHost: x", 401), (SIGNED, 411)])
def test_who_is_refused_before_the_body_gets_the_answer_and_nothing_that_he_goes_on_sending_is_parsed(
    stack: contextlib.ExitStack, head: bytes, status: int
) -> None:
    side = Side(stack)
    (stranger,) = side.hold(1, head + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert answer_on(stranger) == status

    stranger.sendall(b"1\r\nx\r\n" * 1_000 + b"no chunk at all\r\n")

    assert stranger.recv(1) == b"" and not side.dropped


def test_a_refused_peer_that_goes_on_sending_is_closed_after_a_while(stack: contextlib.ExitStack) -> None:
    side = Side(stack, SHORT)
    (stranger,) = side.hold(1, b"POST /webhook HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    answer_on(stranger)

    with pytest.raises(ConnectionError):
        while True:
            stranger.sendall(b"1\r\nx\r\n")


def test_bodies_take_no_more_than_their_share_of_memory_and_small_ones_come_through(stack: contextlib.ExitStack) -> None:
    side = Side(stack, most_body_bytes=1 << 20)
    held = side.hold(MOST - 5, SIGNED + b"\r\nContent-Length: %d\r\n\r\n" % (1 << 18) + b"x" * 1_000, "127.0.0.2")

    assert side.served.post(DELIVERY)[0] == 200
    assert all(is_closed(one) for one in held[:-4]) and side.dropped[Dropped.TOO_MUCH] >= len(held) - 4


@pytest.mark.parametrize(
    ("file_limit", "number"),
    [
        (1_024, (1_024 - KEPT_FILES - BACKLOG) // 2),
        (1 << 20, MOST_CONNECTIONS),
        (resource.RLIM_INFINITY, MOST_CONNECTIONS),
        (256, 1),
    ],
)
def test_connections_leave_file_descriptors_for_everything_else(file_limit: int, number: int) -> None:
    assert most_connections(file_limit) == number
