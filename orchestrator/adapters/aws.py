"""Clients of AWS for the orchestrator, and the translation of their errors into ServiceFailed."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
)

from orchestrator.adapters.trust import bundle
from orchestrator.errors import ServiceFailed, Throttled, Unanswered, without_header

CONNECT_S, READ_S = 5.0, 15.0
THROTTLED = frozenset({"RequestLimitExceeded", "Throttling", "ThrottlingException", "TooManyRequestsException", "SlowDown"})
"""AWS's words for "later". Source: the error codes of EC2, SSM and DynamoDB."""
POOL = 50
"""Connections kept per service: more than threads that call."""
LONG_POLL_READ_S = 30.0
"""Longer than any long poll: a header time-out below it would look like a broken queue."""


def named_region(environment: Mapping[str, str]) -> str | None:
    """The region that the environment names; None: the profile's. boto3 itself reads the second variable alone.

    Source: "AWS_REGION" in the AWS SDKs and Tools Reference Guide; "Configuration" in the boto3 documentation.
    """
    return environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or None


class Clients:
    """One client per service, made when first needed."""

    def __init__(self, session: boto3.session.Session | None = None) -> None:
        """`session` may be one that has already loaded what its clients need."""
        self._session = session or boto3.session.Session(region_name=named_region(os.environ))
        self._made: dict[str, Any] = {}
        self._making = threading.Lock()

    def get(self, service: str, region: str | None = None) -> Any:
        """The client; three attempts of its own for what is safe to repeat. From any thread. `region`: if not the usual one."""
        with self._making:
            if service not in self._made:
                self._insist_on_credentials(service)
                read_s = LONG_POLL_READ_S if service == "sqs" else READ_S
                config = Config(
                    connect_timeout=CONNECT_S, read_timeout=read_s, retries={"total_max_attempts": 3, "mode": "standard"},
                    max_pool_connections=POOL,
                )  # fmt: skip
                self._made[service] = self._session.client(service, region_name=region, config=config, verify=bundle())
            return self._made[service]

    def fresh(self, service: str, config: Config) -> Any:
        """A client of its own, that waits and repeats as its user says."""
        with self._making:
            self._insist_on_credentials(service)
            return self._session.client(service, config=config, verify=bundle())

    def _insist_on_credentials(self, service: str) -> None:
        """A client that is made without credentials never gets any, also if they are there a moment later.

        Raises: ServiceFailed; code `NoCredentials`.
        """
        if not self._session.region_name:
            raise ServiceFailed(f"{service}:credentials", "NoCredentials", "no region is named")
        if self._session.get_credentials() is None:
            raise ServiceFailed(f"{service}:credentials", "NoCredentials", "no credentials were found")

    @property
    def region(self) -> str:
        """The region that clients are made for."""
        return str(self.get("ec2").meta.region_name)


@contextlib.contextmanager
def translated(action: str) -> Iterator[None]:
    """botocore's errors in our words."""
    try:
        yield
    except ClientError as error:
        told = error.response.get("Error", {})
        kind = Throttled if told.get("Code") in THROTTLED else ServiceFailed
        raise kind(action, str(told.get("Code")), str(told.get("Message", ""))[:300]) from error
    except (NoCredentialsError, PartialCredentialsError, NoRegionError, ProfileNotFound) as error:
        raise ServiceFailed(action, "NoCredentials", str(error)) from error  # nothing was sent
    except ParamValidationError as error:
        raise ServiceFailed(action, "ParamValidation", str(error)[:300]) from error  # nothing was sent
    except BotoCoreError as error:
        words = without_header(str(error))
        if words != str(error):
            raise ServiceFailed(action, "NoCredentials", "the credentials hold a character that no header may have") from None
        raise Unanswered(action, words) from error


def caller(clients: Clients) -> str:
    """Who AWS says we are: the ARN. Raises: ServiceFailed; code `NoCredentials`: there are none, or no region."""
    with translated("sts:GetCallerIdentity"):
        return str(clients.get("sts").get_caller_identity()["Arn"])


def pages(action: str, paginated: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One page after the other, each fetched when it is asked for; errors in our words."""
    each = iter(paginated)
    while True:
        with translated(action):
            page = next(each, None)
        if page is None:
            return
        yield page
