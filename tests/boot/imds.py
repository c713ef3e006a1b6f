"""Metadata services of EC2 machines: IMDSv2 only, each machine sees its own, and everything it asked for is counted."""

from __future__ import annotations

import json
import re
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any

ROLE = "runs-fleet-agent"
REGION = "us-east-1"
_VERSIONED = re.compile(r"^/(?:latest|\d{4}-\d{2}-\d{2})/(.*)$")


class Metadata:
    """What the metadata service tells one machine; every attribute may be changed while it serves."""

    def __init__(self, instance_id: str, address: str, region: str = REGION) -> None:
        """`address` is the machine's own IPv4 address."""
        self.instance_id, self.region = instance_id, region
        self.user_data = ""
        """As the machine's creator gave it; "" means there is none (404)."""
        self.disabled = False
        """As with HttpEndpoint=disabled: every request is answered 403. Source: EC2 instance metadata options."""
        self.slow_s = 0.0
        """Seconds before each answer."""
        self.failures: list[int] = []
        """Statuses given before anything else, one for each request."""
        self.requests: Counter[str] = Counter()
        """How often each path was asked for, whatever came of it, as `GET /latest/meta-data/instance-id`."""
        self.tokens: dict[str, float] = {}
        """Tokens given out, and the monotonic second in which each ends."""
        self.values: dict[str, str] = {
            "meta-data/instance-id": instance_id,
            "meta-data/instance-type": "m5.large",
            "meta-data/ami-id": "ami-12c6146b",
            "meta-data/local-ipv4": address,
            "meta-data/local-hostname": hostname(address),
            "meta-data/placement/region": region,
            "meta-data/placement/availability-zone": f"{region}a",
            "meta-data/instance-life-cycle": "spot",
            "meta-data/iam/security-credentials/": ROLE,
        }
        self.put_json("dynamic/instance-identity/document", self._identity(address))
        self.put_json(f"meta-data/iam/security-credentials/{ROLE}", self._credentials())

    def put(self, path: str, value: str) -> None:
        """A fact, at `path` below /latest/."""
        self.values[path] = value

    def put_json(self, path: str, value: object) -> None:
        """A fact that is a document."""
        self.put(path, json.dumps(value))

    def remove(self, path: str) -> None:
        """No such fact (any more)."""
        self.values.pop(path, None)

    def tag(self, name: str, value: str) -> None:
        """A tag of the instance, visible as with InstanceMetadataTags=enabled."""
        self.put(f"meta-data/tags/instance/{name}", value)

    def spot_notice(self, in_s: float, action: str = "terminate") -> None:
        """EC2 takes the machine back in so many seconds."""
        self.put_json("meta-data/spot/instance-action", {"action": action, "time": _in(in_s)})

    def rebalance_notice(self) -> None:
        """EC2 says that the machine is likely to be taken back."""
        self.put_json("meta-data/events/recommendations/rebalance", {"noticeTime": _in(0)})

    def asked(self, path: str) -> int:
        """How often `path` (below /latest/) was asked for."""
        return self.requests[f"GET /latest/{path}"]

    def reply(self, method: str, path: str, headers: Any) -> tuple[int, str, dict[str, str]]:
        """Status, content and headers for one request."""
        self.requests[f"{method} {path}"] += 1
        if self.slow_s:
            time.sleep(self.slow_s)
        if self.failures:
            return self.failures.pop(0), "", {}
        if self.disabled:
            return 403, "", {}
        if method == "PUT":
            return self._token(path, headers)
        if self.tokens.get(headers.get("X-aws-ec2-metadata-token", ""), 0.0) < time.monotonic():
            return 401, "", {}
        found = _VERSIONED.match(path)
        value = self._value(found[1]) if found else None
        return (404, "", {}) if value is None else (200, value, {})

    def _token(self, path: str, headers: Any) -> tuple[int, str, dict[str, str]]:
        """Source: EC2 user guide, IMDSv2: 1 to 21600 seconds, and nothing for a request that was forwarded."""
        seconds = headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if path != "/latest/api/token":
            return 404, "", {}
        if headers.get("X-Forwarded-For") is not None:
            return 403, "", {}
        if not seconds.isdigit() or not 1 <= int(seconds) <= 21_600:
            return 400, "", {}
        token = secrets.token_hex(16)
        self.tokens[token] = time.monotonic() + int(seconds)
        return 200, token, {"X-aws-ec2-metadata-token-ttl-seconds": seconds}

    def _value(self, path: str) -> str | None:
        """A fact, or the names below a directory, or None."""
        if path == "user-data":
            return self.user_data or None
        if path in self.values or not path.endswith("/"):
            return self.values.get(path)
        below = (name.removeprefix(path) for name in sorted(self.values) if name.startswith(path))
        return "\n".join(dict.fromkeys(re.sub("/.*", "/", name) for name in below if name)) or None

    def _identity(self, address: str) -> dict[str, str]:
        return {
            "accountId": "123456789012",
            "architecture": "x86_64",
            "instanceId": self.instance_id,
            "privateIp": address,
            "region": self.region,
        }

    def _credentials(self) -> dict[str, str]:
        return {
            "Code": "Success",
            "Type": "AWS-HMAC",
            "AccessKeyId": f"ASIA{secrets.token_hex(8).upper()}",
            "SecretAccessKey": secrets.token_hex(20),
            "Token": secrets.token_hex(20),
            "LastUpdated": _in(0),
            "Expiration": _in(6 * 3600),
        }


class MetadataService:
    """Answers behind a door: each client gets the metadata of the machine that has its address, others get 404."""

    def __init__(self) -> None:
        self.machines: dict[str, Metadata] = {}
        """By IPv4 and by IPv6 address."""
        self.lock = threading.Lock()

    def __call__(self, connection: socket.socket, address: str, flowing: Callable[[], None]) -> None:
        """Serve one connection."""
        metadata = self.machines.get(address)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._reply()

            def do_PUT(self) -> None:
                self._reply()

            def _reply(self) -> None:
                flowing()
                status, text, headers = metadata.reply(self.command, self.path, self.headers) if metadata else (404, "", {})
                content = text.encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Quiet: requests are counted."""

        Handler(connection, (address, 0), None)  # type: ignore[arg-type]


def hostname(address: str) -> str:
    """The name EC2 gives by default. Source: EC2 user guide, IP based naming."""
    return f"ip-{address.replace('.', '-')}"


def _in(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
