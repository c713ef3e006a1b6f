"""Which processes live on this machine, by /proc. Source: proc(5)."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def descendants(root: int) -> list[int]:
    """Living descendants of `root`, parents before their children; zombies are already dead."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                told = Path(entry.path, "stat").read_bytes()
                state, parent = told[told.rindex(b")") + 2 :].split(b" ", 2)[:2]
                if state not in (b"Z", b"X") or has_living_threads(entry.path):
                    children.setdefault(int(parent), []).append(int(entry.name))
    found, ahead = [], list(children.get(root, []))
    while ahead:
        found.append(ahead[0])
        ahead += children.get(ahead.pop(0), [])
    return found


def children_now() -> list[int]:
    """Our direct children by the kernel's own list, zombies left out. Source: /proc/pid/task/tid/children in proc(5)."""
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        for task in os.listdir("/proc/self/task"):
            found += [int(pid) for pid in Path(f"/proc/self/task/{task}/children").read_bytes().split()]
    return [pid for pid in found if not is_zombie(pid)]


def is_zombie(pid: int) -> bool:
    """Whether it ended and nobody has reaped it yet."""
    try:
        told = Path(f"/proc/{pid}/stat").read_bytes()
        return told[told.rindex(b")") + 2 :][:1] in (b"Z", b"X") and not has_living_threads(f"/proc/{pid}")
    except (OSError, ValueError):
        return True


def has_living_threads(process: str) -> bool:
    """A process whose first thread has ended shows as a zombie and works on."""
    return len(os.listdir(f"{process}/task")) > 1


def is_named(pid: int, program: str) -> bool:
    """Whether it runs `program`, directly or by an interpreter."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:4]
    except OSError:
        return False
    return any(word.rpartition(b"/")[2] == program.encode() for word in words)
