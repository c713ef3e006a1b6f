"""HTTP of the stand-in GitHub: what a request and an answer are, and the server that carries them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sandbox.github.records import Refusal


@dataclass(frozen=True)
class Reply:
    """An answer: JSON unless `raw` is given."""

    status: int
    body: Any = None
    raw: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Call:
    """A request, taken apart."""

    path: tuple[str, ...]
    query: dict[str, str]
    body: bytes
    headers: Any

    def json(self) -> dict[str, Any]:
        """The body as an object. Raises: Refusal 400."""
        try:
            return dict(json.loads(self.body or b"{}"))
        except (ValueError, TypeError) as error:
            raise Refusal(400, "Problems parsing JSON") from error


class Server(ThreadingHTTPServer):
    """A thread for each connection."""

    daemon_threads = True
    request_queue_size = 128
    """Connections that wait to be taken: with the library's five, those of a burst are reset."""


def paged(found: list[Any], call: Call) -> list[Any]:
    """The page that was asked for; 30 items unless said, 100 at most."""
    size = min(int(call.query.get("per_page", "30")), 100)
    first = (int(call.query.get("page", "1")) - 1) * size
    return found[first : first + size]


def number(text: str) -> int:
    """The number in a path. Raises: Refusal 404."""
    if not str(text).isdigit():
        raise Refusal(404, "Not Found")
    return int(text)


def handler(answer: Callable[[str, Call], Reply]) -> type[BaseHTTPRequestHandler]:
    """A handler of requests that `answer` answers."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _turn(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            call = Call(tuple(part for part in parts.path.split("/") if part), query, self.rfile.read(length), self.headers)
            try:
                reply = answer(self.command, call)
            except Refusal as error:
                told = {
                    "message": error.message,
                    "documentation_url": "https://docs.github.com/rest",
                    "status": str(error.status),
                }
                broker = {
                    "source": "actions-broker-listener",
                    "errorKind": error.kind,
                    "statusCode": error.status,
                    "errorMessage": error.message,
                }
                reply = Reply(error.status, {**told, **(broker if error.kind else {})}, headers=error.headers)
            content = reply.raw if reply.raw is not None else b"" if reply.body is None else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            headers = dict(reply.headers)
            if reply.body is not None:
                headers.setdefault("Content-Type", "application/json; charset=utf-8")
            for name, value in headers.items():
                self.send_header(name, value)
            if reply.status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if content and self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_POST = do_DELETE = do_HEAD = _turn

        def log_message(self, *_: Any) -> None:
            """Keep quiet about requests."""

        def handle_one_request(self) -> None:
            """A connection that breaks is none of our errors."""
            try:
                super().handle_one_request()
            except (ConnectionError, TimeoutError):
                self.close_connection = True

    return Handler
