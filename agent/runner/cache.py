"""The copy of the release in S3: found, offered, and written once by one machine of the fleet."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.calls.retries import RetryPolicy, is_passing, retry
from agent.contract.names import release_key
from agent.errors import ServiceError
from agent.ports import Body, Clock, Objects

DIGEST_FIELD = "sha256"
"""The object metadata in which the uploader records the digest it verified."""
UPLOAD_RETRIES = RetryPolicy(within_s=120.0, first_s=1.0, longest_s=10.0, tries=4)
_KEY = re.compile(r"^runners/(\d+\.\d+\.\d+)/(x64|arm64)/actions-runner-\1\.tar\.gz$")


@dataclass(frozen=True)
class CachedRelease:
    """A release that lies in S3; `recorded_sha256` is what its uploader verified, if it said so."""

    version: str
    key: str
    recorded_sha256: str | None


class ReleaseCache:
    """Releases below `runners/` in the config bucket."""

    def __init__(self, objects: Objects, architecture: str) -> None:
        self._objects = objects
        self._architecture = architecture

    def newest(self) -> str | None:
        """The highest version that lies there for our architecture. Raises: ServiceError."""
        found = (_KEY.match(key) for key in self._objects.keys("runners/"))
        versions = [match.group(1) for match in found if match and match.group(2) == self._architecture]
        return max(versions, key=lambda version: [int(part) for part in version.split(".")], default=None)

    def find(self, version: str) -> CachedRelease | None:
        """The copy of exactly this version, if it is there. Raises: ServiceError."""
        stored = self._objects.describe(release_key(version, self._architecture))
        return CachedRelease(version, stored.key, stored.metadata.get(DIGEST_FIELD)) if stored else None

    def open(self, release: CachedRelease, offset: int) -> Body:
        """Its bytes from `offset` on. Raises: ServiceError."""
        return self._objects.open(release.key, offset)

    def store(self, version: str, archive: Path, sha256: str) -> bool:
        """Whether this machine was the one to store it; False if another was first. Raises: ServiceError."""
        return self._objects.put_file_if_absent(release_key(version, self._architecture), archive, {DIGEST_FIELD: sha256})


@dataclass(frozen=True)
class Upload:
    """The background task that gives the fleet what this machine had to fetch from GitHub; it runs beside the job."""

    cache: Callable[[], ReleaseCache | None]
    clock: Clock

    def run(self, version: str, archive: Path, sha256: str) -> str:
        """Store the archive; returns the final word's `cache_outcome`: `uploaded`, `already_there` or `upload_failed: …`."""
        cache = self.cache()
        try:
            if cache is None:
                return "disabled"
            stored = retry(lambda: cache.store(version, archive, sha256), is_passing, UPLOAD_RETRIES, self.clock)
            return "uploaded" if stored else "already_there"
        except (ServiceError, OSError) as error:
            return f"upload_failed: {error}"
        finally:
            archive.unlink(missing_ok=True)
