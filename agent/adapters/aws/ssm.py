"""SSM Parameter Store, one call: GetParameter."""

from __future__ import annotations

import json

from agent.adapters.aws.signing import SignedCalls, json_refusal
from agent.errors import ServiceError


class SsmParameters:
    """Parameters (ports) by a hand-signed call."""

    def __init__(self, calls: SignedCalls) -> None:
        self._calls = calls

    def read(self, name: str) -> str:
        """The decrypted value. Source: GetParameter in the Systems Manager API reference (JSON 1.1 protocol)."""
        action = f"ssm:GetParameter on {name}"
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "AmazonSSM.GetParameter"}
        answer = self._calls.post(action, json.dumps({"Name": name, "WithDecryption": True}).encode(), headers)
        if answer.status != 200:
            raise json_refusal(action, answer)
        try:
            return str(json.loads(answer.body)["Parameter"]["Value"])
        except (ValueError, KeyError, TypeError) as error:
            raise ServiceError(action, "NotJson", "the answer holds no parameter") from error
