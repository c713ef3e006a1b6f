"""The boto3 clients: made once, pointed where the environment says, without retries; their errors in our words."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from agent.adapters.aws.clients import Clients, translated
from agent.adapters.aws.signing import CredentialChain, Credentials, Region
from agent.adapters.http import MetadataService
from agent.errors import NoCredentials, ServiceError, Unreachable
from tests.agent.httpd import Site
from tests.conftest import Moto


def in_minutes(minutes: float) -> datetime:
    return datetime.now(UTC) + timedelta(minutes=minutes)


def clients_of(environment: Mapping[str, str]) -> Clients:
    return Clients(Region({"AWS_REGION": "us-east-1", **environment}, MetadataService({})))


class RoleChain(CredentialChain):
    """The chain of an instance whose role's credentials a test decides."""

    def __init__(self, *found: Credentials) -> None:
        super().__init__({}, MetadataService({}))
        self.found = list(found)

    def current(self) -> Credentials:
        return self.found.pop(0) if len(self.found) > 1 else self.found[0]


def test_a_client_is_made_once_however_many_threads_ask_for_it(moto: Moto) -> None:
    clients = clients_of({})

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: clients.client("sqs", read_s=5.0), range(32)))

    assert {id(client) for client in made} == {id(clients.client("sqs", read_s=5.0))}
    assert clients.client("s3", read_s=5.0) is not made[0]


def test_the_region_is_the_environments_unless_the_call_names_one(moto: Moto) -> None:
    clients = clients_of({"AWS_REGION": "eu-west-1"})

    assert clients.client("sqs", read_s=5.0).meta.region_name == "eu-west-1"
    assert clients.client("ssm", read_s=5.0, region="eu-north-1").meta.region_name == "eu-north-1"


def test_an_endpoint_of_the_services_own_goes_before_the_common_one(moto: Moto) -> None:
    clients = clients_of({"AWS_ENDPOINT_URL_LOGS": "http://127.0.0.1:9"})

    assert clients.client("logs", read_s=5.0).meta.endpoint_url == "http://127.0.0.1:9"
    assert clients.client("sqs", read_s=5.0).meta.endpoint_url == moto.url


def signed_with(site: Site, chain: CredentialChain, calls: int = 1) -> list[Mapping[str, str]]:
    """The headers of so many calls by one client."""
    environment = {"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_S3": site.url}
    client = Clients(Region(environment, MetadataService({})), chain).client("s3", read_s=5.0)
    for _ in range(calls):
        with pytest.raises(ServiceError), translated("s3:GetObject"):
            client.get_object(Bucket="b", Key="k")
    return [request.headers for request in site.requests]


def test_a_call_is_signed_with_the_credentials_of_the_agents_own_chain(moto: Moto, site: Site) -> None:
    (headers,) = signed_with(site, RoleChain(Credentials("ASIAROLE", "secret", "role-token", in_minutes(360))))

    assert "Credential=ASIAROLE/" in headers["Authorization"]
    assert headers["X-Amz-Security-Token"] == "role-token"


def test_credentials_that_end_soon_are_asked_of_the_chain_again(moto: Moto, site: Site) -> None:
    old, new = Credentials("ASIAOLD", "s", "t", in_minutes(5)), Credentials("ASIANEW", "s", "t", in_minutes(360))

    headers = signed_with(site, RoleChain(old, new, new), calls=2)

    assert "Credential=ASIANEW/" in headers[-1]["Authorization"]


def test_credentials_without_a_token_are_signed_without_one(moto: Moto, site: Site) -> None:
    (headers,) = signed_with(site, RoleChain(Credentials("AKIASTATIC", "secret")))

    assert "X-Amz-Security-Token" not in headers


def test_a_role_that_has_no_credentials_yet_is_told_as_such(moto: Moto) -> None:
    class Bare(RoleChain):
        def current(self) -> Credentials:
            raise NoCredentials("the credential chain", "the instance has no role yet")

    clients = Clients(Region({"AWS_REGION": "us-east-1"}, MetadataService({})), Bare())

    with pytest.raises(NoCredentials):
        clients.client("s3", read_s=5.0)


@pytest.mark.parametrize("name", ["AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_WEB_IDENTITY_TOKEN_FILE"])
def test_where_the_environment_asks_for_other_credentials_boto3_finds_them(moto: Moto, site: Site, name: str) -> None:
    chain = CredentialChain({name: "x"}, MetadataService({}))

    (headers,) = signed_with(site, chain)

    assert f"Credential={moto.environment['AWS_ACCESS_KEY_ID']}/" in headers["Authorization"]


@pytest.mark.parametrize("status", [500, 503, 429])
def test_nothing_is_repeated_behind_our_back(moto: Moto, site: Site, status: int) -> None:
    site.serve("/b/k", status=status)
    client = clients_of({"AWS_ENDPOINT_URL_S3": site.url}).client("s3", read_s=5.0)

    with pytest.raises(ServiceError) as refused, translated("s3:HeadObject"):
        client.head_object(Bucket="b", Key="k")

    assert (site.asked(), refused.value.code) == (["/b/k"], str(status))


def test_a_service_that_accepts_and_says_nothing_is_given_up_after_the_clients_own_time(moto: Moto) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        client = clients_of({"AWS_ENDPOINT_URL_S3": url}).client("s3", read_s=0.2)

        with pytest.raises(Unreachable, match="Read timeout"), translated("s3:HeadObject"):
            client.head_object(Bucket="b", Key="k")


def test_a_refusal_of_aws_keeps_its_own_code_and_words(moto: Moto) -> None:
    client = clients_of({}).client("ssm", read_s=5.0)

    with pytest.raises(ServiceError) as refused, translated("ssm:GetParameter on /x"):
        client.get_parameter(Name="/x")

    assert (refused.value.action, refused.value.code) == ("ssm:GetParameter on /x", "ParameterNotFound")
    assert "/x" in refused.value.detail


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"Error": {"Code": "Throttling", "Message": "slow down"}, "ResponseMetadata": {"HTTPStatusCode": 400}}, "Throttling"),
        ({"Error": {}, "ResponseMetadata": {"HTTPStatusCode": 502}}, "502"),
        ({}, ""),
    ],
)
def test_a_refusal_without_a_code_has_its_status(answer: dict[str, object], code: str) -> None:
    with pytest.raises(ServiceError) as refused, translated("sqs:SendMessage"):
        raise ClientError(answer, "SendMessage")

    assert (refused.value.code, type(refused.value)) == (code, ServiceError)


def test_no_answer_and_nothing_to_sign_with_are_told_apart() -> None:
    with pytest.raises(NoCredentials), translated("sqs:SendMessage"):
        raise NoCredentialsError
    with pytest.raises(Unreachable), translated("sqs:SendMessage"):
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:9")


def test_a_fault_of_ours_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), translated("sqs:SendMessage"):
        raise ZeroDivisionError
