"""Waits for children: ours while there is no runner, every one, adopted ones too, once there is."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable


class Reaper:
    """Waits for every child, ours and adopted ones, in one thread; nobody else may wait for a process here."""

    def __init__(self) -> None:
        self._codes: dict[int, int] = {}
        self._expected: dict[int, Callable[[int], None] | None] = {}
        self._changed = threading.Condition()
        self._running = self._is_closed = False
        self._adopted_at_s = 0.0

    def close(self) -> None:
        """From now on `spawn` starts only children with `after_sweep`; every other one was started before this returns."""
        with self._changed:
            self._is_closed = True

    def spawn(
        self,
        start: Callable[[], subprocess.Popen[bytes]],
        ended: Callable[[int], None] | None = None,
        *,
        after_sweep: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Start a child; `ended` is called from the reaper's thread with its exit code. Raises: OSError, also once closed."""
        with self._changed:
            if self._is_closed and not after_sweep:
                raise OSError("every process was ended: none is started any more")
            child = start()
            self._expected[child.pid] = ended
            if ended is not None and not self._running:
                self._running = True
                threading.Thread(target=self._reap, name="reaper", daemon=True).start()
            elif not self._running:
                threading.Thread(target=self._reap_one, args=(child.pid,), name="reaper of one", daemon=True).start()
            self._changed.notify_all()
        return child

    def wait(self, pid: int, within_s: float) -> int | None:
        """The exit code of a child started without `ended`; None if it still runs after `within_s`."""
        with self._changed:
            self._changed.wait_for(lambda: pid in self._codes, within_s)
            return self._codes.pop(pid, None)

    def adopted_since(self, moment_s: float) -> bool:
        """Whether an orphan that came to us ended after that moment: then there may be more where it came from."""
        return self._adopted_at_s >= moment_s

    def _reap_one(self, pid: int) -> None:
        """Before there is a runner nobody else's child is touched; once there is one, whoever waits first notes the code."""
        try:
            found = os.waitid(os.P_PID, pid, os.WEXITED)
        except ChildProcessError:
            return
        if found is not None:
            self._note(found)

    def _note(self, found: os.waitid_result) -> None:
        code = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        with self._changed:
            known = found.si_pid in self._expected
            if not known:
                self._adopted_at_s = time.monotonic()
            ended = self._expected.pop(found.si_pid, None)
            if known and ended is None:
                self._codes[found.si_pid] = code
                self._changed.notify_all()
        if ended is not None:
            ended(code)

    def _reap(self) -> None:
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED)
            except ChildProcessError:
                with self._changed:
                    if not self._expected:
                        self._running = False
                        return
                    self._changed.wait(0.05)
                continue
            if found is not None:
                self._note(found)
