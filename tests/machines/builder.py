"""The machine that packer bakes on: a real sshd inside a real root file system, of which it changes only a copy."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.machines.tree import PATH

SETUP = """
set -euo pipefail
tree=$1 directory=$2 user=$3
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$directory/disk"
mkdir "$directory"/disk/{upper,work,root}
root=$directory/disk/root
mount -t overlay overlay -o "lowerdir=$tree,upperdir=$directory/disk/upper,workdir=$directory/disk/work" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mkdir "$root/run/sshd"
cp "$directory"/{host_key,sshd_config,authorized} "$root/run/sshd/"
echo "127.0.0.1 localhost $(hostname)" > "$root/etc/hosts"
chroot "$root" useradd --system --create-home --password '*' --shell /bin/bash "$user"
install -m 0440 "$directory/sudoers" "$root/etc/sudoers.d/90-cloud-init-users"
for let_in in "home/$user" home/of-the-source-image root; do
    install -D -m 0600 -o 0 "$directory/authorized" "$root/$let_in/.ssh/authorized_keys"
done
exec chroot "$root" /usr/sbin/sshd -D -e -f /run/sshd/sshd_config
"""
SSHD = """
Port {port}
ListenAddress 127.0.0.1
HostKey /run/sshd/host_key
AuthorizedKeysFile /run/sshd/authorized
PasswordAuthentication no
PidFile none
"""
SUDOERS = "Defaults secure_path = /sbin:/bin:/usr/sbin:/usr/bin\n{user} ALL=(ALL) NOPASSWD:ALL\n"
"""As on Amazon Linux 2023, whose sudo finds nothing in /usr/local."""
KEPT = ("etc", "usr/local", "opt")
"""Where the scripts leave what they bake."""


@dataclass(frozen=True)
class Entry:
    """One file, link or directory as an image would keep it. `content`: a digest, or where a link leads."""

    mode: int
    owner: int
    group: int
    content: str


class Builder:
    """Runs from the constructor to `close`. `user` may log in with `key` and become root, as on EC2."""

    def __init__(self, tree: Path, directory: Path, *, user: str = "ec2-user", key_type: str = "ed25519") -> None:
        (directory / "disk").mkdir(parents=True)
        self.key, self.port = directory / "key", _free_port()
        for path, kind in ((self.key, key_type), (directory / "host_key", "ed25519")):
            subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "builder", "-f", str(path)], check=True)
        (directory / "authorized").write_text(self.key.with_suffix(".pub").read_text("utf-8"), "utf-8")
        (directory / "sshd_config").write_text(SSHD.format(port=self.port), "utf-8")
        (directory / "sudoers").write_text(SUDOERS.format(user=user), "utf-8")
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--", "bash", "-c", SETUP, "builder"]
        self._log = directory / "sshd.log"
        with self._log.open("wb") as log:
            clean = {"PATH": PATH}  # what this process was told is no business of the builder's
            self._process = subprocess.Popen([*words, str(tree), str(directory), user], stdout=log, stderr=log, env=clean)
        self._root = Path(f"/proc/{self._process.pid}/root", str(directory / "disk" / "root").lstrip("/"))
        self._wait()

    @property
    def said(self) -> str:
        """What its sshd has logged."""
        return self._log.read_text("utf-8", "replace")

    def path(self, name: str) -> Path:
        """Where that file of the builder can be read."""
        return self._root / name.lstrip("/")

    def listing(self) -> dict[str, Entry]:
        """What an image made now would keep of the scripts' work."""
        return listing(self._root)

    def close(self) -> None:
        """Gone, with its disk."""
        self._process.kill()
        self._process.wait(10)

    def _wait(self) -> None:
        until_s = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self._process.poll() is None and time.monotonic() < until_s, self.said
                time.sleep(0.02)


def listing(root: Path) -> dict[str, Entry]:
    """Everything below KEPT of that root, by its path."""
    found: dict[str, Entry] = {}
    for top in KEPT:
        for directory, directories, files in os.walk(root / top):
            for name in (*directories, *files):
                path = Path(directory, name)
                seen = path.lstat()
                if stat.S_ISLNK(seen.st_mode):
                    content = str(path.readlink())
                else:
                    content = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(seen.st_mode) else ""
                found[str(path.relative_to(root))] = Entry(seen.st_mode, seen.st_uid, seen.st_gid, content)
    return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
