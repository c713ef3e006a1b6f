"""The level of each event of the agent's log: docs/operations.md marks each warning and error."""

from __future__ import annotations

ERRORS = frozenset(
    {
        "final_word.undelivered", "life.failed", "power_off.failed", "power_off.none", "registration.refused",
        "shutdown.broken", "termination.refused", "work.unkillable",
    }
)  # fmt: skip
"""The life could not be lived, or something that must happen at its end did not."""
WARNINGS = frozenset(
    {
        "cache.refused", "cache.unavailable", "cleanup.incomplete", "diagnostics.not_stored", "logs.limit_reached",
        "logs.not_shipped", "notice.received", "release.api_unavailable", "runner.dot_env_overruled",
        "safety.disk_critical", "safety.disk_low", "safety.memory_low", "safety.oom_kill", "safety.tasks_low",
        "settings.warning", "shutdown.abandoned", "shutdown.failed", "termination.not_permitted", "work.killed",
        "work.leftovers_killed", "work.output_held_open", "work.stopping",
    }
)  # fmt: skip
"""The life goes on without something, or ends earlier than its job."""


def level_of(name: str) -> str:
    """`ERROR`, `WARNING`, or `INFO`: what is neither of them tells what happened."""
    return "ERROR" if name in ERRORS else "WARNING" if name in WARNINGS else "INFO"
