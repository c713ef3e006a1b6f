"""How often AWS lets itself be asked, as far as it tells: buckets that hold so many calls and fill again by so many a second.

Source: "Request throttling for the Amazon EC2 API", EC2 developer guide; "AWS Systems Manager endpoints and quotas". CreateFleet's own
figures are not published: those of all calls that change something are taken for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LOOKING, CHANGING = (100.0, 20.0), (50.0, 5.0)
CALLS = {
    "DescribeInstances": LOOKING, "DescribeLaunchTemplates": LOOKING, "DescribeSubnets": LOOKING, "GetConsoleOutput": LOOKING,
    "CreateFleet": CHANGING, "TerminateInstances": (100.0, 5.0), "PutParameter": (3.0, 3.0), "GetParameter": (40.0, 40.0),
}  # fmt: skip
"""Of one account in one region."""
INSTANCES = (1000.0, 2.0)
"""Made by RunInstances, and by fleets as far as anybody knows."""


class Rates:
    """Buckets, as full as can be at first. `scale` makes them smaller, so that few machines meet them."""

    def __init__(self, scale: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._scale, self._clock = scale, clock
        self._filled: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def allows(self, action: str) -> bool:
        """Whether this call may be made now; it is counted then."""
        bucket = CALLS.get(action)
        return bucket is None or self._taken(action, bucket, 1) == 1

    def instances(self, wanted: int) -> int:
        """How many of so many instances may be made now; they are counted then."""
        return self._taken("instances", INSTANCES, wanted)

    def _taken(self, name: str, bucket: tuple[float, float], wanted: int) -> int:
        most, per_second = max(1.0, bucket[0] * self._scale), bucket[1] * self._scale
        with self._lock:
            now = self._clock()
            left, at = self._filled.get(name, (most, now))
            left = min(most, left + (now - at) * per_second)
            given = min(wanted, int(left))
            self._filled[name] = (left - given, now)
        return given
