"""A sandbox machine's power switch: `python -m sandbox.power DIRECTORY` tells its first process to go."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path


def main(directory: str) -> int:
    """Find the ancestor that is this machine's init and end it."""
    pid = os.getpid()
    while pid > 1:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"sandbox.init" in words and directory.encode() in words:
            os.kill(pid, signal.SIGTERM)
            return 0
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        pid = int(stat[stat.rindex(")") + 2 :].split()[1])
    sys.stderr.write(f"no machine runs from {directory}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
