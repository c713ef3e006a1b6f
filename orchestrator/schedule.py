"""Which turn is taken how often, as data. Who takes it is decided elsewhere.

In one process threads do (`serve.py`); in AWS Lambda EventBridge's schedules will; in tests virtual time does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.settings import ServerSettings
from orchestrator.turns import Turns


@dataclass(frozen=True)
class Cadence:
    """A turn that is taken at the start and then every so often."""

    name: str
    every_s: Callable[[ServerSettings], float]
    """Seconds between the end of a turn and the begin of the next."""
    take: Callable[[Turns], object]


SCHEDULE = (
    Cadence("sweep", lambda settings: settings.sweep_s, Turns.on_sweep),
    Cadence("tick", lambda settings: settings.tick_s, Turns.on_tick),
    Cadence("backfill", lambda settings: settings.backfill_s, Turns.on_backfill),
)
"""Every turn that is taken by the clock alone."""
