"""The threads that turn the loops: what comes together is done side by side, what fails is said, and what is stopped ends."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from orchestrator.adapters.loops import Loops, WakeQueue
from orchestrator.errors import Conflict, ServiceFailed
from orchestrator.ports import Received
from simulation.process import MemoryJournal

PATIENCE_S = 600.0
"""Seconds after which something counts as never happening; nothing here takes longer when it works."""


class Batches:
    """Queue (ports) that hands out batch after batch, each once, to whoever asks first."""

    def __init__(self, *sizes: int) -> None:
        self._batches: queue.SimpleQueue[list[Received]] = queue.SimpleQueue()
        for place, size in enumerate(sizes):
            self.put([Received("{}", f"{place}/{number}", "") for number in range(size)])
        self._left = threading.Semaphore(0)
        self.deleted: list[str] = []

    def put(self, batch: list[Received]) -> None:
        """One batch more."""
        self._batches.put(batch)

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


class Fails:
    """A function that fails the first time, and says when it was called."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.calls: queue.SimpleQueue[tuple[object, ...]] = queue.SimpleQueue()
        self._failed = False

    def __call__(self, *args: object) -> None:
        """What it was called with, in order."""
        self.calls.put(args)
        if not self._failed:
            self._failed = True
            raise self._error


@pytest.fixture
def journal() -> MemoryJournal:
    """The log of the loops."""
    return MemoryJournal()


@pytest.fixture
def loops(journal: MemoryJournal) -> Iterator[Loops]:
    """Loops that begin nothing more once the test is over."""
    loops = Loops(journal, poll_s=1)
    yield loops
    loops.halt()


@pytest.mark.parametrize(("threads", "batches"), [(1, [10]), (4, [10, 10, 10, 10])], ids=["one batch", "several batches"])
def test_messages_that_wait_are_handled_side_by_side(loops: Loops, threads: int, batches: list[int]) -> None:
    number = sum(batches)
    source, together = Batches(*batches), threading.Barrier(number)

    def handle(_: Received) -> None:
        together.wait(PATIENCE_S)

    loops.consume("jobs", source, handle, threads)

    assert source.emptied(number) and len(set(source.deleted)) == number


def test_s5_one_consumer_goes_through_all_that_waits_without_a_pause_between_its_batches(loops: Loops) -> None:
    """Forty batches, of which each would cost a tick: a pause of a quarter of a second between them is too much."""
    batches = [10] * 40
    source = Batches(*batches)

    loops.consume("jobs", source, lambda _: None)

    assert source.emptied(sum(batches)) and len(set(source.deleted)) == sum(batches)


@pytest.mark.parametrize("error", [Conflict("lost a race"), ServiceFailed("dynamodb:GetItem", "InternalServerError")])
def test_a_message_that_fails_in_passing_is_said_and_left_to_come_again(
    loops: Loops, journal: MemoryJournal, error: Exception
) -> None:
    source = Batches(10, 1)

    def handle(message: Received) -> None:
        if message.receipt == "0/3":
            raise error

    loops.consume("jobs", source, handle)

    assert source.emptied(10) and set(source.deleted) == {f"0/{n}" for n in range(10) if n != 3} | {"1/0"}
    assert journal.of("message.postponed") == [{"queue": "jobs", "error": f"{type(error).__name__}: {error}"}]
    assert "turn.failed" not in journal.names


def test_a_message_whose_handling_breaks_is_not_deleted_and_stops_no_consumer(loops: Loops, journal: MemoryJournal) -> None:
    source = Batches(1, 1)
    handle = Fails(ValueError("broken"))

    loops.consume("jobs", source, handle)

    assert source.emptied(1) and source.deleted == ["1/0"]
    assert journal.of("turn.failed") == [{"loop": "jobs", "error": "ValueError: broken"}]


def test_what_is_received_after_the_word_to_stop_is_left_to_somebody_who_stays(loops: Loops) -> None:
    source, handled = Batches(1), list[str]()

    def handle(message: Received) -> None:
        source.put([Received("{}", f"after/{n}", "") for n in range(10)])
        loops.halt()
        handled.append(message.receipt)

    loops.consume("jobs", source, handle)
    done = source.emptied(1)
    loops.stop(PATIENCE_S)

    assert done and (handled, source.deleted) == (["0/0"], ["0/0"])


def test_of_a_batch_that_is_received_already_nothing_is_begun_after_the_word_to_stop() -> None:
    class HaltsMeanwhile(Batches):
        def receive(self, wait_s: int) -> list[Received]:
            loops.halt()
            received.set()
            return super().receive(wait_s)

    loops, received, handled = Loops(MemoryJournal(), poll_s=1), threading.Event(), list[Received]()
    source = HaltsMeanwhile(10)
    loops.consume("jobs", source, handled.append)
    asked = received.wait(PATIENCE_S)
    loops.stop(PATIENCE_S)

    assert asked and (handled, source.deleted) == ([], [])


def test_whoever_stops_the_loops_waits_for_the_turn_that_runs(loops: Loops) -> None:
    begun, over, ended = threading.Event(), threading.Event(), list[str]()

    def task() -> None:
        begun.set()
        over.wait(PATIENCE_S)
        ended.append("turn")

    loops.every("tick", 60.0, task)
    begun.wait(PATIENCE_S)
    stopping = threading.Thread(target=loops.stop, args=(6 * PATIENCE_S,), daemon=True)
    stopping.start()
    stopping.join(0.05)
    waited = stopping.is_alive()
    over.set()
    stopping.join(PATIENCE_S)

    assert waited and not stopping.is_alive() and ended == ["turn"]


def test_a_turn_that_does_not_end_is_not_waited_for_longer_than_that(loops: Loops) -> None:
    over = threading.Event()
    loops.every("tick", 60.0, lambda: over.wait(3 * PATIENCE_S))
    stopping = threading.Thread(target=loops.stop, args=(0.05,), daemon=True)
    stopping.start()
    stopping.join(PATIENCE_S)
    ended = not stopping.is_alive()
    over.set()

    assert ended


def test_what_the_schedule_says_is_done_at_once_and_then_again(loops: Loops) -> None:
    done = queue.SimpleQueue[int]()
    loops.every("often", 0.01, lambda: done.put(1))
    loops.every("seldom", 6 * PATIENCE_S, lambda: done.put(2))

    told = [done.get(timeout=PATIENCE_S) for _ in range(10)]

    assert told.count(2) == 1 and told.count(1) == 9


def reconciling(loops: Loops, act: Callable[[Sequence[str]], None]) -> None:
    """A label set is woken now, and others whenever the last ones were taken."""
    wake_queue = WakeQueue()

    def reconcile(keys: Sequence[str]) -> None:
        wake_queue.wake("another")
        act(keys)

    wake_queue.wake("b")
    wake_queue.wake("a")
    loops.reconcile_woken("reconciler", wake_queue, reconcile)


def scheduled(loops: Loops, act: Callable[[], None]) -> None:
    """A turn that comes again at once."""
    loops.every("reconciler", 0.0, act)


@pytest.mark.parametrize("begin", [reconciling, scheduled])
def test_one_bad_turn_is_said_and_the_loop_goes_on(
    loops: Loops, journal: MemoryJournal, begin: Callable[[Loops, Callable[..., None]], None]
) -> None:
    act = Fails(KeyError("bad"))
    begin(loops, act)

    for _ in range(3):
        act.calls.get(timeout=PATIENCE_S)

    assert journal.of("turn.failed") == [{"loop": "reconciler", "error": "KeyError: 'bad'"}]


def test_all_that_were_woken_together_are_reconciled_in_one_turn(loops: Loops) -> None:
    handed = queue.SimpleQueue[Sequence[str]]()
    reconciling(loops, handed.put)

    assert [handed.get(timeout=PATIENCE_S) for _ in range(2)] == [["a", "b"], ["another"]]


def test_p4_a_label_set_whose_cloud_is_slow_keeps_no_other_waiting(loops: Loops) -> None:
    wake_queue, answered, reconciled = WakeQueue(), threading.Event(), threading.Event()

    def reconcile(keys: Sequence[str]) -> None:
        if keys == ["slow"]:
            wake_queue.wake("quick")
            answered.wait(PATIENCE_S)
        else:
            reconciled.set()

    wake_queue.wake("slow")
    loops.reconcile_woken("reconciler", wake_queue, reconcile, threads=2)
    beside = reconciled.wait(PATIENCE_S / 2)
    answered.set()

    assert beside
