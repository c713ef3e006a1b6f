"""The boot script, run as user-data are, with a metadata service and AWS beside it, for tests."""

from __future__ import annotations

import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from sandbox.imds import Metadata
from sandbox.instances import boot_scripts

BOOT = boot_scripts() / "runs-fleet.sh"


class Service:
    """Takes any call and keeps it; `answer` is what a GET gets, `status` what every call is answered with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answer, self.status = b"", 200
        service = self

        class Handler(BaseHTTPRequestHandler):
            def _taken(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                service.calls.append((self.command, self.path, headers, body))
                self.send_response(service.status)
                self.send_header("Content-Length", str(len(service.answer)))
                self.end_headers()
                self.wfile.write(service.answer)

            do_GET = do_POST = _taken

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def booted(metadata: Metadata, service: Service, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The script on a machine where nothing of ours is installed: `systemctl` and `systemd-run` know nothing.

    What the script tells them is in `directory`/systemd, curl's arguments in `directory`/argv.
    """
    tools = directory / "tools"
    tools.mkdir(exist_ok=True)
    for name, code in (("systemctl", 1), ("systemd-run", 0)):
        (tools / name).write_text(f'#!/bin/bash\necho "{name} $*" >> {directory}/systemd\nexit {code}\n', "utf-8")
        (tools / name).chmod(0o755)
    (tools / "curl").write_text(f'#!/bin/bash\nprintf "%s " "$@" >> {directory}/argv\nexec /usr/bin/curl "$@"\n', "utf-8")
    (tools / "curl").chmod(0o755)
    known = {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url,
        "RUNS_FLEET_STATE_DIR": str(directory / "state"),
        "RUNS_FLEET_ENVIRONMENT_FILE": str(directory / "agent.env"),
        "RUNS_FLEET_POWER_OFF": f"touch {directory}/off",
        "RUNS_FLEET_TERMINATION_QUEUE_URL": f"{service.url}/123456789012/terminations",
        "RUNS_FLEET_CONFIG_BUCKET": "config",
        "RUNS_FLEET_AGENT_BUNDLE": "agent/bundle-1.tar.gz",
        "AWS_ENDPOINT_URL_S3": service.url,
        "RUNS_FLEET_AGENT_SHA256": "0" * 64,
    }
    return subprocess.run(
        ["bash", str(BOOT)], env={**known, **environment}, cwd=directory, capture_output=True, text=True, timeout=600, check=False
    )
