"""A cloud's network without a way out: a gateway that machines reach, the metadata service, and ports that lead to this process.

    machine eth0 10.77.0.N, fd00:77::N  ---  bridge 10.77.0.1, fd00:77::1, 169.254.169.254, fd00:ec2::254

It is a network namespace without any other interface: what is addressed elsewhere is answered "unreachable" at once.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.boot.doors import Door, to_port
from tests.boot.imds import Metadata, MetadataService
from tests.boot.namespaces import NetworkNamespace

GATEWAY = "10.77.0.1"
METADATA_ADDRESSES = ("169.254.169.254", "fd00:ec2::254")
"""Source: EC2 user guide, access instance metadata."""


@dataclass(frozen=True)
class Address:
    """Where one machine is, for as long as it exists."""

    number: int

    @property
    def v4(self) -> str:
        """Its IPv4 address."""
        return f"10.77.0.{self.number}"

    @property
    def v6(self) -> str:
        """Its IPv6 address."""
        return f"fd00:77::{self.number:x}"

    @property
    def mac(self) -> str:
        """Its hardware address; the same at every boot, or neighbours would have to learn anew."""
        return f"02:00:0a:4d:00:{self.number:02x}"


class Network:
    """One cloud. Everything of it is gone after `close`, and also if the process ends without."""

    def __init__(self) -> None:
        """Raises: OSError without root."""
        self._namespace = NetworkNamespace()
        self._numbers = itertools.count(10)
        self._wires = itertools.count(1)
        self._doors: list[Door] = []
        self._namespace.do(_answer_unreachable)
        self._namespace.ip(
            "link set lo up",
            "link add br0 type bridge",
            f"addr add {GATEWAY}/24 dev br0",
            "addr add fd00:77::1/64 dev br0 nodad",
            *(f"addr add {address}/{128 if ':' in address else 32} dev br0 nodad" for address in METADATA_ADDRESSES),
            "link set br0 up",
            "route add unreachable default",
            "-6 route add unreachable default",
        )
        self.metadata_service = MetadataService()
        self.imds = [self._door(address, 80, self.metadata_service) for address in METADATA_ADDRESSES]
        """The doors of the metadata service: IPv4, IPv6."""

    def __enter__(self) -> Network:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def forward(self, port: int, to_loopback_port: int) -> Door:
        """Let machines reach a server on this process's 127.0.0.1 at `url(port)`."""
        return self._door(GATEWAY, port, to_port(to_loopback_port))

    def url(self, port: int) -> str:
        """What machines call a forwarded port."""
        return f"http://{GATEWAY}:{port}"

    def imds_refuses(self, for_s: float | None = None) -> None:
        """No metadata service, for some seconds or until restored."""
        for door in self.imds:
            door.refuse(for_s)

    def imds_hangs(self, for_s: float | None = None) -> None:
        """A metadata service that takes connections and is silent."""
        for door in self.imds:
            door.hang(for_s)

    def imds_restored(self) -> None:
        """A metadata service as it should be."""
        for door in self.imds:
            door.restore()

    def admit(self, instance_id: str) -> tuple[Address, Metadata]:
        """An address for a new machine, and what the metadata service says there."""
        address = Address(next(self._numbers))
        metadata = Metadata(instance_id, address.v4)
        self.metadata_service.machines.update({address.v4: metadata, address.v6: metadata})
        return address, metadata

    def dismiss(self, address: Address) -> None:
        """The machine is gone for good."""
        self.metadata_service.machines.pop(address.v4, None)
        self.metadata_service.machines.pop(address.v6, None)

    def plug(self, address: Address) -> NetworkNamespace:
        """A fresh namespace with eth0 at `address`, on this network. Closing it, with no process left in it, unplugs it."""
        inside = NetworkNamespace()
        wire = f"wire{next(self._wires)}"
        try:
            self._namespace.run(
                *("ip", "link", "add", wire, "type", "veth"),
                *("peer", "name", "eth0", "address", address.mac, "netns", inside.path()),
                fds=(inside.fd,),
            )
            self._namespace.ip(f"link set {wire} master br0 up")
            inside.ip(
                "link set lo up",
                f"addr add {address.v4}/24 dev eth0",
                f"addr add {address.v6}/64 dev eth0 nodad",
                "link set eth0 up",
                f"route add default via {GATEWAY}",
                "-6 route add default via fd00:77::1",
            )
        except BaseException:
            inside.close()
            raise
        return inside

    def close(self) -> None:
        """Shut every door and let go of the network. Closing twice is fine."""
        for door in self._doors:
            door.close()
        self._namespace.close()

    def _door(self, address: str, port: int, answer: object) -> Door:
        door = Door(self._namespace, address, port, answer)  # type: ignore[arg-type]
        self._doors.append(door)
        return door


def _answer_unreachable() -> None:
    """A host that forwards says "unreachable" where one that does not would be silent, and clients would wait for minutes."""
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1", "ascii")
    Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1", "ascii")
