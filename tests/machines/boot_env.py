"""Everything around one booting machine: its cloud, its metadata service, its user-data, and what it said."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agent.contract.messages import BootstrapFailed, FinalWord, Message
from agent.contract.names import parameter_name
from sandbox.imds import Metadata
from sandbox.instances import user_data
from tests.conftest import Moto
from tests.integration.agent_harness import blob
from tests.integration.ec2_proxy import Ec2Proxy
from tests.machines.machine import CLOUD, Machine
from tests.machines.network import METADATA, METADATA6, Forward, Network, short_name
from tests.termination_queue import received

AWS_PORT, HUNG_PORT, DENIED_PORT, BOARD_PORT = 5000, 5003, 5004, 5005
OFF_S = 240.0
"""Seconds from power-on within which each of these machines must be off; most take two to five, unless neighbours are busy."""
HOLD = "trap 'exit 1' INT; echo up; while :; do sleep 0.05; done"
"""A job that goes on until it is stopped."""
_XML_DENIAL = "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message></Error></Errors></Response>"
TIMER_FILE = "/etc/systemd/system/runs-fleet-deadline.timer.d/fast.conf"
FAST_CHECKS = "[Timer]\nOnActiveSec=\nOnActiveSec=1s\nOnUnitInactiveSec=1s\n"  # the empty one forgets both
CONSOLE = "[Journal]\nForwardToConsole=yes\nTTYPath=/dev/console\nMaxLevelConsole=info\nRateLimitIntervalSec=0\n"


class Denying:
    """A service in which nobody may do anything. Source: the JSON and query protocols' errors."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                json_protocol = "X-Amz-Target" in self.headers
                said = '{"__type": "AccessDeniedException", "message": "not authorized"}' if json_protocol else _XML_DENIAL
                self.send_response(400 if json_protocol else 403)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = ("127.0.0.1", self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()


class BootEnv:
    """One machine in its world. `agent` are the operator's settings beside the necessary ones."""

    def __init__(self, moto: Moto, tree: Path, directory: Path, *, disk_mb: int = 512, docker: bool = False) -> None:
        self.moto, self.name = moto, short_name()
        self.network = Network(self.name)
        queue = moto.client("sqs").create_queue(QueueName="terminations")["QueueUrl"]
        self._queue = queue
        self._hung: Forward | None = None
        launched = moto.client("ec2").run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)
        self.instance_id: str = launched["Instances"][0]["InstanceId"]
        self.metadata = Metadata(self.instance_id, "us-east-1")
        imds = urlsplit(self.metadata.url)
        aws = urlsplit(moto.url)
        self.imds = self.network.forward(METADATA, 80, (str(imds.hostname), imds.port or 0))
        self.imds6 = self.network.forward(METADATA6, 80, (str(imds.hostname), imds.port or 0))
        self.aws = self.network.forward(CLOUD, AWS_PORT, (str(aws.hostname), aws.port or 0))
        self.machine = Machine(self.name, tree, self.network, directory / self.name, disk_mb=disk_mb, docker=docker)
        self.machine.put("/etc/systemd/journald.conf.d/console.conf", CONSOLE)
        self.machine.put(TIMER_FILE, FAST_CHECKS)
        self.settings = {
            "RUNS_FLEET_TERMINATION_QUEUE_URL": f"http://{CLOUD}:{AWS_PORT}{urlsplit(queue).path}",
            "AWS_ENDPOINT_URL": f"http://{CLOUD}:{AWS_PORT}", "RUNS_FLEET_GRACE_SECONDS": "5",
        }  # fmt: skip

    def configure(self, **fields: Any) -> None:
        """The job's configuration, where the instance will look for it."""
        document = {
            "org": "octo",
            "repo": "sandbox",
            "job_id": 7,
            "session_id": "s-1",
            "attempt": 2,
            "jit_config": blob(),
            **fields,
        }
        name = parameter_name(self.instance_id)
        self.moto.client("ssm").put_parameter(Name=name, Value=json.dumps(document), Type="SecureString")

    def play(self, *steps: str, **scenario: Any) -> None:
        """What the stand-in runner does on this machine."""
        github = {"run_id": "11", "run_attempt": "1", "repository": "octo/sandbox", "job": "build"}
        job = {"id": 1, "name": "build", "github": github, "steps": [{"run": step} for step in steps]} if steps else {}
        self.machine.put("/opt/actions-runner/standin.json", json.dumps({"job": job, **scenario}))

    def boot(self, **settings: str) -> None:
        """Power on, with the real user-data."""
        self.machine.boot("#cloud-boothook\n" + user_data({**self.settings, **settings}))

    def with_shipped_timer(self) -> None:
        """The hard deadline is looked at as often as on a real machine: not each second."""
        self.machine.put(TIMER_FILE, "")

    def messages(self) -> list[Message]:
        """What arrived, in order."""
        return received(self.moto.client("sqs"), self._queue)

    def word(self) -> FinalWord:
        """The one final word."""
        words = [message for message in self.messages() if isinstance(message, FinalWord)]
        assert len(words) == 1, (words, self.machine.console[-5000:])
        return words[0]

    def boot_failure(self) -> BootstrapFailed:
        """The one message of a machine whose agent never spoke."""
        said = self.messages()
        assert len(said) == 1, (said, self.machine.console[-5000:])
        assert isinstance(said[0], BootstrapFailed)
        return said[0]

    def state(self) -> str:
        """What EC2 says of the instance."""
        found = self.moto.client("ec2").describe_instances(InstanceIds=[self.instance_id])
        return str(found["Reservations"][0]["Instances"][0]["State"]["Name"])

    def listen(self, port: int) -> Callable[[], str]:
        """What the job tells that port of the cloud."""
        return self.network.listen(port)

    def aws_denied(self) -> str:
        """An endpoint of the cloud that refuses every call for want of a permission, as SSM and EC2 do."""
        self._denying = Denying()
        self.network.forward(CLOUD, DENIED_PORT, self._denying.address)
        return f"http://{CLOUD}:{DENIED_PORT}"

    def aws_switchboard(self) -> str:
        """EC2, which switches this machine's metadata service off when it is told to."""
        self._board = Ec2Proxy(self.moto.url, self.metadata)
        there = urlsplit(self._board.url)
        self.network.forward(CLOUD, BOARD_PORT, (str(there.hostname), there.port or 0))
        return f"http://{CLOUD}:{BOARD_PORT}"

    @property
    def aws_hung(self) -> str:
        """An endpoint of the cloud that takes connections and never answers."""
        if self._hung is None:
            self._hung = self.network.forward(CLOUD, HUNG_PORT, ("", 0))
            self._hung.mode = "hang"
        return f"http://{CLOUD}:{HUNG_PORT}"

    def nameless(self) -> str:
        """A drop-in by which the agent has to ask who it is, and is not told."""
        forget = f"/INSTANCE_ID/d; /EC2_METADATA/d; $aAWS_EC2_METADATA_SERVICE_ENDPOINT={self.aws_hung}"
        return f"[Service]\nExecStartPre=+/bin/sed -i '{forget}' /etc/runs-fleet/agent.env\n"

    def close(self) -> None:
        """Nothing is left."""
        self.machine.destroy()
        self.metadata.stop()
        self.network.close()

    def elapsed(self, since_s: float) -> float:
        """Seconds since that moment of the monotonic clock."""
        return time.monotonic() - since_s
