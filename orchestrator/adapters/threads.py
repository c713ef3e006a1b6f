"""Worker pools: threads for what may be done side by side."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from orchestrator.errors import failure_of

LOCKS = 64
"""Locks for all names; some names share one."""


class ThreadWorkerPool:
    """WorkerPool (ports): threads, shared by all who ask."""

    def __init__(self, number: int) -> None:
        self._outer, self._inner = (ThreadPoolExecutor(number, thread_name_prefix=name) for name in ("workers", "workers-inner"))
        self._within = threading.local()
        self._alone = [threading.Lock() for _ in range(LOCKS)]

    def run_all(self, tasks: Sequence[Callable[[], object]]) -> list[Exception]:
        """All, some at once. Tasks may themselves ask for pools once: those are others, so that nobody waits for himself."""
        if len(tasks) < 2:
            return [trouble for trouble in map(failure_of, tasks) if trouble is not None]
        if getattr(self._within, "depth", 0):
            return [trouble for trouble in self._inner.map(failure_of, tasks) if trouble is not None]
        return [trouble for trouble in self._outer.map(self._deeper, tasks) if trouble is not None]

    def exclusive(self, name: str) -> threading.Lock:
        """The lock of this name; some names share one."""
        return self._alone[zlib.crc32(name.encode()) % LOCKS]

    def stop(self) -> None:
        """When all have ended what they do; what none has begun is left to the next process, which finds it due."""
        self._inner.shutdown(wait=False, cancel_futures=True)  # first: the outer ones wait for theirs
        self._outer.shutdown(cancel_futures=True)
        self._inner.shutdown()

    def _deeper(self, task: Callable[[], object]) -> Exception | None:
        self._within.depth = 1
        return failure_of(task)
