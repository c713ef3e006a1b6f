"""How a value is shown in a line of a log: the agent's and the orchestrator's are read by the same eyes and tools."""

from __future__ import annotations


def as_field(value: object) -> str:
    """The value of a field of a log's line; in quotes where it is empty, holds blanks, or cannot be printed as it is."""
    text = str(value)
    return text if text and text.isprintable() and " " not in text and '"' not in text else repr(text)
