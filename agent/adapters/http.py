"""Plain HTTP: releases by requests, the metadata service by the standard library."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agent.adapters.network import Network
from agent.errors import ServiceError, Unreachable
from agent.ports import Body

if TYPE_CHECKING:
    import requests
    from urllib3.response import BaseHTTPResponse

CONNECT_S, READ_S = 5.0, 20.0
"""Seconds to connect, and between two pieces of an answer: a server that says nothing for longer has broken off."""
METADATA_S = 1.0
"""Seconds for one call to the metadata service: it is one hop away or it is not there."""
TOKEN_TTL_S = 21_600
"""The longest an IMDSv2 token may live. Source: "Use IMDSv2", EC2 user guide."""


class RequestsWeb:
    """A Web (ports) by requests; proxies and authorities as `network` decides."""

    def __init__(self, network: Network, session: requests.Session | None = None) -> None:
        import requests

        self._requests = requests
        self._session = session or _session(network)
        self._session.headers["User-Agent"] = "runs-fleet-agent"

    def get_json(self, url: str) -> Any:
        """The decoded answer of a GET."""
        try:
            answer = self._session.get(url, timeout=(CONNECT_S, READ_S), headers={"Accept": "application/vnd.github+json"})
        except self._requests.RequestException as error:
            raise Unreachable(f"GET {url}", str(error)) from error
        if answer.status_code != 200:
            raise ServiceError(f"GET {url}", _status_code(answer.status_code, answer.headers), answer.text[:200])
        try:
            return answer.json()
        except ValueError as error:
            raise ServiceError(f"GET {url}", "NotJson", answer.text[:100]) from error

    def open(self, url: str, offset: int) -> Body:
        """The bytes from `offset` on; a server that ignores Range is read up to there and the rest given."""
        headers = {"Accept": "application/octet-stream", "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        try:
            answer = self._session.get(url, timeout=(CONNECT_S, READ_S), headers=headers, stream=True)
        except self._requests.RequestException as error:
            raise Unreachable(f"GET {url}", str(error)) from error
        if answer.status_code not in (200, 206):
            answer.close()
            raise ServiceError(f"GET {url}", _status_code(answer.status_code, answer.headers))
        body = HttpBody(answer.raw, _whole_size(answer.status_code, answer.headers, offset), f"GET {url}")
        if answer.status_code == 200:
            body.skip(offset)
        return body


def _session(network: Network) -> requests.Session:
    """A session that reads no variable and no ~/.netrc: requests' rules for them are not those of the other stacks."""
    import requests

    class DecidedSession(requests.Session):
        """Each address, also one that a redirect names, is asked for through the proxy decided for it."""

        def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
            """Called by requests for every request, redirects included."""
            return super().send(request, **{**kwargs, "proxies": _proxies(network, request.url or ""), "verify": network.bundle})

    session = DecidedSession()
    session.trust_env = False
    return session


def _proxies(network: Network, url: str) -> dict[str, str]:
    proxy = network.proxy(url)
    return {urlsplit(url).scheme: proxy} if proxy else {}


class HttpBody:
    """A Body (ports) over urllib3's response."""

    def __init__(self, raw: BaseHTTPResponse, size: int | None, action: str) -> None:
        self._raw, self.size, self._action = raw, size, action

    def read(self, most: int) -> bytes:
        """What has arrived, at least one byte, at most `most`; empty at the end."""
        from urllib3.exceptions import HTTPError

        try:
            return self._raw.read1(most)
        except (HTTPError, OSError, http.client.HTTPException) as error:
            raise Unreachable(self._action, str(error)) from error

    def skip(self, count: int) -> None:
        """Read and forget `count` bytes."""
        while count and (piece := self.read(min(count, 1 << 16))):
            count -= len(piece)

    def close(self) -> None:
        """Drop the connection: what is left of the answer is not wanted."""
        self._raw.close()


class MetadataService:
    """The instance metadata service, version 2. Source: "Instance metadata", EC2 user guide."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._endpoint = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "").strip() or "http://169.254.169.254"
        self._disabled = environment.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"
        self._token = ""

    def get(self, path: str) -> str | None:
        """The text at `/latest/{path}`; None if there is none (404). Raises: ServiceError, Unreachable."""
        if self._disabled:
            raise Unreachable("the metadata service", "AWS_EC2_METADATA_DISABLED is true")
        for fresh in (False, True):
            if fresh or not self._token:
                self._token = self._put_token()
            status, text = self._call("GET", f"/latest/{path}", {"X-aws-ec2-metadata-token": self._token})
            if status != 401:
                break
        if status == 404:
            return None
        if status != 200:
            raise ServiceError("the metadata service", str(status), path)
        return text

    def _put_token(self) -> str:
        ttl = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_S)}
        status, text = self._call("PUT", "/latest/api/token", ttl)
        if status != 200:
            raise ServiceError("the metadata service", str(status), "no token")
        return text

    def _call(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        parts = urlsplit(self._endpoint)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=METADATA_S)
        try:
            connection.request(method, parts.path.rstrip("/") + path, headers=dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable("the metadata service", f"{self._endpoint}: {error}") from error
        finally:
            connection.close()

    def get_json(self, path: str) -> dict[str, Any] | None:
        """The JSON object at `path`; None if there is none. Raises: ServiceError."""
        text = self.get(path)
        try:
            return None if text is None else dict(json.loads(text))
        except (ValueError, TypeError) as error:
            raise ServiceError("the metadata service", "NotJson", path) from error


def _status_code(status: int, headers: Mapping[str, str]) -> str:
    """The status as a code; a refusal that is only about pace says so. Source: GitHub REST, "Rate limits"."""
    if status == 429 or (status == 403 and (headers.get("retry-after") or headers.get("x-ratelimit-remaining") == "0")):
        return "RateLimited"
    return str(status)


def _whole_size(status: int, headers: Mapping[str, str], offset: int) -> int | None:
    total = headers.get("Content-Range", "").rpartition("/")[2]
    if status == 206 and total.isdigit():
        return int(total)
    length = headers.get("Content-Length", "")
    return int(length) + (offset if status == 206 else 0) if length.isdigit() else None
