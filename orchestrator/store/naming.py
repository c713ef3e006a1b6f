"""Names and keys: equal inputs always give equal names, and different inputs different ones."""

from __future__ import annotations

import hashlib

import msgspec

NAME_LIMIT = 64
"""Characters of a runner's name. Source: actions/runner registration."""
OPEN_LAUNCHES = "launches"
"""The view on which every open launch of the stack has an item."""


class Scope(msgspec.Struct, frozen=True):
    """Where a registration belongs: the account it is made with, a repository or (`repo` empty) an organisation, and a group.

    `installation_id` may be empty: then the adapter looks it up.
    """

    installation_id: str
    owner: str
    repo: str = ""
    group_id: int = 1


def repository_of(scope: Scope) -> str:
    """`owner/repo` as it was written, for people."""
    return f"{scope.owner}/{scope.repo}".rstrip("/")


def place_of(scope: Scope) -> str:
    """`owner/repo` as keys name it: GitHub does not tell names apart by case."""
    return repository_of(scope).casefold()


def set_key(owner: str, repo: str, group_id: int, labels: tuple[str, ...]) -> str:
    """The key of a label set: jobs of one scope and group that ask for the same labels, whatever their order and case."""
    told = [f"{owner}/{repo}".casefold(), str(group_id), *sorted({label.casefold() for label in labels})]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:20]


def repository_key(repository: str) -> str:
    """The key under which everything open of one repository (`owner/repo`) lies."""
    return f"repository/{repository}".rstrip("/").casefold()


def machine_kind(spec: str, image: str) -> str:
    """The key under which a label set counts machines that did no work."""
    return f"{spec} {image}"


def registration_name(stack_id: str, session: str) -> str:
    """The name of a session's registration, at most 64 characters: the stack's part is shortened, the session's never."""
    return f"{stack_id[: NAME_LIMIT - len(session) - 1]}-{session}"


def session_of(stack_id: str, runner: str) -> str:
    """The id of the session whose registration has this name; empty if it is not one of this stack's."""
    _, mark, session = runner.rpartition("-s-")
    found = f"s-{session}" if mark else ""
    return found if found and registration_name(stack_id, found) == runner else ""
