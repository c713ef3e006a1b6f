"""Listening sockets inside a network namespace, answered by this process, that can be made to refuse or to hang.

A door decides whether a connection gets through; what happens on it is the business of whoever answers.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import Protocol

from tests.boot.namespaces import NetworkNamespace

PIECE_BYTES = 1 << 16
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends a reset, as a machine does on which nobody listens any more."""


class Answer(Protocol):
    """Whoever answers behind a door."""

    def __call__(self, connection: socket.socket, address: str, flowing: Callable[[], None]) -> None:
        """Serve one connection of the client at `address` until it ends, in a thread of its own.

        Call `flowing` before anything goes out: it blocks while the door hangs. OSError is how a connection may end.
        """


class Door:
    """One address and port. Open from the start; `close` it in the end."""

    def __init__(self, namespace: NetworkNamespace, address: str, port: int, answer: Answer) -> None:
        self._namespace, self._at, self._answer = namespace, (address, port), answer
        self._lock = threading.RLock()
        self._flowing = threading.Event()
        self._listener: socket.socket | None = None
        self._connections: set[socket.socket] = set()
        self._timer: threading.Timer | None = None
        self.accepted = 0
        """Connections let in so far."""
        self.restore()

    def refuse(self, for_s: float | None = None) -> None:
        """Nobody listens: new connections are refused, open ones reset. After `for_s` seconds all is well again."""
        self._switch(for_s)
        with self._lock:
            self._stop_listening()
            self._cut()
            self._flowing.set()

    def hang(self, for_s: float | None = None) -> None:
        """Connections are taken and nothing ever comes back, on open ones too. What came meanwhile is answered on restore."""
        self._switch(for_s)
        self._flowing.clear()
        self._listen()

    def restore(self) -> None:
        """All is well."""
        self._switch(None)
        self._listen()
        self._flowing.set()

    def close(self) -> None:
        """Refuse for good."""
        self.refuse()

    def _switch(self, for_s: float | None) -> None:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None
            if for_s is not None:
                self._timer = threading.Timer(for_s, self.restore)
                self._timer.daemon = True
                self._timer.start()

    def _listen(self) -> None:
        with self._lock:
            if self._listener is None:
                self._listener = self._namespace.do(lambda: _listener(*self._at))
                threading.Thread(target=self._accept, args=(self._listener,), daemon=True, name=f"door {self._at}").start()

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept, which close alone does not
            self._listener.close()
            self._listener = None

    def _cut(self) -> None:
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, client = listener.accept()
            except OSError:
                return
            with self._lock:
                self.accepted += 1
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection, client[0]), daemon=True, name=f"at {self._at}").start()

    def _serve(self, connection: socket.socket, client: str) -> None:
        try:
            self._answer(connection, client, lambda: self._flowing.wait() and None)
        except OSError:
            pass  # the client went, or the door was shut
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()


def to_port(port: int) -> Answer:
    """Answers by handing every byte to and fro with `port` of this process's own loopback."""

    def answer(connection: socket.socket, address: str, flowing: Callable[[], None]) -> None:
        flowing()
        with socket.create_connection(("127.0.0.1", port), timeout=10) as behind:
            behind.settimeout(None)
            back = threading.Thread(target=_pump, args=(behind, connection, flowing), daemon=True, name="pump")
            back.start()
            _pump(connection, behind, flowing)
            back.join()

    return answer


def _pump(source: socket.socket, sink: socket.socket, flowing: Callable[[], None]) -> None:
    """Until one of the two has had enough; then the other is told."""
    try:
        while piece := source.recv(PIECE_BYTES):
            flowing()
            sink.sendall(piece)
    except OSError:
        with contextlib.suppress(OSError):
            source.shutdown(socket.SHUT_RDWR)
    finally:
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def _listener(address: str, port: int) -> socket.socket:
    return socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET, backlog=64)
