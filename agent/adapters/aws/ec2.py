"""EC2, one call on ourselves: TerminateInstances, for real or as a DryRun."""

from __future__ import annotations

import re
from urllib.parse import urlencode

from agent.adapters.aws.signing import SignedCalls
from agent.errors import ServiceError

API_VERSION = "2016-11-15"
_CODE = re.compile(rb"<Code>([^<]+)</Code>")
_MESSAGE = re.compile(rb"<Message>([^<]*)</Message>")


class SelfTermination:
    """TerminateInstances by a hand-signed call. Source: the EC2 API reference (query protocol)."""

    def __init__(self, calls: SignedCalls) -> None:
        self._calls = calls

    def terminate(self, instance_id: str) -> None:
        """Returns once EC2 accepted. Raises: ServiceError."""
        self._call(instance_id, dry_run=False)

    def may_terminate(self, instance_id: str) -> str:
        """`permitted`, the code of the refusal, or `unknown`."""
        try:
            self._call(instance_id, dry_run=True)
        except ServiceError as error:
            return {"DryRunOperation": "permitted", "Unreachable": "unknown", "NoCredentials": "unknown"}.get(
                error.code, error.code
            )
        return "unknown"

    def _call(self, instance_id: str, *, dry_run: bool) -> None:
        fields = {"Action": "TerminateInstances", "Version": API_VERSION, "InstanceId.1": instance_id}
        if dry_run:
            fields["DryRun"] = "true"
        headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        action = f"ec2:TerminateInstances on {instance_id}"
        status, answer = self._calls.post(action, urlencode(fields).encode(), headers)
        if status == 200:
            return
        code, message = _CODE.search(answer), _MESSAGE.search(answer)
        detail = message.group(1).decode("utf-8", "replace")[:500] if message else ""
        raise ServiceError(action, code.group(1).decode("utf-8", "replace") if code else str(status), detail)
