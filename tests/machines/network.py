"""A machine's whole world: one network namespace that holds its metadata service and its cloud, and one for the machine.

The services are served by this process; only their sockets live in the namespace. Nothing leads anywhere else.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CLOUD, MACHINE, METADATA, METADATA6 = "10.77.0.1", "10.77.0.2", "169.254.169.254", "fd00:ec2::254"
CLONE_NEWNET = 0x40000000


class Network:
    """Two namespaces and the wire between them; gone after `close`."""

    def __init__(self, name: str) -> None:
        """`name`: at most 8 characters, unused."""
        self.cloud, self.machine = f"{name}-c", f"{name}-m"
        self._forwards: list[Forward] = []
        near, far = f"{name}0", f"{name}1"
        cloud, machine = f"-n {self.cloud}", f"-n {self.machine}"
        for words in (
            f"netns add {self.cloud}", f"netns add {self.machine}",
            f"link add {near} netns {self.cloud} type veth peer name {far} netns {self.machine}",
            f"{machine} link set {far} name host0",
            f"{cloud} addr add {CLOUD}/24 dev {near}", f"{cloud} addr add {METADATA}/32 dev {near}",
            f"{cloud} -6 addr add {METADATA6}/64 dev {near} nodad", f"{cloud} link set {near} up", f"{cloud} link set lo up",
            f"{machine} addr add {MACHINE}/24 dev host0", f"{machine} -6 addr add fd00:ec2::2/64 dev host0 nodad",
            f"{machine} link set host0 up", f"{machine} link set lo up", f"{machine} route add {METADATA} dev host0",
        ):  # fmt: skip
            subprocess.run(["ip", *words.split()], check=True)

    def forward(self, address: str, port: int, target: tuple[str, int]) -> Forward:
        """What connects to `address` in the machine's world reaches `target` in ours."""
        made = Forward(self._listening(address, port), target)
        self._forwards.append(made)
        return made

    def cut(self) -> None:
        """The wire is dead: nothing arrives, nothing is refused."""
        subprocess.run(["ip", "-n", self.machine, "link", "set", "host0", "down"], check=True)

    def close(self) -> None:
        """Both namespaces and everything in them."""
        for forward in self._forwards:
            forward.close()
        for name in (self.machine, self.cloud):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def listen(self, port: int) -> Callable[[], str]:
        """A place to tell something once; the answer is what was told to it by then."""
        listener, heard = self._listening(CLOUD, port), bytearray()

        def hear() -> None:
            with contextlib.suppress(OSError):
                near, _ = listener.accept()
                while piece := near.recv(1 << 16):
                    heard.extend(piece)

        thread = threading.Thread(target=hear, daemon=True)
        thread.start()

        def told() -> str:
            thread.join(5)
            assert not thread.is_alive(), "nobody told anything"
            return heard.decode()

        return told

    def _listening(self, address: str, port: int) -> socket.socket:
        """Made by a thread of its own that has entered the namespace: entering is for the thread, the socket stays there."""

        def made() -> socket.socket:
            with Path("/run/netns", self.cloud).open() as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            return socket.create_server((address, port), family=family, backlog=64)

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(made).result()


class Forward:
    """Connections, passed on; or refused, or taken and never answered."""

    def __init__(self, listener: socket.socket, target: tuple[str, int]) -> None:
        self._listener, self._target = listener, target
        self.mode = "on"
        """`on`, `refuse` or `hang`; for new connections."""
        self.flaky: Callable[[int], str] | None = None
        """Decides by the connection's number; None: `mode` does."""
        self.connections = 0
        self._open: list[socket.socket] = []
        self._held: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def drop(self) -> None:
        """Cut the connections that are open."""
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """No more, and what is held is let go."""
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        for held in self._held:
            held.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            mode = self.flaky(self.connections) if self.flaky else self.mode
            if mode == "refuse":
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                near.close()
            elif mode == "hang":
                self._held.append(near)
            else:
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(self._target, 10)
            far.settimeout(None)
        except OSError:
            near.close()
            return
        self._open += [near, far]
        back = threading.Thread(target=_pump, args=(far, near), daemon=True)
        back.start()
        _pump(near, far)
        back.join()
        near.close()
        far.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while piece := source.recv(1 << 16):
            sink.sendall(piece)
    except OSError:
        pass
    finally:
        try:
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def short_name() -> str:
    """Fit for a network interface, unlike any other of this machine."""
    return f"rf{os.urandom(2).hex()}"
