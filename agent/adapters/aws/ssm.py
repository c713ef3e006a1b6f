"""SSM Parameter Store, one call: GetParameter."""

from __future__ import annotations

import json

from agent.adapters.aws.signing import SignedCalls
from agent.errors import ServiceError


class SsmParameters:
    """Parameters (ports) by a hand-signed call."""

    def __init__(self, calls: SignedCalls) -> None:
        self._calls = calls

    def read(self, name: str) -> str:
        """The decrypted value. Source: GetParameter in the Systems Manager API reference (JSON 1.1 protocol)."""
        action = f"ssm:GetParameter on {name}"
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "AmazonSSM.GetParameter"}
        status, answer = self._calls.post(action, json.dumps({"Name": name, "WithDecryption": True}).encode(), headers)
        try:
            decoded = json.loads(answer)
            if status == 200:
                return str(decoded["Parameter"]["Value"])
        except (ValueError, KeyError, TypeError):
            decoded = {}
        code = str(decoded.get("__type") or status).rpartition("#")[2]
        raise ServiceError(action, code, str(decoded.get("message") or decoded.get("Message") or "")[:500])
