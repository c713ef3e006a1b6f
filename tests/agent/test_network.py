"""One decision on trust, proxies and exceptions, and the three HTTP stacks that all follow it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.adapters.aws.clients import Clients, translated
from agent.adapters.aws.signing import CredentialChain, Region, SignedCalls
from agent.adapters.aws.sqs import QueueProbe
from agent.adapters.http import MetadataService, RequestsWeb
from agent.adapters.network import Network
from agent.errors import ServiceError, Unreachable
from sandbox.imds import Metadata
from tests.answering import Answering, Asked
from tests.wires import Authority, ConnectProxy, TlsFront

KEYS = {"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def plain() -> Iterator[Answering]:
    """A service that answers everything with an empty JSON object."""
    server = Answering(lambda _: (200, b"{}"))
    yield server
    server.stop()


@pytest.fixture
def front(plain: Answering, authority: Authority) -> Iterator[TlsFront]:
    made = TlsFront(plain.url, authority)
    yield made
    made.stop()


@pytest.fixture
def proxy() -> Iterator[ConnectProxy]:
    made = ConnectProxy("fleet", "s3cr@t")
    yield made
    made.stop()


def by_hand(url: str, environment: Mapping[str, str]) -> None:
    """A call signed by hand, as the configuration's and the last one are."""
    known = {**KEYS, "AWS_ENDPOINT_URL": url, **environment}
    metadata = MetadataService(known)
    chain, region = CredentialChain(known, metadata), Region(known, metadata)
    SignedCalls("sqs", known, chain, region, lambda: datetime.now(UTC), Network(known)).post("call", b"{}", {})


def by_botocore(url: str, environment: Mapping[str, str]) -> None:
    """A call by botocore, as messages and logs are sent."""
    known = {**KEYS, "AWS_ENDPOINT_URL_SQS": url, **environment}
    metadata = MetadataService(known)
    client = Clients(Region(known, metadata), network=Network(known)).client("sqs", read_s=5.0)
    with translated("call"):
        client.list_queues()


def by_requests(url: str, environment: Mapping[str, str]) -> None:
    """A call by requests, as releases are fetched."""
    RequestsWeb(Network(environment)).get_json(f"{url}/release")


@pytest.fixture(params=[by_hand, by_botocore, by_requests], ids=lambda one: one.__name__)
def call(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Mapping[str, str]], None]:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)  # boto3 reads the process's own
    return request.param  # type: ignore[no-any-return]


Call = Callable[[str, Mapping[str, str]], None]


@pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_an_authority_that_any_variable_names_is_trusted_by_every_stack(
    call: Call, front: TlsFront, authority: Authority, name: str
) -> None:
    call(front.url, {name: str(authority.path)})

    assert front.connections == 1


def test_every_authority_in_a_named_directory_is_trusted(call: Call, front: TlsFront, authority: Authority) -> None:
    call(front.url, {"SSL_CERT_DIR": f"/nowhere-else:{authority.path.parent}"})


def test_an_unknown_authority_is_trusted_by_none(call: Call, front: TlsFront) -> None:
    with pytest.raises(Unreachable, match=r"(?i)certificate"):
        call(front.url, {})

    assert front.connections == 0


def test_the_systems_own_store_is_what_every_stack_trusts_where_nothing_is_named(authority: Authority) -> None:
    network = Network({}, (str(authority.path),))

    assert network.bundle == str(authority.path)
    assert network.context.cert_store_stats()["x509_ca"] == 1


def test_what_is_named_is_trusted_beside_the_systems_store(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")

    network = Network({"AWS_CA_BUNDLE": str(authority.path)}, (str(other.path),))

    assert network.context.cert_store_stats()["x509_ca"] == 2
    assert other.path.read_bytes() in Path(network.bundle).read_bytes()


def test_a_proxy_gets_the_user_and_password_that_its_variable_names(
    call: Call, front: TlsFront, authority: Authority, proxy: ConnectProxy
) -> None:
    call(front.url, {"HTTPS_PROXY": proxy.url_with("fleet:s3cr%40t"), "AWS_CA_BUNDLE": str(authority.path)})

    assert set(proxy.asked) == {front.url.removeprefix("https://")}
    assert (front.connections, proxy.refused) == (1, 0)


@pytest.mark.parametrize("credentials", ["", "fleet:wrong@", "fleet@"])
def test_a_proxy_that_wants_a_password_we_have_not_is_unreachable_and_the_password_is_not_told(
    call: Call, front: TlsFront, authority: Authority, proxy: ConnectProxy, credentials: str
) -> None:
    url = proxy.url.replace("://", f"://{credentials}")

    with pytest.raises(Unreachable) as refused:
        call(front.url, {"HTTPS_PROXY": url, "AWS_CA_BUNDLE": str(authority.path)})

    assert proxy.refused and not proxy.asked
    assert "wrong" not in str(refused.value)


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_a_plain_endpoint_is_asked_through_its_proxy_by_every_stack(
    call: Call, plain: Answering, proxy: ConnectProxy, name: str
) -> None:
    call(plain.url, {name: proxy.url_with("fleet:s3cr%40t")})

    assert set(proxy.asked) == {plain.url.removeprefix("http://")}


def test_a_proxy_may_itself_be_spoken_to_over_tls(call: Call, front: TlsFront, authority: Authority) -> None:
    proxy = ConnectProxy("fleet", "word", authority)

    call(front.url, {"https_proxy": proxy.url_with("fleet:word"), "SSL_CERT_FILE": str(authority.path)})

    assert proxy.asked
    proxy.stop()


@pytest.mark.parametrize("exception", ["127.0.0.1", "other.test, 127.0.0.1", "127.0.0.0/8", "*", "127.0.0.1:{port}"])
def test_what_is_excepted_is_asked_directly_by_every_stack(
    call: Call, plain: Answering, proxy: ConnectProxy, exception: str
) -> None:
    port = plain.url.rpartition(":")[2]

    call(plain.url, {"http_proxy": proxy.url, "NO_PROXY": exception.format(port=port)})

    assert (proxy.asked, proxy.refused) == ([], 0)


@pytest.mark.parametrize("exception", ["127.0.0.1:1", "10.0.0.0/8", "0.0.1", "example.test", ""])
def test_what_is_not_excepted_is_not_asked_directly(call: Call, plain: Answering, proxy: ConnectProxy, exception: str) -> None:
    call(plain.url, {"http_proxy": proxy.url_with("fleet:s3cr%40t"), "no_proxy": exception})

    assert proxy.asked


@pytest.mark.parametrize(
    ("exception", "host", "excepted"),
    [
        ("amazonaws.com", "sqs.eu-west-1.amazonaws.com", True),
        (".amazonaws.com", "sqs.eu-west-1.amazonaws.com", True),
        ("*.amazonaws.com", "sqs.eu-west-1.amazonaws.com", True),
        ("sqs.eu-west-1.AMAZONAWS.com", "SQS.eu-west-1.amazonaws.com.", True),
        ("zonaws.com", "sqs.eu-west-1.amazonaws.com", False),
        ("fd00::/8", "[fd00:ec2::254]", True),
        ("169.254.0.0/16", "10.0.0.1", False),
        ("sqs.eu-west-1.amazonaws.com:444", "sqs.eu-west-1.amazonaws.com", False),
    ],
)
def test_which_hosts_an_exception_means(exception: str, host: str, excepted: bool) -> None:
    network = Network({"https_proxy": "http://proxy:3128", "no_proxy": exception})

    assert (network.proxy(f"https://{host}/") is None) is excepted


def test_in_lower_case_a_variable_goes_before_the_same_in_upper_case_also_to_say_that_there_is_none() -> None:
    assert Network({"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:2"}).proxy("https://x/") == "http://a:1"
    assert Network({"https_proxy": "", "HTTPS_PROXY": "http://b:2"}).proxy("https://x/") is None


OF_SOMEBODY = "u:secret@"


@pytest.mark.parametrize(
    "address", [f"socks5://{OF_SOMEBODY}proxy:1080", f"http://{OF_SOMEBODY}proxy", f"http://{OF_SOMEBODY}:3128", "http://p:x"]
)
def test_a_proxy_that_cannot_be_used_is_complained_of_without_its_password_and_not_used(address: str) -> None:
    network = Network({"HTTPS_PROXY": address})

    (complaint,) = network.complaints()
    assert complaint.startswith("HTTPS_PROXY: expected http://[user:password@]host:port")
    assert "secret" not in complaint
    assert network.proxy("https://sqs.test/") is None


@pytest.mark.parametrize("content", [None, "", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
@pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "SSL_CERT_DIR"])
def test_a_file_without_authorities_is_complained_of_and_the_system_is_trusted_all_the_same(
    tmp_path: Path, name: str, content: str | None
) -> None:
    path = tmp_path / "authorities.pem"
    if content is not None:
        path.write_text(content, "utf-8")
    system = Authority(tmp_path / "system")

    network = Network({name: str(path)}, (str(system.path),))

    (complaint,) = network.complaints()
    assert complaint.startswith(f"{name}: expected certificates in PEM, found {str(path)!r}")
    assert network.bundle == str(system.path)


def test_a_system_without_a_store_trusts_what_came_with_requests() -> None:
    import certifi

    assert Network({}, ("/nowhere",)).bundle == certifi.where()


def test_a_proxys_password_is_among_the_secrets_in_both_its_forms() -> None:
    address = "http://fleet:s3cr%40t@proxy:1"  # pragma: allowlist secret

    assert set(Network({"HTTPS_PROXY": address}).secrets()) == {"s3cr%40t", "s3cr@t"}


def test_the_metadata_service_is_never_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch, proxy: ConnectProxy) -> None:
    imds = Metadata("i-0123456789abcdef0", "eu-west-1")
    proxied = {
        "http_proxy": proxy.url,
        "HTTP_PROXY": proxy.url,
        "AWS_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:9",
    }
    metadata = MetadataService({"AWS_EC2_METADATA_SERVICE_ENDPOINT": imds.url, **proxied})
    for name, value in proxied.items():
        monkeypatch.setenv(name, value)

    assert metadata.get("meta-data/instance-id") == "i-0123456789abcdef0"
    Clients(Region(proxied, metadata), CredentialChain({}, metadata), Network({})).client("sqs", read_s=1.0)

    assert (proxy.asked, proxy.refused) == ([], 0)
    imds.stop()


def test_no_netrc_adds_credentials_to_what_requests_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Asked] = []

    def answer(asked: Asked) -> tuple[int, bytes]:
        heard.append(asked)
        return 200, b"{}"

    server = Answering(answer)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password mine\n", "utf-8")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    by_requests(server.url, {})

    server.stop()
    assert "Authorization" not in heard[0].headers


QUEUE = "https://sqs.eu-west-1.amazonaws.com/1/q"


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (200, b"{}", None),
        (400, b'{"__type": "com.amazon.coral.service#AccessDeniedException"}', None),
        (400, b'{"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "no such queue"}', "QueueDoesNotExist"),
        (503, b"", "503"),
    ],
)
def test_the_probe_of_the_queue_takes_a_denial_for_an_answer_and_raises_the_rest(
    status: int, body: bytes, code: str | None
) -> None:
    server = Answering(lambda _: (status, body))
    known = {**KEYS, "AWS_ENDPOINT_URL": server.url}
    metadata = MetadataService(known)
    calls = SignedCalls(
        "sqs", known, CredentialChain(known, metadata), Region(known, metadata), lambda: datetime.now(UTC), Network(known)
    )
    probe = QueueProbe(calls, QUEUE)

    if code is None:
        probe.check()
    else:
        with pytest.raises(ServiceError) as refused:
            probe.check()
        assert refused.value.code == code
    server.stop()
