"""A real HTTP server on loopback whose manners a test can choose: honest, cut off, holding back, redirecting, lying."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PIECE_BYTES = 1 << 16
"""Bytes written at once."""
HELD_BACK_S = 30.0
"""Seconds after which a byte that nobody releases is sent all the same: no test may hang the suite."""


@dataclass
class Page:
    """What one path answers. The defaults are an honest server that knows Range."""

    content: bytes | Path = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    ranges: bool = True
    """Whether Range is honoured; if not, the whole content comes with status 200."""
    cuts: list[int] = field(default_factory=list)
    """The first answer ends after so many bytes, the second after the second number, and so on; then none is cut."""
    refusals: list[int] = field(default_factory=list)
    """Statuses given before anything else, one for each request."""
    hold_last: threading.Event | None = None
    """The last byte is sent only when this is set."""
    says_length: bool = True
    """Whether Content-Length is sent; if not, the connection's end is the content's."""

    def size(self) -> int:
        """Bytes of the whole content."""
        return self.content.stat().st_size if isinstance(self.content, Path) else len(self.content)

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """The content from `start` up to `end`."""
        if isinstance(self.content, Path):
            with self.content.open("rb") as source:
                source.seek(start)
                while start < end and (piece := source.read(min(PIECE_BYTES, end - start))):
                    start += len(piece)
                    yield piece
        else:
            for at in range(start, end, PIECE_BYTES):
                yield self.content[at : min(at + PIECE_BYTES, end)]


@dataclass(frozen=True)
class Request:
    """What a client asked for."""

    method: str
    path: str
    headers: Mapping[str, str]


class Site:
    """The pages by path, and what was asked of them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.pages: dict[str, Page] = {}
        self.requests: list[Request] = []
        self.bytes_served = 0
        """Bytes of content given to the network, over all answers."""
        self.lock = threading.Lock()

    def serve(self, path: str, content: bytes | Path = b"", **manners: Any) -> str:
        """Answer `path` with `content`; returns its URL."""
        self.pages[path] = Page(content, **manners)
        return self.url + path

    def serve_json(self, path: str, value: object, **manners: Any) -> str:
        """Answer `path` with a JSON document; returns its URL."""
        return self.serve(path, json.dumps(value).encode(), headers={"Content-Type": "application/json"}, **manners)

    def redirect(self, path: str, to: str) -> str:
        """Send whoever asks for `path` elsewhere; returns its URL."""
        return self.serve(path, status=302, headers={"Location": to})

    def asked(self) -> list[str]:
        """The paths asked for, in order."""
        with self.lock:
            return [request.path for request in self.requests]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    site: Site

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def _answer(self, *, with_content: bool) -> None:
        path = self.path.partition("?")[0]
        page = self.site.pages.get(path, Page(status=404))
        with self.site.lock:
            self.site.requests.append(Request(self.command, path, dict(self.headers)))
            refusal = page.refusals.pop(0) if page.refusals else None
            cut = page.cuts.pop(0) if page.cuts and refusal is None else None
        if refusal is not None:
            page = Page(status=refusal)
        self._write(page, cut if with_content else 0)

    def _write(self, page: Page, cut: int | None) -> None:
        size, start, status = page.size(), 0, page.status
        wanted = re.match(r"bytes=(\d+)-$", self.headers.get("Range", ""))
        if wanted and page.ranges and status == 200:
            start, status = int(wanted.group(1)), 206
            if start >= size:
                start, status = size, 416
        self.send_response(status)
        for name, value in page.headers.items():
            self.send_header(name, value)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if page.says_length:
            self.send_header("Content-Length", str(size - start))
        else:
            self.close_connection = True
        self.end_headers()
        end = size if cut is None else min(size, start + cut)
        self.close_connection = self.close_connection or end < size
        held = page.hold_last is not None and end == size and size > start
        for piece in page.pieces(start, end - held):
            self._send(piece)
        if held and page.hold_last is not None:
            page.hold_last.wait(HELD_BACK_S)
            self._send(b"".join(page.pieces(size - 1, size)))

    def _send(self, piece: bytes) -> None:
        with self.site.lock:
            self.site.bytes_served += len(piece)
        self.wfile.write(piece)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the requests are kept."""


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what some tests are about."""


@contextmanager
def site() -> Iterator[Site]:
    """A server on a free port of loopback, for as long as the block lasts."""
    handler = type("Handler", (_Handler,), {})
    server = _Quiet(("127.0.0.1", 0), handler)
    world = Site(f"http://127.0.0.1:{server.server_address[1]}")
    handler.site = world  # type: ignore[attr-defined]
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield world
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
