"""A machine that boots: systemd as its first process, in a container with its own disk, network and limits."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

from tests.machines.network import CLOUD, Network
from tests.machines.powered import Powered

CONTROLLERS = ("memory", "pids", "cpu", "devices")
ENTER = Path(__file__).with_name("enter.sh")


class Machine(Powered):
    """Boots from `tree`, which it never changes. `disk_mb` and `memory_mb` bound what it may use of this one.

    `docker`: it may have containers of its own, for which it gets more rights.
    """

    def __init__(
        self,
        name: str,
        tree: Path,
        network: Network,
        directory: Path,
        *,
        disk_mb: int = 512,
        memory_mb: int = 1500,
        docker: bool = False,
    ) -> None:
        super().__init__()
        self.name, self.network = name, network
        self._tree, self._directory = tree, directory
        self._disk_mb, self._memory_mb, self._docker = disk_mb, memory_mb, docker
        self.added = directory / "added"
        """What lies here when it boots lies over the tree."""
        self.added.mkdir(parents=True)

    def put(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file that the machine finds on its disk."""
        file = self.added / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        file.chmod(mode)

    def link(self, path: str, target: str) -> None:
        """A symbolic link on its disk."""
        link = self.added / path.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)

    def boot(self, user_data: str) -> None:
        """Power on. cloud-init finds `user_data`."""
        seed = "var/lib/cloud/seed/nocloud"
        self.put(f"{seed}/meta-data", f"instance-id: {self.name}\n")
        self.put(f"{seed}/user-data", user_data)
        master, slave = pty.openpty()
        words = [
            str(ENTER),
            self.name,
            str(self._tree),
            str(self._directory),
            self.network.machine,
            str(self._disk_mb),
            str(self._memory_mb),
            "docker" if self._docker else "plain",
        ]
        self._begun_s = time.monotonic()
        self._process = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        threading.Thread(target=self._read, args=(os.fdopen(master, "rb", buffering=0),), daemon=True).start()

    @property
    def boots(self) -> int:
        """How often it started."""
        return self.console.count("== power on")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Inside, as its root, while it is on."""
        outer = [
            "nsenter",
            f"--target={self.first_process()}",
            "--all",
            "--",
            "env",
            "-i",
            "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            *words,
        ]
        return subprocess.run(outer, capture_output=True, text=True, timeout=600, check=False)

    def file(self, path: str) -> str:
        """What its disk holds there, on or off; empty if nothing."""
        with contextlib.suppress(OSError):
            return (self._directory / "kept" / path.lstrip("/")).read_text("utf-8")
        return ""

    def destroy(self) -> None:
        """Nothing of it is left: processes, mounts, control groups. What it showed is kept where RUNS_FLEET_CONSOLES says."""
        if kept := os.environ.get("RUNS_FLEET_CONSOLES"):
            Path(kept, f"{self._directory.parent.name}.log").write_text(self.console, "utf-8")
        until_s = time.monotonic() + 10
        while (alive := self._inhabitants()) and time.monotonic() < until_s:
            for pid in alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
        for controller in (*CONTROLLERS, "systemd", "unified"):
            top = Path("/sys/fs/cgroup", controller, self.name)
            for directory in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True) if top.is_dir() else ():
                directory.rmdir()
            if top.is_dir():
                top.rmdir()

    def _inhabitants(self) -> list[int]:
        top = Path("/sys/fs/cgroup/memory", self.name)
        found: list[int] = []
        for directory, _, _ in os.walk(top):  # which does not mind one that vanishes meanwhile
            with contextlib.suppress(OSError):
                found += [int(pid) for pid in Path(directory, "cgroup.procs").read_text().split()]
        return found

    def first_process(self) -> int:
        """The container's pid 1, as we see it."""
        for pid in self._inhabitants():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                if re.search(r"^NSpid:\s+\d+\s+1$", status, re.M):
                    return pid
        raise AssertionError(f"{self.name} is off:\n{self.console[-3000:]}")


__all__ = ["CLOUD", "Machine"]
