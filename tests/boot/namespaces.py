"""Network namespaces held by a file descriptor: they have no name, so the kernel removes them with the process that holds them."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000
"""Source: sched.h."""
_LIBC = ctypes.CDLL(None, use_errno=True)


class NetworkNamespace:
    """An empty network of its own, not even loopback is up. Close it, and it goes when the last process in it has gone."""

    def __init__(self) -> None:
        """Raises: OSError without CAP_SYS_ADMIN."""
        self.fd = _in_a_thread(_unshared)

    def do(self, act: Callable[[], T]) -> T:
        """`act`'s result; it runs in a thread inside this namespace. A socket made there stays there, wherever it is used."""
        return _in_a_thread(lambda: (_enter(self.fd), act())[1])

    def ip(self, *commands: str) -> None:
        """Run `ip` commands inside, all or an error. Raises: RuntimeError with ip's words."""
        self._run(["ip", "-batch", "-"], "\n".join(commands))

    def path(self) -> str:
        """Where a child finds it that was given the descriptor (pass_fds)."""
        return f"/proc/self/fd/{self.fd}"

    def run(self, *command: str, fds: tuple[int, ...] = (), text: str = "") -> str:
        """What `command` prints inside. Raises: RuntimeError if it fails."""
        return self._run(list(command), text, fds)

    def close(self) -> None:
        """Let go of it. Closing twice is fine."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _run(self, command: list[str], text: str, fds: tuple[int, ...] = ()) -> str:
        done = subprocess.run(
            ["nsenter", f"--net={self.path()}", "--", *command],
            input=text,
            pass_fds=(self.fd, *fds),
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{command} in a network namespace: {done.stderr or done.stdout}\n{text}")
        return done.stdout


def _unshared() -> int:
    _checked(_LIBC.unshare(_CLONE_NEWNET), "unshare")
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _enter(fd: int) -> None:
    _checked(_LIBC.setns(fd, _CLONE_NEWNET), "setns")


def _checked(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _in_a_thread(act: Callable[[], T]) -> T:
    """In a thread of its own, because a namespace belongs to a thread and this one is not to come back."""
    with ThreadPoolExecutor(1) as fresh:
        return fresh.submit(act).result()
