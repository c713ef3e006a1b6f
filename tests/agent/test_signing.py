"""Calls signed by hand carry, byte for byte, the signature that AWS's own library would have put there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from agent.adapters.aws.objects import S3Configurations
from agent.adapters.aws.signing import CredentialChain, Region, SignedCalls
from agent.adapters.aws.ssm import SsmParameters
from agent.adapters.http import MetadataService
from agent.adapters.network import Network
from agent.calls.retries import is_passing
from agent.errors import ServiceError, Unreachable
from tests.answering import Answering, Asked

REGION, OWN = "eu-west-1", "AROAEXAMPLEROLEID:i-0123456789abcdef0"
IDENTITY = f"<GetCallerIdentityResponse><UserId>{OWN}</UserId></GetCallerIdentityResponse>".encode()


@dataclass
class Service:
    """Answers what it is told to, in order, and keeps what it heard."""

    answers: list[tuple[int, bytes]] = field(default_factory=list)
    heard: list[Asked] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()

    def answer(asked: Asked) -> tuple[int, bytes]:
        made.heard.append(asked)
        return made.answers.pop(0)

    server = Answering(answer)
    made.url = server.url
    yield made
    server.stop()


def calls(service: Service, name: str, token: str) -> SignedCalls:
    environment = {
        "AWS_ENDPOINT_URL": service.url, "AWS_REGION": REGION, "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI", "AWS_SESSION_TOKEN": token,
    }  # fmt: skip
    metadata = MetadataService(environment)
    return SignedCalls(
        name,
        environment,
        CredentialChain(environment, metadata),
        Region(environment, metadata),
        lambda: datetime.now(UTC),
        Network(environment),
    )


def expected(heard: Asked, service: Service, name: str, token: str) -> str:
    """What botocore signs this very request with, at the same moment."""
    signed = {line.lower() for line in heard.headers["authorization"].partition("SignedHeaders=")[2].split(",")[0].split(";")}
    headers = {key: value for key, value in heard.headers.items() if key.lower() in signed and key.lower() not in ADDED}
    request = AWSRequest(heard.method, service.url + heard.path, headers, heard.body)
    request.context["timestamp"] = heard.headers["x-amz-date"]
    kind = S3SigV4Auth if name == "s3" else SigV4Auth
    auth = kind(Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI", token or None), name, REGION)
    auth._modify_request_before_signing(request)  # all of add_auth but its own reading of the clock
    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    return str(signature)


ADDED = frozenset({"host", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"})
"""What botocore puts there itself."""


@pytest.mark.parametrize("token", ["", "a/session+token=="])
def test_ssm_ec2_and_sts_are_signed_as_botocore_signs(service: Service, token: str) -> None:
    service.answers = [(200, b'{"Parameter": {"Value": "v"}}')]

    assert SsmParameters(calls(service, "ssm", token)).read("/runs-fleet/runners/i-1/config") == "v"

    (heard,) = service.heard
    assert heard.headers["authorization"].rpartition("Signature=")[2] == expected(heard, service, "ssm", token)


@pytest.mark.parametrize("token", ["", "a/session+token=="])
def test_an_object_with_a_colon_in_its_key_is_signed_as_botocore_signs(service: Service, token: str) -> None:
    service.answers = [(200, IDENTITY), (200, b"{}"), (200, b"{}")]
    configurations = S3Configurations(calls(service, "s3", token), calls(service, "sts", token))

    assert [configurations.read("bucket"), configurations.read("bucket")] == ["{}", "{}"]

    asked, first, second = service.heard
    assert asked.headers["authorization"].rpartition("Signature=")[2] == expected(asked, service, "sts", token)
    assert first.headers["authorization"].rpartition("Signature=")[2] == expected(first, service, "s3", token)
    assert first.path == second.path == "/bucket/configs/AROAEXAMPLEROLEID%3Ai-0123456789abcdef0/config"


@pytest.mark.parametrize("answer", [(404, "NoSuchKey"), (403, "AccessDenied"), (503, "SlowDown"), (500, "")])
def test_a_refusal_is_told_in_the_services_own_words(service: Service, answer: tuple[int, str]) -> None:
    status, code = answer
    told = f"<Error><Code>{code}</Code><Message>because</Message></Error>" if code else "garbage"
    service.answers = [(200, IDENTITY), (status, told.encode())]

    with pytest.raises(ServiceError) as refused:
        S3Configurations(calls(service, "s3", ""), calls(service, "sts", "")).read("bucket")

    assert (refused.value.code, refused.value.action) == (code or "500", f"s3:GetObject on bucket/configs/{OWN}/config")


def test_who_we_are_is_asked_again_if_nobody_said_it(service: Service) -> None:
    service.answers = [(500, b""), (200, IDENTITY), (200, b"{}")]
    configurations = S3Configurations(calls(service, "s3", ""), calls(service, "sts", ""))

    with pytest.raises(ServiceError, match="sts:GetCallerIdentity"):
        configurations.read("bucket")
    assert configurations.read("bucket") == "{}"


def test_nobody_there_is_a_passing_fault() -> None:
    nobody = Service(url="http://127.0.0.1:9")

    with pytest.raises(Unreachable):
        S3Configurations(calls(nobody, "s3", ""), calls(nobody, "sts", "")).read("bucket")


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (301, {"x-amz-bucket-region": "eu-central-1"}, b"<Error><Code>PermanentRedirect</Code></Error>"),
        (307, {"X-Amz-Bucket-Region": "eu-central-1"}, b""),
        (400, {}, b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-central-1</Region></Error>"),
    ],
)
def test_a_bucket_in_another_region_is_followed_there_and_remembered(status: int, headers: dict[str, str], body: bytes) -> None:
    """Kept in the region that S3 names, signed for it; who we are is still asked in our own."""
    heard: list[Asked] = []

    def answer(asked: Asked) -> tuple[int, bytes] | tuple[int, bytes, dict[str, str]]:
        heard.append(asked)
        scope = asked.headers["authorization"].split("/")
        if scope[3] == "sts":
            return 200, IDENTITY
        return (200, b"the configuration") if scope[2] == "eu-central-1" else (status, body, headers)

    server = Answering(answer)
    place = Service(url=server.url)
    source = S3Configurations(calls(place, "s3", ""), calls(place, "sts", ""))

    assert [source.read("config"), source.read("config")] == ["the configuration"] * 2
    assert [asked.headers["authorization"].split("/")[2] for asked in heard] == [REGION, REGION, "eu-central-1", "eu-central-1"]
    server.stop()


def test_a_clock_that_is_off_is_told_under_the_code_of_sts(service: Service) -> None:
    told = b"<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code><Message>Signature expired</Message></Error></ErrorResponse>"
    service.answers = [(403, told)]

    with pytest.raises(ServiceError) as refused:
        S3Configurations(calls(service, "s3", ""), calls(service, "sts", "")).read("config")

    assert (refused.value.code, is_passing(refused.value)) == ("SignatureDoesNotMatch", True)


class Role:
    """A metadata service whose role's credentials end so many seconds from when they are asked for."""

    def __init__(self, *ends_in_s: float) -> None:
        self._ends_in_s, self.given = list(ends_in_s), 0

    def get(self, path: str) -> str:
        """The role's name."""
        return "machines"

    def get_json(self, path: str) -> dict[str, str]:
        """The next credentials."""
        end = datetime.now(UTC) + timedelta(seconds=self._ends_in_s[min(self.given, len(self._ends_in_s) - 1)])
        self.given += 1
        told = {"AccessKeyId": f"ASIA{self.given}", "SecretAccessKey": "s", "Token": "t"}  # pragma: allowlist secret
        return {**told, "Code": "Success", "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ")}


@pytest.mark.parametrize(("ends_in_s", "asked"), [(3_600.0, 1), (300.0, 1), (90.0, 2), (1.0, 2), (-10.0, 2)])
def test_a_roles_credentials_are_renewed_two_minutes_before_their_end_and_not_sooner(ends_in_s: float, asked: int) -> None:
    role = Role(ends_in_s, 3_600.0)
    chain = CredentialChain({}, role)  # type: ignore[arg-type]

    keys = [chain.current().key_id for _ in range(3)]

    assert (role.given, keys[-1]) == (asked, f"ASIA{asked}")
