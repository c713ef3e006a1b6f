"""Waits for what another process or thread does. The limit guards against a hang only: no test says how quick a machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 600.0
"""Seconds after which something counts as never happening; nothing takes longer when it works."""
LOOK_S = 0.01


def sooner_or_later(holds: Callable[[], object]) -> bool:
    """Whether it comes to hold."""
    until_s = time.monotonic() + PATIENCE_S
    while not (held := holds()) and time.monotonic() < until_s:
        time.sleep(LOOK_S)
    return bool(held)
