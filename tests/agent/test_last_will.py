"""LastWill for those who outlive the agent: written before the job, filled in by a shell, withdrawn once the word is out."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.contract.config import read_config
from agent.contract.messages import FinalWord, Status, read_message
from agent.reports.last_will import SAID, LastWill
from tests.integration.agent_harness import CHECKOUT, blob

BORN = datetime(2026, 1, 31, 12, tzinfo=UTC)


def config(**fields: Any) -> Any:

    return read_config(
        json.dumps({"org": "o", "repo": "r", "job_id": 7, "session_id": "s-1", "attempt": 2, "jit_config": blob(), **fields})
    )


def filled_in(file: Path) -> FinalWord:
    """As the boot script does it."""
    function = next(line for line in (CHECKOUT / "userdata" / "runs-fleet.sh").read_text("utf-8").splitlines() if "@NOW@" in line)
    script = f'send() {{ printf %s "$1"; }}; state={file.parent}; set -- {file.name.removeprefix("last-will-")}; {function}'
    message = read_message(subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout)
    assert isinstance(message, FinalWord)
    return message


@pytest.mark.parametrize(("occasion", "status"), [("died", Status.FAILURE), ("rebooted", Status.INTERRUPTED)])
def test_a_last_will_that_the_shell_fills_in_is_a_final_word(tmp_path: Path, occasion: str, status: Status) -> None:
    LastWill(tmp_path).leave(config(), "i-0", BORN, "m-1")

    word = filled_in(tmp_path / f"last-will-{occasion}")

    assert (word.status, word.exit_code, word.job_id, word.session_id, word.attempt) == (status, 1, "7", "s-1", 2)
    assert (word.instance_id, word.message_id, word.started_at, bool(word.error)) == ("i-0", "m-1", BORN, True)
    assert word.completed_at > BORN
    assert 0 <= word.duration_seconds < 60


def test_a_last_will_holds_no_secret(tmp_path: Path) -> None:
    LastWill(tmp_path).leave(config(), "i-0", BORN, "m-1")

    assert all(blob() not in file.read_text("utf-8") for file in tmp_path.iterdir())


def test_the_word_that_is_out_leaves_a_mark(tmp_path: Path) -> None:
    last_will = LastWill(tmp_path)

    last_will.withdraw()

    assert [file.name for file in tmp_path.iterdir()] == [SAID]


@pytest.mark.parametrize(("minutes", "limit"), [(0.02, "51"), (360, "411"), (1439.5, "1491")])
def test_a_job_that_may_take_longer_moves_the_hard_deadline(tmp_path: Path, minutes: float, limit: str) -> None:
    LastWill(tmp_path).allow(minutes, 390.0)

    assert (tmp_path / "limit-minutes").read_text("utf-8").strip() == limit


def test_without_a_directory_nothing_is_written() -> None:
    last_will = LastWill(None)

    last_will.leave(config(), "i-0", BORN, "m-1")
    last_will.allow(1, 0)
    last_will.withdraw()


def test_a_directory_that_takes_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        LastWill(tmp_path / "missing").leave(config(), "i-0", BORN, "m-1")
