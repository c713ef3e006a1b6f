"""What the machine says about itself: its volumes, its memory, its homes, and whether it is Amazon's."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.safety import Reading, Volume

DOCKER = Path("/var/lib/docker")
"""Where docker keeps images and containers unless its configuration says otherwise. Source: dockerd(8), `data-root`."""
CGROUPS = Path("/sys/fs/cgroup/system.slice")
"""Where the control groups of units are. Source: cgroups(7), systemd.slice(5)."""


class PosixMeters:
    """The gauges of this machine (ports.Meters), from /proc, the file systems and the job's control group."""

    def __init__(self, vmstat: Path = Path("/proc/vmstat"), job_group: Path | None = None) -> None:
        """`job_group`: the control group of the job's unit; None: the job has no limits of its own."""
        self._vmstat, self._job_group = vmstat, job_group

    def read(self, paths: Sequence[Path]) -> Reading:
        """Each volume once, under the first path that meets it; memory and tasks as the job may still have them."""
        return Reading(tuple(_volumes(paths)), self._memory(), self._oom_kills(), self._tasks_left())

    def _memory(self) -> int | None:
        import psutil

        try:
            available = int(psutil.virtual_memory().available)
        except (OSError, psutil.Error):
            available = None
        most, used = self._of_group("memory.max"), self._of_group("memory.current")
        if most is None or used is None:
            return available
        left = max(0, most - used + (self._of_group("memory.stat", "inactive_file ") or 0))  # a file's cache is given back
        return left if available is None else min(available, left)

    def _tasks_left(self) -> int | None:
        most, used = self._of_group("pids.max"), self._of_group("pids.current")
        return None if most is None or used is None else max(0, most - used)

    def _of_group(self, name: str, label: str = "") -> int | None:
        """A number of the job's control group; None where there is no group, no limit, or no such file. Source: cgroups(7)."""
        if self._job_group is None:
            return None
        with contextlib.suppress(OSError, ValueError):
            lines = (self._job_group / name).read_text(encoding="ascii").splitlines()
            return next((int(line.removeprefix(label)) for line in lines if line.startswith(label)), None)
        return None

    def _oom_kills(self) -> int | None:
        """Those of control groups count, too. Source: `oom_kill` in mm/vmstat.c, since Linux 4.13."""
        with contextlib.suppress(OSError, ValueError):
            for line in self._vmstat.read_text(encoding="ascii").splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
        return None


def _volumes(paths: Sequence[Path]) -> Iterator[Volume]:
    """statvfs of what `paths` lie on; of a path that is not there, what it would be made on."""
    seen = set()
    for path in paths:
        with contextlib.suppress(OSError):  # a volume that cannot be looked at is no hazard
            there = next(one for one in (path, *path.parents) if one.exists())
            if (device := there.stat().st_dev) not in seen:
                seen.add(device)
                told = os.statvfs(there)
                size, free = told.f_blocks * told.f_frsize, told.f_bavail * told.f_frsize
                yield Volume(str(path), free, size, told.f_favail, told.f_files)


def shared_places(user: str | None, daemon: Path = Path("/etc/docker/daemon.json")) -> tuple[Path, ...]:
    """Where any job writes beside its own directories: temporary files, its user's home, containers and their images."""
    places = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108 - only measured
    with contextlib.suppress(KeyError):
        places.append(Path(pwd.getpwnam(user).pw_dir if user else pwd.getpwuid(os.getuid()).pw_dir))
    docker = DOCKER
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        docker = Path(json.loads(daemon.read_text(encoding="utf-8"))["data-root"])
    return tuple(path for path in (*places, docker, Path("/var/lib/containerd")) if path.is_dir())


def is_amazon_ec2(dmi: Path = Path("/sys/class/dmi/id"), hypervisor: Path = Path("/sys/hypervisor/uuid")) -> bool:
    """Whether the machine itself says so. Source: "Identify EC2 instances", EC2 user guide."""
    for name in ("sys_vendor", "board_vendor", "bios_vendor"):
        with contextlib.suppress(OSError):
            if (dmi / name).read_text(encoding="utf-8").strip() == "Amazon EC2":
                return True
    with contextlib.suppress(OSError):
        return hypervisor.read_text(encoding="utf-8").startswith("ec2")
    return False


def homes() -> frozenset[Path]:
    """Every home directory of this machine: places nobody may clean up."""
    return frozenset(Path(entry.pw_dir) for entry in pwd.getpwall())
