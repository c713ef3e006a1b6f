"""Values that settings hold: GitHub Apps, label aliases, limits, the policy, and how local agents live."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from agent.contract.secret import Secret


@dataclass(frozen=True)
class Alias:
    """A label that counts as ours, compared without case: `match` literally, or as a regular expression of the whole label."""

    match: str
    regex: bool = False
    spec: str = ""
    """What the label asks for, as segments of a marker: `cpu=4/ram=16`; `${1}` stands for the expression's first group."""

    def spec_of(self, label: str) -> str | None:
        """What `label` asks for; None: it is not meant."""
        if not self.regex:
            return self.spec if self.match.lower() == label.lower() else None
        found = re.fullmatch(self.match, label, re.IGNORECASE)
        return found and re.sub(r"\$\{(\d+)\}", lambda group: found[int(group[1])] or "", self.spec)


@dataclass(frozen=True)
class App:
    """A GitHub App. `private_key` is PEM."""

    app_id: str
    private_key: Secret


@dataclass(frozen=True)
class Digests:
    """SHA-256 of an archive for each architecture, lower-case hex; empty: the operator gave none."""

    amd64: str = ""
    arm64: str = ""

    def of(self, architecture: str) -> str:
        """The digest for `amd64` or `arm64`; empty for anything else."""
        return {"amd64": self.amd64, "arm64": self.arm64}.get(architecture, "")


@dataclass(frozen=True)
class Limits:
    """What each repository, or each label set, may have at one time, and get launched a minute. 0: no such limit."""

    sessions: int = 0
    vcpus: int = 0
    usd_per_hour: float = 0.0
    """Counted as if no machine could be taken back."""
    launches_per_minute: float = 0.0


@dataclass(frozen=True)
class Local:
    """How agents live on this machine. `environment` is what an agent gets: how to reach AWS, and the operator's own."""

    directory: Path
    slots: int
    agent: tuple[str, ...]
    runner: Path | None
    environment: Mapping[str, str] = field(repr=False)


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What repositories whose `owner/name` fits `repositories` (`*`, `?`) may ask for."""

    repositories: str = "*"
    max_cpus: int = 32
    max_ram_gib: float = 256.0
    max_disk_gib: int = 500
    families: tuple[str, ...] = ()
    """Beginnings of families that its machines may be of; empty: any that is named, the usual ones where none is."""
    strategies: tuple[str, ...] = ()
    """Strategies that its labels may name; the first serves labels that name none. Empty: whatever the stack offers."""
    on_demand: bool = True
    """Whether it may be asked for; as a fallback it is used all the same."""
    public: bool = False
    """Whether jobs of a public repository are run: strangers can open pull requests there."""
    forks: bool = False
    """Whether jobs are run whose code comes from a fork."""


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rules, in order: the first whose pattern fits the repository decides."""

    rules: tuple[Rule, ...] = (Rule(),)

    def rule_of(self, repository: str) -> Rule | None:
        """The first rule that fits `owner/repo`, compared without case; None: nothing is allowed."""
        name = repository.casefold()
        return next((rule for rule in self.rules if fnmatchcase(name, rule.repositories.casefold())), None)


def read_policy(text: str) -> Policy:
    """The operator's JSON: `{"rules": [{"repositories": "octo/*", "max_cpus": 16}, …]}`; empty: the default.

    Raises: ValueError.
    """
    if not text:
        return Policy()
    try:
        return msgspec.json.decode(text, type=Policy)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
