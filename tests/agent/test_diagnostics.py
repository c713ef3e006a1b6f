"""The runner's own diagnostic logs, kept: they are what explains a failed runner, and they die with the machine."""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path

import pytest

from agent.adapters.aws.clients import Clients
from agent.adapters.aws.s3 import S3Objects
from agent.adapters.aws.signing import Region
from agent.adapters.http import MetadataService
from agent.adapters.system import TextJournal
from agent.contract.config import RunnerConfig
from agent.contract.secret import Secret
from agent.runner.diagnostics import ship
from tests.conftest import Moto

INSTANCE = "i-0123456789abcdef0"
CONFIG = RunnerConfig(org="acme", job_id="7", run_id="9001", logs_prefix="kept")
PREFIX = f"kept/9001/7/{INSTANCE}"


@pytest.fixture
def runner(tmp_path: Path) -> Path:
    (tmp_path / "runner" / "_diag" / "pages").mkdir(parents=True)
    return tmp_path / "runner"


@pytest.fixture
def bucket(moto: Moto) -> S3Objects:
    moto.client("s3").create_bucket(Bucket="logs")
    return S3Objects(Clients(Region(moto.environment, MetadataService({}))), "logs")


def quiet(*secrets: str) -> TextJournal:
    journal = TextJournal(io.StringIO())
    journal.hide(*(Secret(secret) for secret in secrets))
    return journal


def stored(moto: Moto) -> dict[str, bytes]:
    """Everything in the bucket, unpacked."""
    s3 = moto.client("s3")
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket="logs").get("Contents", [])]
    return {key: gzip.decompress(s3.get_object(Bucket="logs", Key=key)["Body"].read()) for key in keys}


def test_a10_the_logs_of_runner_worker_and_update_are_stored_as_gzip_and_nothing_else_is(
    runner: Path, bucket: S3Objects, moto: Moto
) -> None:
    names = ["Runner_20260131-utc.log", "Worker_20260131-utc.log", "SelfUpdate-20260131.log.succeed"]
    for name in [*names, "pages/page_1.log", "notes.txt"]:
        (runner / "_diag" / name).write_bytes(f"[INFO] {name}\nlast line without an end".encode())

    outcome = ship(bucket, runner, CONFIG, INSTANCE, quiet())

    assert outcome == "uploaded"
    assert stored(moto) == {f"{PREFIX}/{name}.gz": f"[INFO] {name}\nlast line without an end".encode() for name in names}


def test_known_secrets_are_not_in_what_is_kept(runner: Path, bucket: S3Objects, moto: Moto) -> None:
    (runner / "_diag" / "Worker_1.log").write_text("before hush-hush-hush after\n")

    ship(bucket, runner, CONFIG, INSTANCE, quiet("hush-hush-hush"))

    assert list(stored(moto).values()) == [b"before *** after\n"]


def test_bytes_that_are_no_text_survive_as_replacement_characters(runner: Path, bucket: S3Objects, moto: Moto) -> None:
    (runner / "_diag" / "Worker_1.log").write_bytes(b"caf\xe9\n\x00\n")

    ship(bucket, runner, CONFIG, INSTANCE, quiet())

    assert list(stored(moto).values()) == ["caf\ufffd\n\x00\n".encode()]


def test_a_large_log_comes_out_whole(runner: Path, bucket: S3Objects, moto: Moto) -> None:
    content = b"".join(b"[%08d] a line of an ordinary length in a log that grew\n" % number for number in range(80_000))
    (runner / "_diag" / "Runner_1.log").write_bytes(content)

    ship(bucket, runner, CONFIG, INSTANCE, quiet())

    assert list(stored(moto).values()) == [content]


@pytest.mark.parametrize("there", [True, False])
def test_without_any_log_there_is_nothing_to_store(there: bool, runner: Path, bucket: S3Objects, tmp_path: Path) -> None:
    assert ship(bucket, runner if there else tmp_path / "gone", CONFIG, INSTANCE, quiet()) == "empty"


def test_a_link_or_a_pipe_that_a_job_put_there_is_not_read(runner: Path, bucket: S3Objects, moto: Moto, tmp_path: Path) -> None:
    (tmp_path / "shadow").write_text("root:secret")
    (runner / "_diag" / "Worker_1.log").symlink_to(tmp_path / "shadow")
    os.mkfifo(runner / "_diag" / "Worker_2.log")

    outcome = ship(bucket, runner, CONFIG, INSTANCE, quiet())

    assert (outcome, stored(moto)) == ("empty", {})


def test_a_linked_directory_that_a_job_put_there_is_not_read_either(
    runner: Path, bucket: S3Objects, moto: Moto, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (runner / "_diag").rename(elsewhere)
    (elsewhere / "Worker_1.log").write_text("somebody else's")
    (runner / "_diag").symlink_to(elsewhere)

    ship(bucket, runner, CONFIG, INSTANCE, quiet())

    assert stored(moto) == {}


def test_a_bucket_that_is_not_there_is_told_as_failed_and_named_in_the_journal(runner: Path, moto: Moto) -> None:
    (runner / "_diag" / "Worker_1.log").write_text("line\n")
    missing, said = S3Objects(Clients(Region(moto.environment, MetadataService({}))), "no-such-bucket"), io.StringIO()

    outcome = ship(missing, runner, CONFIG, INSTANCE, TextJournal(said))

    assert outcome == "failed" and "Worker_1.log" in said.getvalue() and "NoSuchBucket" in said.getvalue()


def test_one_log_that_cannot_be_read_does_not_keep_the_others(runner: Path, bucket: S3Objects, moto: Moto) -> None:
    (runner / "_diag" / "Worker_1.log").write_text("line\n")
    (runner / "_diag" / ("Worker_" + "x" * 240 + ".log")).write_text("line\n")

    outcome = ship(Picky(bucket), runner, CONFIG, INSTANCE, quiet())

    assert (outcome, list(stored(moto))) == ("partial", [f"{PREFIX}/Worker_1.log.gz"])


def test_what_lies_there_already_is_not_overwritten_and_the_outcome_says_so(runner: Path, bucket: S3Objects, moto: Moto) -> None:
    for name in ("Worker_1.log", "Worker_2.log"):
        (runner / "_diag" / name).write_text("ours\n")
    moto.client("s3").put_object(Bucket="logs", Key=f"{PREFIX}/Worker_2.log.gz", Body=b"an earlier one")

    outcome = ship(bucket, runner, CONFIG, INSTANCE, quiet())

    assert outcome == "partial"
    assert moto.client("s3").get_object(Bucket="logs", Key=f"{PREFIX}/Worker_2.log.gz")["Body"].read() == b"an earlier one"


HOSTILE_NAMES = [
    b"Worker_\xff.log", b"Worker_\xed\xb3\xbf.log", b"Worker_a\nb.log", b"Worker_ .log", b"Worker_\xe2\x80\xae.log",
    b"Worker_.log", b"Worker_x.log.gz",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_name_that_no_runner_gives_is_not_read_and_breaks_nothing(
    name: bytes, runner: Path, bucket: S3Objects, moto: Moto
) -> None:
    (runner / "_diag" / "Worker_1.log").write_text("line\n")
    Path(os.fsdecode(os.fsencode(runner / "_diag") + b"/" + name)).write_text("theirs\n")

    assert ship(bucket, runner, CONFIG, INSTANCE, quiet()) == "uploaded"
    assert list(stored(moto)) == [f"{PREFIX}/Worker_1.log.gz"]


def test_a_pipe_a_link_and_a_directory_of_a_runners_name_hold_nobody_up(
    runner: Path, bucket: S3Objects, moto: Moto, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root's own")
    (runner / "_diag" / "Worker_1.log").write_text("line\n")
    os.mkfifo(runner / "_diag" / "Worker_2.log")
    (runner / "_diag" / "Worker_3.log").symlink_to(secret)
    (runner / "_diag" / "Worker_4.log").mkdir()

    assert ship(bucket, runner, CONFIG, INSTANCE, quiet()) == "uploaded"
    assert list(stored(moto)) == [f"{PREFIX}/Worker_1.log.gz"]


def test_more_files_and_bytes_than_a_runner_writes_are_left_out_and_said(
    runner: Path, bucket: S3Objects, moto: Moto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.runner.diagnostics.MOST_FILES", 3)
    monkeypatch.setattr("agent.runner.diagnostics.ALL_LIMIT_BYTES", 2_500)
    for number in range(5):
        (runner / "_diag" / f"Worker_{number}.log").write_text(("x" * 99 + "\n") * 10)
    said = io.StringIO()

    assert ship(bucket, runner, CONFIG, INSTANCE, TextJournal(said)) == "partial"

    assert sorted(stored(moto)) == [f"{PREFIX}/Worker_{number}.log.gz" for number in range(3)]
    assert [len(text) for _, text in sorted(stored(moto).items())] == [1_000, 1_000, 500]
    assert "files=2" in said.getvalue()


class Picky:
    """Objects (ports) that refuse what has a long name, as a full disk would refuse some."""

    def __init__(self, bucket: S3Objects) -> None:
        self._bucket = bucket

    def put_gzip_if_absent(self, key: str, chunks: object) -> bool:
        if len(key) > 200:
            raise OSError("no space left on device")
        return self._bucket.put_gzip_if_absent(key, chunks)  # type: ignore[arg-type]


def test_without_a_run_or_a_prefix_the_key_still_says_whose_it_was(runner: Path, bucket: S3Objects, moto: Moto) -> None:
    (runner / "_diag" / "Worker_1.log").write_text("line\n")

    ship(bucket, runner, RunnerConfig(org="acme", job_id="7"), INSTANCE, quiet())

    assert list(stored(moto)) == [f"runner-logs/unknown-run/7/{INSTANCE}/Worker_1.log.gz"]
