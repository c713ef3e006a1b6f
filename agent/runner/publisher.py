"""What GitHub says of the runner's releases: which there are, where their bytes lie, and which digest they have."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from agent.calls.retries import RetryPolicy, is_passing, retry
from agent.contract.names import release_asset
from agent.contract.releases import ReleaseFile, file_of, release_path, version_of
from agent.errors import Outcome, ReleaseUnavailable, caught
from agent.ports import Clock, Web

API_RETRIES = RetryPolicy(within_s=15.0, first_s=0.5, longest_s=4.0, tries=4)
"""For the small question which bytes; the bytes themselves have their own."""
PUBLIC_API, PUBLIC_DOWNLOADS = "https://api.github.com", "https://github.com/actions/runner/releases/download"
"""Where GitHub's own API says that the bytes are: who knows version and digest need not ask it."""


class AssetMissing(ReleaseUnavailable):
    """GitHub has the release, without the file for this architecture."""


Asked = Callable[[], Outcome[ReleaseFile]]
"""GitHub's answer about one version; it is asked once, and only if somebody wants to know."""


class Publisher:
    """The releases API, and where its releases are downloaded from."""

    def __init__(self, *, api_url: str, mirror_url: str | None, architecture: str, web: Callable[[], Web], clock: Clock) -> None:
        self.api_url, self._mirror_url, self._architecture = api_url, mirror_url, architecture
        self._web, self._clock = web, clock

    def ask(self, version: str | None) -> Outcome[ReleaseFile]:
        """The release of this version, or the newest. Fails with ReleaseUnavailable or ServiceError."""
        return caught(partial(self._published, version))

    def address(self, version: str) -> str | None:
        """Where the bytes of this version lie, without asking; None: only the API knows."""
        downloads = self._mirror_url or (PUBLIC_DOWNLOADS if self.api_url == PUBLIC_API else None)
        return f"{downloads}/v{version}/{release_asset(version, self._architecture)}" if downloads else None

    def _published(self, version: str | None) -> ReleaseFile:
        url = f"{self.api_url}/{release_path(version or '')}"
        answer = retry(lambda: self._web().get_json(url), is_passing, API_RETRIES, self._clock)
        try:
            found = file_of(answer, self._architecture)
            tag = version_of(answer)
        except (KeyError, TypeError) as error:
            raise ReleaseUnavailable(
                f"the releases API at {url} answered with something else than a release: {error!r}"
            ) from error
        if found is None:
            raise AssetMissing(f"release {tag} has no asset {release_asset(tag, self._architecture)}")
        return found._replace(url=self.address(tag) or found.url) if self._mirror_url else found
