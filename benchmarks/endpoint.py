"""A fast local stand-in for the few calls a life makes: SSM, SQS, Logs, EC2, S3 and a releases API, in a process of its own.

moto copies a 200 MB object for every read and answers a few hundred calls a second: it would be the thing measured.
`python -m benchmarks.endpoint ARCHIVE VERSION` prints its port. What it was asked is told at `/-/record`.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

BUCKET = "bench"
TERMINATED = (
    '<TerminateInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId><instancesSet/>'
    "</TerminateInstancesResponse>"
)
DRY_RUN = (
    "<Response><Errors><Error><Code>DryRunOperation</Code><Message>it would have</Message></Error></Errors>"
    "<RequestID>r</RequestID></Response>"
)


class Record:
    """What was asked since the last reset, with the wall-clock second at which each request had arrived whole."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self.calls: list[tuple[float, str, str]] = []
            self.batches: list[tuple[float, bytes]] = []

    def call(self, at: float, action: str, detail: str = "") -> None:
        with self._lock:
            self.calls.append((at, action, detail))

    def batch(self, at: float, body: bytes) -> None:
        with self._lock:
            self.batches.append((at, body))

    def told(self) -> dict[str, object]:
        """Calls, and per batch of log events its arrival, its number of lines and the time stamps its lines begin with."""
        batches = []
        for at, body in list(self.batches):
            put = json.loads(body)
            messages = [event["message"] for event in put["logEvents"]]
            stamps = [int(head) for message in messages if (head := message[:19]).isdigit()]
            batches.append({"at": at, "stream": put["logStreamName"], "lines": len(messages), "stamps": stamps})
        return {"calls": self.calls, "batches": batches}


class Content:
    """The one release on offer."""

    def __init__(self, archive: Path, version: str) -> None:
        self.archive, self.version, self.size = archive, version, archive.stat().st_size
        self.sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
        self.name = f"actions-runner-linux-x64-{version}.tar.gz"
        self.key = f"runners/{version}/x64/actions-runner-{version}.tar.gz"


class Handler(BaseHTTPRequestHandler):
    """One request of whichever service it looks like."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    record: Record
    content: Content
    parameter = ""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        at = time.time()
        target = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        if self.path == "/-/reset":
            self.record.reset()
            self._answer(b"{}")
        elif self.path == "/-/parameter":
            type(self).parameter = body.decode()
            self._answer(b"{}")
        elif target:
            self._answer(json.dumps(self._json_call(at, target, body)).encode(), kind="application/x-amz-json-1.1")
        else:
            self._ec2(at, body)

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/-/record":
            self._answer(json.dumps(self.record.told()).encode())
        elif path.startswith("/repos/"):
            self._answer(json.dumps(self._release()).encode())
        elif path.startswith("/download/"):
            self._answer(b"", 302, headers={"Location": f"/asset/{self.content.name}"})
        elif path.startswith("/asset/") or path == f"/{BUCKET}/{self.content.key}":
            self._file()
        elif path.rstrip("/") == f"/{BUCKET}":
            listing = f"<Contents><Key>{self.content.key}</Key><Size>{self.content.size}</Size></Contents>"
            self._answer(f"<ListBucketResult><IsTruncated>false</IsTruncated>{listing}</ListBucketResult>".encode())
        else:
            self._answer(b"", 404)

    do_HEAD = do_GET

    def _json_call(self, at: float, target: str, body: bytes) -> dict[str, object]:
        if target == "PutLogEvents":
            self.record.batch(at, body)
            return {"nextSequenceToken": "1"}
        if target == "SendMessage":
            message = json.loads(body)["MessageBody"]
            self.record.call(at, target, message)
            return {"MessageId": "1", "MD5OfMessageBody": hashlib.md5(message.encode()).hexdigest()}
        self.record.call(at, target)
        return {"Parameter": {"Name": "p", "Type": "SecureString", "Value": self.parameter}} if target == "GetParameter" else {}

    def _ec2(self, at: float, body: bytes) -> None:
        fields = parse_qs(body.decode())
        dry = fields.get("DryRun") == ["true"]
        self.record.call(at, fields.get("Action", ["?"])[0], "dry" if dry else "")
        self._answer((DRY_RUN if dry else TERMINATED).encode(), 412 if dry else 200, kind="text/xml")

    def _release(self) -> dict[str, object]:
        content, host = self.content, self.headers["Host"]
        address = f"http://{host}/download/{content.name}"
        asset = {"name": content.name, "browser_download_url": address, "digest": f"sha256:{content.sha256}"}
        return {"tag_name": f"v{content.version}", "assets": [asset], "body": ""}

    def _file(self) -> None:
        first = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        size = self.content.size
        extra = {"x-amz-meta-sha256": self.content.sha256, "ETag": '"e"', "Accept-Ranges": "bytes"}
        if first:
            extra["Content-Range"] = f"bytes {first}-{size - 1}/{size}"
        self._answer(b"", 206 if first else 200, length=size - first, headers=extra)
        if self.command == "HEAD":
            return
        with self.content.archive.open("rb") as source:
            while first < size:
                first += os.sendfile(self.connection.fileno(), source.fileno(), first, 1 << 22)

    def _answer(
        self,
        body: bytes,
        status: int = 200,
        *,
        kind: str = "application/json",
        length: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        lines = [f"HTTP/1.1 {status} .", f"Content-Type: {kind}", f"Content-Length: {len(body) if length is None else length}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.wfile.write("\r\n".join([*lines, "", ""]).encode() + body)

    def log_message(self, format: str, *values: object) -> None:
        """Nobody reads it."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is none."""


def main() -> None:
    """Serve until killed."""
    Handler.record, Handler.content = Record(), Content(Path(sys.argv[1]), sys.argv[2])
    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
