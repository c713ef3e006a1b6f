"""Twins of the services and of the machine that an agent knows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.ports import LogReport, NoticeCame, StoredObject
from agent.safety import Reading, Volume
from simulation.agent_inbox import Script, VirtualInbox, refused
from simulation.clock import BIRTH_S, AgentClock

INSTANCE = "i-0123456789abcdef0"
API_URL = "http://api.test"
VERSION = "2.336.0"
GIGABYTE = 1 << 30


@dataclass
class VirtualParameters:
    """Parameters (ports) whose answers change with time: each counts from its moment (age in seconds) on."""

    clock: AgentClock
    answers: list[tuple[float, str | BaseException]] = field(default_factory=list)
    took_s: float = 0.02
    names: list[str] = field(default_factory=list)
    looks_s: list[float] = field(default_factory=list)

    def read(self, name: str) -> str:
        """The next scripted answer, or the content."""
        self.names.append(name)
        self.looks_s.append(self.clock.age_s)
        self.clock.pause(self.took_s)
        answer = [answer for since_s, answer in self.answers if since_s <= self.clock.age_s][-1]
        if isinstance(answer, BaseException):
            raise answer
        return answer


@dataclass
class VirtualQueue:
    """Queue (ports): what it accepted, and when (age in seconds); its answer takes as long again to come back."""

    clock: AgentClock
    answers: Script[None] = field(default_factory=lambda: Script(None))
    took_s: float = 0.05
    bodies: list[tuple[float, str]] = field(default_factory=list)
    tries: int = 0
    probes: Script[None] = field(default_factory=lambda: Script(None))

    def probe(self) -> None:
        """The first question whether it can be reached; answers by script."""
        self.clock.pause(self.took_s)
        self.probes.next()

    def send(self, body: str) -> None:
        """Keep the message, unless another answer is scripted."""
        self.tries += 1
        self.clock.pause(self.took_s)
        self.answers.next()
        self.bodies.append((self.clock.age_s, body))
        self.clock.pause(self.took_s)


@dataclass(kw_only=True)
class VirtualMachine:
    """Machine (ports). Notices are scheduled at the age they arrive; every try to leave is remembered with its age."""

    clock: AgentClock
    inbox: VirtualInbox
    identity: Script[str] = field(default_factory=lambda: Script(INSTANCE))
    permission: Script[str] = field(default_factory=lambda: Script("permitted"))
    termination: Script[None] = field(default_factory=lambda: Script(None))
    switch: Script[int] = field(default_factory=lambda: Script(0))
    switch_by_default: tuple[str, ...] | None = None
    notices: list[tuple[float, NoticeCame]] = field(default_factory=list)
    closing: Script[None] = field(default_factory=lambda: Script(None))
    closed: list[float] = field(default_factory=list)
    terminations: list[float] = field(default_factory=list)
    power_offs: list[tuple[float, tuple[str, ...]]] = field(default_factory=list)

    def instance_id(self) -> str:
        """Its id by the metadata service."""
        self.clock.pause(0.01)
        return self.identity.next()

    def watch_notices(self) -> None:
        """Notices that the test plants are posted."""
        for age_s, notice in self.notices:
            self.inbox.schedule(BIRTH_S + age_s, notice)

    def close_metadata(self, instance_id: str, needed_s: float) -> None:
        """The job cannot reach the metadata from now on."""
        assert instance_id == INSTANCE
        self.closed.append(needed_s)
        self.clock.pause(0.5)
        self.closing.next()

    def may_terminate(self, instance_id: str) -> str:
        """Whether EC2 would allow it."""
        self.clock.pause(0.05)
        return self.permission.next()

    def terminate(self, instance_id: str) -> None:
        """Terminate, unless an error is planted."""
        assert instance_id == INSTANCE
        self.terminations.append(self.clock.age_s)
        self.clock.pause(0.1)
        self.termination.next()

    def power_off_by_default(self) -> tuple[str, ...] | None:
        """Whether the machine may be powered off."""
        return self.switch_by_default

    def power_off(self, command: tuple[str, ...]) -> int:
        """Keep that the machine was powered off, and how; the answer is scripted."""
        self.power_offs.append((self.clock.age_s, command))
        return self.switch.next()


def measured(disk_free: int | None, memory: int | None, oom_kills: int | None = None, *, path: str = "/") -> Reading:
    """A reading of a machine with one volume of 100 GiB; None: that could not be measured."""
    volumes = () if disk_free is None else (Volume(path, disk_free, 100 * GIGABYTE, 1_000_000, 1_000_000),)
    return Reading(volumes, memory, oom_kills)


@dataclass
class VirtualMeters:
    """Meters (ports): readings that count from their moment (age in seconds) on."""

    clock: AgentClock
    readings: list[tuple[float, Reading]] = field(default_factory=lambda: [(0.0, measured(20 * GIGABYTE, 4 * GIGABYTE))])
    looks: list[float] = field(default_factory=list)
    places: tuple[Path, ...] = ()
    """Which directories were asked for last."""

    def read(self, paths: Sequence[Path]) -> Reading:
        """The last reading that has come into force."""
        self.looks.append(self.clock.age_s)
        self.places = tuple(paths)
        return [reading for since_s, reading in self.readings if since_s <= self.clock.age_s][-1]


@dataclass
class VirtualLogStream:
    """LogStream (ports) that keeps our own events; `finish` takes its time and answers by script."""

    clock: AgentClock
    reports: Script[LogReport] = field(default_factory=lambda: Script(LogReport("shipped", 12, 0)))
    took_s: float = 0.2
    opened: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    finished: list[float] = field(default_factory=list)

    def open(self, job_id: str) -> None:
        """Open it, unless an error is planted."""
        self.opened.append(job_id)

    def event(self, name: str, fields: Mapping[str, object]) -> None:
        """Keep an event in the stream."""
        self.events.append(name)

    def finish(self, within_s: float) -> LogReport:
        """The report the test asks for."""
        self.clock.pause(min(self.took_s, within_s))
        self.finished.append(self.clock.age_s)
        return self.reports.next()


@dataclass
class VirtualBody:
    """Body (ports) that comes at a steady pace."""

    clock: AgentClock
    content: bytes
    at: int
    bytes_per_s: float

    def __post_init__(self) -> None:
        self.size: int | None = len(self.content)

    def read(self, most: int) -> bytes:
        """The next of them, after the time they take."""
        chunk = self.content[self.at : self.at + most]
        self.clock.pause(len(chunk) / self.bytes_per_s)
        self.at += len(chunk)
        return chunk

    def close(self) -> None:
        """There is no connection to drop."""


@dataclass
class VirtualObjects:
    """Objects (ports): one bucket in memory."""

    clock: AgentClock
    stored: dict[str, tuple[bytes, dict[str, str]]] = field(default_factory=dict)
    answers: Script[None] = field(default_factory=lambda: Script(None))
    bytes_per_s: float = 1e9

    def keys(self, prefix: str) -> list[str]:
        """The keys below the prefix."""
        self.answers.next()
        return [key for key in self.stored if key.startswith(prefix)]

    def describe(self, key: str) -> StoredObject | None:
        """Size and digest of an object."""
        self.answers.next()
        return StoredObject(key, self.stored[key][1]) if key in self.stored else None

    def open(self, key: str, offset: int) -> VirtualBody:
        """Open it, unless an error is planted."""
        self.answers.next()
        return VirtualBody(self.clock, self.stored[key][0], offset, self.bytes_per_s)

    def put_file_if_absent(self, key: str, path: Path, metadata: Mapping[str, str]) -> bool:
        """Store a file, unless the key is there."""
        self.answers.next()
        first = key not in self.stored
        self.stored.setdefault(key, (path.read_bytes(), dict(metadata)))
        return first

    def put_gzip_if_absent(self, key: str, chunks: Iterator[bytes]) -> bool:
        """Store a compressed object, unless the key is there."""
        self.answers.next()
        first = key not in self.stored
        self.stored.setdefault(key, (b"".join(chunks), {}))
        return first


@dataclass
class VirtualWeb:
    """Web (ports): GitHub's releases API and its files, at a steady pace."""

    clock: AgentClock
    answers: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    bytes_per_s: float = 1e9
    asked: list[str] = field(default_factory=list)

    def publish(self, content: bytes, version: str = VERSION) -> None:
        """Offer a release as GitHub does."""
        name = f"actions-runner-linux-x64-{version}.tar.gz"
        url = f"http://files.test/{name}"
        asset = {"name": name, "browser_download_url": url, "digest": f"sha256:{hashlib.sha256(content).hexdigest()}"}
        self.files[url] = content
        for which in ("latest", f"tags/v{version}"):
            address = f"{API_URL}/repos/actions/runner/releases/{which}"
            self.answers[address] = {"tag_name": f"v{version}", "assets": [asset], "body": ""}

    def get_json(self, url: str) -> Any:
        """The page at this address."""
        self.asked.append(url)
        self.clock.pause(0.1)
        answer = self.answers.get(url, refused("404", f"GET {url}"))
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def open(self, url: str, offset: int) -> VirtualBody:
        """Open it, unless an error is planted."""
        self.asked.append(url)
        return VirtualBody(self.clock, self.files[url], offset, self.bytes_per_s)
