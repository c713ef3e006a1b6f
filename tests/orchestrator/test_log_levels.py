"""Each event that may need somebody is a warning or an error, and stands in docs/operating.md with what to do about it."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from orchestrator.log_levels import ERRORS, WARNINGS, level_of

DOCS = Path(__file__).resolve().parents[2] / "docs" / "operating.md"


def documented() -> tuple[set[str], set[str]]:
    """Events that may need you, and the others, as the page lists them."""
    text = DOCS.read_text("utf-8")
    log = text[text.index("## The log") : text.index("## How a session ends")]
    need, _, nothing = log.partition("The others tell what happened")
    row = re.compile(r"^\| ((?:`[a-z_]+\.[a-z_]+`(?:, )?)+) \|", re.M)
    found = [{name for told in row.findall(part) for name in re.findall(r"`([^`]+)`", told)} for part in (need, nothing)]
    return found[0], found[1]


def test_what_may_need_somebody_is_a_warning_or_an_error_and_the_rest_is_neither() -> None:
    need, nothing = documented()

    assert need == ERRORS | WARNINGS
    assert not nothing & (ERRORS | WARNINGS)
    assert not ERRORS & WARNINGS


def test_the_level_of_an_event_follows_from_its_name() -> None:
    assert [level_of(name) for name in ("turn.failed", "job.refused", "serve.ready", "no.such_event")] == [
        logging.ERROR, logging.WARNING, logging.INFO, logging.INFO,
    ]  # fmt: skip
