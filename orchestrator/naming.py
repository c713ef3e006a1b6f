"""How things are called: the same wish always by the same name, and no two by one."""

from __future__ import annotations

import hashlib

NAME_LIMIT = 64
"""Characters of a runner's name. Source: actions/runner registration."""
OPEN_LAUNCHES = "launches"
"""The board on which every open launch of the stack has a card."""


def set_key(owner: str, repo: str, group_id: int, labels: tuple[str, ...]) -> str:
    """The name of a label set: jobs of one scope and group that ask for the same labels, whatever their order and case."""
    told = [f"{owner}/{repo}".casefold(), str(group_id), *sorted({label.casefold() for label in labels})]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:20]


def repository_key(owner: str, repo: str = "") -> str:
    """Under which everything open of one repository lies; `owner` may be `owner/repo`."""
    return f"repository/{owner}/{repo}".rstrip("/").casefold()


def kind_of(spec: str, image: str) -> str:
    """Under which a ledger counts the machines that did no work."""
    return f"{spec} {image}"


def runner_name(stack_id: str, session: str) -> str:
    """Unique and at most 64 characters: the stack's part is shortened, the session's never."""
    return f"{stack_id[: NAME_LIMIT - len(session) - 1]}-{session}"


def session_of(stack_id: str, runner: str) -> str:
    """The session whose runner has this name; empty if it is not one of this stack's."""
    _, mark, session = runner.rpartition("-s-")
    found = f"s-{session}" if mark else ""
    return found if found and runner_name(stack_id, found) == runner else ""
