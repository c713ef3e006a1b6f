"""Scenarios of the reaper, each run in a process of its own: it waits for every child there is.

`python -m tests.agent.reaper_scenarios NAME` runs one and prints what came of it as JSON.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from agent.adapters.posix import become_subreaper
from agent.adapters.reaper import Reaper

LONG_S = 600.0
"""More than any of these children takes."""


HELD: list[subprocess.Popen[bytes]] = []
"""Every child, as long as the process lives: one that nobody holds is waited for by `subprocess` itself, and its code is lost."""


def spawn(reaper: Reaper, script: str, ended: Callable[[int], None] | None = None) -> int:
    """Start a child that runs this; returns its pid."""
    HELD.append(reaper.spawn(lambda: subprocess.Popen(["bash", "-c", script]), ended))
    return HELD[-1].pid


def codes(reaper: Reaper) -> dict[str, Any]:
    """Of children nobody is called for, in the order in which they did not end."""
    first, second, third = (spawn(reaper, script) for script in ("read -r _; exit 5", "kill -KILL $$", "exit 0"))
    told = [reaper.wait(pid, LONG_S) for pid in (third, second, first)]
    return {"codes": told, "again": reaper.wait(first, 0.0)}


def late(reaper: Reaper) -> dict[str, Any]:
    running = subprocess.Popen(["bash", "-c", "read -r _; exit 6"], stdin=subprocess.PIPE)
    pid = reaper.spawn(lambda: running).pid
    at_first = reaper.wait(pid, 0.05)
    assert running.stdin is not None
    running.stdin.close()
    return {"first": at_first, "then": reaper.wait(pid, LONG_S)}


def told(reaper: Reaper) -> dict[str, Any]:
    """Whoever asked to be called is, with the code, beside one that is waited for."""
    heard: queue.SimpleQueue[int] = queue.SimpleQueue()
    runner = spawn(reaper, "kill -TERM $$", heard.put)
    beside = spawn(reaper, "exit 7")
    return {"heard": heard.get(timeout=LONG_S), "beside": reaper.wait(beside, LONG_S), "kept": reaper.wait(runner, 0.0)}


def strangers(reaper: Reaper) -> dict[str, Any]:
    """Before there is a runner, children that others started are theirs to wait for."""
    foreign = subprocess.Popen(["bash", "-c", "exit 8"])
    ours = spawn(reaper, "exit 9")
    return {"ours": reaper.wait(ours, LONG_S), "foreign": foreign.wait(LONG_S)}


def orphans(reaper: Reaper) -> dict[str, Any]:
    become_subreaper()
    before_s = time.monotonic()
    heard: queue.SimpleQueue[int] = queue.SimpleQueue()
    spawn(reaper, "(setsid bash -c 'exit 3' &) ; exit 0", heard.put)
    code = heard.get(timeout=LONG_S)
    until_s = time.monotonic() + LONG_S
    while not reaper.adopted_since(before_s) and time.monotonic() < until_s:
        os.sched_yield()
    return {"code": code, "adopted": reaper.adopted_since(before_s), "lately": reaper.adopted_since(time.monotonic())}


def again(reaper: Reaper) -> dict[str, Any]:
    """After the last child has ended the next one is waited for as well."""
    heard: queue.SimpleQueue[int] = queue.SimpleQueue()
    ended = []
    for code in (1, 2):
        spawn(reaper, f"exit {code}", heard.put)
        ended.append(heard.get(timeout=LONG_S))
        while any(thread.name == "reaper" for thread in threading.enumerate()):
            os.sched_yield()  # until it finds no child left and stops
    return {"ended": ended}


def unstartable(reaper: Reaper) -> dict[str, Any]:
    try:
        reaper.spawn(lambda: subprocess.Popen(["/nowhere"]))
    except FileNotFoundError:
        return {"then": reaper.wait(spawn(reaper, "exit 4"), LONG_S)}
    return {}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(globals()[sys.argv[1]](Reaper())) + "\n")
