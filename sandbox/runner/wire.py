"""How the stand-in runner talks to its GitHub: OAuth with the registration's key, then the broker and the run service.

Source: the V2 flow of actions/runner as far as a life of one job needs it.
"""

from __future__ import annotations

import base64
import json
import time
from typing import Any
from urllib.parse import urlencode, urlsplit

_PKCS1_SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")


class Refused(Exception):
    """The service answered with an error status."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        self.status, self.kind = status, kind
        super().__init__(message)


class Service:
    """Signed-in calls to the broker and the run service."""

    def __init__(self, runner: dict[str, Any], credentials: dict[str, Any], key: dict[str, str]) -> None:
        self.runner = runner
        self._credentials, self._key = credentials, key
        self._token = ""

    def call(self, method: str, url: str, body: Any = None, timeout_s: float = 65.0) -> tuple[int, Any]:
        """One call; a relative `url` is below ServerUrlV2. Raises: Refused, OSError."""
        if not url.startswith("http"):
            url = str(self.runner["ServerUrlV2"]).rstrip("/") + "/" + url
        if not self._token:
            self._token = self._signed_in()
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        return exchange(method, url, json.dumps(body).encode() if body is not None else b"", headers, timeout_s)

    def _signed_in(self) -> str:
        data = self._credentials["data"]
        now = int(time.time())
        claims = {"sub": data["clientId"], "iss": data["clientId"], "aud": data["authorizationUrl"], "iat": now, "exp": now + 300}
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": signed_jwt(claims, self._key),
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        _, answer = exchange("POST", data["authorizationUrl"], urlencode(form).encode(), headers)
        return str(answer["access_token"])


def exchange(method: str, url: str, body: bytes, headers: dict[str, str], timeout_s: float = 65.0) -> tuple[int, Any]:
    """One HTTP call with a JSON answer. Raises: Refused for 4xx and 5xx, OSError."""
    import http.client  # here: a runner that plays a scenario file needs none, and it is half of a start

    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), body, headers)
        answer = connection.getresponse()
        text = answer.read()
        decoded = json.loads(text) if text else None
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()
    if answer.status >= 400:
        told = decoded if isinstance(decoded, dict) else {}
        message = str(told.get("errorMessage") or told.get("message") or answer.reason)
        raise Refused(answer.status, str(told.get("errorKind", "")), message)
    return answer.status, decoded


def signed_jwt(claims: dict[str, Any], key: dict[str, str]) -> str:
    """RS256 with the numbers of `.credentials_rsaparams`. Source: RFC 7515, RFC 8017 (PKCS #1 v1.5)."""
    import hashlib

    modulus, exponent = (int.from_bytes(base64.b64decode(key[name]), "big") for name in ("modulus", "d"))
    signing_input = ".".join(_segment(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT"}, claims))
    digest = _PKCS1_SHA256 + hashlib.sha256(signing_input.encode()).digest()
    size = (modulus.bit_length() + 7) // 8
    padded = b"\x00\x01" + b"\xff" * (size - len(digest) - 3) + b"\x00" + digest
    signature = pow(int.from_bytes(padded, "big"), exponent, modulus).to_bytes(size, "big")
    return f"{signing_input}.{_segment(signature)}"


def _segment(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
