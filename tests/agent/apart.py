"""A scenario in a process of its own: adopting, reaping and signals act on the whole process that does them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]


def scenario(name: str, before: str = "", module: str = "tests.agent.posix_scenarios") -> dict[str, Any]:
    """What came of a scenario that ran in a process of its own; `before` is bash, run in that process first."""
    command = ["bash", "-c", f'{before}; exec "$@"', "bash"] if before else []
    child = subprocess.Popen(
        [*command, sys.executable, "-m", module, name],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = child.communicate(timeout=600)
    finally:
        with contextlib.suppress(psutil.Error):
            for process in [*psutil.Process(child.pid).children(recursive=True), psutil.Process(child.pid)]:
                process.kill()
    assert child.returncode == 0, err.decode()
    assert err == b""
    return dict(json.loads(out))
