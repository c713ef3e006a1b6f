"""The last will: what is to be said if the agent dies, or the machine starts again, before it could speak itself.

A shell script sends it (`packer/machine/send-last-will`, the boot script): whatever killed the agent may have broken Python too.
It fills in the two things only it knows: `@NOW@` and `"@SECONDS@"`.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import msgspec

from agent.contract.config import RunnerConfig
from agent.contract.messages import FinalWord, Status, write_message

MARGIN_MINUTES = 45
"""Between the longest permitted run and the machine's hard deadline: boot, preparation, grace, shipping, report."""
SAID = "final-word-sent"
"""The file whose presence says: the final word is out, whoever died since."""
_OCCASIONS = {
    "died": (Status.FAILURE, "agent_died", "the agent ended without a word: killed, crashed, or stopped with its machine"),
    "rebooted": (Status.INTERRUPTED, "rebooted", "the machine was started again while it had a job; a machine has one life"),
}


class LastWill:
    """Kept in `directory`, which only root may enter; None: nobody would send them, so none are written."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def leave(self, config: RunnerConfig, instance_id: str, started_at: datetime, message_id: str) -> None:
        """Write one for each occasion; they outlast a panic. Raises: OSError."""
        if self._directory is None:
            return
        for occasion, (status, reason, error) in _OCCASIONS.items():
            word = FinalWord(
                instance_id=instance_id,
                job_id=config.job_id,
                session_id=config.session_id,
                attempt=config.attempt,
                traceparent=config.traceparent,
                message_id=message_id,
                status=status,
                reason=reason,
                error=error,
                exit_code=1,
                duration_seconds=0,
                started_at=started_at,
                completed_at=started_at,
            )
            fields = msgspec.json.decode(write_message(word))
            fields |= {"completed_at": "@NOW@", "duration_seconds": "@SECONDS@"}
            self._write(f"last-will-{occasion}", msgspec.json.encode(fields))

    def allow(self, minutes: float, beside_s: float) -> None:
        """Move the machine's hard deadline for a job that may run `minutes`, after a wait and before a grace of `beside_s`.

        Raises: OSError.
        """
        if self._directory is not None:
            self._write("limit-minutes", f"{int(minutes + MARGIN_MINUTES + beside_s / 60)}\n".encode())

    def seal(self, word: FinalWord) -> None:
        """From now on whoever outlives the agent says this very word, under its own message id. Raises: OSError."""
        if self._directory is not None:
            for occasion in _OCCASIONS:
                self._write(f"last-will-{occasion}", write_message(word).encode())

    def withdraw(self) -> None:
        """The final word is out. Raises: OSError."""
        if self._directory is not None:
            self._write(SAID, b"")

    def _write(self, name: str, content: bytes) -> None:
        assert self._directory is not None
        aside = self._directory / f"{name}.new"
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(self._directory / name)
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
