"""The copy of the release in S3: found, offered, and written once by one machine of the fleet."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.adapters.aws.clients import Clients
from agent.adapters.aws.s3 import S3Objects
from agent.adapters.aws.signing import Region
from agent.adapters.http import MetadataService
from agent.contract.names import release_key
from agent.errors import ServiceError, Unreachable
from agent.runner.cache import UPLOAD_RETRIES, CachedRelease, ReleaseCache, Upload
from tests.agent import uploaders
from tests.agent.httpd import Site
from tests.conftest import AgentClock, Moto

CONTENT = b"an archive" * 20_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
KEY = "runners/2.10.0/x64/actions-runner-2.10.0.tar.gz"


def objects(moto: Moto, bucket: str = "config") -> S3Objects:
    return S3Objects(Clients(Region(moto.environment, MetadataService({}))), bucket)


@pytest.fixture
def bucket(moto: Moto) -> Moto:
    """An empty, versioned config bucket."""
    moto.client("s3").create_bucket(Bucket="config")
    moto.client("s3").put_bucket_versioning(Bucket="config", VersioningConfiguration={"Status": "Enabled"})
    return moto


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(CONTENT)
    return path


def test_an_empty_bucket_has_no_newest_release_and_no_copy(bucket: Moto) -> None:
    cache = ReleaseCache(objects(bucket), "x64")

    assert (cache.newest(), cache.find("2.10.0")) == (None, None)


def test_the_newest_is_the_highest_number_and_not_the_last_word(bucket: Moto) -> None:
    for version in ("2.9.0", "2.10.0", "2.9.99", "1.999.0"):
        bucket.client("s3").put_object(Bucket="config", Key=release_key(version, "x64"))

    assert ReleaseCache(objects(bucket), "x64").newest() == "2.10.0"


def test_a1_only_copies_of_the_own_architecture_count(bucket: Moto) -> None:
    bucket.client("s3").put_object(Bucket="config", Key=release_key("2.9.0", "x64"))
    bucket.client("s3").put_object(Bucket="config", Key=release_key("2.10.0", "arm64"))

    assert ReleaseCache(objects(bucket), "x64").newest() == "2.9.0"
    assert ReleaseCache(objects(bucket), "arm64").newest() == "2.10.0"


def test_what_else_lies_in_the_bucket_is_not_mistaken_for_a_release(bucket: Moto) -> None:
    for key in (
        "runners/9.9.9/x64/actions-runner-9.9.8.tar.gz",
        "runners/9.9.9/x64/actions-runner-9.9.9.tar.gz.part",
        "runners/9.9/x64/actions-runner-9.9.tar.gz",
        "runners/latest/x64/actions-runner-latest.tar.gz",
        "old/runners/9.9.9/x64/actions-runner-9.9.9.tar.gz",
    ):
        bucket.client("s3").put_object(Bucket="config", Key=key)

    assert ReleaseCache(objects(bucket), "x64").newest() is None


def test_a_stored_release_is_found_with_the_digest_its_uploader_recorded(bucket: Moto, archive: Path) -> None:
    cache = ReleaseCache(objects(bucket), "x64")

    first, second = cache.store("2.10.0", archive, SHA256), cache.store("2.10.0", archive, "another")

    assert (first, second) == (True, False)
    assert cache.find("2.10.0") == CachedRelease("2.10.0", KEY, SHA256)
    assert bucket.client("s3").get_object(Bucket="config", Key=KEY)["Body"].read() == CONTENT


def test_rq4_twenty_machines_at_once_leave_one_version_and_one_of_them_knows_it_was_it(bucket: Moto, archive: Path) -> None:
    stored = uploaders.offer(20, bucket.environment, "config", "2.10.0", archive, SHA256)

    versions = bucket.client("s3").list_object_versions(Bucket="config").get("Versions", [])
    assert (stored.count(True), stored.count(False), len(versions)) == (1, 19, 1)


def test_an_upload_says_what_it_did_and_removes_the_archive(bucket: Moto, archive: Path, clock: AgentClock) -> None:
    upload = Upload(lambda: ReleaseCache(objects(bucket), "x64"), clock)

    first = upload.run("2.10.0", archive, SHA256)
    gone = not archive.exists()
    archive.write_bytes(CONTENT)
    second = upload.run("2.10.0", archive, SHA256)

    assert (first, gone, second, archive.exists()) == ("uploaded", True, "already_there", False)


def test_an_upload_without_a_bucket_is_disabled(archive: Path, clock: AgentClock) -> None:
    assert Upload(lambda: None, clock).run("2.10.0", archive, SHA256) == "disabled"


def test_an_upload_that_is_refused_says_by_which_word_and_never_raises(bucket: Moto, archive: Path, clock: AgentClock) -> None:
    upload = Upload(lambda: ReleaseCache(objects(bucket, "no-such-bucket"), "x64"), clock)

    outcome = upload.run("2.10.0", archive, SHA256)

    assert outcome.startswith("upload_failed:") and "NoSuchBucket" in outcome
    assert (clock.pauses, archive.exists()) == ([], False)


def test_an_upload_that_meets_a_passing_fault_tries_again_and_gives_up_in_time(archive: Path, clock: AgentClock) -> None:
    store = Failing(Unreachable("s3:PutObject"))

    outcome = Upload(lambda: ReleaseCache(store, "x64"), clock).run("2.10.0", archive, SHA256)

    assert outcome.startswith("upload_failed:") and store.calls == UPLOAD_RETRIES.tries
    assert clock.age_s <= UPLOAD_RETRIES.within_s


def test_an_archive_that_is_gone_is_a_failed_upload_and_not_an_exception(bucket: Moto, tmp_path: Path, clock: AgentClock) -> None:
    upload = Upload(lambda: ReleaseCache(objects(bucket), "x64"), clock)

    assert upload.run("2.10.0", tmp_path / "gone", SHA256).startswith("upload_failed:")


def test_a_bucket_that_may_not_be_listed_answers_403_for_what_is_not_there_and_that_is_no_copy(site: Site, bucket: Moto) -> None:
    site.serve(f"/config/{KEY}", status=403)
    os.environ["AWS_ENDPOINT_URL_S3"] = site.url

    assert ReleaseCache(objects(bucket), "x64").find("2.10.0") is None
    assert site.asked() == [f"/config/{KEY}"]


@dataclass
class Failing:
    """Objects (ports) that always fail in the same way, and count."""

    error: ServiceError
    calls: int = 0

    def put_file_if_absent(self, key: str, path: Path, metadata: object) -> bool:
        self.calls += 1
        raise self.error
