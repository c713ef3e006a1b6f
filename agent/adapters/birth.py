"""When this process began: read once, by the first import of the command."""

import time

BORN_S = time.monotonic()
"""Seconds on the monotonic clock."""
