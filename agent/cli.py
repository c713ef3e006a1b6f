"""Environment in, exit code out. `python -m agent` and `runs-fleet-agent` are the same."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time

from agent.errors import Exit
from agent.settings import Settings, read_settings

BORN_S = time.monotonic()
YOUNG_OBJECTS = 50_000
"""A life is short and its objects live to the end: collecting garbage every 700 allocations is a tenth of start-up."""
LAST_RESORT_S = 20.0


def main() -> int:
    """Live one life; never returns to a caller that could keep the process alive."""
    gc.set_threshold(YOUNG_OBJECTS, 50, 100)
    settings = read_settings(os.environ)
    try:
        code = _live(settings)
    except BaseException as error:  # noqa: BLE001 - the last net of all: whatever broke, this machine must not stay
        code = _broke(settings, error)
    sys.stderr.flush()
    os._exit(code)  # threads that hang in a dead network would keep a normal exit waiting


def _live(settings: Settings) -> int:
    from agent.wiring import assemble, real_world

    return int(assemble(real_world(settings, os.environ, BORN_S)).live())


def _broke(settings: Settings, error: BaseException) -> int:
    """Nothing of ours can be trusted any more: the power switch alone."""
    sys.stderr.write(f"agent.broken error={type(error).__name__}: {error}\n")
    if settings.power_off:
        try:
            subprocess.run(settings.power_off, timeout=LAST_RESORT_S, check=False, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.SubprocessError) as failure:
            sys.stderr.write(f"power_off.failed error={failure}\n")
    return Exit.INTERNAL
