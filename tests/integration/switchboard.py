"""EC2 with the one call of it that reaches a machine's metadata service."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from sandbox.imds import Metadata


class Switchboard:
    """EC2, which really switches the metadata service off when it is told to."""

    def __init__(self, target: str, metadata: Metadata) -> None:
        parts = urlsplit(target)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if b"Action=ModifyInstanceMetadataOptions" in body and b"HttpEndpoint=disabled" in body:
                    metadata.switch_off()
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
        """No more answers."""
        self._server.shutdown()
        self._server.server_close()
