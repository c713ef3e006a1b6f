"""The two tables of a stack, and how long what lies in them is kept."""

from __future__ import annotations

from typing import Any

import msgspec

JOBS, SESSIONS = "jobs", "sessions"
"""`jobs` holds what sources of work remember of single items; `sessions` holds everything else."""
KEPT_S = 14 * 86_400
"""Seconds for which a finished record stays to be looked at.

Twice the days for which GitHub lists failed deliveries, and two weeks to ask why something happened.
"""
LABEL_SET_KEPT_S = 90 * 86_400
"""Seconds for which an unused label set is remembered: labels that name their run would otherwise pile up for ever."""


def plain(value: Any) -> dict[str, Any]:
    """The fields of a record as an item: absent instead of null or empty, because an empty string cannot be an index key."""
    return {k: v for k, v in msgspec.to_builtins(value).items() if v is not None and v not in ("", [], {})}
