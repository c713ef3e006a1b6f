"""boto3 clients, each made when first needed, with timeouts of ours, and their errors in our words."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from agent.adapters.aws.signing import CredentialChain, Region
from agent.adapters.network import Network
from agent.errors import NoCredentials, ServiceError, Unreachable


class Clients:
    """One boto3 session for the process; its clients may be used from several threads, its making may not."""

    def __init__(self, region: Region, credentials: CredentialChain | None = None, network: Network | None = None) -> None:
        """`credentials`: None for boto3's own chain; `network`: None for what the region's environment says."""
        self._credentials, self._network = credentials, network or Network(region.environment)
        self._region, self._environment = region, region.environment
        self._lock = threading.Lock()
        self._session: Any = None
        self._made: dict[str, Any] = {}

    def client(self, service: str, *, read_s: float, connect_s: float = 3.0, region: str | None = None) -> Any:
        """The client of `service`; no retries of its own (ours are bounded and tested), no validation of what we made.

        botocore calls one variable AWS_ENDPOINT_URL_CLOUDWATCH_LOGS; AWS_ENDPOINT_URL_LOGS is understood as well.
        """
        with self._lock:
            if service not in self._made:
                self._session = self._session or _session(self._credentials)
                made = partial(self._make, service, connect_s, read_s, region or self._region.name())
                client = made({})
                proxy = self._network.proxy(client.meta.endpoint_url)
                self._made[service] = made({urlsplit(client.meta.endpoint_url).scheme: proxy}) if proxy else client
            return self._made[service]

    def _make(self, service: str, connect_s: float, read_s: float, region: str, proxies: dict[str, str]) -> Any:
        """botocore would read proxies from the environment by rules of its own; what is handed in goes before them."""
        from botocore.config import Config

        config = Config(
            connect_timeout=connect_s,
            read_timeout=read_s,
            retries={"total_max_attempts": 1, "mode": "standard"},
            parameter_validation=False,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            proxies=proxies,
            proxies_config={"proxy_ca_bundle": self._network.bundle} if proxies else None,
        )
        endpoint = self._environment.get(f"AWS_ENDPOINT_URL_{service.upper()}") or None
        return self._session.client(
            service, region_name=region, endpoint_url=endpoint, config=config, verify=self._network.bundle
        )


def _session(chain: CredentialChain | None) -> Any:
    """A session that signs with the credentials of `chain`; where the environment decides, botocore finds the same itself."""
    import boto3
    import botocore.session
    from botocore.credentials import CredentialProvider, RefreshableCredentials

    core = botocore.session.Session()
    if chain is not None and chain.is_role_of_instance() and not chain.is_static():

        def found() -> dict[str, str | None]:
            """What is valid now, in botocore's words."""
            now = chain.current()
            ends_at = (now.ends_at or datetime.max.replace(tzinfo=UTC)).isoformat()
            return {"access_key": now.key_id, "secret_key": now.secret, "token": now.token or None, "expiry_time": ends_at}

        class Provider(CredentialProvider):  # type: ignore[misc]
            """The one chain of the agent, for botocore."""

            METHOD = CANONICAL_NAME = "runs-fleet"

            def load(self) -> RefreshableCredentials:
                """Renewed through `found`, shortly before they end."""
                return RefreshableCredentials.create_from_metadata(found(), refresh_using=found, method=self.METHOD)

        core.get_component("credential_provider").insert_before("env", Provider())
    return boto3.session.Session(botocore_session=core)


@contextlib.contextmanager
def translated(action: str) -> Iterator[None]:
    """Errors of botocore come out as ServiceError, Unreachable or NoCredentials, with the service's own code."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except ClientError as error:
        answer = error.response
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
        code = str(answer.get("Error", {}).get("Code") or status)
        raise ServiceError(action, code, str(answer.get("Error", {}).get("Message", ""))[:500]) from error
    except NoCredentialsError as error:
        raise NoCredentials(action, str(error)) from error
    except BotoCoreError as error:
        raise Unreachable(action, str(error)) from error
