"""Decide who may ask for what: which repositories, from forks or not, and how large a machine may be.

The first rule whose pattern fits the repository decides. What no rule allows is refused, aloud. Without a policy of the
operator's own every private repository that has the App installed may ask for machines up to a moderate size.
"""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase

import msgspec

from orchestrator.labels import Ask


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What repositories whose `owner/name` fits `repositories` (`*`, `?`) may ask for."""

    repositories: str = "*"
    max_cpus: int = 32
    max_ram_gib: float = 256.0
    max_disk_gib: int = 500
    families: tuple[str, ...] = ()
    """Beginnings of families that its machines may be of; empty: any that is named, the usual ones where none is."""
    on_demand: bool = True
    """Whether it may be asked for; as a fallback it is used all the same."""
    public: bool = False
    """Whether jobs of a public repository are run: strangers can open pull requests there."""
    forks: bool = False
    """Whether jobs are run whose code comes from a fork."""


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rules, in order."""

    rules: tuple[Rule, ...] = (Rule(),)

    def rule_of(self, owner: str, repo: str) -> Rule | None:
        """The first that fits, compared without case; None: nothing is allowed."""
        name = f"{owner}/{repo}".casefold()
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


def bounded(rule: Rule | None, ask: Ask) -> Ask:
    """The ask with what it leaves open (the larger number of vCPUs, the memory, the families) held to the rule."""
    if rule is None:
        return ask
    most_ram = min(ask.ram_max_gib or rule.max_ram_gib, rule.max_ram_gib)
    families = ask.families or rule.families
    return replace(ask, cpu_max=min(ask.cpu_max, max(rule.max_cpus, ask.cpu_min)), ram_max_gib=most_ram, families=families)


def refusal(rule: Rule | None, ask: Ask, *, public: bool, fork: bool) -> str:
    """Why a job is not run, in words for whoever wrote its labels; empty: it may be."""
    if rule is None:
        return "no rule of the policy allows this repository"
    if public and not rule.public:
        return "jobs of public repositories are not run here: the policy would have to allow it (`public`)"
    if fork and not rule.forks:
        return "jobs with code of a fork are not run here: the policy would have to allow it (`forks`)"
    wrong = [
        (ask.cpu_min > rule.max_cpus, f"cpu={ask.cpu_min}: at most {rule.max_cpus} are allowed"),
        (ask.ram_min_gib > rule.max_ram_gib, f"ram={ask.ram_min_gib:g}: at most {rule.max_ram_gib:g} GiB are allowed"),
        (ask.disk_gib > rule.max_disk_gib, f"disk={ask.disk_gib}: at most {rule.max_disk_gib} GiB are allowed"),
        (not ask.spot and not rule.on_demand, "spot=false: only spot machines are allowed"),
        (
            bool(rule.families) and not all(family.startswith(rule.families) for family in ask.families),
            f"family={'+'.join(ask.families)}: only {'+'.join(rule.families)} are allowed",
        ),
    ]
    return "; ".join(words for is_wrong, words in wrong if is_wrong)
