"""msgspec reads a struct's annotations at its first use, and is no place for threads until it is done.

Another thread that uses the struct meanwhile finds it half read, and the process dies of SIGSEGV without a word (seen with
msgspec 0.22; tests/orchestrator/test_structs.py plays it). A process that starts beside the records of the one before it
converts many of them at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

_read: set[type[msgspec.Struct]] = set()


def read_annotations() -> None:
    """Have the annotations of every struct of this package read now. For the one thread that there is before the others start."""
    for struct in _all(msgspec.Struct):
        if struct not in _read and struct.__module__.partition(".")[0] == __package__:
            msgspec.json.Decoder(struct)
            _read.add(struct)


def _all(struct: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for one in struct.__subclasses__():
        yield one
        yield from _all(one)
