"""Launches on the disk (adapters/processes.py): a token is decided once, and one orchestrator starts after the other."""

from __future__ import annotations

import json
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.processes import LocalProcesses
from orchestrator.errors import ServiceFailed
from simulation.calls import Crash

PATIENCE_S = 600.0
"""Seconds after which something counts as never happening; nothing here takes longer when it works."""


def comes(root: Path) -> LocalProcesses:
    """An orchestrator that knows nothing but what is on the disk."""
    return LocalProcesses(root, ("true",), {})


def never() -> dict[str, Any]:
    """What nobody should ask for."""
    raise AssertionError("it was decided already")


def test_what_is_decided_for_a_token_is_decided_once(tmp_path: Path) -> None:
    first = comes(tmp_path).decided("l-1-0", lambda: {"instances": ["i-1"]})

    assert first == comes(tmp_path).decided("l-1-0", never) == comes(tmp_path).recalled("l-1-0") == {"instances": ["i-1"]}


def test_each_token_has_a_decision_of_its_own_whatever_characters_are_in_it(tmp_path: Path) -> None:
    instances, tokens = comes(tmp_path), ["l-1-0", "l-1-1", "../../l-1-0", "l/1\n", "x" * 1000]
    for number, token in enumerate(tokens):
        instances.decided(token, partial(dict, number=number))

    assert [instances.recalled(token) for token in tokens] == [{"number": number} for number in range(len(tokens))]
    assert {path.name for path in tmp_path.iterdir()} == {"launches", "instances"}


def test_of_a_token_for_which_nothing_was_decided_nothing_is_recalled_or_made(tmp_path: Path) -> None:
    instances = comes(tmp_path)

    assert instances.recalled("l-1-0") is None and list((tmp_path / "launches").iterdir()) == []


def test_of_two_that_decide_at_once_both_go_by_what_the_first_one_wrote(tmp_path: Path) -> None:
    """The second one is in the middle of deciding when the first has ended."""
    told = list[dict[str, Any]]()

    def decide() -> dict[str, Any]:
        told.append(comes(tmp_path).decided("l-1-0", lambda: {"by": "the other"}))
        return {"by": "me"}

    mine = comes(tmp_path).decided("l-1-0", decide)

    assert mine == told[0] == comes(tmp_path).recalled("l-1-0") == {"by": "the other"}
    assert len(list((tmp_path / "launches").iterdir())) == 1, "nothing of the second one is left"


@pytest.mark.parametrize("error", [Crash(), ServiceFailed("local:start", "no")])
def test_whoever_is_cut_off_while_it_decides_has_decided_nothing(tmp_path: Path, error: BaseException) -> None:
    def decide() -> dict[str, Any]:
        raise error

    with pytest.raises(type(error)):
        comes(tmp_path).decided("l-1-0", decide)

    assert comes(tmp_path).recalled("l-1-0") is None
    assert comes(tmp_path).decided("l-1-0", lambda: {"by": "the next"}) == {"by": "the next"}


def test_a_decision_is_whole_on_the_disk_before_it_is_told(tmp_path: Path) -> None:
    comes(tmp_path).decided("l-1-0", lambda: {"instances": ["i-1"]})

    (launch,) = (tmp_path / "launches").glob("[!.]*/launch.json")
    assert json.loads(launch.read_text()) == {"instances": ["i-1"]}


def test_nobody_else_is_within_while_an_orchestrator_starts_something(tmp_path: Path) -> None:
    within, seen, both = [0], list[int](), threading.Barrier(4)

    def start() -> None:
        instances = comes(tmp_path)
        both.wait(PATIENCE_S)
        for _ in range(5):
            with instances.exclusive():
                within[0] += 1
                seen.append(within[0])
                threading.Event().wait(0.001)
                within[0] -= 1

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)

    assert seen == [1] * 20


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), PermissionError(13, "Permission denied")])
def test_a_disk_that_takes_nothing_is_a_failure_of_the_service_with_its_words(tmp_path: Path, error: OSError) -> None:
    with pytest.raises(ServiceFailed, match="local:start answered") as raised, comes(tmp_path).exclusive():
        raise error

    assert raised.value.code == type(error).__name__ and str(error.strerror) in str(raised.value)


def test_after_a_failure_others_come_within_again(tmp_path: Path) -> None:
    instances = comes(tmp_path)
    with pytest.raises(ValueError, match="a bug"), instances.exclusive():
        raise ValueError("a bug")
    entered = threading.Event()

    def enter() -> None:
        with comes(tmp_path).exclusive():
            entered.set()

    threading.Thread(target=enter, daemon=True).start()

    assert entered.wait(PATIENCE_S)
