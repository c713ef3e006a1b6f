"""One S3 bucket."""

from __future__ import annotations

import gzip
import io
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agent.adapters.aws.clients import Clients, translated
from agent.errors import ServiceError, Unreachable
from agent.ports import Body, StoredObject

READ_S = 20.0
_ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})
_TAKEN = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409"})
"""What a conditional put answers when another machine was first. Source: "Conditional writes", S3 user guide."""


class S3Objects:
    """Objects (ports) in `bucket`."""

    def __init__(self, clients: Clients, bucket: str) -> None:
        self._clients, self._bucket = clients, bucket

    def keys(self, prefix: str) -> list[str]:
        """Every key below `prefix`, all pages."""
        with translated(f"s3:ListBucket on {self._bucket}"):
            pages = self._client().get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def describe(self, key: str) -> StoredObject | None:
        """Its metadata; a bucket we may not list answers 403 for what is not there, which is no copy for us either."""
        try:
            with translated(f"s3:GetObject on {self._bucket}/{key}"):
                answer = self._client().head_object(Bucket=self._bucket, Key=key)
        except ServiceError as error:
            if error.code in _ABSENT or error.code in ("403", "AccessDenied"):
                return None
            raise
        return StoredObject(key, dict(answer.get("Metadata", {})))

    def open(self, key: str, offset: int) -> Body:
        """The bytes from `offset` on."""
        action = f"s3:GetObject on {self._bucket}/{key}"
        extra = {"Range": f"bytes={offset}-"} if offset else {}
        with translated(action):
            answer = self._client().get_object(Bucket=self._bucket, Key=key, **extra)
        return S3Body(answer["Body"], offset, int(answer["ContentLength"]), action)

    def put_file_if_absent(self, key: str, path: Path, metadata: Mapping[str, str]) -> bool:
        """One conditional PutObject, streamed from the file."""
        with path.open("rb") as content:
            return self._put_if_absent(key, Body=content, Metadata=dict(metadata), ContentType="application/gzip")

    def put_gzip_if_absent(self, key: str, chunks: Iterator[bytes]) -> bool:
        """Compressed into a temporary file first: memory stays flat whatever the log's size."""
        with tempfile.TemporaryFile() as packed:
            with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=0) as writer:
                buffered = io.BufferedWriter(writer, 1 << 16)
                for chunk in chunks:
                    buffered.write(chunk)
                buffered.flush()
                buffered.detach()
            packed.seek(0)
            return self._put_if_absent(key, Body=packed, ContentType="text/plain", ContentEncoding="gzip")

    def _put_if_absent(self, key: str, **content: Any) -> bool:
        try:
            with translated(f"s3:PutObject on {self._bucket}/{key}"):
                self._client().put_object(Bucket=self._bucket, Key=key, IfNoneMatch="*", **content)
        except ServiceError as error:
            if error.code in _TAKEN:
                return False
            raise
        return True

    def _client(self) -> Any:
        return self._clients.client("s3", read_s=READ_S)


class S3Body:
    """A Body (ports) over botocore's streaming body."""

    def __init__(self, body: Any, offset: int, length: int, action: str) -> None:
        """`length`: bytes that are to come, from `offset` on."""
        self._raw, self._body, self._action, self._left = body._raw_stream, body, action, length
        self.size: int | None = offset + length

    def read(self, most: int) -> bytes:
        """What has arrived, at most `most`; empty at the end. Raises: Unreachable, also where the end comes too early."""
        from urllib3.exceptions import HTTPError

        try:
            chunk = bytes(self._raw.read1(most))
        except (HTTPError, OSError) as error:
            raise Unreachable(self._action, str(error)) from error
        self._left -= len(chunk)
        if not chunk and most and self._left > 0:  # botocore does not have urllib3 compare it with Content-Length
            raise Unreachable(self._action, f"the connection ended {self._left} bytes too early")
        return chunk

    def close(self) -> None:
        """Drop the connection; what was not read is not transferred."""
        self._body.close()
