"""Which processes of this machine are a job's: whatever its user started, wherever it hides and whoever it has become.

Source: proc(5), user_namespaces(7), cgroups(7), pam_loginuid(8).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.adapters.process_tree import has_living_threads

SUBORDINATE = ("/etc/subuid", "/etc/subgid")
"""Ids that a user may become in a namespace of its own: `name or id:first:number`. Source: subuid(5)."""


@dataclass(frozen=True)
class Owner:
    """A job's user, and where its processes are known to be."""

    uid: int
    units: tuple[str, ...]
    """Names of units that run nothing else, with their endings."""
    ids: tuple[range, ...] = ()
    """Subordinate ids."""

    def has(self, number: int) -> bool:
        """Whether that id is the user's; root's is nobody's own."""
        return number == self.uid != 0 or any(number in ids for ids in self.ids)

    def meets(self, first: int, number: int) -> bool:
        """Whether any of these ids is the user's."""
        own = (range(self.uid, self.uid + 1), *self.ids) if self.uid else self.ids
        return any(ids.start < first + number and first < ids.stop for ids in own)


def subordinate(user: str, uid: int, files: Collection[str] = SUBORDINATE) -> tuple[range, ...]:
    """The user's subordinate ids; what cannot be read gives none."""
    found = []
    for file in files:
        with contextlib.suppress(OSError):
            for line in Path(file).read_text(encoding="utf-8", errors="replace").splitlines():
                name, first, number, *_ = (*line.split(":"), "", "", "")
                if name in (user, str(uid)) and first.isdigit() and number.isdigit():
                    found.append(range(int(first), int(first) + int(number)))
    return tuple(found)


def processes_of(owner: Owner) -> Iterator[int]:
    """Living processes: by any of their ids or their threads', by the login that they come from, by unit, or by namespace."""
    for entry in os.scandir("/proc"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # processes end while they are looked at
            if entry.name.isdigit() and int(entry.name) != os.getpid() and _is_owned(owner, entry.path):
                yield int(entry.name)


def _is_owned(owner: Owner, process: str) -> bool:
    facts = _status(f"{process}/status")
    threads = has_living_threads(process)
    if facts.get("State", "Z")[:1] in "ZX" and not threads:
        return False
    tasks = [_status(f"{process}/task/{task}/status") for task in os.listdir(f"{process}/task")] if threads else []
    ids = {int(number) for told in (facts, *tasks) for number in told.get("Uid", "").split()}
    return (
        any(map(owner.has, ids))
        or owner.has(_number(f"{process}/loginuid"))
        or not _units_of(process).isdisjoint(owner.units)
        or any(owner.meets(*mapped) for mapped in _mapped(process))
    )


def _status(path: str) -> dict[str, str]:
    """Empty for a thread that has just ended."""
    with contextlib.suppress(OSError):
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return {}


def _number(path: str) -> int:
    """-1 where there is none: a kernel without audit."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path(path).read_text(encoding="ascii"))
    return -1


def _units_of(process: str) -> set[str]:
    """Every part of its control groups' paths."""
    with contextlib.suppress(OSError):
        return set(Path(f"{process}/cgroup").read_text(encoding="utf-8", errors="replace").replace("\n", "/").split("/"))
    return set()


def _mapped(process: str) -> Iterator[tuple[int, int]]:
    """First and number of the ids, as we see them, that its user namespace maps; nothing where it is in ours."""
    with contextlib.suppress(OSError):
        told = Path(f"{process}/uid_map").read_text(encoding="ascii")
        if told != Path("/proc/self/uid_map").read_text(encoding="ascii"):
            for line in told.splitlines():
                _, outside, number = map(int, line.split())
                yield outside, number
