"""Bytes from somewhere unreliable: resumed where they broke off, digested while they pass."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from agent.calls.retries import RetryPolicy, is_passing
from agent.errors import DigestMismatch, ReleaseUnavailable, ServiceError
from agent.ports import Body, Clock

CHUNK_BYTES = 1 << 17
"""Bytes asked for at once: large enough to leave the interpreter alone, small enough to keep memory flat."""
BREAKS = RetryPolicy(within_s=300.0, first_s=0.2, longest_s=5.0, tries=8)
"""How many broken transfers one download survives; the count starts again whenever bytes arrived."""


class Download:
    """One pass over one remote file. `sha256` and `received` are final once `chunks` is exhausted."""

    def __init__(self, open_at: Callable[[int], Body], clock: Clock, copy_to: Path | None = None) -> None:
        self._open_at = open_at
        self._clock = clock
        self._copy_to = copy_to
        self._digest = hashlib.sha256()
        self.received = 0

    @property
    def sha256(self) -> str:
        """Lower-case hex of everything received so far."""
        return self._digest.hexdigest()

    def chunks(self) -> Iterator[bytes]:
        """The bytes in order, each once, as they come. A transfer that breaks goes on from the same byte.

        Raises: ReleaseUnavailable when it breaks too often; ServiceError when the source refuses.
        """
        copy = self._copy_to.open("wb") if self._copy_to else None
        try:
            for chunk in self._unbroken():
                self._digest.update(chunk)
                if copy:
                    copy.write(chunk)
                yield chunk
        finally:
            if copy:
                copy.close()

    def verify(self, expected: str, source: str) -> None:
        """Raises: DigestMismatch unless what was received has the digest `expected`."""
        if self.sha256 != expected.lower():
            raise DigestMismatch(
                f"the release from {source} has SHA-256 {self.sha256}, expected {expected.lower()}: it is not the publisher's"
            )

    def _unbroken(self) -> Iterator[bytes]:
        begun_s, breaks = self._clock.monotonic_s(), 0
        while True:
            try:
                before = self.received
                yield from self._until_it_breaks()
                return
            except ServiceError as error:
                if not is_passing(error):
                    raise
                breaks = 1 if self.received > before else breaks + 1
                wait_s = BREAKS.wait_s(breaks, self._clock.fraction())
                if BREAKS.exhausted(breaks, self._clock.monotonic_s() - begun_s, wait_s):
                    raise ReleaseUnavailable(
                        f"the transfer broke {breaks} times in a row at byte {self.received}: {error}"
                    ) from error
                self._clock.pause(wait_s)

    def _until_it_breaks(self) -> Iterator[bytes]:
        body = self._open_at(self.received)
        size = body.size
        try:
            while chunk := body.read(CHUNK_BYTES):
                self.received += len(chunk)
                yield chunk
        finally:
            body.close()
        if size is not None and self.received < size:
            raise ServiceError("the transfer", "Unreachable", f"ended at byte {self.received} of {size}")
