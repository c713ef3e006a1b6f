"""The configuration as an S3 object of this instance's own: who are we, and what lies there for us."""

from __future__ import annotations

import re
from urllib.parse import quote

from agent.adapters.aws.signing import Answered, SignedCalls, refusal
from agent.contract.names import config_object

_REGION = re.compile(rb"<Region>([a-z0-9-]+)</Region>")
_USER = re.compile(rb"<UserId>([^<]+)</UserId>")


class S3Configurations:
    """Parameters (ports) by hand-signed calls: importing boto3 would take longer than both of them."""

    def __init__(self, objects: SignedCalls, identity: SignedCalls) -> None:
        self._objects, self._identity = objects, identity
        self._user_id = ""
        self._region: str | None = None
        """The bucket's, where it has said that it is not ours."""

    def read(self, name: str) -> str:
        """The object of ours in the bucket `name`. Source: GetObject in the S3 API reference (path-style address)."""
        self._user_id = self._user_id or self._own()
        key = config_object(self._user_id)
        action, path = f"s3:GetObject on {name}/{key}", f"/{quote(f'{name}/{key}', safe='/~')}"
        answer = self._objects.get(action, path, self._region)
        if (elsewhere := _region_told(answer)) not in (None, self._region):
            self._region = elsewhere
            answer = self._objects.get(action, path, elsewhere)
        if answer.status == 200:
            return answer.body.decode("utf-8", "replace")
        raise refusal(action, answer)

    def _own(self) -> str:
        """`AROA…:i-…`; needs no permission. Source: GetCallerIdentity in the STS API reference (query protocol)."""
        action = "sts:GetCallerIdentity"
        headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        answer = self._identity.post(action, b"Action=GetCallerIdentity&Version=2011-06-15", headers)
        if (found := _USER.search(answer.body)) is not None and answer.status == 200:
            return found.group(1).decode()
        raise refusal(action, answer)


def _region_told(answer: Answered) -> str | None:
    """Where the bucket is, by an answer that says that it is not where it was asked for.

    Source: "Making requests", "Request redirection" of the S3 user guide: 301 and 307 with the header, 400 with the region in the
    body (AuthorizationHeaderMalformed); botocore's S3RegionRedirector follows the same answers.
    """
    if answer.status not in (301, 307, 400):
        return None
    found = _REGION.search(answer.body)
    return answer.headers.get("x-amz-bucket-region") or (found.group(1).decode() if found else None)
