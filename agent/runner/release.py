"""Which runner release, from where, and that it is the publisher's.

Wanted: the configuration's version, else the pin, else whatever is baked in, else the newest in S3, else GitHub's latest.
Trusted: the configuration's digest, else the releases API's, else the one the uploader recorded; never none.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.calls.retries import RetryPolicy, is_passing, retry
from agent.contract.names import release_asset
from agent.errors import DigestMismatch, ReleaseRefused, ReleaseUnavailable, ServiceError
from agent.ports import Body, Clock, Journal, Launch, Processes, Web, Workers
from agent.runner.cache import CachedRelease, ReleaseCache
from agent.runner.downloader import Download
from agent.runner.unpack import holds_runner, unpack

API_RETRIES = RetryPolicy(within_s=15.0, first_s=0.5, longest_s=4.0, tries=4)
"""For the small question which bytes; the bytes themselves have their own."""
VERSION_FILE = ".runs-fleet-version"
"""Written beside a release we unpacked or baked, so that its version can be known without starting it."""
_MARKER = r"<!-- BEGIN SHA linux-{arch} -->\s*([0-9a-fA-F]{{64}})\s*<!-- END SHA linux-{arch} -->"


@dataclass(frozen=True)
class Wanted:
    """What to run: None means that nobody decided. `sha256` is the configuration's digest."""

    version: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class _Published:
    version: str
    url: str
    sha256: str | None


class Releases:
    """Finds and fetches runner releases."""

    def __init__(
        self,
        *,
        baked: Path,
        pin: str | None,
        work_dir: Path,
        architecture: str,
        api_url: str,
        mirror_url: str | None,
        cache: Callable[[], ReleaseCache | None],
        web: Callable[[], Web],
        processes: Processes,
        workers: Workers,
        clock: Clock,
        journal: Journal,
    ) -> None:
        self._baked, self._pin, self._work_dir, self._architecture = baked, pin, work_dir, architecture
        self._api_url, self._mirror_url = api_url, mirror_url
        self._cache_of, self._web_of = cache, web
        self._processes, self._workers, self._clock, self._journal = processes, workers, clock, journal

    def decided(self) -> bool:
        """Whether the settings alone say what to fetch, so that there is no need to wait for the configuration."""
        return self._pin is not None or holds_runner(self._baked)

    def satisfies(self, release: Release, wanted: Wanted) -> bool:
        """Whether a release fetched on the settings' word is also what the configuration wants."""
        same_version = wanted.version is None or wanted.version == release.version
        return same_version and (wanted.sha256 is None or release.source == "prebaked" or release.sha256 == wanted.sha256)

    def fetch(self, wanted: Wanted) -> Release:
        """The release on this machine.

        Raises: ReleaseUnavailable naming every source tried; DigestMismatch or ReleaseRefused for bytes nobody may run.
        """
        version = (wanted.version or self._pin or "").removeprefix("v") or None
        if holds_runner(self._baked) and (version is None or self._baked_version() == version):
            return Release(self._baked, version or self._baked_version(quick=True), "prebaked", "prebaked")
        note = ""
        cache = self._cache_of()
        if cache is not None:
            try:
                if (release := self._from_cache(cache, version, wanted.sha256)) is not None:
                    return release
                note = "miss"
            except (DigestMismatch, ReleaseRefused) as error:
                note = f"mismatch: {error}"
                self._journal.event("cache.refused", error=str(error))
            except (ServiceError, ReleaseUnavailable) as error:
                note = f"unavailable: {error}"
                self._journal.event("cache.unavailable", error=str(error))
        return self._from_github(version, wanted.sha256, note)

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

    def _from_cache(self, cache: ReleaseCache, version: str | None, sha256: str | None) -> Release | None:
        version = version or retry(cache.newest, is_passing, API_RETRIES, self._clock)
        if version is None:
            return None
        wanted = version
        found = retry(lambda: cache.find(wanted), is_passing, API_RETRIES, self._clock)
        if found is None:
            return None
        digest, vouched = self._trusted(found, sha256)
        return self._unpacked(lambda offset: cache.open(found, offset), version, digest, vouched, "s3")

    def _trusted(self, found: CachedRelease, sha256: str | None) -> tuple[str, str]:
        if sha256:
            return sha256, "configuration"
        try:
            published = self._published(found.version)
            if published.sha256:
                return published.sha256, "releases-api"
        except (ServiceError, ReleaseUnavailable) as error:
            self._journal.event("release.api_unavailable", error=str(error))
        if found.recorded_sha256:
            return found.recorded_sha256, "recorded"
        raise DigestMismatch(f"nobody vouches for {found.key}: no digest in the configuration, the releases API or its metadata")

    def _from_github(self, version: str | None, sha256: str | None, note: str) -> Release:
        try:
            published = self._published(version)
        except ServiceError as error:
            raise ReleaseUnavailable(f"{_tried(note)}the releases API at {self._api_url} did not help: {error}") from error
        digest, vouched = (sha256, "configuration") if sha256 else (published.sha256, "releases-api")
        if not digest:
            raise DigestMismatch(f"GitHub publishes no digest for {published.version}: give runner_sha256 in the configuration")
        web = self._web_of()
        archive = self._work_dir / f"actions-runner-{published.version}.tar.gz" if note == "miss" else None
        try:
            release = self._unpacked(
                lambda offset: web.open(published.url, offset), published.version, digest, vouched, "github", archive
            )
        except ServiceError as error:
            raise ReleaseUnavailable(f"{_tried(note)}GitHub's bytes could not be had: {error}") from error
        return Release(
            release.directory,
            release.version,
            "github",
            vouched,
            release.sha256,
            archive,
            cache_note=note or "disabled",
        )

    def _published(self, version: str | None) -> _Published:
        which = f"tags/v{version}" if version else "latest"
        url = f"{self._api_url}/repos/actions/runner/releases/{which}"
        answer = retry(lambda: self._web_of().get_json(url), is_passing, API_RETRIES, self._clock)
        try:
            tag = str(answer["tag_name"]).removeprefix("v")
            name = release_asset(tag, self._architecture)
            asset = next((asset for asset in answer["assets"] if asset["name"] == name), None)
            if asset is None:
                raise ReleaseUnavailable(f"release {tag} has no asset {name}")
            address = f"{self._mirror_url}/v{tag}/{name}" if self._mirror_url else asset["browser_download_url"]
            return _Published(tag, address, _digest(asset, answer.get("body") or "", self._architecture))
        except (KeyError, TypeError) as error:
            raise ReleaseUnavailable(
                f"the releases API at {url} answered with something else than a release: {error!r}"
            ) from error

    def _unpacked(
        self,
        open_at: Callable[[int], Body],
        version: str,
        digest: str,
        vouched: str,
        source: str,
        archive: Path | None = None,
    ) -> Release:
        self._work_dir.mkdir(parents=True, exist_ok=True)
        aside = self._work_dir / f".unpacking-{version}-{source}-{self._clock.new_id()[:8]}"
        target = self._work_dir / f"runner-{version}"
        download = Download(open_at, self._clock, archive)
        whole = False
        try:
            unpack(self._workers.ahead(download.chunks()), aside, ahead=self._workers.ahead)
            download.verify(digest, source)
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
        return Release(target, version, source, vouched, download.sha256, archive)


def _tried(note: str) -> str:
    """What the cache had to say before GitHub was asked."""
    return f"S3: {note}; and " if note else ""


def _digest(asset: dict[str, Any], body: str, architecture: str) -> str | None:
    """The asset's own digest, else the one between the markers in the release's text. Source: actions/runner release notes."""
    own = str(asset.get("digest") or "")
    if own.startswith("sha256:"):
        return own.removeprefix("sha256:").lower()
    marked = re.search(_MARKER.format(arch=re.escape(architecture)), body)
    return marked.group(1).lower() if marked else None
