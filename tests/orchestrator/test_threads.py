"""Worker pools of threads: what they do side by side, what comes of failures, who waits for whom, and how they stop."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from functools import partial

import pytest

from orchestrator.adapters.threads import ThreadWorkerPool
from simulation.calls import raise_

PATIENCE_S = 600.0
"""Seconds after which something counts as never happening; nothing here takes longer when it works."""


@pytest.fixture
def pool() -> Iterator[ThreadWorkerPool]:
    """Two workers, and two for what these ask for."""
    pool = ThreadWorkerPool(2)
    yield pool
    pool.stop()


def test_as_many_tasks_are_done_side_by_side_as_there_are_workers() -> None:
    pool, together = ThreadWorkerPool(4), threading.Barrier(4)

    failed = pool.run_all([lambda: together.wait(PATIENCE_S)] * 4)
    pool.stop()

    assert failed == []


def test_no_more_tasks_are_done_at_once_than_there_are_workers(pool: ThreadWorkerPool) -> None:
    at_once, most, counting = [0], [0], threading.Lock()
    pair = threading.Barrier(2)

    def task() -> None:
        with counting:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        pair.wait(PATIENCE_S)
        with counting:
            at_once[0] -= 1

    assert pool.run_all([task] * 12) == [] and most == [2]


@pytest.mark.parametrize("others", [0, 1, 20])
def test_a_task_that_fails_is_returned_and_keeps_no_other_from_its_turn(pool: ThreadWorkerPool, others: int) -> None:
    error, done = ValueError("no"), list[int]()

    failed = pool.run_all([partial(raise_, error), *(partial(done.append, number) for number in range(others))])

    assert failed == [error] and sorted(done) == list(range(others))


def test_every_failure_is_returned_in_the_order_of_the_tasks(pool: ThreadWorkerPool) -> None:
    errors = [ValueError(str(number)) for number in range(10)]

    assert pool.run_all([partial(raise_, error) for error in errors]) == errors


def test_nothing_to_do_is_no_failure(pool: ThreadWorkerPool) -> None:
    assert pool.run_all([]) == []


def test_tasks_that_ask_for_workers_themselves_do_not_wait_for_one_another(pool: ThreadWorkerPool) -> None:
    """As many as there are workers: had they to wait for a free one among these, none would ever come."""
    both, done, failed = threading.Barrier(2), queue.SimpleQueue[str](), list[Exception]()

    def outer(name: str) -> None:
        both.wait(PATIENCE_S)
        failed.extend(pool.run_all([partial(done.put, f"{name}{number}") for number in range(3)]))

    turn = threading.Thread(target=lambda: failed.extend(pool.run_all([partial(outer, "a"), partial(outer, "b")])), daemon=True)
    turn.start()
    turn.join(PATIENCE_S)

    assert not turn.is_alive() and failed == []
    assert sorted(done.get_nowait() for _ in range(6)) == ["a0", "a1", "a2", "b0", "b1", "b2"]


def test_what_fails_within_a_task_is_returned_to_that_task_and_not_to_others(pool: ThreadWorkerPool) -> None:
    error, inner = ValueError("no"), list[Exception]()

    def outer() -> None:
        inner.extend(pool.run_all([partial(raise_, error), lambda: None]))

    assert pool.run_all([outer, lambda: None]) == [] and inner == [error]


def test_nobody_is_within_a_name_while_another_is(pool: ThreadWorkerPool) -> None:
    within, other = threading.Event(), list[bool]()
    pair = threading.Barrier(2)

    def task() -> None:
        pair.wait(PATIENCE_S)
        with pool.exclusive("set"):
            other.append(within.is_set())
            within.set()
            threading.Event().wait(0.01)
            within.clear()

    assert pool.run_all([task] * 10) == [] and other == [False] * 10


def test_different_names_rarely_wait_for_one_another(pool: ThreadWorkerPool) -> None:
    names = [f"set-{number}" for number in range(200)]

    assert len({id(pool.exclusive(name)) for name in names}) > 32
    assert all(pool.exclusive(name) is pool.exclusive(name) for name in names)


def test_workers_that_are_stopped_end_what_they_do_and_begin_nothing_more() -> None:
    pool, begun, over = ThreadWorkerPool(2), queue.SimpleQueue[int](), threading.Event()
    ended: list[int] = []

    def task(number: int) -> None:
        begun.put(number)
        over.wait(PATIENCE_S)
        ended.append(number)

    def turn(*numbers: int) -> None:
        with contextlib.suppress(CancelledError, RuntimeError):  # the latter where not all of them were handed out yet
            pool.run_all([partial(task, number) for number in numbers])

    threading.Thread(target=turn, args=range(50)).start()
    for _ in range(2):
        begun.get(timeout=PATIENCE_S)
    behind = threading.Thread(target=turn, args=(50, 51))  # both workers are taken: it ends when it is told that nothing begins
    behind.start()
    stopping = threading.Thread(target=pool.stop)
    stopping.start()
    behind.join(PATIENCE_S)
    waits = stopping.is_alive()
    over.set()
    stopping.join(PATIENCE_S)

    assert waits, "whoever stops them waits for what they do"
    assert not behind.is_alive() and not stopping.is_alive() and sorted(ended) == [0, 1]


def test_what_a_task_asked_for_is_not_begun_either_and_keeps_no_task_waiting() -> None:
    """The inner ones are told first: an outer one waits for all that it asked for."""
    pool, begun, over, told = ThreadWorkerPool(2), threading.Semaphore(0), threading.Event(), threading.Event()
    taken, ended = threading.Event(), list[int]()

    def inner(number: int) -> None:
        begun.release()
        over.wait(PATIENCE_S)
        ended.append(number)

    def behind() -> None:
        taken.wait(PATIENCE_S)
        with contextlib.suppress(CancelledError, RuntimeError):
            pool.run_all([lambda: None, lambda: None])  # both inner workers are taken
        told.set()

    tasks = [lambda: pool.run_all([partial(inner, number) for number in range(10)]), behind]
    threading.Thread(target=pool.run_all, args=(tasks,)).start()
    assert all(begun.acquire(timeout=PATIENCE_S) for _ in range(2))
    taken.set()
    stopping = threading.Thread(target=pool.stop)
    stopping.start()
    heard = told.wait(PATIENCE_S)
    over.set()
    stopping.join(PATIENCE_S)

    assert heard and not stopping.is_alive() and sorted(ended) == [0, 1]
