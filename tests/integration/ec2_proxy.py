"""EC2 with the one call of it that reaches a machine's metadata service."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

from sandbox.imds import Metadata
from tests.answering import Answering, Asked


class Ec2Proxy(Answering):
    """EC2, which really switches the metadata service off when it is told to."""

    def __init__(self, target: str, metadata: Metadata) -> None:
        parts = urlsplit(target)

        def answer(asked: Asked) -> tuple[int, bytes]:
            if b"Action=ModifyInstanceMetadataOptions" in asked.body and b"HttpEndpoint=disabled" in asked.body:
                metadata.switch_off()
                return 200, b"<ModifyInstanceMetadataOptionsResponse/>"
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
            connection.request(asked.method, asked.path, asked.body, dict(asked.headers))
            told = connection.getresponse()
            return told.status, told.read()

        super().__init__(answer)
