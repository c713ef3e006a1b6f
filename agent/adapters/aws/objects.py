"""The configuration as an S3 object of this instance's own: who are we, and what lies there for us."""

from __future__ import annotations

import re
from urllib.parse import quote

from agent.adapters.aws.signing import SignedCalls, refusal
from agent.contract.names import config_object

_USER = re.compile(rb"<UserId>([^<]+)</UserId>")


class S3Configurations:
    """Parameters (ports) by hand-signed calls: importing boto3 would take longer than both of them."""

    def __init__(self, objects: SignedCalls, identity: SignedCalls) -> None:
        self._objects, self._identity = objects, identity
        self._user_id = ""

    def read(self, name: str) -> str:
        """The object of ours in the bucket `name`. Source: GetObject in the S3 API reference (path-style address)."""
        self._user_id = self._user_id or self._own()
        key = config_object(self._user_id)
        action = f"s3:GetObject on {name}/{key}"
        status, answer = self._objects.get(action, f"/{quote(f'{name}/{key}', safe='/~')}")
        if status == 200:
            return answer.decode("utf-8", "replace")
        raise refusal(action, status, answer)

    def _own(self) -> str:
        """`AROA…:i-…`; needs no permission. Source: GetCallerIdentity in the STS API reference (query protocol)."""
        action = "sts:GetCallerIdentity"
        headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        status, answer = self._identity.post(action, b"Action=GetCallerIdentity&Version=2011-06-15", headers)
        if (found := _USER.search(answer)) is not None and status == 200:
            return found.group(1).decode()
        raise refusal(action, status, answer)
