"""A signed AWS call with the standard library alone: 40 ms from process start where boto3 needs 280.

It also works where boto3 cannot be imported, which matters for the one call that ends the bill.
Source: "Signature Version 4 signing process" in the AWS general reference.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from agent.adapters.http import MetadataService
from agent.adapters.network import Network
from agent.errors import NoCredentials, ServiceError, Unreachable

if TYPE_CHECKING:
    import urllib3

CONNECT_S = 3.0
"""Seconds to connect and for each answer: our callers try again, so a hung call must not eat their patience."""


_CODE, _MESSAGE = re.compile(rb"<Code>([^<]+)</Code>"), re.compile(rb"<Message>([^<]*)</Message>")


@dataclass(frozen=True)
class Credentials:
    """What a call is signed with; `ends_at` is None for those that do not expire."""

    key_id: str
    secret: str
    token: str = ""
    ends_at: datetime | None = None


class CredentialChain:
    """The environment's credentials, else the instance role's; anything more exotic is left to boto3's own chain."""

    def __init__(self, environment: Mapping[str, str], metadata: MetadataService) -> None:
        self._environment, self._metadata = environment, metadata
        self._kept: Credentials | None = None
        self._found_by_boto3: Any = None

    def is_static(self) -> bool:
        """Whether the environment carries credentials of its own."""
        return bool(self._environment.get("AWS_ACCESS_KEY_ID"))

    def current(self) -> Credentials:
        """The credentials to sign with now. Raises: NoCredentials."""
        if self.is_static():
            e = self._environment
            return Credentials(e["AWS_ACCESS_KEY_ID"], e.get("AWS_SECRET_ACCESS_KEY", ""), e.get("AWS_SESSION_TOKEN", ""))
        if not self.is_role_of_instance():
            return self._of_boto3()
        if self._kept is None or (
            self._kept.ends_at is not None and (self._kept.ends_at - datetime.now(UTC)).total_seconds() < 120
        ):
            self._kept = self._of_role()
        return self._kept

    def is_role_of_instance(self) -> bool:
        """Whether nothing in the environment asks for credentials from elsewhere (a profile, a container, web identity)."""
        other = (
            "AWS_PROFILE",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
        )
        return not any(self._environment.get(name) for name in other)

    def _of_role(self) -> Credentials:
        """Source: "Retrieve security credentials from instance metadata", EC2 user guide."""
        try:
            role = self._metadata.get("meta-data/iam/security-credentials/")
            answer = self._metadata.get_json(f"meta-data/iam/security-credentials/{role.split()[0]}") if role else None
        except ServiceError as error:
            raise NoCredentials("the credential chain", f"nothing in the environment, and {error}") from error
        if not answer or answer.get("Code") != "Success":
            raise NoCredentials("the credential chain", "the instance has no role yet")
        ends_at = datetime.fromisoformat(str(answer["Expiration"]).replace("Z", "+00:00"))
        return Credentials(answer["AccessKeyId"], answer["SecretAccessKey"], answer["Token"], ends_at)

    def _of_boto3(self) -> Credentials:
        """Asked for each time: those that end are renewed by what boto3 found. Raises: NoCredentials."""
        import boto3
        from botocore.exceptions import BotoCoreError

        try:
            self._found_by_boto3 = self._found_by_boto3 or boto3.session.Session().get_credentials()
            if self._found_by_boto3 is None:
                raise NoCredentials("the credential chain", "boto3 found none")
            frozen = self._found_by_boto3.get_frozen_credentials()
        except BotoCoreError as error:
            raise NoCredentials("the credential chain", str(error)) from error
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token or "")


@dataclass(frozen=True)
class Region:
    """The region, asked of the metadata service only where the environment does not say."""

    environment: Mapping[str, str]
    metadata: MetadataService

    def name(self) -> str:
        """Raises: NoCredentials while nobody says; without a region nothing can be signed."""
        found = self.environment.get("AWS_REGION") or self.environment.get("AWS_DEFAULT_REGION")
        try:
            found = found or self.metadata.get("meta-data/placement/region")
        except ServiceError as error:
            raise NoCredentials("the region", f"AWS_REGION is not set, and {error}") from error
        if not found:
            raise NoCredentials("the region", "set AWS_REGION")
        return found


@dataclass(frozen=True)
class Answered:
    """An answer of a service, whatever its status."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    """By names in lower case."""


class SignedCalls:
    """Calls of one service, signed, over a connection that `network` decides on."""

    def __init__(
        self,
        service: str,
        environment: Mapping[str, str],
        credentials: CredentialChain,
        region: Region,
        now: Callable[[], datetime],
        network: Network,
    ) -> None:
        self._service, self._environment = service, environment
        self._credentials, self._region, self._now, self._network = credentials, region, now, network

    def endpoint(self, region: str) -> str:
        """Where the service answers, as the SDKs' own variables say."""
        ignored = self._environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true"
        names = () if ignored else (f"AWS_ENDPOINT_URL_{self._service.upper()}", "AWS_ENDPOINT_URL")
        configured = next((self._environment[name] for name in names if self._environment.get(name)), None)
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        return configured or f"https://{self._service}.{region}.{suffix}"

    def post(self, action: str, body: bytes, headers: Mapping[str, str], region: str | None = None) -> Answered:
        """One call, no retry. `region`: None for our own. Raises: Unreachable, NoCredentials."""
        return self._call("POST", action, "/", body, headers, region or self._region.name())

    def get(self, action: str, path: str, region: str | None = None) -> Answered:
        """As `post`; `path` is encoded as it goes over the wire. S3 wants the body's digest in a header as well."""
        digest = {"X-Amz-Content-Sha256": hashlib.sha256(b"").hexdigest()}
        return self._call("GET", action, path, b"", digest, region or self._region.name())

    def _call(self, method: str, action: str, path: str, body: bytes, headers: Mapping[str, str], region: str) -> Answered:
        endpoint = self.endpoint(region)
        parts = urlsplit(endpoint)
        path = parts.path.rstrip("/") + path
        signed = self._signed(region, parts.netloc, method, path, body, headers)
        if (proxy := self._network.proxy(endpoint)) is not None:
            return self._through(proxy, method, action, f"{parts.scheme}://{parts.netloc}{path}", body, signed)
        connection = self._connection(parts.scheme, parts.hostname or "", parts.port)
        try:
            connection.request(method, path, body or None, signed)
            answer = connection.getresponse()
            return Answered(answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()})
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(action, f"{parts.netloc}: {error}") from error
        finally:
            connection.close()

    def _connection(self, scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
        if scheme != "https":
            return http.client.HTTPConnection(host, port, timeout=CONNECT_S)
        return http.client.HTTPSConnection(host, port, timeout=CONNECT_S, context=self._network.context)

    def _through(self, proxy: str, method: str, action: str, url: str, body: bytes, signed: Mapping[str, str]) -> Answered:
        """The call through a proxy: urllib3's, as botocore and requests do it."""
        import urllib3

        try:
            answer = pool_through(proxy, self._network).request(
                method, url, body=body or None, headers=signed, timeout=CONNECT_S, retries=False, redirect=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(action, f"{urlsplit(url).netloc} through the proxy {urlsplit(proxy).hostname}: {error}") from error
        return Answered(answer.status, answer.data, {name.lower(): value for name, value in answer.headers.items()})

    def _signed(self, region: str, host: str, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> dict[str, str]:
        credentials = self._credentials.current()
        stamp = self._now().strftime("%Y%m%dT%H%M%SZ")
        wanted = {**{name.lower(): value for name, value in headers.items()}, "host": host, "x-amz-date": stamp}
        if credentials.token:
            wanted["x-amz-security-token"] = credentials.token
        names = ";".join(sorted(wanted))
        lines = "".join(f"{name}:{wanted[name].strip()}\n" for name in sorted(wanted))
        canonical = "\n".join([method, path, "", lines, names, hashlib.sha256(body).hexdigest()])
        scope = f"{stamp[:8]}/{region}/{self._service}/aws4_request"
        to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = f"AWS4{credentials.secret}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
        wanted["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credentials.key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return wanted


def pool_through(proxy: str, network: Network) -> urllib3.ProxyManager:
    """Connections through `proxy`, which is given the user and password that its URL names."""
    import urllib3

    parts = urlsplit(proxy)
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
    headers = urllib3.util.make_headers(proxy_basic_auth=user) if user else {}
    return urllib3.ProxyManager(
        f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}",
        proxy_headers=headers,
        proxy_ssl_context=network.context if parts.scheme == "https" else None,
        ssl_context=network.context,
    )


def refusal(action: str, answer: Answered) -> ServiceError:
    """What a service that speaks XML says of a call it did not do."""
    code, message = _CODE.search(answer.body), _MESSAGE.search(answer.body)
    told = code.group(1).decode("utf-8", "replace") if code else str(answer.status)
    return ServiceError(action, told, message.group(1).decode("utf-8", "replace")[:500] if message else "")


def json_refusal(action: str, answer: Answered) -> ServiceError:
    """What a service that speaks JSON says of a call it did not do."""
    try:
        told = dict(json.loads(answer.body))
    except (ValueError, TypeError):
        told = {}
    code = str(told.get("__type") or answer.status).rpartition("#")[2]
    return ServiceError(action, code, str(told.get("message") or told.get("Message") or "")[:500])
