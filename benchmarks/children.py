"""Children to be supervised: each is a run.sh that calls this file's Python, so that the agent starts it like any runner.

A line is 100 bytes and begins with the nanosecond at which it was printed, so that its delay can be read where it arrives.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.release import baked

_RUN = """#!/bin/bash
exec {python} -S -c '{code}' "$HOME"
"""
_STAMPED = """
import os, sys, time
home, pad = sys.argv[1], b" " + b"x" * 79 + b"\\n"
def note(name): open(home + "/" + name, "w").write(repr(time.time()))
def say(lines): os.write(1, b"".join(b"%019d" % time.time_ns() + pad for _ in range(lines)))
note("exec-at")
"""
PACED = _STAMPED + (
    """
time.sleep({quiet_s})
note("flood-at")
began = time.monotonic()
for tick in range(int({flood_s} * {ticks})):
    time.sleep(max(0.0, began + tick / {ticks} - time.monotonic()))
    say({lines} // {ticks})
note("ended-at")
"""
)
BURST = _STAMPED + (
    """
line = b"%019d" % time.time_ns() + pad
note("flood-at")
for _ in range({lines}): os.write(1, line)
note("ended-at")
"""
)
BLOCKS = """#!/bin/bash
printf '%s' "$EPOCHREALTIME" > "$HOME/flood-at"
yes "$(date +%s%N) xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" | head -n {lines}
printf '%s' "$EPOCHREALTIME" > "$HOME/ended-at"
"""
JOB = """#!/bin/bash
now() {{ date -u '+%Y-%m-%d %H:%M:%SZ'; }}
printf '%s' "$EPOCHREALTIME" > "$HOME/exec-at"
echo "$(now): Listening for Jobs"
echo "$(now): Running job: build"
[ -n "$ACTIONS_RUNNER_HOOK_JOB_STARTED" ] && GITHUB_RUN_ID=1 GITHUB_RUN_ATTEMPT=1 GITHUB_REPOSITORY=o/r GITHUB_JOB=build \\
    bash "$ACTIONS_RUNNER_HOOK_JOB_STARTED"
sleep {seconds}
echo "$(now): Job build completed with result: Succeeded"
printf '%s' "$EPOCHREALTIME" > "$HOME/ended-at"
"""
"""What a listener says around one job that takes so many seconds, its last act being to note the time."""


def python(place: Path, code: str, **values: float) -> Path:
    """A runner directory in `place` whose run.sh runs `code`; returns its run.sh."""
    text = _RUN.format(python=sys.executable, code=code.format(**values).replace("'", "'\\''"))
    return baked(place, text.encode()) / "run.sh"


def shell(place: Path, script: str, **values: float) -> Path:
    """A runner directory in `place` whose run.sh is `script`; returns its run.sh."""
    return baked(place, script.format(**values).encode()) / "run.sh"


def moment(place: Path, name: str) -> float:
    """What the child noted in its home under that name."""
    return float((place / name).read_text(encoding="ascii"))
