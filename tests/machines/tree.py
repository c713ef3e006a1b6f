"""Root file systems for machines that really boot: a plain one, as a stock image is, and one provisioned by packer's scripts."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.runner import release

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("RUNS_FLEET_BOOT_CACHE", "/var/cache/runs-fleet-boot"))
SUITE = "bookworm"
PACKAGES = (
    "systemd", "systemd-sysv", "udev", "dbus", "cloud-init", "python3", "curl", "ca-certificates", "iproute2", "nftables",
    "procps", "util-linux", "git", "openssh-server", "openssh-client", "sudo", "cron", "at", "polkitd", "libpam-systemd",
    "dbus-user-session", "uidmap",
)  # fmt: skip
"""What a stock cloud image has, and what a job could use to get out of its unit: cron, at, polkit, logins, subordinate ids."""
DOCKER = ("docker.io", "busybox-static")
"""What a tree with docker has besides: a daemon, and a program that is an image all by itself."""
DNF = ("dnf", "rpm", "createrepo-c")
"""What a tree has that manages its packages as Amazon Linux does."""
KEPT_S = 7_200.0
"""Seconds after which a tree that nobody asked for makes room; long enough for whoever still boots from it."""
KERNEL = ("linux-image-cloud-amd64", "initramfs-tools", "isc-dhcp-client")
HOOKS = (
    '--essential-hook=mkdir -p "$1"/etc/initramfs-tools/conf.d "$1"/usr/share/initramfs-tools/modules.d',
    '--essential-hook=echo MODULES=list > "$1"/etc/initramfs-tools/conf.d/small',
    "--essential-hook=printf '%s\\n' virtio_pci virtio_blk > \"$1\"/usr/share/initramfs-tools/modules.d/small",
    '--customize-hook=echo LABEL=rootfs / ext4 defaults 0 0 > "$1"/etc/fstab',
    '--customize-hook=chroot "$1" systemctl enable --quiet systemd-networkd',
)
"""What makes a tree with a kernel boot: the modules of its disk, its root, and the network as Amazon Linux and Ubuntu run it."""
RUNNER_VERSION = "2.996.0"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def stock(*, kernel: bool = False, docker: bool = False, dnf: bool = False) -> Path:
    """A plain Debian. Half a minute the first time; then there."""
    packages = (*PACKAGES, *(KERNEL if kernel else ()), *(DOCKER if docker else ()), *(DNF if dnf else ()))
    hooks = HOOKS if kernel else ()
    key = f"stock-{_digest(SUITE, *packages, *hooks)}"
    with _kept(key) as aside:
        if aside is not None:
            words = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}", *hooks, SUITE, str(aside)]
            subprocess.run(words, check=True)
    return CACHE / key


def baked(bundle: Path, *, kernel: bool = False, docker: bool = False) -> Path:
    """The plain one after packer's scripts, in packer's order, with the stand-in's release. `docker`: as packer's variable."""
    plain, archive = stock(kernel=kernel, docker=docker), runner()
    scripts = sorted((ROOT / "packer" / "scripts").glob("*.sh"))
    key = f"baked-{_digest(str(plain), _sum(bundle), archive.sha256, *map(_sum, scripts))}"
    with _kept(key) as aside:
        if aside is not None:
            subprocess.run(["cp", "-a", "--reflink=auto", f"{plain}/.", str(aside)], check=True)
            given = aside / "tmp" / "runs-fleet"
            given.mkdir(parents=True)
            (given / "runner.tar.gz").write_bytes(archive.content)
            subprocess.run(["tar", "-xzf", str(bundle), "-C", str(given)], check=True)
            for script in scripts:
                shutil.copy2(script, given)
            facts = {
                "RUNNER_VERSION": RUNNER_VERSION, "RUNNER_SHA256": archive.sha256, "SOURCE_IMAGE": f"debian {SUITE}",
                "RUNNER_URL": "file:///tmp/runs-fleet/runner.tar.gz", **({"DOCKER": "yes"} if docker else {}),
            }  # fmt: skip
            for word in ("base.sh", "install.sh", "runner.sh", "seal.sh"):
                run_in(aside, [f"/tmp/runs-fleet/{word}"], facts)
    return CACHE / key


def image(root: Path) -> Path:
    """A directory with `disk.ext4`, made of a tree with a kernel, and that kernel as `vmlinuz` and `initrd.img`."""
    key = f"image-{_digest(str(root))}"
    with _kept(key) as aside:
        if aside is not None:
            subprocess.run(
                ["mke2fs", "-q", "-t", "ext4", "-L", "rootfs", "-d", root, aside / "disk.ext4", "2G"],
                check=True,
                capture_output=True,
            )
            for name in ("vmlinuz", "initrd.img"):
                shutil.copy2(next((root / "boot").glob(f"{name}-*")), aside / name)
    return CACHE / key


def runner() -> release.Archive:
    """The stand-in's release, for the trees' Python."""
    return release.archive(RUNNER_VERSION, python="/usr/bin/python3")


def bundle() -> Path:
    """The agent's bundle for the trees' Python, of the sources as they are."""
    sources = [path for top in ("agent", "packer/machine") for path in sorted((ROOT / top).rglob("*")) if path.suffix != ".pyc"]
    sources += [ROOT / "packer" / "bundle.py", ROOT / "constraints" / "agent.txt"]
    name = f"bundle-{_digest(*(f'{path} {_sum(path)}' for path in sources if path.is_file()))}"
    with _kept(name) as aside:
        if aside is not None:
            words = [sys.executable, str(ROOT / "packer" / "bundle.py"), "--out", str(aside), "--python", "3.11"]
            subprocess.run(words, check=True, capture_output=True)
    return next((CACHE / name).glob("*.tar.gz"))


def run_in(root: Path, words: list[str], environment: dict[str, str]) -> str:
    """Run a command inside the tree, as packer's shell would. Raises: AssertionError with what it said if it fails."""
    outer = ["unshare", "--mount", "--pid", "--fork", "--kill-child", f"--root={root}", "--mount-proc", "--", *words]
    told = subprocess.run(outer, env={"PATH": PATH, "HOME": "/root", **environment}, capture_output=True, text=True, check=False)
    assert told.returncode == 0, f"{words} ended with {told.returncode}:\n{told.stdout}{told.stderr}"
    return told.stdout


@contextmanager
def _kept(name: str) -> Iterator[Path | None]:
    """A directory to fill if there is none of that name yet; nobody else fills it meanwhile, and half of one is never seen."""
    CACHE.mkdir(parents=True, exist_ok=True)
    final, aside = CACHE / name, CACHE / f"{name}.new"
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if final.exists():
            os.utime(final)
            yield None
            return
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(mode=0o755)
        yield aside
        aside.rename(final)
        os.utime(final)
        kind = name.partition("-")[0]
        for path in CACHE.glob(f"{kind}-*"):
            if path.is_dir() and path.stat().st_mtime < time.time() - KEPT_S:
                shutil.rmtree(path, ignore_errors=True)


def _digest(*words: str) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
