"""moto looks, and then writes: of two conditional writes of one name at once, both may find nothing there. In AWS one of them wins."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable
from typing import Any

from sandbox.identity import service_of

_READS_OF_OBJECTS = frozenset({"GET", "HEAD"})


class SerializedWrites:
    """moto's application, for which S3's writes come one after the other, and so does every call to DynamoDB and to SSM.

    A request is read whole before its turn, so that a slow client keeps nobody waiting.
    """

    def __init__(self, moto: Any) -> None:
        """`moto` is the WSGI application behind."""
        self._moto, self._turns = moto, {service: threading.Lock() for service in ("s3", "dynamodb", "ssm")}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        service = service_of(environ.get("HTTP_AUTHORIZATION", ""))
        turn = self._turns.get(service)
        if turn is None or (service == "s3" and environ.get("REQUEST_METHOD") in _READS_OF_OBJECTS):
            return self._moto(environ, start_response)  # type: ignore[no-any-return]
        if length := int(environ.get("CONTENT_LENGTH") or 0):
            environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length))
        with turn:
            return [b"".join(self._moto(environ, start_response))]
