"""A machine with a kernel of its own: qemu, a disk, EC2's marks on its board, and a network that ends in two sockets of ours.

The rest of the world does not exist for it: qemu's user network is restricted, and forwards two addresses to loopback.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from sandbox import imds
from tests.machines.powered import Powered

METADATA, CLOUD, AWS_PORT = "169.254.169.254", "169.254.169.250", 5000
"""Where the machine finds the metadata service and its cloud: guestfwd accepts only addresses of qemu's own network."""
MAC = "02:00:00:12:34:56"
NETWORK = "user,id=net,restrict=on,net=169.254.169.0/24,host=169.254.169.2,dns=169.254.169.3,dhcpstart=169.254.169.15"
COMMAND_LINE = "root=LABEL=rootfs rw console=ttyS0 net.ifnames=0 biosdevname=0 systemd.show_status=0"
PROBE_S = 2.0
"""Some machines have a /dev/kvm that takes minutes for what a real one does at once, or that fails when a guest starts."""
IN_HARDWARE = tuple(Path(f"/sys/module/{name}") for name in ("kvm_intel/parameters/ept", "kvm_amd/parameters/npt"))
"""Nested paging. A /dev/kvm without it is software that emulates what it knows, and stops a kernel at what it does not."""
EXITING, EXITED = b"\xb0\x10\xba\xf4\x00\xee\xf4".ljust(510, b"\0") + b"\x55\xaa", 33
"""A boot sector (mov al,16; mov dx,0xf4; out dx,al; hlt), and the exit code that qemu's debug port makes of it."""
RELAY = """
import _socket
import os
import select
import sys

far = _socket.socket()
far.connect(("127.0.0.1", int(sys.argv[1])))
near, ways = _socket.socket(fileno=1), {0, far.fileno()}
while ways:
    for source in select.select(list(ways), [], [])[0]:
        sink = far if source == 0 else near
        piece = os.read(source, 1 << 16)
        if piece:
            sink.sendall(piece)
        else:
            sink.shutdown(_socket.SHUT_WR)
            ways.remove(source)
"""
"""One connection's way out, as small as can be: qemu starts one for each."""


class Metadata(imds.Metadata):
    """The sandbox's metadata service, laid out as cloud-init reads it."""

    def __init__(self, instance_id: str, region: str) -> None:
        super().__init__(instance_id, region)
        self.values = _Tree(self.values)
        facts = {
            "ami-id": "ami-12c6146b", "instance-type": "m7i.large", "hostname": "ip-10-0-0-15", "local-hostname": "ip-10-0-0-15",
            "placement/availability-zone": f"{region}a", "mac": MAC, f"network/interfaces/macs/{MAC}/device-number": "0",
        }  # fmt: skip
        self.values.update({f"meta-data/{path}": value for path, value in facts.items()})


class _Tree(dict[str, str]):
    """The same in every version; what has something below it answers with a list. Source: cloudinit.sources.helpers.ec2."""

    def get(self, path: str, default: Any = None) -> Any:
        """As a dictionary's."""
        path = re.sub(r"^/\d{4}-\d\d-\d\d/", "", path)
        if path in self:
            return self[path]
        top = path.rstrip("/") + "/"
        below = (name.removeprefix(top).partition("/") for name in self if name.startswith(top))
        return "\n".join(sorted({name + slash for name, slash, _ in below})) or default


class Guest(Powered):
    """Boots from a copy of `image` (tree.image). `aws_port` on loopback is its cloud; None: its wire leads nowhere at all."""

    PATIENCE_S = 600.0

    def __init__(self, image: Path, directory: Path, metadata: Metadata, aws_port: int | None) -> None:
        super().__init__()
        self._image, self._directory, self._metadata, self._aws_port = image, directory, metadata, aws_port
        self._debugger = directory / "debugger"
        self._disk = directory / "disk.ext4"
        directory.mkdir(parents=True)
        subprocess.run(["cp", "--sparse=always", image / "disk.ext4", self._disk], check=True)

    def put(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file of root's that the machine finds on its disk."""
        content = self._directory / "content"
        content.write_text(text, "utf-8")
        self._debugfs(*_above(path), f"rm {path}", f"write {content} {path}", f"sif {path} mode 0{0o100000 | mode:o}")

    def link(self, path: str, target: str) -> None:
        """A symbolic link on its disk."""
        self._debugfs(*_above(path), f"symlink {path} {target}")

    def file(self, path: str) -> str:
        """What its disk holds there while it is off; empty if nothing."""
        return self._debugfs(f"cat {path}")

    def boot(self, user_data: str) -> None:
        """Power on. The metadata service has `user_data`."""
        self._metadata.values["user-data"] = user_data
        self._begun_s = time.monotonic()
        self._process = subprocess.Popen(
            self._words(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            bufsize=0,
        )
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()

    @property
    def boots(self) -> int:
        """How often a kernel started."""
        return self.console.count("] Linux version ")

    def patch(self, address: int, code: bytes) -> None:
        """Overwrite the running kernel there, as a debugger does; the machine stands still meanwhile.

        Source: GDB's remote protocol, packets `M` and `D`.
        """
        with socket.socket(socket.AF_UNIX) as debugger:
            debugger.settimeout(10)
            debugger.connect(str(self._debugger))
            for packet in (f"M{address:x},{len(code):x}:{code.hex()}", "D"):
                debugger.sendall(b"+$%s#%02x" % (packet.encode(), sum(packet.encode()) % 256))
                said = b""
                while not said.endswith(b"$OK#9a"):
                    said += debugger.recv(1) or b"$OK#9a"  # gone after D
                    assert not re.search(rb"\$E..#", said), f"qemu refused {packet}: {said!r}"
            debugger.sendall(b"+")

    def destroy(self) -> None:
        """Nothing of it is left. What it showed is kept where RUNS_FLEET_CONSOLES says."""
        if kept := os.environ.get("RUNS_FLEET_CONSOLES"):
            Path(kept, f"{self._directory.parent.name}.log").write_text(self.console, "utf-8")
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _words(self) -> list[str]:
        board, uuid = "manufacturer=Amazon EC2", "ec2a1b2c-0000-4000-8000-0123456789ab"
        asset = self._metadata.values["meta-data/instance-id"]
        network = "hubport,id=net,hubid=0"
        if self._aws_port is not None:
            relay = self._directory / "relay.py"
            relay.write_text(RELAY, "utf-8")
            ways = ((f"{METADATA}:80", self._metadata.url.rpartition(":")[2]), (f"{CLOUD}:{AWS_PORT}", self._aws_port))
            network = ",".join((NETWORK, *(f"guestfwd=tcp:{at}-cmd:{sys.executable} -IS {relay} {port}" for at, port in ways)))
        return [
            *_machine(accelerator()), "-smp", "2", "-m", "768", "-serial", "stdio",
            "-kernel", str(self._image / "vmlinuz"), "-initrd", str(self._image / "initrd.img"), "-append", COMMAND_LINE,
            "-drive", f"if=virtio,format=raw,cache=unsafe,file={self._disk}", "-device", "virtio-rng-pci",
            "-netdev", network, "-device", f"virtio-net-pci,netdev=net,mac={MAC}",
            "-smbios", f"type=1,{board},product=m7i.large,uuid={uuid},serial={uuid}",
            "-smbios", f"type=2,{board},asset={asset}", "-smbios", f"type=3,{board},asset=Amazon EC2",
            "-gdb", f"unix:{self._debugger},server=on,wait=off",
        ]  # fmt: skip

    def _debugfs(self, *commands: str) -> str:
        told = subprocess.run(
            ["debugfs", "-w", "-f", "-", self._disk],
            input="\n".join(commands),
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
        )
        return "".join(line for line in told.stdout.splitlines(keepends=True) if not line.startswith("debugfs: "))


@functools.cache
def accelerator() -> str:
    """`kvm` where the processor does the work and a guest really starts with it, and quickly; else `tcg`."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK) or not any(map(_is_on, IN_HARDWARE)):
        return "tcg"
    with tempfile.NamedTemporaryFile() as sector:
        sector.write(EXITING)
        sector.flush()
        words = [*_machine("kvm"), "-drive", f"if=floppy,format=raw,readonly=on,file={sector.name}"]
        words += ["-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
        try:
            return (
                "kvm" if subprocess.run(words, capture_output=True, timeout=PROBE_S, check=False).returncode == EXITED else "tcg"
            )
        except subprocess.TimeoutExpired:
            return "tcg"


def _is_on(parameter: Path) -> bool:
    return parameter.exists() and parameter.read_text("utf-8").strip() in ("Y", "1")


def _machine(accelerator: str) -> list[str]:
    how = ["-accel", "kvm", "-cpu", "host"] if accelerator == "kvm" else ["-accel", "tcg,thread=multi", "-cpu", "qemu64,-svm"]
    return ["qemu-system-x86_64", *how, "-display", "none", "-nodefaults", "-no-user-config"]


def _above(path: str) -> list[str]:
    return [f"mkdir {parent}" for parent in reversed(Path(path).parents) if str(parent) != "/"]
