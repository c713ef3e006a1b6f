"""Which runner release, from where, and that it is the publisher's."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.adapters.aws.clients import Clients
from agent.adapters.aws.s3 import S3Objects
from agent.adapters.aws.signing import Region
from agent.adapters.http import MetadataService, RequestsWeb
from agent.adapters.network import Network
from agent.adapters.posix import PosixProcesses
from agent.adapters.system import QueueInbox, TextJournal, ThreadWorkers
from agent.contract.names import release_asset, release_key
from agent.errors import DigestMismatch, ReleaseRefused, ReleaseUnavailable
from agent.ports import Clock
from agent.runner.cache import ReleaseCache
from agent.runner.publisher import PUBLIC_API, Publisher
from agent.runner.release import NoSuchRelease, Releases, Wanted
from agent.wiring import ARCHITECTURES
from sandbox.runner import release as standin
from tests.agent.httpd import Site
from tests.conftest import AgentClock, Moto

ARCHIVE = standin.archive("2.10.0")
OTHER = standin.archive("2.9.0")
FORGED = standin.archive("99.0.0")
"""What somebody with a machine's role lays into the bucket."""
NOWHERE = "http://127.0.0.1:9"
"""Nobody answers there: GitHub cannot be reached."""
WRONG = hashlib.sha256(b"something else").hexdigest()


@dataclass
class Shop:
    """A stand-in for the releases API and the place where the bytes lie."""

    site: Site

    def publish(self, archive: standin.Archive, architecture: str = "x64", *, digest: str | None = "", body: str = "") -> None:
        """Put a release up as the newest; `digest` None: the asset has none; empty: the right one."""
        name = release_asset(archive.version, architecture)
        asset = {"name": name, "browser_download_url": self.site.redirect(f"/go/{name}", self.site.url + f"/bytes/{name}")}
        self.site.serve(f"/bytes/{name}", archive.content)
        if digest is not None:
            asset["digest"] = f"sha256:{digest or archive.sha256}"
        answer = {"tag_name": f"v{archive.version}", "assets": [{"name": "other.zip"}, asset], "body": body}
        for which in (f"tags/v{archive.version}", "latest"):
            self.site.serve_json(f"/api/repos/actions/runner/releases/{which}", answer)

    def corrupt(self, archive: standin.Archive) -> None:
        """From now on the bytes are another release's."""
        self.site.pages[f"/bytes/{release_asset(archive.version, 'x64')}"].content = OTHER.content

    def bytes_asked(self) -> list[str]:
        """The transfers, in order."""
        return [path for path in self.site.asked() if path.startswith("/bytes/")]


@pytest.fixture
def shop(site: Site) -> Shop:
    return Shop(site)


Make = Callable[..., Releases]


@pytest.fixture
def make(site: Site, clock: AgentClock, tmp_path: Path) -> Make:
    """Real adapters around the room; nothing is baked in and nothing is pinned unless the test says so."""

    def releases(
        baked: Path = tmp_path / "nothing-baked",
        pin: str | None = None,
        cache: ReleaseCache | None = None,
        bucket_decides: bool = False,
        architecture: str = "x64",
        mirror_url: str | None = None,
        api_url: str = site.url + "/api",
        clock: Clock = clock,
    ) -> Releases:
        inbox = QueueInbox()
        web = RequestsWeb(Network({}))
        publisher = Publisher(api_url=api_url, mirror_url=mirror_url, architecture=architecture, web=lambda: web, clock=clock)
        return Releases(
            baked=baked,
            pin=pin,
            work_dir=tmp_path / "work",
            bucket_decides=bucket_decides,
            publisher=publisher,
            cache=lambda: cache,
            web=lambda: web,
            processes=PosixProcesses(inbox, lambda descriptor, inbox: None),
            workers=ThreadWorkers(inbox),
            clock=clock,
            journal=TextJournal(),
        )

    return releases


@pytest.fixture
def bucket(moto: Moto) -> ReleaseCache:
    """An empty config bucket."""
    moto.client("s3").create_bucket(Bucket="config")
    return ReleaseCache(S3Objects(Clients(Region(moto.environment, MetadataService({}))), "config"), "x64")


def store(moto: Moto, archive: standin.Archive, recorded: str | None = None, content: bytes | None = None) -> None:
    """Lay a copy into the bucket as an uploader would."""
    metadata = {} if recorded is None else {"sha256": recorded}
    moto.client("s3").put_object(
        Bucket="config", Key=release_key(archive.version, "x64"), Body=content or archive.content, Metadata=metadata
    )


def test_rq4_without_a_copy_the_newest_release_comes_from_github_and_is_ready_to_run(shop: Shop, make: Make) -> None:
    shop.publish(ARCHIVE)

    found = make().fetch(Wanted())

    assert (found.version, found.source, found.digest, found.sha256) == ("2.10.0", "github", "releases-api", ARCHIVE.sha256)
    assert (found.directory / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (found.directory / ".runs-fleet-version").read_text() == "2.10.0"


def test_rq4_a_copy_in_s3_is_used_and_no_byte_comes_from_github(shop: Shop, make: Make, bucket: ReleaseCache, moto: Moto) -> None:
    shop.publish(ARCHIVE)
    store(moto, ARCHIVE)

    found = make(cache=bucket).fetch(Wanted("2.10.0"))

    assert (found.source, found.digest, found.cache_note) == ("s3", "releases-api", "")
    assert shop.bytes_asked() == []


def test_rq4_a_miss_keeps_the_verified_archive_for_the_upload(shop: Shop, make: Make, bucket: ReleaseCache) -> None:
    shop.publish(ARCHIVE)

    found = make(cache=bucket).fetch(Wanted())

    assert (found.source, found.cache_note) == ("github", "miss")
    assert found.archive is not None and found.archive.read_bytes() == ARCHIVE.content


def test_without_a_bucket_no_archive_is_kept(shop: Shop, make: Make, tmp_path: Path) -> None:
    shop.publish(ARCHIVE)

    found = make().fetch(Wanted())

    assert (found.archive, found.cache_note) == (None, "disabled")
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["runner-2.10.0"]


def test_a_baked_release_without_a_pin_is_taken_as_it_is_and_github_is_never_asked(
    site: Site, make: Make, tmp_path: Path
) -> None:
    baked = standin.install(tmp_path / "baked", "2.5.0")

    found = make(baked=baked).fetch(Wanted())

    assert (found.directory, found.version, found.source, found.digest) == (baked, "2.5.0", "prebaked", "prebaked")
    assert site.requests == []


@pytest.mark.parametrize("noted", [True, False])
def test_a_baked_release_of_the_wanted_version_is_taken_whether_or_not_it_is_noted(
    noted: bool, site: Site, make: Make, tmp_path: Path
) -> None:
    baked = standin.install(tmp_path / "baked", "2.5.0")
    if not noted:
        (baked / ".runs-fleet-version").unlink()

    assert make(baked=baked, pin="2.5.0").fetch(Wanted()).directory == baked
    assert make(baked=baked).fetch(Wanted("2.5.0")).directory == baked
    assert site.requests == []


def test_a_pin_that_is_not_what_is_baked_in_is_fetched(shop: Shop, make: Make, tmp_path: Path) -> None:
    baked = standin.install(tmp_path / "baked", "2.5.0")
    shop.publish(ARCHIVE)

    found = make(baked=baked, pin="2.10.0").fetch(Wanted())

    assert (found.version, found.source, found.directory != baked) == ("2.10.0", "github", True)


def test_the_configuration_s_version_goes_before_the_pin(shop: Shop, make: Make) -> None:
    shop.publish(OTHER)
    shop.publish(ARCHIVE)

    assert make(pin="2.10.0").fetch(Wanted("2.9.0")).version == "2.9.0"


def test_the_newest_copy_in_s3_decides_where_the_operator_says_so(
    shop: Shop, make: Make, bucket: ReleaseCache, moto: Moto
) -> None:
    for archive in (OTHER, ARCHIVE):
        store(moto, archive, recorded=archive.sha256)
        shop.publish(archive)
    shop.publish(standin.archive("2.99.0"))

    found = make(cache=bucket, bucket_decides=True).fetch(Wanted())

    assert (found.version, found.source, found.digest) == ("2.10.0", "s3", "releases-api")


def test_where_the_bucket_is_to_decide_and_is_empty_github_s_newest_is_taken(
    shop: Shop, make: Make, bucket: ReleaseCache
) -> None:
    shop.publish(ARCHIVE)

    found = make(cache=bucket, bucket_decides=True).fetch(Wanted())

    assert (found.version, found.source, found.cache_note) == ("2.10.0", "github", "miss")


def test_a_bucket_s_listing_names_no_version_unless_the_operator_says_so(
    shop: Shop, make: Make, bucket: ReleaseCache, moto: Moto
) -> None:
    store(moto, FORGED, recorded=FORGED.sha256)
    shop.publish(ARCHIVE)
    store(moto, ARCHIVE)

    found = make(cache=bucket).fetch(Wanted())

    assert (found.version, found.source, found.digest) == ("2.10.0", "s3", "releases-api")


@pytest.mark.parametrize("api", ["answers", "is gone"])
@pytest.mark.parametrize("bucket_decides", [False, True])
def test_a_release_that_a_stolen_role_laid_into_the_bucket_is_never_run_unnamed(
    bucket_decides: bool, api: str, shop: Shop, make: Make, bucket: ReleaseCache, moto: Moto, tmp_path: Path
) -> None:
    store(moto, FORGED, recorded=FORGED.sha256)
    releases = make(cache=bucket, bucket_decides=bucket_decides, **({} if api == "answers" else {"api_url": NOWHERE}))

    with pytest.raises((ReleaseUnavailable, NoSuchRelease)):
        releases.fetch(Wanted())

    assert not (tmp_path / "work" / f"runner-{FORGED.version}").exists()


@pytest.mark.parametrize("pinned", [True, False])
def test_a_version_that_github_does_not_have_is_a_mismatch_whatever_lies_in_the_bucket(
    pinned: bool, shop: Shop, make: Make, bucket: ReleaseCache, moto: Moto
) -> None:
    store(moto, FORGED, recorded=FORGED.sha256)
    shop.publish(ARCHIVE)
    releases, wanted = make(cache=bucket, pin=FORGED.version if pinned else None), Wanted(None if pinned else FORGED.version)

    with pytest.raises(NoSuchRelease, match="404"):
        releases.fetch(wanted)


def test_a_release_without_a_file_for_this_architecture_is_a_mismatch(
    shop: Shop, make: Make, bucket: ReleaseCache, moto: Moto
) -> None:
    store(moto, ARCHIVE, recorded=ARCHIVE.sha256)
    shop.publish(ARCHIVE, architecture="arm64")

    with pytest.raises(NoSuchRelease, match="no asset"):
        make(cache=bucket).fetch(Wanted("2.10.0"))


@pytest.mark.parametrize("refusal", [401, 403, 410, 429, 451])
def test_the_recorded_digest_is_not_believed_where_github_answers_and_refuses(
    refusal: int, shop: Shop, make: Make, bucket: ReleaseCache, moto: Moto
) -> None:
    """The sixty calls an hour of an address can be used up by anybody behind it."""
    content = standin.archive("2.10.0", python="/usr/bin/python3 ")
    store(moto, ARCHIVE, recorded=content.sha256, content=content.content)
    shop.site.serve("/api/repos/actions/runner/releases/tags/v2.10.0", status=refusal)

    with pytest.raises(ReleaseUnavailable, match="did not tell"):
        make(cache=bucket).fetch(Wanted("2.10.0"))


def test_the_recorded_digest_is_not_believed_where_github_publishes_none(
    shop: Shop, make: Make, bucket: ReleaseCache, moto: Moto
) -> None:
    store(moto, ARCHIVE, recorded=ARCHIVE.sha256)
    shop.publish(ARCHIVE, digest=None, body="no markers here")

    with pytest.raises(DigestMismatch, match="publishes no digest"):
        make(cache=bucket).fetch(Wanted("2.10.0"))


@pytest.mark.parametrize("copied", [True, False])
def test_who_knows_version_and_digest_asks_github_s_api_nothing(
    copied: bool, shop: Shop, make: Make, bucket: ReleaseCache, moto: Moto
) -> None:
    shop.site.serve(f"/mirror/v2.10.0/{release_asset('2.10.0', 'x64')}", ARCHIVE.content)
    if copied:
        store(moto, ARCHIVE, recorded=WRONG)

    found = make(cache=bucket, mirror_url=shop.site.url + "/mirror", api_url=NOWHERE).fetch(Wanted("2.10.0", ARCHIVE.sha256))

    assert (found.source, found.digest) == ("s3" if copied else "github", "configuration")


def test_at_github_s_own_api_the_address_of_a_release_is_known() -> None:
    def of(api_url: str, mirror_url: str | None = None) -> str | None:
        publisher = Publisher(
            api_url=api_url, mirror_url=mirror_url, architecture="arm64", web=lambda: pytest.fail("asked"), clock=AgentClock()
        )
        return publisher.address("2.336.0")

    name = "actions-runner-linux-arm64-2.336.0.tar.gz"
    assert of(PUBLIC_API) == f"https://github.com/actions/runner/releases/download/v2.336.0/{name}"
    assert of("https://ghe.example/api/v3") is None
    assert of("https://ghe.example/api/v3", "https://mirror.example") == f"https://mirror.example/v2.336.0/{name}"


def test_what_the_configuration_names_only_by_default_comes_after_the_pin_and_what_is_baked(
    shop: Shop, make: Make, tmp_path: Path
) -> None:
    baked = standin.install(tmp_path / "baked", "2.5.0")
    shop.publish(OTHER)
    shop.publish(ARCHIVE)
    named = Wanted("2.10.0", ARCHIVE.sha256, by_default=True)

    assert make(baked=baked).fetch(named).version == "2.5.0"
    assert make(pin="2.9.0").fetch(named).version == "2.9.0"
    assert make(pin="2.9.0").fetch(named).digest == "releases-api"
    assert (make().fetch(named).version, make().fetch(named).digest) == ("2.10.0", "configuration")
    with pytest.raises(DigestMismatch):
        make(pin="2.10.0").fetch(Wanted("2.10.0", WRONG, by_default=True))


@pytest.mark.parametrize("source", ["s3", "github"])
def test_trust_1_the_configuration_s_digest_goes_before_what_the_api_says(
    source: str, shop: Shop, make: Make, bucket: ReleaseCache, moto: Moto
) -> None:
    shop.publish(ARCHIVE, digest=WRONG)
    if source == "s3":
        store(moto, ARCHIVE, recorded=WRONG)

    found = make(cache=bucket).fetch(Wanted("2.10.0", ARCHIVE.sha256))

    assert (found.source, found.digest) == (source, "configuration")


def test_trust_2_the_asset_s_digest_goes_before_the_markers_in_the_text(shop: Shop, make: Make) -> None:
    shop.publish(ARCHIVE, body=markers(x64=WRONG))

    assert make().fetch(Wanted()).digest == "releases-api"


def test_trust_3_the_markers_in_the_text_are_believed_where_the_asset_has_no_digest(shop: Shop, make: Make) -> None:
    shop.publish(ARCHIVE, digest=None, body=markers(x64=ARCHIVE.sha256.upper(), arm64=WRONG))

    assert make().fetch(Wanted()).digest == "releases-api"


def test_trust_3_a_wrong_marker_is_a_mismatch(shop: Shop, make: Make) -> None:
    shop.publish(ARCHIVE, digest=None, body=markers(x64=WRONG, arm64=ARCHIVE.sha256))

    with pytest.raises(DigestMismatch):
        make().fetch(Wanted())


def test_trust_4_the_recorded_digest_is_believed_when_the_api_cannot_be_asked_and_the_report_says_so(
    make: Make, bucket: ReleaseCache, moto: Moto
) -> None:
    store(moto, ARCHIVE, recorded=ARCHIVE.sha256)

    found = make(cache=bucket, api_url=NOWHERE).fetch(Wanted("2.10.0"))

    assert (found.source, found.digest) == ("s3", "recorded")
    assert "could not be reached" in found.doubt


def test_trust_4_the_api_s_digest_goes_before_the_recorded_one(shop: Shop, make: Make, bucket: ReleaseCache, moto: Moto) -> None:
    shop.publish(ARCHIVE)
    store(moto, ARCHIVE, recorded=WRONG)

    found = make(cache=bucket).fetch(Wanted("2.10.0"))

    assert (found.source, found.digest) == ("s3", "releases-api")


def test_trust_5_a_copy_for_which_nobody_vouches_is_not_used(make: Make, bucket: ReleaseCache, moto: Moto) -> None:
    store(moto, ARCHIVE)

    with pytest.raises(ReleaseUnavailable, match="recorded none"):
        make(cache=bucket, api_url=NOWHERE).fetch(Wanted("2.10.0"))


def test_trust_5_a_release_without_any_digest_is_refused_before_a_byte_of_it_is_fetched(shop: Shop, make: Make) -> None:
    shop.publish(ARCHIVE, digest=None, body="no markers here")

    with pytest.raises(DigestMismatch, match="runner_sha256"):
        make().fetch(Wanted())

    assert shop.bytes_asked() == []


@pytest.mark.parametrize("content", [OTHER.content, ARCHIVE.content + b"\0", ARCHIVE.content[:-500], b"garbage" * 99])
def test_a_copy_that_is_not_the_publisher_s_is_dropped_for_github_and_the_report_says_so(
    content: bytes, shop: Shop, make: Make, bucket: ReleaseCache, moto: Moto, tmp_path: Path
) -> None:
    shop.publish(ARCHIVE)
    store(moto, ARCHIVE, content=content)

    found = make(cache=bucket).fetch(Wanted("2.10.0"))

    assert (found.source, found.cache_note.partition(":")[0]) == ("github", "mismatch")
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["runner-2.10.0"]


def test_bytes_from_github_that_are_not_the_publisher_s_are_fatal_and_leave_nothing_behind(
    shop: Shop, make: Make, bucket: ReleaseCache, tmp_path: Path
) -> None:
    shop.publish(ARCHIVE)
    shop.corrupt(ARCHIVE)

    with pytest.raises(DigestMismatch, match="github"):
        make(cache=bucket).fetch(Wanted())

    assert list((tmp_path / "work").iterdir()) == []


def test_an_archive_without_a_runner_in_it_is_refused(shop: Shop, make: Make, tmp_path: Path) -> None:
    shop.publish(standin.Archive("2.10.0", _tar_of_one_file()))

    with pytest.raises(ReleaseRefused, match=r"run\.sh"):
        make().fetch(Wanted())

    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize("bucket_decides", [True, False])
def test_a_bucket_that_cannot_be_reached_is_a_detour_and_not_an_end(
    bucket_decides: bool, shop: Shop, make: Make, moto: Moto
) -> None:
    shop.publish(ARCHIVE)
    clients = Clients(Region({**moto.environment, "AWS_ENDPOINT_URL_S3": NOWHERE, "AWS_MAX_ATTEMPTS": "1"}, MetadataService({})))

    found = make(cache=ReleaseCache(S3Objects(clients, "config"), "x64"), bucket_decides=bucket_decides).fetch(Wanted())

    assert (found.source, found.cache_note.partition(":")[0]) == ("github", "unavailable")


@pytest.mark.parametrize("status", [403, 404, 410])
def test_bytes_that_are_refused_are_a_release_that_cannot_be_had(status: int, shop: Shop, make: Make, tmp_path: Path) -> None:
    shop.publish(ARCHIVE)
    shop.site.serve(f"/bytes/{release_asset('2.10.0', 'x64')}", status=status)

    with pytest.raises(ReleaseUnavailable, match=str(status)):
        make().fetch(Wanted())

    assert list((tmp_path / "work").iterdir()) == []


def test_when_nothing_helped_every_source_is_named_with_its_cause(make: Make, bucket: ReleaseCache, moto: Moto) -> None:
    store(moto, ARCHIVE, content=OTHER.content, recorded=ARCHIVE.sha256)

    with pytest.raises(ReleaseUnavailable) as refused:
        make(cache=bucket, api_url=NOWHERE).fetch(Wanted("2.10.0"))

    assert "Unreachable" in str(refused.value) and OTHER.sha256 in str(refused.value)


def test_an_api_that_is_busy_is_asked_again(shop: Shop, make: Make, clock: AgentClock) -> None:
    shop.publish(ARCHIVE)
    shop.site.pages["/api/repos/actions/runner/releases/latest"].refusals += [502, 503]

    assert make().fetch(Wanted()).source == "github"
    assert len(clock.pauses) == 2


@pytest.mark.parametrize("answer", [{}, [], "text", {"tag_name": "v1.2.3"}, {"tag_name": "v1.2.3", "assets": [{}]}])
def test_an_api_that_answers_something_else_is_named(answer: object, site: Site, make: Make) -> None:
    site.serve_json("/api/repos/actions/runner/releases/latest", answer)

    with pytest.raises(ReleaseUnavailable, match="releases API"):
        make().fetch(Wanted())


@pytest.mark.parametrize(("machine", "word"), [("x86_64", "x64"), ("amd64", "x64"), ("aarch64", "arm64"), ("arm64", "arm64")])
def test_a1_the_machine_s_word_becomes_the_publisher_s(machine: str, word: str, shop: Shop, make: Make) -> None:
    for architecture in ("x64", "arm64"):
        shop.publish(ARCHIVE, architecture)
        shop.publish(OTHER, architecture)
    wanted = f"actions-runner-linux-{word}-2.9.0.tar.gz"
    shop.publish(OTHER, word)

    make(architecture=ARCHITECTURES[machine]).fetch(Wanted("2.9.0"))

    assert shop.bytes_asked() == [f"/bytes/{wanted}"]


def test_a1_an_architecture_nobody_publishes_is_a_clean_error(shop: Shop, make: Make) -> None:
    shop.publish(ARCHIVE)

    with pytest.raises(ReleaseUnavailable, match="riscv64"):
        make(architecture="riscv64").fetch(Wanted())


def test_a_mirror_gives_the_bytes_while_the_api_still_vouches(shop: Shop, make: Make) -> None:
    shop.publish(ARCHIVE)
    name = release_asset("2.10.0", "x64")
    shop.site.serve(f"/mirror/v2.10.0/{name}", ARCHIVE.content)

    found = make(mirror_url=shop.site.url + "/mirror").fetch(Wanted())

    assert found.digest == "releases-api"
    assert f"/mirror/v2.10.0/{name}" in shop.site.asked() and shop.bytes_asked() == []


def test_a_transfer_that_breaks_twice_is_still_one_release(shop: Shop, make: Make) -> None:
    shop.publish(ARCHIVE)
    name = f"/bytes/{release_asset('2.10.0', 'x64')}"
    shop.site.pages[name].cuts += [100, 3_000]

    assert make().fetch(Wanted()).sha256 == ARCHIVE.sha256
    assert shop.bytes_asked() == [name] * 3


def test_a_release_fetched_twice_replaces_itself(shop: Shop, make: Make) -> None:
    shop.publish(ARCHIVE)
    first = make().fetch(Wanted())
    (first.directory / "left-over").touch()

    second = make().fetch(Wanted())

    assert second.directory == first.directory and not (second.directory / "left-over").exists()


def test_settings_decide_only_with_a_pin_or_a_baked_release(make: Make, tmp_path: Path) -> None:
    baked = standin.install(tmp_path / "baked")

    assert (make().decided(), make(pin="2.9.0").decided(), make(baked=baked).decided()) == (False, True, True)


@pytest.mark.parametrize(
    ("wanted", "satisfied"),
    [
        (Wanted(), True),
        (Wanted("2.10.0"), True),
        (Wanted("2.9.0"), False),
        (Wanted("2.10.0", ARCHIVE.sha256), True),
        (Wanted("2.10.0", WRONG), False),
        (Wanted("2.9.0", WRONG, by_default=True), True),
        (Wanted("2.10.0", WRONG, by_default=True), False),
    ],
)
def test_what_was_fetched_early_serves_only_if_it_is_what_the_configuration_wants(
    wanted: Wanted, satisfied: bool, shop: Shop, make: Make
) -> None:
    shop.publish(ARCHIVE)
    releases = make(pin="2.10.0")

    assert releases.satisfies(releases.fetch(Wanted()), wanted) is satisfied


def markers(**digests: str) -> str:
    """The part of a release's text that carries digests, as actions/runner writes it."""
    lines = (
        f"- actions-runner-linux-{word}-2.10.0.tar.gz <!-- BEGIN SHA linux-{word} -->{digest}<!-- END SHA linux-{word} -->"
        for word, digest in digests.items()
    )
    return "## SHA-256 Checksums\n" + "\n".join(lines)


def _tar_of_one_file() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("readme.txt"))
    return gzip.compress(packed.getvalue())
