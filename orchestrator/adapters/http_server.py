"""The HTTP server's connections: how many are open, how long each may take, and which one is closed when there are too many.

A peer is a stranger until the signature of a delivery has been verified. uvicorn bounds neither the number of connections nor the
time that a header or a body may take, and refuses everybody when a limit is reached. Here the oldest connection of the address
that has the most is closed instead, so that a genuine delivery is always read.
"""

from __future__ import annotations

import asyncio
import errno
import resource
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

import h11
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS, KEPT_FILES = 1_000, 256
"""Connections at one time; and file descriptors that connections never take: calls to AWS and GitHub need some 100."""
BACKLOG = 128
"""Connections that the kernel holds, and that are accepted in one go before the first of them is looked at."""
MOST_BODY_BYTES = 32 << 20
"""Declared lengths of all bodies that are being read: 32 of the largest that are taken."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Seconds that a peer gets. GitHub waits ten for an answer. Source: GitHub docs, "Best practices for using webhooks"."""

    header_s: float = 5.0
    body_s: float = 10.0
    idle_s: float = 5.0
    """Between two requests, besides the time for a header."""
    linger_s: float = 2.0
    """For what a refused peer still sends: it is discarded, so that the answer is not lost to a reset."""


class Dropped(StrEnum):
    """Why connections are closed before a request was answered; the values are what the log says."""

    SLOW_HEADER = "the header was not complete in time"
    SLOW_BODY = "the body was not complete in time"
    TOO_MANY = "too many connections: the oldest of the address with the most is closed"
    TOO_MUCH = "too many bytes of bodies: the oldest of the address with the most is closed"
    MALFORMED = "not HTTP"
    ABORTED = "the peer closed the connection before its request was complete"
    NO_FILES = "no file descriptor is left for a connection"


class Stage(StrEnum):
    """What a connection is doing."""

    HEADER = "header"
    BODY = "body"
    ANSWER = "answer"
    CLOSING = "closing"


class Connections:
    """Which connections are open. Only the thread of the event loop may use it."""

    def __init__(
        self,
        most: int,
        on_drop: Callable[[Dropped], None],
        most_body_bytes: int = MOST_BODY_BYTES,
        patience: Patience = Patience(),
    ) -> None:
        self.most, self.on_drop, self.patience, self._most_body_bytes = most, on_drop, patience, most_body_bytes
        self.number = 0
        self._waiting: dict[str, dict[Peer, int]] = {}
        self._bytes = Counter[str]()

    def opened(self, peer: Peer) -> None:
        """Count a connection; one too many closes another, or itself if all others are being answered.

        The oldest: whoever sends a delivery at once is done before a thousand others have come.
        """
        self.number += 1
        self.waits(peer, 0)
        if self.number > self.most:
            peers = max(self._waiting.values(), key=len)
            next(iter(peers)).drop(Dropped.TOO_MANY)

    def closed(self, peer: Peer) -> None:
        """It is gone."""
        self.number -= 1
        self.is_answered(peer)

    def waits(self, peer: Peer, body_bytes: int) -> None:
        """We wait for the peer, who may be closed for another one; `body_bytes`: the length of the body that it is sending."""
        self.is_answered(peer)
        self._waiting.setdefault(peer.address, {})[peer] = body_bytes
        self._bytes[peer.address] += body_bytes
        while body_bytes and self._bytes.total() > self._most_body_bytes and len(self._sending()) > 1:
            address, _ = self._bytes.most_common(1)[0]
            next(one for one, size in self._waiting[address].items() if size).drop(Dropped.TOO_MUCH)

    def is_answered(self, peer: Peer) -> None:
        """The peer waits for us, and is not closed for another one."""
        peers = self._waiting.get(peer.address, {})
        self._bytes[peer.address] -= peers.pop(peer, 0)
        if not peers:
            self._waiting.pop(peer.address, None)
            self._bytes.pop(peer.address, None)

    def _sending(self) -> list[Peer]:
        return [peer for peers in self._waiting.values() for peer, size in peers.items() if size]


@dataclass(frozen=True)
class Position:
    """Where a connection is: the stage, and the request that it is about."""

    stage: Stage
    request: object


class Peer(H11Protocol):
    """One connection, each of whose stages has an end."""

    def __init__(self, *args: Any, bounds: Connections, **more: Any) -> None:
        super().__init__(*args, **more)
        self._bounds, self._at = bounds, Position(Stage.HEADER, None)
        self._deadline: asyncio.TimerHandle | None = None
        self._is_counted = False
        self.address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it, and wait for a header."""
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        self.address, self._is_counted = self.client[0] if self.client else "", True
        self._expect_within(self._bounds.patience.header_s)
        self._bounds.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._end_of_deadline()
        self._is_gone()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """What comes after the end is discarded."""
        if self._at.stage is Stage.CLOSING or self.transport.is_closing():
            return
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """Wait for the next request; what is left of one that was refused is not parsed any more."""
        super().on_response_complete()
        if not self.transport.is_closing() and self.conn.their_state is h11.SEND_BODY:
            self._unset_keepalive_if_required()
            self._move(Position(Stage.CLOSING, self.cycle))
            self.transport.write_eof()
        self._look()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, where an answer can still be given."""
        self._bounds.on_drop(Dropped.MALFORMED)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.transport.abort()

    def drop(self, why: Dropped) -> None:
        """Close it at once."""
        self._bounds.on_drop(why)
        self._is_gone()
        self.transport.abort()

    def _is_gone(self) -> None:
        if self._is_counted:
            self._is_counted = False
            self._bounds.closed(self)

    def _look(self) -> None:
        """Which stage it is in now."""
        if self._at.stage is Stage.CLOSING or not self._is_counted:
            return
        if self.transport.is_closing():
            self._move(Position(Stage.CLOSING, self.cycle))
        elif self.cycle is None or (self.cycle.response_complete and self.conn.their_state is h11.IDLE):
            self._move(Position(Stage.HEADER, self.cycle))
        elif self.conn.their_state is h11.SEND_BODY:
            self._move(Position(Stage.BODY, self.cycle))
        else:
            self._move(Position(Stage.ANSWER, self.cycle))

    def _move(self, position: Position) -> None:
        if position.stage is self._at.stage and position.request is self._at.request:
            return
        self._at, patience = position, self._bounds.patience
        match position.stage:
            case Stage.HEADER:
                self._expect_within(patience.idle_s + patience.header_s)
                self._bounds.waits(self, 0)
            case Stage.BODY:
                self._expect_within(patience.body_s)
                self._bounds.waits(self, self._declared_bytes())
            case Stage.CLOSING:
                self._expect_within(patience.linger_s)
                self._bounds.waits(self, 0)
            case Stage.ANSWER:
                self._end_of_deadline()
                self._bounds.is_answered(self)

    def _declared_bytes(self) -> int:
        """h11 has refused anything but digits, and several lengths that differ. At least 1: no length is none that is known."""
        declared = next((value for name, value in self.headers if name == b"content-length"), b"1")
        return max(1, min(int(declared), MOST_BODY_BYTES))

    def _expect_within(self, limit_s: float) -> None:
        self._end_of_deadline()
        self._deadline = self.loop.call_later(limit_s, self._is_late)

    def _end_of_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _is_late(self) -> None:
        match self._at.stage:
            case Stage.HEADER:
                self.drop(Dropped.SLOW_HEADER)
            case Stage.BODY:
                self.drop(Dropped.SLOW_BODY)
            case Stage.CLOSING | Stage.ANSWER:
                self.transport.abort()


def config_of(app: Starlette, host: str, port: int, connections: Connections) -> uvicorn.Config:
    """uvicorn's settings: connections within bounds, and a log that strangers cannot fill (they are counted instead)."""
    protocol: Any = partial(Peer, bounds=connections)
    return uvicorn.Config(
        app, host=host, port=port, http=protocol, ws="none", log_level="error", access_log=False, backlog=BACKLOG,
        timeout_keep_alive=max(1, int(connections.patience.idle_s)), lifespan="off",
    )  # fmt: skip


def count_refused_accepts(connections: Connections) -> None:
    """Count it when no connection can be accepted, where asyncio would log each try. For the loop that runs now."""

    def on_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            connections.on_drop(Dropped.NO_FILES)
        else:
            loop.default_exception_handler(context)

    asyncio.get_running_loop().set_exception_handler(on_error)


def raised_file_limit() -> int:
    """Raise this process's limit of open files to the most that it may have; returns that."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def most_connections(file_limit: int) -> int:
    """How many connections leave enough file descriptors for everything else."""
    if file_limit == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(1, min(MOST_CONNECTIONS, (file_limit - KEPT_FILES - BACKLOG) // 2))
