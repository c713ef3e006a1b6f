"""A value that must not be printed, and cannot be by accident."""

from __future__ import annotations


class Secret:
    """Text whose `repr` and `str` are `***`; `reveal()` is the one, searchable, way to the value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself: hand it straight to the consumer, never to a log or a message."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)
