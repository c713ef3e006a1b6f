"""Root file systems to boot: a Debian made once, copies with something installed in them, and commands run inside a tree.

Trees lie in a cache directory and are never changed once they are there: whoever boots one puts an overlay on it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

SUITE = "bookworm"
RECIPE = 2
"""Raise it when what is done here to a tree changes; the packages are part of the key by themselves."""
PACKAGES = (
    "at",
    "ca-certificates",
    "cloud-init",
    "cron",
    "curl",
    "dbus",
    "git",
    "iproute2",
    "nftables",
    "openssh-server",
    "procps",
    "python3",
    "sudo",
    "systemd",
    "systemd-sysv",
    "udev",
    "util-linux",
)
KERNEL_PACKAGES = ("ifupdown", "initramfs-tools", "isc-dhcp-client", "linux-image-cloud-amd64")
"""What a virtual machine needs besides: a kernel, and what cloud-init asks for an address with."""
BUILD_S = 900
"""Seconds within which a tree is made; half a minute is usual, a slow mirror is not."""


def default_cache() -> Path:
    """$RUNS_FLEET_BOOT_CACHE, or /var/cache/runs-fleet-boot."""
    return Path(os.environ.get("RUNS_FLEET_BOOT_CACHE") or "/var/cache/runs-fleet-boot")


def base(cache: Path, *, kernel: bool = False) -> Path:
    """A plain Debian with systemd and cloud-init; with `kernel` one that a virtual machine can boot as well.

    Made by the first who asks (half a minute, root, a Debian mirror), then the same directory for everyone.
    Raises: CalledProcessError if mmdebstrap fails; its output says why.
    """
    packages = (*PACKAGES, *KERNEL_PACKAGES) if kernel else PACKAGES
    digest = hashlib.sha256(repr((SUITE, RECIPE, packages)).encode()).hexdigest()[:16]

    def make(tree: Path) -> None:
        include = f"--include={','.join(packages)}"
        _told(["mmdebstrap", "--quiet", "--variant=minbase", include, SUITE, str(tree)])
        _neutral(tree)

    return _made_once(cache / f"{SUITE}{'-kernel' if kernel else ''}-{digest}", make)


def provisioned(base: Path, cache: Path, key: str, provision: Callable[[Path], None]) -> Path:
    """A copy of `base` that `provision` has changed; the same `key` on the same base is provisioned only once.

    `key` must change with everything `provision` puts in. Raises: whatever `provision` raises; then nothing is kept.
    """
    digest = hashlib.sha256(f"{base.name} {key}".encode()).hexdigest()[:16]

    def make(tree: Path) -> None:
        subprocess.run(["cp", "-a", "--reflink=auto", str(base), str(tree)], check=True, timeout=BUILD_S)
        provision(tree)

    return _made_once(cache / f"provisioned-{digest}", make)


def run_in(
    root: Path,
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    binds: Mapping[Path, str] | None = None,
    online: bool = False,
    within_s: float = 600,
) -> subprocess.CompletedProcess[str]:
    """Run `command` as root with `root` as its root directory, nothing booted; returns with its code and mixed output.

    `binds` shows directories of this machine, read-only, at paths inside. Unless `online`, there is no network but an
    empty loopback. Changes stay in the tree. Raises: TimeoutExpired after `within_s` seconds; everything inside is killed.
    """
    network = ["--resolv-conf=bind-host"] if online else ["--private-network", "--resolv-conf=off"]
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", 'mount -t tmpfs none /run && exec "$@"', "sh"]
    words += ["systemd-nspawn", "--quiet", f"--directory={root}", "--as-pid2", "--register=no", "--keep-unit", "--pipe"]
    words += [*network, *(f"--bind-ro={source}:{inside}" for source, inside in (binds or {}).items())]
    words += [f"--setenv={name}={value}" for name, value in (env or {}).items()]
    return subprocess.run(
        [*words, "--", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=within_s,
        check=False,
    )


def _made_once(tree: Path, make: Callable[[Path], None]) -> Path:
    """`tree`, made aside and then renamed, so that it is whole or not there; a second process waits for the first."""
    if tree.is_dir():
        return tree
    tree.parent.mkdir(parents=True, exist_ok=True)
    with _locked(tree.with_name(f".{tree.name}.lock")):
        aside = tree.with_name(f".{tree.name}.new")
        if not tree.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
            try:
                make(aside)
                aside.rename(tree)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    return tree


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _neutral(tree: Path) -> None:
    """Nothing of the machine that made it: no resolver, host name, machine id, host keys or package lists."""
    (tree / "etc/resolv.conf").unlink(missing_ok=True)
    (tree / "etc/hostname").unlink(missing_ok=True)
    (tree / "etc/machine-id").write_text("", "utf-8")
    for leftover in (tree / "etc/ssh").glob("ssh_host_*"):
        leftover.unlink()


def _told(command: Sequence[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BUILD_S, check=False)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, list(command), done.stdout, done.stderr)
