"""One bucket, by the real adapter: read from any byte on, written once, refused in our words."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest
from moto.s3.models import s3_backends

from agent.adapters.aws.clients import Clients
from agent.adapters.aws.s3 import S3Objects
from agent.adapters.aws.signing import Region
from agent.adapters.http import MetadataService
from agent.errors import ServiceError, Unreachable
from agent.ports import StoredObject
from tests.agent.httpd import Site
from tests.conftest import Moto

CONTENT = random.Random(3).randbytes(1_500_000)


def test_an_object_in_s3_is_given_from_any_byte_on(moto: Moto) -> None:
    moto.client("s3").create_bucket(Bucket="config")
    moto.client("s3").put_object(Bucket="config", Key="release", Body=CONTENT)
    objects = S3Objects(Clients(Region({"AWS_REGION": "us-east-1"}, MetadataService({}))), "config")

    whole, rest = objects.open("release", 0), objects.open("release", 1_000_000)

    assert (whole.size, rest.size) == (len(CONTENT), len(CONTENT))
    assert b"".join(iter(lambda: whole.read(1 << 16), b"")) == CONTENT
    assert b"".join(iter(lambda: rest.read(1 << 16), b"")) == CONTENT[1_000_000:]


@pytest.fixture
def bucket(moto: Moto) -> S3Objects:
    """An empty bucket of the name `config`."""
    moto.client("s3").create_bucket(Bucket="config")
    return objects_at({})


def objects_at(environment: dict[str, str]) -> S3Objects:
    return S3Objects(Clients(Region({"AWS_REGION": "us-east-1", **environment}, MetadataService({}))), "config")


@pytest.fixture
def lying(moto: Moto, site: Site) -> S3Objects:
    """The same bucket in a service that answers what the site's pages say."""
    return objects_at({"AWS_ENDPOINT_URL_S3": site.url})


def test_every_key_below_a_prefix_is_listed_over_all_pages(bucket: S3Objects) -> None:
    ours = [f"runners/{number:04}" for number in range(1_203)]
    for key in ("elsewhere", *ours):
        s3_backends["123456789012"]["aws"].put_object("config", key, b"")

    assert bucket.keys("runners/") == ours
    assert bucket.keys("nothing/") == []


def test_an_object_is_described_by_what_its_uploader_wrote_beside_it(bucket: S3Objects, tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(CONTENT)

    assert bucket.describe("release") is None
    assert bucket.put_file_if_absent("release", path, {"sha256": "abc"})
    assert bucket.describe("release") == StoredObject("release", {"sha256": "abc"})


def test_what_is_there_is_not_overwritten(bucket: S3Objects, tmp_path: Path, moto: Moto) -> None:
    path = tmp_path / "archive"
    path.write_bytes(b"first")
    bucket.put_file_if_absent("release", path, {})
    path.write_bytes(b"second")

    assert not bucket.put_file_if_absent("release", path, {})
    assert moto.client("s3").get_object(Bucket="config", Key="release")["Body"].read() == b"first"


def test_a_bucket_we_may_not_list_answers_403_which_is_no_copy_either(lying: S3Objects, site: Site) -> None:
    site.serve("/config/release", status=403)

    assert lying.describe("release") is None


def test_a_service_in_trouble_is_no_missing_object(lying: S3Objects, site: Site) -> None:
    site.serve("/config/release", status=500)

    with pytest.raises(ServiceError, match="s3:GetObject on config/release answered 500"):
        lying.describe("release")
    assert site.asked() == ["/config/release"]


def test_a_bucket_that_is_not_there_is_named_by_each_action(moto: Moto, tmp_path: Path) -> None:
    (tmp_path / "archive").touch()
    objects = objects_at({})

    for action, call in (
        ("s3:ListBucket on config", lambda: objects.keys("runners/")),
        ("s3:GetObject on config/release", lambda: objects.open("release", 0)),
        ("s3:PutObject on config/release", lambda: objects.put_file_if_absent("release", tmp_path / "archive", {})),
        ("s3:PutObject on config/release", lambda: objects.put_gzip_if_absent("release", iter([b"x"]))),
    ):
        with pytest.raises(ServiceError, match=f"{action} answered NoSuchBucket"):
            call()


def test_a_body_that_is_cut_off_is_no_end(lying: S3Objects, site: Site) -> None:
    site.serve("/config/release", CONTENT, cuts=[100_000] * 20)  # also where the client asks again
    body = lying.open("release", 0)

    with pytest.raises(Unreachable, match="s3:GetObject on config/release"):
        list(iter(lambda: body.read(1 << 16), b""))


def test_what_is_closed_early_is_not_transferred(lying: S3Objects, site: Site) -> None:
    large = b"x" * (64 << 20)
    site.serve("/config/release", large)
    body = lying.open("release", 0)
    body.read(1)
    body.close()

    assert lying.describe("release") is not None
    assert site.bytes_served < len(large)


@pytest.mark.parametrize("chunks", [[], [b"one\n", b"", b"two\n"], [b"x" * 300_000, b"y" * 10]])
def test_text_is_stored_compressed_and_marked_as_such(bucket: S3Objects, moto: Moto, chunks: list[bytes]) -> None:
    assert bucket.put_gzip_if_absent("logs/diag.gz", iter(chunks))
    assert not bucket.put_gzip_if_absent("logs/diag.gz", iter([b"another machine's"]))

    stored = moto.client("s3").get_object(Bucket="config", Key="logs/diag.gz")
    assert gzip.decompress(stored["Body"].read()) == b"".join(chunks)
    assert (stored["ContentEncoding"], stored["ContentType"]) == ("gzip", "text/plain")
