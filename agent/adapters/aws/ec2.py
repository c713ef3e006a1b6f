"""EC2, the calls on ourselves: TerminateInstances, for real or as a DryRun, and the metadata service's end."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlencode

from agent.adapters.aws.signing import CredentialChain, SignedCalls, refusal
from agent.errors import ServiceError

API_VERSION = "2016-11-15"


class SelfTermination:
    """Hand-signed calls on our own instance. Source: the EC2 API reference (query protocol)."""

    def __init__(self, calls: SignedCalls, credentials: CredentialChain) -> None:
        self._calls, self._credentials = calls, credentials

    def terminate(self, instance_id: str) -> None:
        """Returns once EC2 accepted. Raises: ServiceError."""
        self._call("TerminateInstances", {"InstanceId.1": instance_id})

    def may_terminate(self, instance_id: str) -> str:
        """`permitted`, the code of the refusal, or `unknown`."""
        try:
            self._call("TerminateInstances", {"InstanceId.1": instance_id, "DryRun": "true"})
        except ServiceError as error:
            return {"DryRunOperation": "permitted", "Unreachable": "unknown", "NoCredentials": "unknown"}.get(
                error.code, error.code
            )
        return "unknown"

    def close_metadata(self, instance_id: str) -> None:
        """ModifyInstanceMetadataOptions; returns once EC2 accepted. Raises: ServiceError."""
        self._call(
            "ModifyInstanceMetadataOptions", {"InstanceId": instance_id, "HttpEndpoint": "disabled", "HttpTokens": "required"}
        )

    def credentials_end(self) -> datetime | None:
        """When the credentials end. Raises: NoCredentials."""
        return self._credentials.current().ends_at

    def _call(self, call: str, words: Mapping[str, str]) -> None:
        fields = {"Action": call, "Version": API_VERSION, **words}
        headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        action = f"ec2:{call} on {words.get('InstanceId.1') or words['InstanceId']}"
        answer = self._calls.post(action, urlencode(fields).encode(), headers)
        if answer.status != 200:
            raise refusal(action, answer)
