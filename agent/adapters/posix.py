"""Processes of a Linux machine: started clean, found wherever they hide, ended with everything they started."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import pwd
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.adapters.process_tree import children_now, descendants, is_named
from agent.adapters.reaper import Reaper
from agent.ports import Finished, Inbox, Launch, RunnerExited, Signalled

PR_SET_CHILD_SUBREAPER = 36
"""Source: prctl(2). A descendant that daemonised itself comes back to us instead of to init, and can be ended."""
TAIL_BYTES = 16_384
PIPE_BYTES = 1 << 20
"""The output pipe's size: room for a burst while we write the last one to disk. Source: F_SETPIPE_SZ in fcntl(2)."""
QUIET_S = 0.03
"""Seconds without any descendant, living or just ended, after which none is left."""
CHILD_OOM_SCORE = 500
"""The job is killed before the agent when memory runs out; the runner gives its steps the same."""
LISTENER = "Runner.Listener"
SETPRIV = "/usr/bin/setpriv"
"""Becomes another user and then the command. Source: setpriv(1), util-linux."""


class PosixProcesses:
    """Child processes of this agent (ports.Processes)."""

    def __init__(self, inbox: Inbox, attach: Callable[[int, Inbox], None]) -> None:
        """`attach` reads the runner's output from a descriptor until its end; it is called in a thread of its own."""
        self._inbox, self._attach = inbox, attach
        self._reaper = Reaper()

    def run(self, launch: Launch, within_s: float) -> Finished:
        """Start, wait, and kill the whole session of what is still there then."""
        become_subreaper()
        readable, writable = os.pipe2(os.O_CLOEXEC)
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, readable)
            with contextlib.closing(_Descriptor(writable)):
                child = self._reaper.spawn(lambda: _popen(launch, writable), after_sweep=launch.after_sweep)
            undo.pop_all()
        tail = bytearray()
        reader = threading.Thread(target=_keep_tail, args=(readable, tail), daemon=True)
        reader.start()
        code = self._reaper.wait(child.pid, within_s)
        if code is None:
            _kill_family(child.pid)
            self._reaper.wait(child.pid, 2.0)
        child.returncode = -1 if code is None else code
        reader.join(1.0)
        return Finished(code, bytes(tail).decode("utf-8", "replace"))

    def start(self, launch: Launch) -> PosixRunner:
        """Start the runner; from now on its orphans are ours."""
        become_subreaper()
        readable, writable = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            fcntl.fcntl(readable, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, readable)
            with contextlib.closing(_Descriptor(writable)):
                child = self._reaper.spawn(lambda: _popen(launch, writable), lambda code: self._inbox.post(RunnerExited(code)))
            undo.pop_all()
        with contextlib.suppress(OSError):
            Path(f"/proc/{child.pid}/oom_score_adj").write_text(str(CHILD_OOM_SCORE), encoding="ascii")
        child.returncode = 0  # the reaper waits for it, not Popen
        threading.Thread(target=self._attach, args=(readable, self._inbox), name="output", daemon=True).start()
        return PosixRunner(child.pid, self._reaper)

    def sweep(self, within_s: float) -> int:
        """Everything that descends from us, whoever started it; nothing is started beside it or after it."""
        self.close()
        return _swept(self._reaper, within_s)

    def close(self) -> None:
        """From now on only launches that are marked `after_sweep` are started."""
        self._reaper.close()

    def read_plain(self, path: Path, most: int) -> bytes:
        """Opened without following a link and without waiting for a pipe's other end."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(f"{path} is not a plain file")
            return os.read(descriptor, most)
        finally:
            os.close(descriptor)

    def user_home(self, user: str | None) -> Path:
        """A user's home directory, from the password database."""
        if user is None:
            return Path(os.environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir)
        return Path(_entry(user).pw_dir)

    def own(self, path: Path, user: str | None) -> None:
        """chown, link by link instead of through links."""
        if user is None or _entry(user).pw_uid == os.getuid():
            return
        entry = _entry(user)
        os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)
        for directory, names, files in os.walk(path):
            for name in (*names, *files):
                os.chown(Path(directory) / name, entry.pw_uid, entry.pw_gid, follow_symlinks=False)


@dataclass(frozen=True)
class _Descriptor:
    """A descriptor that `closing` can close."""

    number: int

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.number)


class PosixRunner:
    """A started runner and its descendants (ports.Runner)."""

    def __init__(self, pid: int, reaper: Reaper) -> None:
        self._pid, self._reaper = pid, reaper

    def interrupt(self) -> bool:
        """SIGINT to the listener alone: the runner cancels its job and says so to GitHub."""
        return self._signal(signal.SIGINT)

    def terminate(self) -> bool:
        """SIGTERM to the listener alone, likewise."""
        return self._signal(signal.SIGTERM)

    def sweep(self, within_s: float) -> int:
        """Whatever descends from the runner, wherever it hid."""
        return _swept(self._reaper, within_s)

    def _signal(self, number: signal.Signals) -> bool:
        listener = next((pid for pid in descendants(self._pid) if is_named(pid, LISTENER)), None)
        try:
            if listener is not None:
                os.kill(listener, number)
            else:
                os.killpg(self._pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True


def _swept(reaper: Reaper, within_s: float) -> int:
    """Kill every descendant of this process, adopted ones too, until none was seen for a while.

    A process that forks and exits without end is between two scans more often than in one: so the kernel's own list of our
    children is read as well, and a single empty look proves nothing.
    """
    until_s = time.monotonic() + within_s
    killed: set[int] = set()
    quiet_since_s = None
    while (now_s := time.monotonic()) < until_s:
        alive = {*children_now(), *descendants(os.getpid())}
        for process in alive:
            _signal(process, signal.SIGKILL)
        killed |= alive
        if alive or reaper.adopted_since(now_s - QUIET_S):
            quiet_since_s = None
            continue
        quiet_since_s = quiet_since_s or now_s
        if now_s - quiet_since_s >= QUIET_S:
            break
        time.sleep(0.001)
    return len(killed)


def become_subreaper() -> None:
    """Adopt what our descendants orphan. Best effort: without it, double forks are found by session no more."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def listen_for_signals(inbox: Inbox) -> None:
    """SIGTERM and SIGINT become events; SIGHUP and SIGQUIT too, so that in our children all four are at their default.

    A handled signal is reset by exec, an ignored one is not: a runner started with SIGINT ignored can never be stopped.
    Source: execve(2); actions/runner#2582.
    """

    def handle(number: int, _frame: object) -> None:
        """Put the signal into the inbox."""
        inbox.post(Signalled(signal.Signals(number).name))

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, handle)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # inherited as ignored, it would swallow exit codes
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def _popen(launch: Launch, output: int) -> subprocess.Popen[bytes]:
    identity: dict[str, Any] = {}
    if not launch.wrapper and launch.user is not None and _entry(launch.user).pw_uid != os.getuid():
        entry = _entry(launch.user)
        identity = {
            "user": entry.pw_uid,
            "group": entry.pw_gid,
            "extra_groups": os.getgrouplist(launch.user, entry.pw_gid),
        }
    with _readable(launch.stdin) as readable:
        return subprocess.Popen(
            wrapped(launch),
            cwd=launch.directory,
            env=dict(launch.environment),
            stdin=readable,
            stdout=output,
            stderr=output,
            start_new_session=True,
            close_fds=True,
            **identity,
        )


def wrapped(launch: Launch) -> tuple[str, ...]:
    """The words to start: with a wrapper, who becomes the launch's user is started by it. Raises: LookupError."""
    if not launch.wrapper:
        return launch.command
    become: tuple[str, ...] = ()
    if launch.user is not None and (entry := _entry(launch.user)).pw_uid != os.getuid():
        become = (SETPRIV, f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--init-groups", "--")
    return (*launch.wrapper, *become, *launch.command)


@contextlib.contextmanager
def _readable(content: bytes) -> Iterator[int]:
    """A descriptor that gives `content`, from memory alone."""
    if not content:
        yield subprocess.DEVNULL
        return
    with os.fdopen(os.memfd_create("stdin"), "w+b") as file:
        file.write(content)
        file.seek(0)
        yield file.fileno()


def _kill_family(pid: int) -> None:
    """Stopped first, all of them: who is stopped starts nobody whom we have not seen."""
    family: list[int] = []
    while new := [member for member in (pid, *descendants(pid)) if member not in family]:
        for member in new:
            _signal(member, signal.SIGSTOP)
        family += new
    for member in family:
        _signal(member, signal.SIGKILL)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _keep_tail(readable: int, tail: bytearray) -> None:
    """Reads to the end and closes; nobody else may close a descriptor that is being read."""
    with contextlib.suppress(OSError), os.fdopen(readable, "rb", buffering=0) as output:
        while piece := output.read(1 << 16):
            tail += piece
            del tail[:-TAIL_BYTES]


def _entry(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise LookupError(f"RUNS_FLEET_RUNNER_USER names {user!r}, and there is no such user on this machine") from None
