"""A metadata service for one machine: IMDSv2 only, with identity, role credentials, spot and rebalance notices."""

from __future__ import annotations

import json
import secrets
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ROLE, ROLE_ID = "runs-fleet-agent", "AROASANDBOXROLE"
OF_ROLE = "ASIA"
"""How the access keys of a role begin. Source: "IAM identifiers", IAM user guide."""


def access_key(instance_id: str) -> str:
    """Of the credentials that this instance's metadata service gives out."""
    return f"{OF_ROLE}{instance_id[-8:].upper()}"


class Metadata:
    """Serves on loopback until stopped. `values` may be changed while it serves: a new path is a new fact."""

    def __init__(self, instance_id: str, region: str) -> None:
        self.tokens: set[str] = set()
        self.on = True
        ends_at = (datetime.now(UTC) + timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
        credentials = {
            "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": access_key(instance_id),
            "SecretAccessKey": secrets.token_hex(20), "Token": secrets.token_hex(20), "Expiration": ends_at,
        }  # fmt: skip
        self.values: dict[str, str] = {
            "meta-data/instance-id": instance_id,
            "meta-data/placement/region": region,
            "meta-data/iam/security-credentials/": ROLE,
            f"meta-data/iam/security-credentials/{ROLE}": json.dumps(credentials),
            "dynamic/instance-identity/document": json.dumps({"instanceId": instance_id, "region": region}),
        }
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True, name=f"imds {instance_id}").start()

    def spot_notice(self, in_s: float) -> None:
        """EC2 takes the instance back."""
        at = (datetime.now(UTC) + timedelta(seconds=in_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.values["meta-data/spot/instance-action"] = json.dumps({"action": "terminate", "time": at})

    def switch_off(self) -> None:
        """What `HttpEndpoint=disabled` does: everything is refused. Source: "Retrieve instance metadata" of the EC2 user guide."""
        self.on = False

    def stop(self) -> None:
        """Stop the server: nothing is answered any more."""
        self._server.shutdown()
        self._server.server_close()


def _handler(metadata: Metadata) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            """A session token, as IMDSv2 gives it."""
            if not metadata.on:
                return self._reply(403, "")
            if self.path != "/latest/api/token":
                return self._reply(404, "")
            token = secrets.token_hex(16)
            metadata.tokens.add(token)
            return self._reply(200, token)

        def do_GET(self) -> None:
            """One metadata path, with a token."""
            if not metadata.on:
                return self._reply(403, "")
            if self.headers.get("X-aws-ec2-metadata-token") not in metadata.tokens:
                return self._reply(401, "")
            value = metadata.values.get(self.path.removeprefix("/latest/"))
            return self._reply(404, "") if value is None else self._reply(200, value)

        def _reply(self, status: int, text: str) -> None:
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Keep quiet about requests."""

    return Handler
