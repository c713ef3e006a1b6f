"""What the machine says about itself: its disk, its memory, its homes, and whether it is Amazon's."""

from __future__ import annotations

import contextlib
import pwd
import shutil
from pathlib import Path

from agent.safety import Reading


class PosixMeters:
    """The gauges of this machine (ports.Meters), from /proc and the file system."""

    def __init__(self, vmstat: Path = Path("/proc/vmstat")) -> None:
        self._vmstat = vmstat

    def read(self, path: Path) -> Reading:
        """statvfs of the nearest directory that exists, MemAvailable, and the kernel's own count of kills (proc(5), vmstat)."""
        import psutil

        while not path.exists() and path != path.parent:
            path = path.parent
        try:
            free = shutil.disk_usage(path).free
        except OSError:
            free = None
        try:
            available = psutil.virtual_memory().available
        except (OSError, psutil.Error):
            available = None
        return Reading(free, available, self._oom_kills())

    def _oom_kills(self) -> int | None:
        """Those of control groups count, too. Source: `oom_kill` in mm/vmstat.c, since Linux 4.13."""
        with contextlib.suppress(OSError, ValueError):
            for line in self._vmstat.read_text(encoding="ascii").splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
        return None


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
