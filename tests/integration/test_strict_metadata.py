"""Strict mode with real parts: EC2 switches the metadata service off, and the agent lives on with the credentials it has."""

from __future__ import annotations

import http.client
import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agent.contract.messages import Status
from sandbox.imds import ROLE, Metadata
from tests.conftest import Moto
from tests.integration.house import House

GROUP = "/runs-fleet/agent"
ABSENT = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))


class Switchboard:
    """EC2, which really switches the metadata service off when it is told to."""

    def __init__(self, target: str, metadata: Metadata) -> None:
        parts = urlsplit(target)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if b"Action=ModifyInstanceMetadataOptions" in body and b"HttpEndpoint=disabled" in body:
                    metadata.stop()
                    status, content = 200, b"<ModifyInstanceMetadataOptionsResponse/>"
                else:
                    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
                    connection.request("POST", self.path, body, dict(self.headers))
                    answer = connection.getresponse()
                    status, content = answer.status, answer.read()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def house(moto: Moto, tmp_path: Path) -> House:
    return House(moto, tmp_path)


def test_the_job_finds_no_metadata_service_and_the_agent_ends_as_ever(house: House) -> None:
    metadata = Metadata(house.instance_id, "us-east-1")
    board = Switchboard(house.moto.url, metadata)
    house.configure()
    house.play(f"curl -s --max-time 2 {metadata.url}/latest/api/token -X PUT && exit 3; true")

    agent = house.live(
        RUNS_FLEET_STRICT_METADATA="yes", AWS_EC2_METADATA_SERVICE_ENDPOINT=metadata.url, AWS_ENDPOINT_URL_EC2=board.url,
        RUNS_FLEET_LOG_GROUP=GROUP, RUNS_FLEET_MAX_RUNTIME="60", **ABSENT,
    )  # fmt: skip

    board.stop()
    word = house.word()
    assert (agent.code, word.status, word.log_outcome, house.state()) == (0, Status.SUCCESS, "shipped", "terminated"), agent.log


def test_credentials_that_would_not_last_are_named_and_no_job_is_run(house: House) -> None:
    metadata = Metadata(house.instance_id, "us-east-1")
    path = f"meta-data/iam/security-credentials/{ROLE}"
    soon = (datetime.now(UTC) + timedelta(minutes=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    metadata.values[path] = json.dumps({**json.loads(metadata.values[path]), "Expiration": soon})
    house.configure()
    house.play("true")

    agent = house.live(
        RUNS_FLEET_STRICT_METADATA="yes", AWS_EC2_METADATA_SERVICE_ENDPOINT=metadata.url, RUNS_FLEET_MAX_RUNTIME="60", **ABSENT
    )

    metadata.stop()
    word = house.word()
    assert (agent.code, word.reason, house.state()) == (70, "metadata_exposed", "terminated")
    assert "lower RUNS_FLEET_MAX_RUNTIME" in word.error
