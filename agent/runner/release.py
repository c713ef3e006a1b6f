"""Which runner release, from where, and that it is the publisher's.

Wanted: the configuration's version, else the pin, else whatever is baked in, else GitHub's newest. A version that the
configuration names only by default comes after the pin and the baked one. A bucket's listing names one where an operator says so.
Trusted: the configuration's digest, else the releases API's. The one that an uploader recorded is believed only while GitHub
cannot be reached, and never for a version that the bucket named: every machine of the fleet may write there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from agent.calls.error_codes import Meaning, meaning_of
from agent.calls.retries import is_passing, retry
from agent.contract.releases import ReleaseFile
from agent.errors import DigestMismatch, ReleaseRefused, ReleaseUnavailable, ServiceError
from agent.ports import Body, Clock, Journal, Launch, Processes, Web, Workers
from agent.runner.cache import CachedRelease, ReleaseCache
from agent.runner.downloader import Download
from agent.runner.publisher import API_RETRIES, Asked, AssetMissing, Publisher
from agent.runner.unpack import holds_runner, unpack

VERSION_FILE = ".runs-fleet-version"
"""Written beside a release we unpacked or baked, so that its version can be known without starting it."""


@dataclass(frozen=True)
class Wanted:
    """What to run: None means that nobody decided. `sha256` is the configuration's digest."""

    version: str | None = None
    sha256: str | None = None
    by_default: bool = False
    """Nobody chose this version, it is GitHub's newest: a pin or a baked release goes before it."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release on this machine, ready to run, and how it got here."""

    directory: Path
    version: str
    source: str
    """`prebaked`, `s3` or `github`."""
    digest: str
    """Who vouched: `prebaked`, `configuration`, `releases-api` or `recorded`."""
    sha256: str = ""
    archive: Path | None = None
    """The verified archive, kept where it is worth uploading."""
    cache_note: str = ""
    """What the cache did not do for us, and why."""
    doubt: str = ""
    """Why somebody vouched who is believed only in need; empty: nobody had to."""


@dataclass(frozen=True)
class _Vouched:
    sha256: str
    by: str
    doubt: str = ""


class NoSuchRelease(DigestMismatch):
    """GitHub has no such release or no such file in it: whatever else bears that name is not the publisher's."""


class Releases:
    """Finds and fetches runner releases."""

    def __init__(
        self,
        *,
        baked: Path,
        pin: str | None,
        bucket_decides: bool,
        work_dir: Path,
        publisher: Publisher,
        cache: Callable[[], ReleaseCache | None],
        web: Callable[[], Web],
        processes: Processes,
        workers: Workers,
        clock: Clock,
        journal: Journal,
    ) -> None:
        self._baked, self._pin, self._bucket_decides, self._work_dir = baked, pin, bucket_decides, work_dir
        self._publisher = publisher
        self._cache_of, self._web_of = cache, web
        self._processes, self._workers, self._clock, self._journal = processes, workers, clock, journal

    def decided(self) -> bool:
        """Whether the settings alone say what to fetch, so that there is no need to wait for the configuration."""
        return self._pin is not None or holds_runner(self._baked)

    def satisfies(self, release: Release, wanted: Wanted) -> bool:
        """Whether a release fetched on the settings' word is also what the configuration wants."""
        if wanted.by_default and wanted.version != release.version:
            return True
        same_version = wanted.version is None or wanted.version == release.version
        return same_version and (wanted.sha256 is None or release.source == "prebaked" or release.sha256 == wanted.sha256)

    def fetch(self, wanted: Wanted) -> Release:
        """The release on this machine.

        Raises: ReleaseUnavailable naming every source tried; DigestMismatch or ReleaseRefused for bytes nobody may run.
        """
        version, sha256 = self._chosen(wanted)
        if holds_runner(self._baked) and (version is None or self._baked_version() == version):
            found = version or self._baked_version(quick=True)
            return Release(directory=self._baked, version=found, source="prebaked", digest="prebaked")
        bucket, note, listed = self._cache_of(), "", None
        if bucket is not None:
            note = "miss"
            try:
                if version is None and self._bucket_decides:
                    version = listed = retry(bucket.newest, is_passing, API_RETRIES, self._clock)
            except ServiceError as error:
                note = self._unavailable(error)
        asked = cache(partial(self._publisher.ask, version))
        version = version or self._answer(asked, note).version
        if bucket is not None and note == "miss":
            try:
                if (release := self._from_cache(bucket, version, sha256, asked, listed=listed is not None)) is not None:
                    return release
            except NoSuchRelease:
                raise
            except (DigestMismatch, ReleaseRefused) as error:
                note = f"mismatch: {error}"
                self._journal.event("cache.refused", error=str(error))
            except ServiceError as error:
                note = self._unavailable(error)
        return self._from_github(version, sha256, asked, note)

    def _chosen(self, wanted: Wanted) -> tuple[str | None, str | None]:
        """Version and digest that somebody decided on."""
        told = (wanted.version or "").removeprefix("v")
        if not wanted.by_default:
            return told or self._pin, wanted.sha256
        version = self._pin or (None if holds_runner(self._baked) else told or None)
        return version, wanted.sha256 if version == told else None

    def _unavailable(self, error: ServiceError) -> str:
        self._journal.event("cache.unavailable", error=str(error))
        return f"unavailable: {error}"

    def _baked_version(self, *, quick: bool = False) -> str:
        noted = self._baked / VERSION_FILE
        if noted.is_file():
            return noted.read_text(encoding="utf-8").strip()
        if quick:
            return "unknown"
        launch = Launch((str(self._baked / "bin/Runner.Listener"), "--version"), self._baked, {"PATH": "/usr/bin:/bin"})
        try:
            return self._processes.run(launch, within_s=15.0).tail.strip()
        except OSError:
            return "unknown"

    def _from_cache(
        self, bucket: ReleaseCache, version: str, sha256: str | None, asked: Asked, *, listed: bool
    ) -> Release | None:
        found = retry(lambda: bucket.find(version), is_passing, API_RETRIES, self._clock)
        if found is None:
            return None
        vouched = self._trusted(found, sha256, asked, listed=listed)
        return self._unpacked(lambda offset: bucket.open(found, offset), version, vouched, "s3")

    def _trusted(self, found: CachedRelease, sha256: str | None, asked: Asked, *, listed: bool) -> _Vouched:
        """Raises: NoSuchRelease, DigestMismatch: nobody vouches for it."""
        if sha256:
            return _Vouched(sha256, "configuration")
        answer, nobody = asked(), f"nobody vouches for {found.key}: no digest in the configuration, and GitHub"
        if answer.returned is not None:
            if answer.returned.sha256:
                return _Vouched(answer.returned.sha256, "releases-api")
            raise DigestMismatch(f"{nobody} publishes none")
        error = answer.error
        self._journal.event("release.api_unavailable", error=str(error))
        code = error.code if isinstance(error, ServiceError) else ""
        if code == "404" or isinstance(error, AssetMissing):
            raise NoSuchRelease(f"{found.key} is not the publisher's: {error}") from error
        if meaning_of(code) is not Meaning.UNAVAILABLE:
            raise DigestMismatch(f"{nobody} was reached and did not tell: {error}") from error
        if listed or not found.recorded_sha256:
            why = "the version is the bucket's own word" if listed else "its uploader recorded none"
            raise DigestMismatch(f"{nobody} cannot be reached ({error}); {why}") from error
        return _Vouched(found.recorded_sha256, "recorded", f"GitHub could not be reached to vouch for {found.key}: {error}")

    def _from_github(self, version: str, sha256: str | None, asked: Asked, note: str) -> Release:
        address = self._publisher.address(version) if sha256 else None
        published = ReleaseFile(version, address, sha256) if address else self._answer(asked, note)
        vouched = _Vouched(sha256, "configuration") if sha256 else _Vouched(published.sha256 or "", "releases-api")
        if not vouched.sha256:
            raise DigestMismatch(f"GitHub publishes no digest for {published.version}: give runner_sha256 in the configuration")
        web = self._web_of()
        archive = self._work_dir / f"actions-runner-{published.version}.tar.gz" if note == "miss" else None
        try:
            return self._unpacked(
                lambda offset: web.open(published.url, offset), version, vouched, "github", archive, note=note or "disabled"
            )
        except ServiceError as error:
            raise ReleaseUnavailable(f"{_tried(note)}GitHub's bytes could not be had: {error}") from error

    def _answer(self, asked: Asked, note: str) -> ReleaseFile:
        """Raises: ReleaseUnavailable."""
        answer = asked()
        if isinstance(answer.error, ServiceError):
            raise ReleaseUnavailable(
                f"{_tried(note)}the releases API at {self._publisher.api_url} did not help: {answer.error}"
            ) from answer.error
        return answer.value

    def _unpacked(
        self,
        open_at: Callable[[int], Body],
        version: str,
        vouched: _Vouched,
        source: str,
        archive: Path | None = None,
        note: str = "",
    ) -> Release:
        self._work_dir.mkdir(parents=True, exist_ok=True)
        aside = self._work_dir / f".unpacking-{version}-{source}-{self._clock.new_id()[:8]}"
        target = self._work_dir / f"runner-{version}"
        download = Download(open_at, self._clock, archive)
        whole = False
        try:
            unpack(self._workers.ahead(download.chunks()), aside, ahead=self._workers.ahead)
            download.verify(vouched.sha256, source)
            if not holds_runner(aside):
                raise ReleaseRefused(f"the archive from {source} holds no run.sh: it is not a runner release")
            whole = True
        finally:
            if not whole:
                shutil.rmtree(aside, ignore_errors=True)
                if archive:
                    archive.unlink(missing_ok=True)
        (aside / VERSION_FILE).write_text(version, encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        aside.rename(target)
        return Release(
            directory=target, version=version, source=source, digest=vouched.by, sha256=download.sha256, archive=archive,
            cache_note=note, doubt=vouched.doubt,
        )  # fmt: skip


def _tried(note: str) -> str:
    """What the cache had to say before GitHub was asked."""
    return f"S3: {note}; and " if note else ""
