"""The job in a transient unit of its own: started by systemd, so that nothing of the agent's hardening falls on it.

Source: systemd-run(1), systemd.resource-control(5), systemd.kill(5).
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from agent.adapters.leftovers import Owner, processes_of, subordinate
from agent.adapters.posix import LISTENER, PosixProcesses, wrapped
from agent.adapters.process_tree import descendants, is_named
from agent.ports import Finished, Launch, Runner

LAUNCH = "/usr/local/lib/runs-fleet/job-launch"
"""Becomes the command with the environment it reads from standard input."""
RESERVED_BYTES = 300 << 20
"""Memory kept for the agent and the system; the rest is the job's."""
LIMITS_OF_MEMORY = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
LIMITS_OF_TASKS = (
    "/proc/sys/kernel/threads-max",
    "/proc/sys/kernel/pid_max",
    "/sys/fs/cgroup/pids.max",
    "/sys/fs/cgroup/pids/pids.max",
)
"""Source: cgroups(7); the root group of a machine has no such file, that of a container has."""
MOST_TASKS = 16_384
"""Far more than a build needs, far fewer than the kernel has: a fork bomb ends in the job's unit."""
OOM_SCORE = 500
ASK_S = 5.0
QUIET_LOOKS = 3
"""Looks in a row that find nothing, after which nothing is left."""
_PATH = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


class JobUnits:
    """Processes (ports): what has a user of its own runs in a unit of its own, everything else as a child of ours."""

    def __init__(self, children: PosixProcesses, unit: str, memory_bytes: int) -> None:
        """`unit` is the transient unit's name without `.service`; `memory_bytes` is the machine's memory."""
        self._children, self._unit = children, unit
        self._most_memory = max(memory_bytes - RESERVED_BYTES, memory_bytes // 2)
        self._runner: UnitRunner | None = None

    def run(self, launch: Launch, within_s: float) -> Finished:
        """As promised; a launch with a user runs in `UNIT-setup`, which is killed whole when its time is up."""
        if launch.user is None:
            return self._children.run(launch, within_s)
        unit = self._setup()
        finished = self._children.run(self._wrapped(launch, unit.name), within_s)
        if finished.code is None:
            unit.kill()
        return finished

    def start(self, launch: Launch) -> Runner:
        """The runner in its unit; what we hold is systemd-run, which stays until the unit is over and has its exit code."""
        if launch.user is None:
            return self._children.start(launch)
        held = self._children.start(self._wrapped(launch, self._unit))
        self._runner = UnitRunner(held, Unit(self._children, self._unit), self._owner(launch.user))
        return self._runner

    def sweep(self, within_s: float) -> int:
        """The runner's unit, whatever else is ours, and last the setup's unit: it outlives the systemd-run that asked for it."""
        until_s = time.monotonic() + within_s
        self._children.close()
        killed = self._runner.sweep(within_s) if self._runner else 0
        killed += self._children.sweep(max(0.1, until_s - time.monotonic()))
        self._setup().kill()
        return killed

    def read_plain(self, path: Path, most: int) -> bytes:
        """See PosixProcesses, to which this is passed on."""
        return self._children.read_plain(path, most)

    def user_home(self, user: str | None) -> Path:
        """See PosixProcesses, to which this is passed on."""
        return self._children.user_home(user)

    def own(self, path: Path, user: str | None) -> None:
        """See PosixProcesses, to which this is passed on."""
        self._children.own(path, user)

    def _owner(self, user: str) -> Owner:
        uid = pwd.getpwnam(user).pw_uid
        units = (
            (f"{self._unit}.service", f"{self._unit}-setup.service", f"user-{uid}.slice") if uid else (f"{self._unit}.service",)
        )
        return Owner(uid, units, subordinate(user, uid))

    def _setup(self) -> Unit:
        return Unit(self._children, f"{self._unit}-setup")

    def _wrapped(self, launch: Launch, unit: str) -> Launch:
        properties = {
            "WorkingDirectory": launch.directory, "KillMode": "control-group", "KillSignal": "SIGKILL", "TimeoutStopSec": "5",
            "MemoryMax": self._most_memory, "TasksMax": _most_tasks(), "CPUWeight": 100, "OOMScoreAdjust": OOM_SCORE,
            "OOMPolicy": "continue", "LimitNOFILE": "65536:524288", "Before": "runs-fleet-agent.service",
        }  # fmt: skip
        words = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--service-type=exec", f"--unit={unit}"]
        words += [] if launch.wrapper else [f"--uid={launch.user}"]
        words += [*(f"--property={name}={value}" for name, value in properties.items())]
        return replace(
            launch,
            command=(*words, "--", LAUNCH, *wrapped(launch)),
            environment=_PATH,
            directory=Path("/"),
            user=None,
            wrapper=(),
            stdin=b"".join(f"{name}={value}\0".encode() for name, value in launch.environment.items()),
        )


class Unit:
    """One transient unit, asked and told through systemctl."""

    def __init__(self, children: PosixProcesses, name: str) -> None:
        self._children, self.name = children, name

    def main_pid(self) -> int:
        """The unit's main process; 0 if there is none."""
        told = self._systemctl("show", "--property=MainPID", "--value").strip()
        return int(told) if told.isdigit() else 0

    def kill(self) -> None:
        """SIGKILL to all of its control group."""
        self._systemctl("kill", "--kill-whom=all", "--signal=SIGKILL")

    def _systemctl(self, *words: str) -> str:
        try:
            command = ("systemctl", *words, f"{self.name}.service")
            return self._children.run(Launch(command, Path("/"), _PATH, after_sweep=True), ASK_S).tail
        except OSError:
            return ""


class UnitRunner:
    """Runner (ports) in a transient unit."""

    def __init__(self, held: Runner, unit: Unit, owner: Owner) -> None:
        self._held, self._unit, self._owner = held, unit, owner

    def interrupt(self) -> bool:
        """SIGINT to the listener alone."""
        return self._signal(signal.SIGINT)

    def terminate(self) -> bool:
        """SIGTERM to the listener alone, likewise."""
        return self._signal(signal.SIGTERM)

    def sweep(self, within_s: float) -> int:
        """Everything of the unit, whatever else is the job's wherever it is, and systemd-run.

        A process that forks and exits without end is between two looks more often than in one: one empty look proves nothing.
        """
        until_s = time.monotonic() + within_s
        killed: set[int] = set()
        quiet = 0
        while quiet < QUIET_LOOKS and time.monotonic() < until_s:
            if alive := set(processes_of(self._owner)):
                killed |= alive
                self._unit.kill()
                for pid in alive:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)
            quiet = 0 if alive else quiet + 1
            time.sleep(0.005)
        return len(killed) + self._held.sweep(max(0.1, until_s - time.monotonic()))

    def _signal(self, number: signal.Signals) -> bool:
        main = self._unit.main_pid()
        if not main:
            return False
        listener = next((pid for pid in descendants(main) if is_named(pid, LISTENER)), main)
        try:
            os.kill(listener, number)
        except ProcessLookupError:
            return False
        return True


def _most_tasks() -> int:
    """Half of what the machine has, where this is less: a kernel's limits, and a container's if the machine is one."""
    return _least(2 * MOST_TASKS, LIMITS_OF_TASKS) // 2


def machine_memory_bytes() -> int:
    """All of it, or what a container has of it. Source: sysconf(3), cgroups(7)."""
    return _least(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), LIMITS_OF_MEMORY)


def _least(most: int, limits: Iterable[str]) -> int:
    """The smallest of `most` and what stands in these files."""
    for limit in limits:
        with contextlib.suppress(OSError, ValueError):  # not there, or `max`
            most = min(most, int(Path(limit).read_text(encoding="ascii")))
    return most
