"""Plain HTTP against a real server: what is asked for, what is made of each answer, and what no answer means."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from agent.adapters.http import HttpBody, MetadataService, RequestsWeb
from agent.adapters.network import Network
from agent.errors import ServiceError, Unreachable
from agent.ports import Body
from sandbox.imds import Metadata
from tests.agent.httpd import Site

CONTENT = bytes(range(256)) * 4_096


def all_of(body: Body) -> bytes:
    """Whatever is left."""
    return b"".join(iter(lambda: body.read(10_000), b""))


@pytest.fixture
def nowhere() -> str:
    """A URL at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


@pytest.fixture
def imds() -> Iterator[Metadata]:
    """A metadata service of one machine."""
    service = Metadata("i-0123456789abcdef0", "us-east-1")
    yield service
    service.stop()


def metadata_at(url: str, **environment: str) -> MetadataService:
    return MetadataService({"AWS_EC2_METADATA_SERVICE_ENDPOINT": url, **environment})


def test_a_document_is_decoded_and_the_server_is_told_who_asks_for_what(site: Site) -> None:
    url = site.serve_json("/latest", {"tag_name": "v2.336.0"})

    assert RequestsWeb(Network({})).get_json(url) == {"tag_name": "v2.336.0"}
    (request,) = site.requests
    assert (request.headers["User-Agent"], request.headers["Accept"]) == ("runs-fleet-agent", "application/vnd.github+json")


@pytest.mark.parametrize(
    ("status", "headers", "code"),
    [
        (404, {}, "404"),
        (403, {}, "403"),
        (403, {"X-RateLimit-Remaining": "7"}, "403"),
        (403, {"X-RateLimit-Remaining": "0"}, "RateLimited"),
        (403, {"Retry-After": "60"}, "RateLimited"),
        (429, {}, "RateLimited"),
        (503, {}, "503"),
    ],
)
@pytest.mark.parametrize("call", ["get_json", "open"])
def test_a_refusal_has_the_status_as_its_code_unless_it_is_only_about_pace(
    site: Site, call: str, status: int, headers: dict[str, str], code: str
) -> None:
    url = site.serve("/latest", b"words", status=status, headers=headers)
    web = RequestsWeb(Network({}))

    with pytest.raises(ServiceError) as refused:
        web.get_json(url) if call == "get_json" else web.open(url, 0)

    assert (refused.value.code, refused.value.action) == (code, f"GET {url}")
    assert refused.value.detail == ("words" if call == "get_json" else "")


def test_an_answer_that_is_no_json_is_quoted(site: Site) -> None:
    with pytest.raises(ServiceError, match="NotJson: <html>") as refused:
        RequestsWeb(Network({})).get_json(site.serve("/latest", b"<html>" + b"x" * 500))

    assert len(refused.value.detail) == 100


@pytest.mark.parametrize("call", ["get_json", "open"])
def test_nobody_there_is_no_answer(nowhere: str, call: str) -> None:
    web = RequestsWeb(Network({}))

    with pytest.raises(Unreachable):
        web.get_json(nowhere) if call == "get_json" else web.open(nowhere, 0)


def test_a_session_of_ones_own_is_used_for_every_call(site: Site) -> None:
    session = requests.Session()
    session.headers["X-Ours"] = "yes"

    RequestsWeb(Network({}), session).get_json(site.serve_json("/latest", {}))
    RequestsWeb(Network({}), session).open(site.serve("/file", b"x"), 0)

    assert [request.headers["X-Ours"] for request in site.requests] == ["yes", "yes"]


@pytest.mark.parametrize("ranges", [True, False], ids=["Range", "no Range"])
@pytest.mark.parametrize("offset", [0, 1, 70_000, len(CONTENT) - 1])
def test_a_file_is_given_from_any_byte_on_whether_the_server_knows_ranges_or_not(site: Site, offset: int, ranges: bool) -> None:
    body = RequestsWeb(Network({})).open(site.serve("/file", CONTENT, ranges=ranges), offset)

    assert (body.size, all_of(body)) == (len(CONTENT), CONTENT[offset:])


def test_bytes_are_asked_for_as_they_are(site: Site) -> None:
    RequestsWeb(Network({})).open(site.serve("/file", CONTENT), 7)

    (request,) = site.requests
    assert (request.headers["Accept-Encoding"], request.headers["Range"]) == ("identity", "bytes=7-")


def test_a_size_that_nobody_says_is_unknown(site: Site) -> None:
    body = RequestsWeb(Network({})).open(site.serve("/file", CONTENT, says_length=False), 0)

    assert (body.size, all_of(body)) == (None, CONTENT)


def test_a_transfer_that_is_cut_off_is_no_end(site: Site) -> None:
    body = RequestsWeb(Network({})).open(site.serve("/file", CONTENT, cuts=[100_000]), 0)

    with pytest.raises(Unreachable, match="GET http"):
        all_of(body)


def test_what_is_closed_early_is_not_transferred(site: Site) -> None:
    large = b"x" * (64 << 20)
    body = RequestsWeb(Network({})).open(site.serve("/file", large), 0)
    body.read(1)
    body.close()

    RequestsWeb(Network({})).get_json(site.serve_json("/next", {}))
    assert site.bytes_served < len(large)


def test_skipping_stops_at_the_end_of_what_there_is(site: Site) -> None:
    body: Any = RequestsWeb(Network({})).open(site.serve("/file", b"short"), 0)
    assert isinstance(body, HttpBody)

    body.skip(10_000)

    assert body.read(1) == b""


def test_a_fact_of_the_machine_is_told_and_one_that_is_not_there_is_none(imds: Metadata) -> None:
    service = metadata_at(imds.url)

    assert service.get("meta-data/instance-id") == "i-0123456789abcdef0"
    assert service.get("meta-data/spot/instance-action") is None
    assert service.get_json("meta-data/spot/instance-action") is None
    assert len(imds.tokens) == 1


def test_a_token_that_is_no_longer_taken_is_renewed_once(imds: Metadata) -> None:
    service = metadata_at(imds.url)
    service.get("meta-data/instance-id")
    imds.tokens.clear()

    assert service.get("meta-data/placement/region") == "us-east-1"
    assert len(imds.tokens) == 1


def test_a_document_is_an_object_or_a_fault_of_the_service(imds: Metadata) -> None:
    imds.values |= {"good": '{"a": 1}', "text": "a", "list": "[1]"}
    service = metadata_at(imds.url)

    assert service.get_json("good") == {"a": 1}
    for path in ("text", "list"):
        with pytest.raises(ServiceError, match="NotJson"):
            service.get_json(path)


@pytest.mark.parametrize("before", [True, False], ids=["after a token was given", "from the start"])
def test_a_service_that_is_switched_off_refuses_with_its_status(imds: Metadata, before: bool) -> None:
    service = metadata_at(imds.url)
    if before:
        service.get("meta-data/instance-id")
    imds.switch_off()

    with pytest.raises(ServiceError) as refused:
        service.get("meta-data/instance-id")
    assert refused.value.code == "403"


def test_a_service_that_the_environment_forbids_is_not_asked(imds: Metadata) -> None:
    with pytest.raises(Unreachable, match="AWS_EC2_METADATA_DISABLED"):
        metadata_at(imds.url, AWS_EC2_METADATA_DISABLED="True").get("meta-data/instance-id")

    assert imds.tokens == set()


def test_a_machine_without_the_service_is_told_where_it_was_sought(nowhere: str) -> None:
    with pytest.raises(Unreachable, match=nowhere):
        metadata_at(nowhere).get("meta-data/instance-id")


def test_a_service_that_accepts_and_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unreachable, match="timed out"):
        metadata_at(f"http://127.0.0.1:{silent.getsockname()[1]}").get("meta-data/instance-id")
