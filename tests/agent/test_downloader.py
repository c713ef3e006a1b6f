"""Bytes from somewhere unreliable: resumed where they broke off, digested while they pass."""

from __future__ import annotations

import hashlib
import io
import random
from pathlib import Path

import pytest

from agent.adapters.http import RequestsWeb
from agent.adapters.network import Network
from agent.errors import DigestMismatch, ReleaseUnavailable, ServiceError
from agent.runner.downloader import BREAKS, CHUNK_BYTES, Download
from tests.agent.httpd import Site
from tests.conftest import AgentClock

CONTENT = random.Random(3).randbytes(1_500_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def download_of(url: str, clock: AgentClock, copy_to: Path | None = None) -> Download:
    web = RequestsWeb(Network({}))
    return Download(lambda offset: web.open(url, offset), clock, copy_to)


def test_an_unbroken_transfer_is_one_request_and_gives_every_byte_once(site: Site, clock: AgentClock) -> None:
    download = download_of(site.serve("/release", CONTENT), clock)

    received = b"".join(download.chunks())

    assert received == CONTENT and download.sha256 == SHA256 and download.received == len(CONTENT)
    assert (site.asked(), site.bytes_served, clock.pauses) == (["/release"], len(CONTENT), [])


@pytest.mark.parametrize("cuts", [[1], [0], [700_000], [100_000] * 5, [0, 1, 2, 3], [len(CONTENT) - 1], [64 << 10, 128 << 10]])
def test_a_broken_transfer_goes_on_where_it_broke_and_no_byte_is_fetched_twice(
    cuts: list[int], site: Site, clock: AgentClock
) -> None:
    download = download_of(site.serve("/release", CONTENT, cuts=list(cuts)), clock)

    received = b"".join(download.chunks())

    assert received == CONTENT and download.sha256 == SHA256
    assert site.bytes_served <= len(CONTENT) + CHUNK_BYTES
    assert len(site.requests) == len(cuts) + 1


def test_a_transfer_is_resumed_with_range(site: Site, clock: AgentClock) -> None:
    download = download_of(site.serve("/release", CONTENT, cuts=[700_000]), clock)

    list(download.chunks())

    assert [request.headers.get("Range") for request in site.requests] == [None, "bytes=700000-"]


def test_a_server_that_knows_no_range_is_read_up_to_there_again_and_the_bytes_are_still_right(
    site: Site, clock: AgentClock
) -> None:
    download = download_of(site.serve("/release", CONTENT, ranges=False, cuts=[600_000]), clock)

    assert b"".join(download.chunks()) == CONTENT
    assert download.sha256 == SHA256


def test_a_server_that_says_no_length_is_read_to_its_end(site: Site, clock: AgentClock) -> None:
    download = download_of(site.serve("/release", CONTENT, says_length=False), clock)

    assert b"".join(download.chunks()) == CONTENT


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_server_that_is_busy_is_asked_again_after_a_pause(status: int, site: Site, clock: AgentClock) -> None:
    download = download_of(site.serve("/release", CONTENT, refusals=[status, status]), clock)

    assert b"".join(download.chunks()) == CONTENT
    assert len(clock.pauses) == 2 and clock.pauses[1] > clock.pauses[0]


def test_a_resumption_that_is_refused_for_now_is_tried_again_from_the_same_byte(site: Site, clock: AgentClock) -> None:
    url = site.serve("/release", CONTENT, cuts=[500_000])
    download = download_of(url, clock)
    chunks = download.chunks()
    first = next(chunks)
    site.pages["/release"].refusals += [503]

    assert first + b"".join(chunks) == CONTENT
    assert site.bytes_served == len(CONTENT)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_source_that_refuses_is_not_asked_again(status: int, site: Site, clock: AgentClock) -> None:
    download = download_of(site.serve("/release", status=status), clock)

    with pytest.raises(ServiceError) as refused:
        list(download.chunks())

    assert (refused.value.code, len(site.requests), clock.pauses) == (str(status), 1, [])


def test_a_transfer_that_never_gets_on_is_given_up_after_so_many_tries(site: Site, clock: AgentClock) -> None:
    download = download_of(site.serve("/release", CONTENT, cuts=[0] * 100), clock)

    with pytest.raises(ReleaseUnavailable, match="at byte 0"):
        list(download.chunks())

    assert len(site.requests) == BREAKS.tries


def test_a_transfer_that_gets_on_a_little_each_time_is_bounded_by_time(site: Site, clock: AgentClock) -> None:
    download = download_of(site.serve("/release", CONTENT, cuts=[10] * 2_000), clock)

    with pytest.raises(ReleaseUnavailable):
        list(download.chunks())

    assert len(site.requests) > BREAKS.tries
    assert clock.age_s <= BREAKS.within_s


def test_nobody_there_is_a_release_that_cannot_be_had(clock: AgentClock) -> None:
    download = download_of("http://127.0.0.1:9/release", clock)

    with pytest.raises(ReleaseUnavailable, match="Unreachable"):
        list(download.chunks())

    assert clock.age_s <= BREAKS.within_s


@pytest.mark.parametrize("hops", [1, 3])
def test_redirects_are_followed_also_when_resuming(hops: int, site: Site, clock: AgentClock) -> None:
    url = site.serve("/bytes", CONTENT, cuts=[300_000])
    for hop in range(hops):
        url = site.redirect(f"/hop-{hop}", url)
    download = download_of(url, clock)

    assert b"".join(download.chunks()) == CONTENT
    assert site.bytes_served == len(CONTENT)


@pytest.mark.parametrize("cuts", [[], [400_000]])
def test_the_copy_on_disk_has_the_same_bytes(cuts: list[int], site: Site, clock: AgentClock, tmp_path: Path) -> None:
    download = download_of(site.serve("/release", CONTENT, cuts=list(cuts)), clock, tmp_path / "copy")

    list(download.chunks())

    assert (tmp_path / "copy").read_bytes() == CONTENT


def test_the_right_digest_is_accepted_in_either_case_of_letters(site: Site, clock: AgentClock) -> None:
    download = download_of(site.serve("/release", CONTENT), clock)
    list(download.chunks())

    download.verify(SHA256, "s3")
    download.verify(SHA256.upper(), "s3")


@pytest.mark.parametrize("at", [0, 750_000, len(CONTENT) - 1])
def test_one_wrong_bit_is_a_mismatch_that_names_the_source_and_both_digests(at: int, site: Site, clock: AgentClock) -> None:
    corrupt = bytearray(CONTENT)
    corrupt[at] ^= 1
    download = download_of(site.serve("/release", bytes(corrupt)), clock)
    list(download.chunks())

    with pytest.raises(DigestMismatch, match=f"(?s)github.*{download.sha256}.*{SHA256}"):
        download.verify(SHA256, "github")


def test_bytes_that_change_between_two_tries_are_a_mismatch(site: Site, clock: AgentClock) -> None:
    download = download_of(site.serve("/release", CONTENT, cuts=[200_000]), clock)
    chunks = download.chunks()
    next(chunks)
    site.pages["/release"].content = random.Random(4).randbytes(len(CONTENT))
    list(chunks)

    with pytest.raises(DigestMismatch):
        download.verify(SHA256, "github")


class Short:
    """A source whose first answer ends early without any error, as a proxy that gives up does."""

    def __init__(self) -> None:
        self.offsets: list[int] = []

    def open_at(self, offset: int) -> Piece:
        """From there on; the first time no more than ten bytes."""
        self.offsets.append(offset)
        end = len(CONTENT) if offset else 10
        return Piece(CONTENT[offset:end])


class Piece(io.BytesIO):
    """A body that announces the size of the whole."""

    size = len(CONTENT)


def test_a_transfer_that_ends_before_the_announced_size_is_no_end_and_goes_on_there(clock: AgentClock) -> None:
    source = Short()
    download = Download(source.open_at, clock, None)

    assert b"".join(download.chunks()) == CONTENT
    assert source.offsets == [0, 10]
