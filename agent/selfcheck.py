"""Decide whether a machine is fit to run a stranger's job: observations go in, a scored list comes out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

LEAST_DISK_BYTES = 500_000_000
COMFORTABLE_DISK_BYTES = 4_000_000_000
LEAST_MEMORY_BYTES = 500_000_000
EARLIEST = "2026-01-01"
"""No machine runs this code before; a clock that says so makes every signed request fail."""
SECRETS = re.compile(
    rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|ACTIONS_RUNNER_INPUT_(?:JITCONFIG|TOKEN)=.|AWS_(?:SECRET_ACCESS_KEY|SESSION_TOKEN)=."
)
"""What may lie in no environment, command line or file. Source: "IAM identifiers" of the IAM user guide; actions/runner."""
METADATA_ADDRESSES = {"ip": "169.254.169.254", "ip6": "fd00:ec2::254"}
"""Of the metadata service, by protocol. Source: "Access instance metadata" of the EC2 user guide."""
VERDICTS = ("accept", "drop", "reject", "jump", "goto", "return", "queue", "continue", "vmap")
UNIT = {
    "LoadState": "loaded",
    "SuccessAction": "poweroff",
    "FailureAction": "poweroff",
    "KillMode": "mixed",
    "OOMPolicy": "continue",
    "Restart": "no",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
}


@dataclass(frozen=True)
class Reach:
    """Whether root and the job's user get any answer at all of one address; None: it could not be tried."""

    root: bool | None
    job: bool | None


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What was seen; None or an absent key: it could not be looked at (an image that is not booted, a missing right)."""

    versions: Mapping[str, str] = field(default_factory=dict)
    runner_executable: bool = False
    runner_files: int | None = None
    """How many files the image's list of the baked release names; None: this image has no list that only root may change."""
    runner_changed: tuple[str, ...] = ()
    """Which of them are missing or have another digest."""
    unit: Mapping[str, str] = field(default_factory=dict)
    unit_verified: str | None = None
    """What `systemd-analyze verify` complained of; empty: nothing."""
    timer: str | None = None
    """The deadline timer's state: `active` when booted, `enabled` in an image."""
    firewall: Sequence[Mapping[str, Any]] | None = None
    """Our table as the kernel has it, the items of `nft --json list table`; None: cannot be asked here."""
    metadata: Mapping[str, Reach] = field(default_factory=dict)
    """Who gets an answer, by the metadata service's address; empty: not a booted machine, or no job user to try it with."""
    job_uid: int | None = None
    job_groups: tuple[str, ...] = ()
    job_sudo: str = ""
    ways_out: Mapping[str, str] = field(default_factory=dict)
    """By way (`ssh`, `manager`, …): what is open of it, empty: nothing is; left out: this machine does not have it."""
    secrets: tuple[str, ...] = ()
    """Where something that looks like a secret lies: `environment of pid 7`, a path; never the secret."""
    searched: str = ""
    """How many files were looked at for that, and where the search ended if that was before their end."""
    modes: Mapping[str, int] = field(default_factory=dict)
    """Permission bits of the paths that are only root's."""
    now: str = ""
    """ISO date and time, UTC."""
    built_at: str = ""
    synchronised: bool | None = None
    disk_free_bytes: int | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Finding:
    """One line of the list. `passed` None: it could not be looked at, which fails nothing and is said."""

    name: str
    must: bool
    passed: bool | None
    detail: str


def judge(seen: Observed) -> list[Finding]:
    """Every check, in the order of the list."""
    return [check(seen) for check in _CHECKS]


def fit(findings: list[Finding]) -> bool:
    """Whether no required check failed."""
    return not any(finding.must and finding.passed is False for finding in findings)


def render(findings: list[Finding]) -> str:
    """The list as text, with the score in the last line."""
    words = {True: "ok", False: "FAIL", None: "-"}
    lines = [f"{words[f.passed]:<5}{'must' if f.must else 'should':<8}{f.name:<10}{f.detail}" for f in findings]
    looked = [f for f in findings if f.passed is not None]
    failed = sum(f.must and f.passed is False for f in findings)
    unseen = len(findings) - len(looked)
    score = f"{sum(bool(f.passed) for f in looked)} of {len(looked)} hold, {failed} musts failed"
    return "\n".join([*lines, score + (f", {unseen} could not be looked at here" if unseen else "")])


def _metadata(seen: Observed) -> Finding:
    if not seen.metadata:
        return Finding("metadata", True, None, "not booted, or no job user to try it with")
    reached = [address for address, who in seen.metadata.items() if who.job]
    untried = [address for address, who in seen.metadata.items() if who.job is None]
    if reached:
        return Finding("metadata", True, False, f"the job's user gets the role's credentials like root, of {', '.join(reached)}")
    if untried:
        return Finding("metadata", True, False, f"could not be tried as the job's user: {', '.join(untried)}; is curl there?")
    answered = any(who.root for who in seen.metadata.values())
    told = "root does" if answered else "nor does root: switched off, or not EC2"
    return Finding("metadata", True, True, f"the job's user gets no answer, {told}")


def _firewall(seen: Observed) -> Finding:
    if seen.firewall is None:
        return Finding("firewall", True, None, "the kernel's rules cannot be read here")
    open_ = [
        f"{address} in {hook}"
        for hook in ("output", "forward")
        for protocol, address in METADATA_ADDRESSES.items()
        if not _stopped(seen.firewall, hook, protocol, address)
    ]
    told = f"not stopped first of all: {', '.join(open_)}" if open_ else "both addresses, own and forwarded"
    return Finding("firewall", True, not open_, told)


def _stopped(table: Sequence[Mapping[str, Any]], hook: str, protocol: str, address: str) -> bool:
    """Whether a base chain of that hook drops or rejects what goes there, before any other rule of it decides anything.

    In `output` for everybody but root at least. Source: libnftables-json(5).
    """
    chains = {item["chain"]["name"] for item in table if "chain" in item and item["chain"].get("hook") == hook}
    for name in chains:
        for item in table:
            rule = item.get("rule", {})
            if rule.get("chain") != name:
                continue
            said = [part for part in rule["expr"] if "counter" not in part]
            verdict = next((word for part in said for word in VERDICTS if word in part), None)
            if verdict in ("drop", "reject") and _covers(
                [part["match"] for part in said if "match" in part], hook, protocol, address
            ):
                return True
            if verdict not in (None, "drop", "reject"):
                break  # what comes after it may never be asked
    return False


def _covers(matches: list[Mapping[str, Any]], hook: str, protocol: str, address: str) -> bool:
    """Whether a rule under these conditions takes all of that traffic."""
    goes = {"op": "==", "left": {"payload": {"protocol": protocol, "field": "daddr"}}, "right": address}
    not_root = {"op": "!=", "left": {"meta": {"key": "skuid"}}, "right": 0}
    return goes in matches and all(match == goes or (hook == "output" and match == not_root) for match in matches)


def _user(seen: Observed) -> Finding:
    if seen.job_uid is None:
        return Finding("user", True, False, "there is no user `runner`: install.sh makes it")
    return Finding("user", True, seen.job_uid != 0, f"the job runs as uid {seen.job_uid}")


def _rights(seen: Observed) -> Finding:
    granted = [
        *(["sudo"] if seen.job_sudo else []),
        *(group for group in seen.job_groups if group in ("docker", "sudo", "wheel", "lxd")),
    ]
    void = "so it is root when it wants to be: what keeps it from the metadata service and the agent is void"
    return Finding("rights", False, not granted, f"the job has {', '.join(granted)}, {void}" if granted else "no sudo, no docker")


WAYS_OUT = {
    "ssh": "the job's user cannot log in by ssh",
    "manager": "the job's user has no service manager of its own",
    "sub-uids": "the job's user has no subordinate ids",
    "cron": "the job's user has no cron",
    "at": "the job's user has no at",
    "polkit": "the job's user may ask polkit for nothing",
}
"""Ways in which a job could start something outside of its unit, and what is said where they are shut."""


def _way_out(way: str, seen: Observed) -> Finding:
    if way not in seen.ways_out:
        return Finding(way, True, None, "this machine has none")
    is_open = seen.ways_out[way]
    told = f"{is_open}: what a job starts that way is in no unit of its own and may outlive it"
    return Finding(way, True, not is_open, told if is_open else WAYS_OUT[way])


def _secrets(seen: Observed) -> Finding:
    told = f"something that looks like a secret lies in: {', '.join(seen.secrets[:5])}"
    none = f"none in environments, command lines, {seen.searched or 'files'}"
    return Finding("secrets", True, not seen.secrets, told if seen.secrets else none)


def _files(seen: Observed) -> Finding:
    open_ = [f"{path} ({mode:o})" for path, mode in seen.modes.items() if mode & 0o077]
    return Finding(
        "files", True, not open_, f"others may enter: {', '.join(open_)}" if open_ else "the agent's own are root's alone"
    )


def _unit(seen: Observed) -> Finding:
    if not seen.unit:
        return Finding("unit", True, None, "systemd does not run here")
    wrong = [f"{name}={seen.unit.get(name, '')} (not {value})" for name, value in UNIT.items() if seen.unit.get(name) != value]
    return Finding("unit", True, not wrong, ", ".join(wrong) if wrong else "however the agent ends, the power goes off; hardened")


def _verified(seen: Observed) -> Finding:
    if seen.unit_verified is None:
        return Finding("syntax", True, None, "systemd-analyze is not here")
    return Finding(
        "syntax", True, not seen.unit_verified, seen.unit_verified[:200] or "systemd finds nothing wrong with the units"
    )


def _timer(seen: Observed) -> Finding:
    return Finding(
        "deadline", True, seen.timer in ("active", "enabled"), f"the hard deadline's timer is {seen.timer or 'missing'}"
    )


def _clock(seen: Observed) -> Finding:
    sane = seen.now >= max(EARLIEST, seen.built_at)
    return Finding(
        "clock",
        True,
        sane,
        f"it is {seen.now}" + ("" if sane else f", before this image was built ({seen.built_at or EARLIEST})"),
    )


def _synchronised(seen: Observed) -> Finding:
    return Finding(
        "time sync",
        False,
        seen.synchronised,
        "" if seen.synchronised is None else "synchronised" if seen.synchronised else "not yet",
    )


def _disk(seen: Observed) -> Finding:
    free = seen.disk_free_bytes
    return Finding("disk", True, None if free is None else free >= LEAST_DISK_BYTES, f"{(free or 0) / 1e9:.1f} GB free")


def _room(seen: Observed) -> Finding:
    free = seen.disk_free_bytes
    return Finding(
        "room",
        False,
        None if free is None else free >= COMFORTABLE_DISK_BYTES,
        f"{COMFORTABLE_DISK_BYTES / 1e9:.0f} GB is little for a build",
    )


def _memory(seen: Observed) -> Finding:
    total = seen.memory_bytes
    return Finding("memory", True, None if total is None else total >= LEAST_MEMORY_BYTES, f"{(total or 0) / 1e9:.1f} GB")


def _runner(seen: Observed) -> Finding:
    if not seen.runner_executable and not seen.runner_files:
        return Finding("runner", False, None, "none is baked: the agent will fetch one")
    if not seen.runner_executable:
        return Finding("runner", True, False, "its listener cannot be executed")
    if seen.runner_files is None:
        return Finding(
            "runner", True, False, "there is one, but no list of its files that only root may change: seal.sh writes it"
        )
    changed = seen.runner_changed
    told = f"not as baked: {', '.join(changed[:5])}" if changed else f"{seen.runner_files} files, as baked"
    return Finding("runner", True, bool(seen.runner_files) and not changed, told)


def _versions(seen: Observed) -> Finding:
    return Finding(
        "versions", True, bool(seen.versions.get("agent")), ", ".join(f"{name} {value}" for name, value in seen.versions.items())
    )


_CHECKS: tuple[Callable[[Observed], Finding], ...] = (
    _metadata, _firewall, _user, _rights, *(partial(_way_out, way) for way in WAYS_OUT), _secrets, _files, _unit, _verified,
    _timer, _clock, _synchronised, _disk, _room,
    _memory, _runner, _versions,
)  # fmt: skip
