"""One life of the unmodified agent in a virtual world. Only the disk is real (a temporary directory).

A background task runs at once on a forked clock: it may let time pass for itself, and its end is scheduled for the moment it
would have ended, so that tasks overlap as they do on a machine.
"""

from __future__ import annotations

import base64
import io
import json
import tarfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.contract.messages import FinalWord, Message, read_message
from agent.phases import Phase
from agent.ports import Event, Signalled
from agent.settings import Settings, read_settings
from agent.wiring import World, assemble
from simulation.agent_inbox import VirtualInbox, VirtualJournal, VirtualWorkers
from simulation.agent_runner import VirtualProcesses, VirtualRunner, job
from simulation.agent_services import (
    API_URL,
    INSTANCE,
    VirtualLogStream,
    VirtualMachine,
    VirtualMeters,
    VirtualObjects,
    VirtualParameters,
    VirtualQueue,
    VirtualWeb,
)
from simulation.clock import BIRTH_S, AgentClock

QUEUE_URL = "http://queue.test/1/termination"


@dataclass(frozen=True)
class Ended:
    """A life that is over: its exit code, when (age in seconds), and what the orchestrator had been told by then."""

    exit_code: int
    age_s: float
    sent: tuple[tuple[float, Message], ...]

    @property
    def words(self) -> list[tuple[float, FinalWord]]:
        """Every final word, with its age."""
        return [(age_s, message) for age_s, message in self.sent if isinstance(message, FinalWord)]

    @property
    def word(self) -> FinalWord:
        """The one final word that was sent."""
        ((_, word),) = self.words
        return word

    @property
    def told(self) -> list[str]:
        """The status of every message, in order of time."""
        return [str(message.status) for _, message in self.sent]


class VirtualWorld:
    """Every port a life needs; change what should be different, then `live`."""

    def __init__(self, root: Path, **environment: str) -> None:
        """`environment` is without its prefix: `MAX_RUNTIME="5"`."""
        self.root = root
        self.runner_dir, self.work_dir = root / "opt" / "actions-runner", root / "work"
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "RUNS_FLEET_INSTANCE_ID": INSTANCE,
            "RUNS_FLEET_TERMINATION_QUEUE_URL": QUEUE_URL,
            "RUNS_FLEET_RUNNER_DIR": str(self.runner_dir),
            "RUNS_FLEET_WORK_DIR": str(self.work_dir),
            "RUNS_FLEET_GITHUB_API_URL": API_URL,
            "RUNS_FLEET_POWER_OFF": "switch off",
            **{f"RUNS_FLEET_{name}": value for name, value in environment.items()},
        }
        self.clock = AgentClock()
        self.inbox = VirtualInbox(self.clock)
        self.workers = VirtualWorkers(self.clock, self.inbox)
        self.journal = VirtualJournal(self.clock)
        self.parameters = VirtualParameters(self.clock, [(0.0, config_text())])
        self.queue = VirtualQueue(self.clock)
        self.machine = VirtualMachine(clock=self.clock, inbox=self.inbox)
        self.meters = VirtualMeters(self.clock)
        self.processes = VirtualProcesses(clock=self.clock, inbox=self.inbox, work_dir=self.work_dir, plan=job())
        self.log_stream = VirtualLogStream(self.clock)
        self.objects = VirtualObjects(self.clock)
        self.web = VirtualWeb(self.clock)
        self.shared_places = (root / "home", root / "docker")
        bake(self.runner_dir)

    @property
    def settings(self) -> Settings:
        """What the agent makes of the environment."""
        return read_settings(self.environment)

    @property
    def runner(self) -> VirtualRunner:
        """The runner that was started."""
        assert self.processes.runner is not None, "no runner was started"
        return self.processes.runner

    def at(self, age_s: float, event: Event) -> None:
        """Let `event` arrive at that age."""
        self.inbox.schedule(BIRTH_S + age_s, event)

    def sigterm_in(self, phase: Phase, *, again_after_s: float | None = None) -> None:
        """A SIGTERM at the moment `phase` begins, and perhaps a second one."""

        def plant() -> None:
            """Write the runner's files where a baked image has them."""
            self.inbox.post(Signalled("SIGTERM"))
            if again_after_s is not None:
                self.inbox.schedule(self.clock.monotonic_s() + again_after_s, Signalled("SIGTERM"))

        self.journal.on_phase[phase] = plant

    def live(self) -> Ended:
        """One life of the unmodified agent."""
        code = assemble(self._ports()).live()
        sent = sorted((age_s, body) for age_s, body in self.queue.bodies if age_s <= self.clock.age_s)
        return Ended(int(code), self.clock.age_s, tuple((age_s, read_message(body)) for age_s, body in sent))

    def _ports(self) -> World:
        return World(
            settings=self.settings,
            environment=self.environment,
            clock=self.clock,
            inbox=self.inbox,
            workers=self.workers,
            journal=self.journal,
            machine=self.machine,
            meters=self.meters,
            processes=self.processes,
            parameters=self.parameters,
            log_stream=lambda _instance_id: self.log_stream,
            queue=lambda _sender: self.queue,
            queue_probe=self.queue.probe,
            objects=lambda _bucket: self.objects,
            web=lambda: self.web,
            architecture="x64",
            homes=frozenset({Path("/root"), Path("/home/runner")}),
            born_s=BIRTH_S,
            shared_places=self.shared_places,
        )


def config_text(*, drop: tuple[str, ...] = (), **fields: object) -> str:
    """A configuration on the JIT path, with fields replaced, added or dropped."""
    inner = base64.b64encode(json.dumps({"AgentId": "1"}).encode()).decode()
    blob = base64.b64encode(json.dumps({".runner": inner}).encode()).decode()
    known = {
        "org": "acme",
        "job_id": "7001",
        "run_id": "42",
        "jit_config": blob,
        "session_id": "session-9",
        "attempt": 2,
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    return json.dumps({name: value for name, value in {**known, **fields}.items() if name not in drop})


def token_text(**fields: object) -> str:
    """A configuration on the token path."""
    return config_text(
        drop=("jit_config",), jit_token="AAAATOKENTOKEN", repo="widgets", labels=["x64"], **fields
    )  # pragma: allowlist secret


def bake(directory: Path) -> None:
    """A runner release in `directory`, as an image brings it along."""
    (directory / "bin").mkdir(parents=True, exist_ok=True)
    (directory / "run.sh").write_text("#!/bin/bash\n", encoding="utf-8")


def unbake(directory: Path) -> None:
    """An image without a runner."""
    with suppress(FileNotFoundError):
        (directory / "run.sh").unlink()


def release_archive() -> bytes:
    """A runner release as a .tar.gz."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        for name, content in (("run.sh", b"#!/bin/bash\n"), ("bin/Runner.Listener", b"#!/bin/sh\n")):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    return written.getvalue()
