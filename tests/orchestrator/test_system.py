"""The threads that turn the wheels: what is woken comes together, and what comes together is done side by side."""

from __future__ import annotations

import contextlib
import io
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError
from functools import partial

import pytest

from orchestrator.adapters.system import COALESCED_S, Hands, TextJournal, Waker, Wheels
from orchestrator.ports import Received
from tests.orchestrator.memory import MemoryJournal

PATIENCE_S = 10.0
"""Seconds after which something counts as never happening; nothing here takes longer when it works."""


class Batches:
    """Queue (ports) that hands out batch after batch, each once, to whoever asks first."""

    def __init__(self, *sizes: int) -> None:
        self._batches: queue.SimpleQueue[list[Received]] = queue.SimpleQueue()
        for place, size in enumerate(sizes):
            self._batches.put([Received("{}", f"{place}/{number}", "") for number in range(size)])
        self._left = threading.Semaphore(0)
        self.deleted: list[str] = []

    def send(self, body: str, group: str, deduplication: str) -> None:
        """Nobody does."""

    def receive(self, wait_s: int) -> list[Received]:
        """The next batch, waited for."""
        try:
            return self._batches.get(timeout=wait_s)
        except queue.Empty:
            return []

    def delete(self, receipt: str) -> None:
        """Noted."""
        self.deleted.append(receipt)
        self._left.release()

    def depth(self) -> int:
        """Nobody asks."""
        return 0

    def age_s(self) -> float:
        """Nobody asks."""
        return 0.0

    def emptied(self, number: int) -> bool:
        """Whether so many are deleted, sooner or later."""
        until_s = time.monotonic() + PATIENCE_S
        return all(self._left.acquire(timeout=max(0.0, until_s - time.monotonic())) for _ in range(number))


def test_the_first_wake_of_a_quiet_time_is_not_kept_waiting() -> None:
    waker = Waker()
    waker.wake("a")

    assert waker.taken(COALESCED_S / 2) == ["a"]


def test_what_is_to_be_woken_later_is_handed_over_then_and_keeps_nobody_waiting() -> None:
    waker = Waker()
    waker.wake("later", 0.2)
    waker.wake("much later", 60.0)
    waker.wake("now")

    assert waker.taken(PATIENCE_S) == ["now"]
    assert waker.taken(PATIENCE_S) == ["later"]
    assert waker.taken(0.05) == []


def test_of_several_times_the_earliest_counts_and_it_is_handed_over_once() -> None:
    waker = Waker()
    for after_s in (60.0, 0.05, 30.0):
        waker.wake("set", after_s)

    assert waker.taken(PATIENCE_S) == ["set"]
    assert waker.taken(COALESCED_S + 0.1) == []


def test_wakes_that_follow_one_another_come_in_a_few_handings_over_and_none_is_lost() -> None:
    waker, names = Waker(), [f"set-{number:02}" for number in range(40)]
    handed: list[list[str]] = []

    for name in names:
        waker.wake(name)
        handed.append(waker.taken(0.002))
    handed.append(waker.taken(PATIENCE_S))

    assert [name for keys in handed for name in keys] == names
    assert len([keys for keys in handed if keys]) < 10, "some time for each would be one for each"


@pytest.mark.parametrize(("threads", "batches"), [(1, [10]), (4, [10, 10, 10, 10])], ids=["one batch", "several batches"])
def test_messages_that_wait_are_handled_side_by_side(threads: int, batches: list[int]) -> None:
    number = sum(batches)
    source, wheels, together = Batches(*batches), Wheels(MemoryJournal(), poll_s=1), threading.Barrier(number)

    def handle(_: Received) -> None:
        together.wait(PATIENCE_S)

    wheels.consume("jobs", source, handle, threads)
    done = source.emptied(number)
    wheels.halt()

    assert done and len(set(source.deleted)) == number


def test_s5_one_consumer_goes_through_all_that_waits_without_a_pause_between_its_batches() -> None:
    """Forty batches, of which each would cost a tick: a pause of a quarter of a second between them is too much."""
    batches = [10] * 40
    source, wheels = Batches(*batches), Wheels(MemoryJournal(), poll_s=1)

    wheels.consume("jobs", source, lambda _: None)
    done = source.emptied(sum(batches))
    wheels.halt()

    assert done and len(set(source.deleted)) == sum(batches)


def test_p4_a_label_set_whose_cloud_is_slow_keeps_no_other_waiting() -> None:
    waker, wheels, answered, settled = Waker(), Wheels(MemoryJournal(), poll_s=1), threading.Event(), threading.Event()

    def settle(keys: Sequence[str]) -> None:
        if keys == ["slow"]:
            waker.wake("quick")
            answered.wait(PATIENCE_S)
        else:
            settled.set()

    waker.wake("slow")
    wheels.awake("levels", waker, settle, threads=2)
    beside = settled.wait(PATIENCE_S / 2)
    answered.set()
    wheels.halt()

    assert beside


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device"), ValueError("I/O on closed file")])
def test_s11_a_log_that_cannot_be_written_stops_no_work(error: Exception) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise error

    TextJournal(Broken()).event("job.told", job_id="1")


def test_hands_that_are_stopped_end_what_they_do_and_begin_nothing_more() -> None:
    hands, begun, over = Hands(2), queue.SimpleQueue[int](), threading.Event()
    ended: list[int] = []

    def task(number: int) -> None:
        begun.put(number)
        over.wait(PATIENCE_S)
        ended.append(number)

    def turn() -> None:
        with contextlib.suppress(CancelledError, RuntimeError):  # the latter where not all of them were handed out yet
            hands.each([partial(task, number) for number in range(50)])

    threading.Thread(target=turn).start()
    for _ in range(2):
        begun.get(timeout=PATIENCE_S)
    stopping = threading.Thread(target=hands.stop)
    stopping.start()
    until_s = time.monotonic() + PATIENCE_S
    while not hands._outer._shutdown and time.monotonic() < until_s:
        time.sleep(0.001)
    over.set()
    stopping.join(PATIENCE_S)

    assert not stopping.is_alive() and sorted(ended) == [0, 1]
