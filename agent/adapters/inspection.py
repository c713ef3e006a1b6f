"""Looks at this machine for `selfcheck`; nothing is changed, and whatever cannot be seen is left out."""

from __future__ import annotations

import contextlib
import grp
import hashlib
import json
import os
import platform
import pwd
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import Any

from agent.adapters.leftovers import Owner, processes_of
from agent.adapters.logins import ways_out
from agent.selfcheck import METADATA_ADDRESSES, SECRETS, UNIT, Observed, Reach

JOB_USER, JOB_UNIT = "runner", "runs-fleet-job.service"
RUNNER = Path("/opt/actions-runner")
IMAGE = Path("/etc/runs-fleet/runs-fleet-image.json")
OWN = ("/var/lib/runs-fleet", "/etc/runs-fleet/agent.env")
SEARCHED = (
    "/etc/runs-fleet", "/etc/environment", "/var/lib/runs-fleet", "/var/lib/cloud/instance/", "/root/.aws", "/root/.docker",
    "/root/.netrc", "/root/.bash_history", "/home/runner", "/opt/runs-fleet", "/var/log/cloud-init-output.log", "/tmp",  # noqa: S108 - looked through, not written
)  # fmt: skip
"""Where a secret could lie: ours, the boot's, root's and the job user's own, temporary files last."""
LARGEST_SEARCHED = 1 << 20
MOST_FILES, MOST_SEARCH_S = 20_000, 10.0
"""Of one search: an image has a few hundred such files, a developer's machine hundreds of thousands in /tmp alone."""
LIST = Path("/etc/runs-fleet/runner.sha256")
"""The baked release, as `sha256sum` lists it, written by packer/scripts/seal.sh."""
NO_ANSWER = (6, 7, 28)
"""curl's exit codes when nobody answered: not found, not connected, too late. Source: curl(1)."""
UNITS = (
    "runs-fleet-agent.service",
    "runs-fleet-power-off.service",
    "runs-fleet-deadline.service",
    "runs-fleet-deadline.timer",
    "runs-fleet-boot-failed.service",
)


def look(*, image: bool, version: str, search: Search | None = None) -> Observed:
    """Everything; `image`: the machine is being baked, so what only a booted machine has is not looked for.

    `search`: the files that are searched for secrets; None: those of SEARCHED.
    """
    booted = not image and Path("/run/systemd/system").is_dir()
    baked = _image()
    job, listed = _job_user(), _listed()
    search = search or Search()
    return Observed(
        versions={
            "agent": version,
            "python": platform.python_version(),
            **({"runner": str(baked["runner_version"])} if baked.get("runner_version") else {}),
        },
        runner_executable=os.access(RUNNER / "bin" / "Runner.Listener", os.X_OK),
        runner_files=None if listed is None else len(listed),
        runner_changed=tuple(_changed(listed or {})),
        unit=_unit() if booted else {},
        unit_verified=_verified(),
        timer=_said("systemctl", "is-active" if booted else "is-enabled", "runs-fleet-deadline.timer").strip() or None,
        firewall=_firewall() if booted and os.geteuid() == 0 else None,
        metadata={at: Reach(_reached(at, None), _reached(at, job)) for at in METADATA_ADDRESSES.values()}
        if booted and job
        else {},
        job_uid=job.pw_uid if job else None,
        job_groups=_groups(job) if job else (),
        job_sudo=_sudo() if job else "",
        ways_out=ways_out(job, _said) if job else {},
        secrets=tuple(_secrets(job, search)),
        searched=search.told(),
        modes={path: Path(path).stat().st_mode & 0o777 for path in OWN if Path(path).exists()},
        now=datetime.now(UTC).isoformat(timespec="seconds"),
        built_at=str(baked.get("baked_at", "")),
        synchronised=_said("timedatectl", "show", "--property=NTPSynchronized", "--value").strip() == "yes" if booted else None,
        disk_free_bytes=shutil.disk_usage("/opt" if Path("/opt").exists() else "/").free,
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
    )


def _image() -> dict[str, object]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(IMAGE.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def _job_user() -> pwd.struct_passwd | None:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(JOB_USER)
    return None


def _groups(job: pwd.struct_passwd) -> tuple[str, ...]:
    names = []
    for number in os.getgrouplist(job.pw_name, job.pw_gid):
        with contextlib.suppress(KeyError):
            names.append(grp.getgrgid(number).gr_name)
    return tuple(names)


def _sudo() -> str:
    """What sudo would let the job do; empty: nothing."""
    told = _said("sudo", "-n", "-l", "-U", JOB_USER)
    return told if "may run" in told else ""


def _unit() -> dict[str, str]:
    told = _said("systemctl", "show", "runs-fleet-agent.service", *(f"--property={name}" for name in UNIT))
    return dict(line.split("=", 1) for line in told.splitlines() if "=" in line)


def _verified() -> str | None:
    if shutil.which("systemd-analyze") is None:
        return None
    units = [f"/etc/systemd/system/{name}" for name in UNITS]
    try:
        told = subprocess.run(("systemd-analyze", "verify", *units), capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return " ".join(line for line in told.stderr.splitlines() if "runs-fleet" in line)


def _listed() -> dict[str, str] | None:
    """Digests by path; None where the list is missing, or not root's alone to change."""
    try:
        seen = LIST.stat()
        lines = LIST.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    if seen.st_uid != 0 or seen.st_mode & 0o022:
        return None
    return {path: digest for digest, _, path in (line.partition("  ") for line in lines)}


def _changed(listed: dict[str, str]) -> Iterator[str]:
    for path, digest in listed.items():
        try:
            with _plain(RUNNER / path) as file:
                same = hashlib.file_digest(file, "sha256").hexdigest() == digest
        except OSError:
            same = False
        if not same:
            yield path


def _firewall() -> list[dict[str, Any]]:
    """Empty where there is no such table, or no nft."""
    with contextlib.suppress(ValueError):
        return list(json.loads(_said("nft", "--json", "list", "table", "inet", "runs_fleet"))["nftables"])
    return []


def _reached(address: str, job: pwd.struct_passwd | None) -> bool | None:
    """Whether that user (None: we) gets an answer there; None: it could not be tried.

    A service that is switched off refuses with 403. Source: "Retrieve instance metadata" of the EC2 user guide.
    """
    url = f"http://{f'[{address}]' if ':' in address else address}/latest/api/token"
    ttl = "X-aws-ec2-metadata-token-ttl-seconds: 60"
    words = [
        "curl",
        "-s",
        "-g",
        "--noproxy",
        "*",
        "--max-time",
        "2",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-X",
        "PUT",
        "-H",
        ttl,
        url,
    ]
    identity = {"user": job.pw_uid, "group": job.pw_gid, "extra_groups": []} if job else {}
    try:
        told = subprocess.run(
            words, timeout=5, check=False, stdout=subprocess.PIPE, env={"PATH": os.defpath}, cwd="/", **identity
        )  # type: ignore[call-overload]
    except (OSError, subprocess.SubprocessError):
        return None
    if told.returncode not in (0, *NO_ANSWER):
        return None
    return told.returncode == 0 and bytes(told.stdout) != b"403"


def _secrets(job: pwd.struct_passwd | None, search: Search) -> Iterator[str]:
    """Ours and the job's processes left out: by contract the runner gets its JIT config in its environment."""
    theirs = set(processes_of(Owner(job.pw_uid, (JOB_UNIT,)))) if job else set()
    own = {os.getpid(), os.getppid(), *theirs}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) in own:
            continue
        with contextlib.suppress(OSError):  # processes end while they are looked at
            for what in ("environ", "cmdline"):
                if SECRETS.search(Path(entry.path, what).read_bytes()):
                    yield f"{'environment' if what == 'environ' else 'command line'} of pid {entry.name}"
    for path in search.files():
        with contextlib.suppress(OSError), _plain(path) as file:
            if os.fstat(file.fileno()).st_size <= LARGEST_SEARCHED and SECRETS.search(file.read(LARGEST_SEARCHED)):
                yield shown(path)


def _plain(path: Path) -> BufferedReader:
    """A file that the job may own: no link is followed at its end, and nobody waits for a pipe. Raises: OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{shown(path)} is not a plain file")
    return os.fdopen(descriptor, "rb")


def shown(path: Path) -> str:
    """A path that anybody may have named, as text that can be printed."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class Search:
    """Every file below some places, up to a number of files and seconds."""

    def __init__(self, places: Sequence[str] = SEARCHED, most: int = MOST_FILES, within_s: float = MOST_SEARCH_S) -> None:
        self._places, self._most, self._until_s = places, most, time.monotonic() + within_s
        self._seen = 0
        self._stopped_at = ""

    def files(self) -> Iterator[Path]:
        """One after the other; what vanishes meanwhile is passed over."""
        for place in map(Path, self._places):
            within = chain(
                [place] if place.is_file() else [], (Path(top, name) for top, _, names in os.walk(place) for name in names)
            )
            for path in within:
                if self._seen >= self._most or time.monotonic() >= self._until_s:
                    self._stopped_at = shown(path)
                    return
                self._seen += 1
                yield path

    def told(self) -> str:
        """What was looked at, and where it ended if that was before the end."""
        left = f", stopped at {self._stopped_at}: what comes after it was not looked at" if self._stopped_at else ""
        return f"{self._seen} files{left}"


def _said(*words: str) -> str:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(words, capture_output=True, text=True, timeout=10, check=False).stdout
    return ""
