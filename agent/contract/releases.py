"""A release of actions/runner as GitHub's releases API tells it: both sides read it the same way."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from agent.contract.names import release_asset

_MARKER = r"<!-- BEGIN SHA linux-{arch} -->\s*([0-9a-fA-F]{{64}})\s*<!-- END SHA linux-{arch} -->"


class ReleaseFile(NamedTuple):
    """The archive of one architecture. `sha256`: lower-case hex; None: GitHub publishes none."""

    version: str
    url: str
    sha256: str | None


def version_of(answer: Any) -> str:
    """Of a release. Raises: KeyError, TypeError: it is no release."""
    return str(answer["tag_name"]).removeprefix("v")


def release_path(version: str) -> str:
    """Below the API's address; an empty version: the newest. Source: GitHub REST, "Get the latest release", "… by tag name"."""
    return f"repos/actions/runner/releases/{f'tags/v{version}' if version else 'latest'}"


def file_of(answer: Any, architecture: str) -> ReleaseFile | None:
    """The archive for `architecture` (`x64`, `arm64`) in a release; None: it has none. Raises: KeyError, TypeError: as above.

    The digest is the asset's own, else the one between the markers in the release's text. Source: actions/runner release notes.
    """
    version = version_of(answer)
    name = release_asset(version, architecture)
    asset = next((asset for asset in answer["assets"] if asset["name"] == name), None)
    if asset is None:
        return None
    own = str(asset.get("digest") or "")
    marked = re.search(_MARKER.format(arch=re.escape(architecture)), answer.get("body") or "")
    sha256 = own.removeprefix("sha256:") if own.startswith("sha256:") else marked.group(1) if marked else None
    return ReleaseFile(version, str(asset["browser_download_url"]), sha256.lower() if sha256 else None)
