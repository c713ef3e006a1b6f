"""The first process of a sandbox machine: boots it, and when the power goes, nothing of it is left.

`python -m sandbox.init DIRECTORY`. It adopts whatever its descendants orphan; SIGTERM is the power switch.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from agent.adapters.posix import become_subreaper
from agent.adapters.process_tree import descendants

SHUTDOWN_S = 10.0
"""Seconds between the polite signal and the end; a real machine gives its services longer."""
AGENT = b"run-agent.sh"
"""Stands for the agent's unit. Its `KillMode=mixed`, and the job's unit that is ordered before it, have the agent signalled alone."""


def main(directory: Path) -> int:
    """Boot from `user-data` in the machine's directory and stay until switched off."""
    become_subreaper()
    off = False

    def switch(*_: object) -> None:
        """The machine's power switch."""
        nonlocal off
        off = True

    signal.signal(signal.SIGTERM, switch)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with (directory / "console.log").open("ab") as console:
        subprocess.Popen(
            ["/bin/bash", str(directory / "user-data")], cwd=directory, stdin=subprocess.DEVNULL, stdout=console, stderr=console
        )
        while not off:
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.02)
        end_everything(SHUTDOWN_S)
    return 0


def end_everything(polite_s: float) -> None:
    """SIGTERM to the agent, or to every descendant where it does not run yet; then SIGKILL until none is left."""
    there = descendants(os.getpid())
    for pid in [pid for pid in there if _is_agent(pid)] or there:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGTERM)
    until_s = time.monotonic() + polite_s
    while alive := descendants(os.getpid()):
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if time.monotonic() > until_s:
            for pid in alive:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _is_agent(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(word.endswith(AGENT) for word in words[:2])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
