"""Drives one installed stand-in runner: starts `run.sh` as a real child, hears its lines as they come, ends all of it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import re
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from sandbox.runner import release

PATIENCE_S = 600.0
"""Seconds after which what was promised counts as missing; nothing here takes longer when it works."""
STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ"


class Stream:
    """The lines of one descriptor, in order."""

    def __init__(self, source: IO[bytes]) -> None:
        self.heard: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(source,), daemon=True).start()

    def until(self, pattern: str) -> str:
        """The next line that matches as a whole; fails with all that was heard if none comes."""
        while (line := self._next()) is not None:
            if re.fullmatch(pattern, line):
                return line
        raise AssertionError(f"no line {pattern!r} in {self.heard}")

    def all(self) -> list[str]:
        """Every line up to the end of the output."""
        while self._next() is not None:
            pass
        return self.heard

    def _next(self) -> str | None:
        try:
            line = self._lines.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise AssertionError(f"nothing more was said after {self.heard}") from None
        if line is None:
            self._lines.put(None)
        else:
            self.heard.append(line)
        return line

    def _read(self, source: IO[bytes]) -> None:
        with source:
            for line in source:
                self._lines.put(line.decode("utf-8", "replace").removesuffix("\n"))
        self._lines.put(None)


class Gate:
    """A named pipe: a step says through it that it is there, or waits at it until it may go on."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._readable = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._writable = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def heard(self) -> str:
        """The next line somebody wrote."""
        text = b""
        while not text.endswith(b"\n"):
            assert select.select([self._readable], [], [], PATIENCE_S)[0], f"nobody came to {self.path.name}; so far {text!r}"
            text += os.read(self._readable, 4096)
        return text.decode().strip()

    def open(self) -> None:
        """Whoever reads a line here goes on."""
        os.write(self._writable, b"go\n")

    def close(self) -> None:
        os.close(self._readable)
        os.close(self._writable)


class RunnerDriver:
    """One release in a directory of its own, and everything that was started from it."""

    def __init__(self, directory: Path) -> None:
        self.root = release.install(directory / "runner")
        self._directory = directory
        self.gates: dict[str, Gate] = {}
        self.shell: subprocess.Popen[bytes]
        self.out: Stream
        self.err: Stream

    def configured(self, **keys: Any) -> RunnerDriver:
        """Registered, and with this scenario in the place of GitHub."""
        for name in (".runner", ".credentials", ".credentials_rsaparams"):
            (self.root / name).write_text("{}", encoding="utf-8")
        return self.scenario(**keys)

    def scenario(self, **keys: Any) -> RunnerDriver:
        """What happens to the runner."""
        (self.root / "standin.json").write_text(json.dumps(keys), encoding="utf-8")
        return self

    def hasten(self) -> RunnerDriver:
        """The stages of stopping a step, shorter in this installed copy; how long they really are is a test of its own."""
        path = self.root / "bin/standin/sandbox/runner/worker.py"
        text, stages = path.read_text("utf-8"), "INTERRUPT_S, TERMINATE_S = 7.5, 2.5\n"
        assert stages in text
        path.write_text(text.replace(stages, "INTERRUPT_S, TERMINATE_S = 0.3, 0.3\n"), encoding="utf-8")
        return self

    def gate(self, name: str) -> Gate:
        """A named pipe that steps reach by its path."""
        self.gates[name] = Gate(self._directory / name)
        return self.gates[name]

    def start(
        self, *arguments: str, program: str = "run.sh", ignored: Sequence[str] = (), own: bool = True, **environment: str
    ) -> RunnerDriver:
        """In a session of its own; `ignored` signals are ignored from the start, `own` False leaves root's permit out."""
        known = {"PATH": os.environ["PATH"], "HOME": str(self._directory), "LANG": "C.UTF-8", "STANDIN_RESTART_SECONDS": "0"}
        permit = {"RUNNER_ALLOW_RUNASROOT": "1"} if own else {}
        ignoring = ["bash", "-c", f'trap "" {" ".join(ignored)}; exec "$@"', "bash"] if ignored else []
        self.shell = subprocess.Popen(
            [*ignoring, str(self.root / program), *arguments],
            cwd=self.root,
            env={**known, **permit, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.shell.stdout is not None and self.shell.stderr is not None
        self.out, self.err = Stream(self.shell.stdout), Stream(self.shell.stderr)
        return self

    def ended(self) -> int:
        """The exit code of what was started."""
        return self.shell.wait(PATIENCE_S)

    def pid(self, name: str) -> int:
        """The one living process of this release that runs the file of that name."""
        found = [pid for pid in self._ours() if any(word.endswith(f"/{name}") for word in _words(pid)[:4])]
        assert len(found) == 1, f"{name}: {found}"
        return found[0]

    def runs(self, name: str) -> bool:
        """Whether any process of this release runs the file of that name."""
        return any(word.endswith(f"/{name}") for pid in self._ours() for word in _words(pid)[:4])

    def close(self) -> None:
        """Nothing of it is alive afterwards."""
        while found := list(self._ours()):
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for pid in found:
                gone(pid)
        if hasattr(self, "shell"):
            self.shell.wait(PATIENCE_S)
        for gate in self.gates.values():
            gate.close()

    def _ours(self) -> Iterator[int]:
        """By session or by working directory: whatever cleared its environment and moved to a session of its own stayed there."""
        session = self.shell.pid if hasattr(self, "shell") else -1
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            with contextlib.suppress(OSError, ValueError, IndexError):
                if not alive(pid):
                    continue
                if os.getsid(pid) == session or Path(f"/proc/{pid}/cwd").readlink().is_relative_to(self._directory):
                    yield pid


def alive(pid: int) -> bool:
    """Whether it is there and not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def gone(pid: int) -> bool:
    """Wait for the end of a process that need not be our child."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], PATIENCE_S)[0])
    finally:
        os.close(descriptor)


def listening_on(port: int) -> set[str]:
    """The addresses on which that port is listened at. Source: proc_net_tcp, kernel documentation."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text("ascii").splitlines()[1:]:
            address, listening = line.split()[1], line.split()[3] == "0A"
            host, _, number = address.partition(":")
            if listening and int(number, 16) == port:
                found.add(socket.inet_ntoa(bytes.fromhex(host)[::-1]) if len(host) == 8 else host)
    return found


def blob(files: dict[str, bytes]) -> str:
    """A JIT configuration as GitHub encodes it."""
    inner = {name: base64.b64encode(content).decode() for name, content in files.items()}
    return base64.b64encode(json.dumps(inner).encode()).decode()


def job(*runs: str, **keys: Any) -> dict[str, Any]:
    """A job of these `run:` steps."""
    return {"id": 1, "name": "build", "steps": [{"run": run} for run in runs], **keys}


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return []
