"""boto3 clients, each made when first needed, with timeouts of ours, and their errors in our words."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from agent.adapters.aws.signing import Credentials, Region
from agent.errors import NoCredentials, ServiceError, Unreachable


class Clients:
    """One boto3 session for the process; its clients may be used from several threads, its making may not."""

    def __init__(self, region: Region, credentials: Callable[[], Credentials] | None = None) -> None:
        """`credentials`: those to sign with from first to last; None: boto3 finds and renews its own."""
        self._credentials = credentials
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
                import boto3
                from botocore.config import Config

                self._session = self._session or boto3.session.Session(**self._fixed())
                config = Config(
                    connect_timeout=connect_s,
                    read_timeout=read_s,
                    retries={"total_max_attempts": 1, "mode": "standard"},
                    parameter_validation=False,
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                )
                endpoint = self._environment.get(f"AWS_ENDPOINT_URL_{service.upper()}") or None
                where = region or self._region.name()
                self._made[service] = self._session.client(service, region_name=where, endpoint_url=endpoint, config=config)
            return self._made[service]

    def _fixed(self) -> dict[str, str | None]:
        if self._credentials is None:
            return {}
        found = self._credentials()
        return {
            "aws_access_key_id": found.key_id,
            "aws_secret_access_key": found.secret,
            "aws_session_token": found.token or None,
        }


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
