"""The level of each event of the orchestrator's log: docs/operating.md says of each warning and error what to do."""

from __future__ import annotations

import logging

ERRORS = frozenset(
    {
        "agent_message.forged", "audit.failed", "garbage.failed", "launch.refused", "readiness.failed", "serve.not_begun",
        "settings.invalid", "turn.failed", "webhook.not_stored",
    }
)  # fmt: skip
"""Something is broken, or somebody attacks: look at it."""
WARNINGS = frozenset(
    {
        "agent_message.unknown_notice", "agent_message.unknown_session", "agent_message.unusable", "audit.terminated",
        "backfill.failed", "circuits.save_failed", "connection.dropped", "delivery.given_up", "delivery.gone",
        "delivery.requested_again", "event.unusable", "garbage.incomplete", "job.found", "job.presumed_over", "job.refused",
        "job.run_is_over", "job.words_differ", "job_message.unusable", "label_set.held", "label_set.query_failed",
        "label_set.unfulfilled", "label_set.unservable", "launching.failed", "log_group.failed", "machine.collected",
        "machine.stop_failed", "message.postponed", "notice.failed", "notice.not_permitted", "readiness.unknown",
        "registration.collected", "release.unknown", "rerun.dropped", "rerun.exhausted", "rerun.refused",
        "secret.collected", "session.console_read_failed", "settings.warning", "stack.count_failed", "sweep.item_failed",
        "webhook.refused",
    }
)  # fmt: skip
"""It may need somebody, or passes by itself."""


def level_of(name: str) -> int:
    """`logging`'s number of an event's level; what is neither a warning nor an error tells what happened."""
    return logging.ERROR if name in ERRORS else logging.WARNING if name in WARNINGS else logging.INFO
