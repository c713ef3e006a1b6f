"""LocalInstances as processes of this machine. What there is stands on the disk.

A launch is a directory that appears whole, an agent holds a lock for as long as it lives: an orchestrator that is killed anywhere
finds everything again, and no agent is begun twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from orchestrator.compute.port import InstanceState
from orchestrator.errors import ServiceFailed
from orchestrator.readiness import Fault

BEGIN = 'exec 9>lock; flock -w 5 9 && [ ! -e begun ] && echo $$ > begun && [ ! -e stopped ] && exec "$@"'
"""Under a lock that ends with the last process of the agent; a second beginning finds the mark of the first."""
END = 'for _ in $(seq "$2"); do [ -e lock ] || exit 0; flock -s -n lock true && exit; sleep 0.5; done; kill -s KILL -- "-$1"'
"""An agent that does not go when asked politely is killed. As long as its lock is held, the number is still its own; where its
directory is gone nobody can tell, and the number may be another's."""
SETTING = "RUNS_FLEET_LOCAL_"
POLITE_S = 150.0
"""For the runner's grace and the agent's last words."""
PENDING_S = 60.0
"""An agent that has not begun by then never will."""
PRINTED = 16_000
"""Bytes of a console that are looked at."""


class LocalProcesses:
    """LocalInstances (compute.local) below `root`. `command` starts an agent; `environment` is all it gets, beside who it is."""

    def __init__(
        self, root: Path, command: Sequence[str], environment: Mapping[str, str], runner: Path | None = None,
        polite_s: float = POLITE_S,
    ) -> None:  # fmt: skip
        """`runner`: a release of which each agent gets a copy; None: the agent fetches one."""
        self._root, self._launches, self._bodies = root, root / "launches", root / "instances"
        for directory in (self._launches, self._bodies):
            directory.mkdir(parents=True, exist_ok=True)
        self._command, self._environment = tuple(command), dict(environment)
        self._runner, self._polite_s = runner, polite_s
        self._children: list[subprocess.Popen[bytes]] = []

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """No other thread and no other replica of this machine is in here meanwhile. Raises: ServiceFailed: the disk."""
        try:
            with (self._root / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except (OSError, subprocess.SubprocessError) as error:
            raise ServiceFailed("local:start", type(error).__name__, str(error)) from error

    def decided(self, token: str, decide: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What was decided for this token, by whoever came first; on the disk before anything begins."""
        place = self._launches / hashlib.sha256(token.encode()).hexdigest()[:32]
        if not place.exists():
            aside = Path(tempfile.mkdtemp(dir=self._launches, prefix="."))
            (aside / "launch.json").write_text(json.dumps(decide()), encoding="utf-8")
            with suppress(OSError):  # another was first
                aside.rename(place)
            shutil.rmtree(aside, ignore_errors=True)
        found: dict[str, Any] = json.loads((place / "launch.json").read_text(encoding="utf-8"))
        return found

    def recalled(self, token: str) -> dict[str, Any] | None:
        """What was decided for this token; None: nothing yet."""
        place = self._launches / hashlib.sha256(token.encode()).hexdigest()[:32] / "launch.json"
        return json.loads(place.read_text(encoding="utf-8")) if place.exists() else None

    def look(self) -> Iterator[Fault]:
        """The directory can be written, the agent's command is found, the runner to copy is one."""
        if not os.access(self._root, os.W_OK | os.X_OK):
            yield Fault(
                setting=f"{SETTING}DIR", found=f"{self._root} cannot be written", expected="a directory of this user",
                remedy=f"chown {os.getuid()} {self._root}",
            )  # fmt: skip
        command = self._command[0] if self._command else ""
        if shutil.which(command, path=self._environment.get("PATH")) is None:
            yield Fault(
                setting=f"{SETTING}AGENT", found=f"no command {command!r} in the PATH that agents get",
                expected="the agent's command", remedy="pip install runs-fleet, and name runs-fleet-agent with its whole path",
            )  # fmt: skip
        if self._runner is not None and not (self._runner / "run.sh").is_file():
            yield Fault(
                setting=f"{SETTING}RUNNER_DIR", found=f"no run.sh in {self._runner}", expected="GitHub's runner, unpacked",
                remedy="unpack a release of actions/runner there, or leave the setting away: each agent fetches one then",
            )  # fmt: skip

    def begin(self, identity: str, tags: Mapping[str, str]) -> None:
        """Its tags first, then its process; both are there already where somebody was cut off later."""
        place = self._bodies / identity
        if (place / "begun").exists():
            return
        for name in ("", "home", "work", "state"):
            (place / name).mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=place, prefix=".tags", delete=False, encoding="utf-8") as aside:
            aside.write(json.dumps(dict(tags)))
        Path(aside.name).rename(place / "tags.json")
        if self._runner is not None and not (place / "runner").exists():
            copied = ["cp", "-a", "--reflink=auto", str(self._runner), str(place / "runner.new")]
            subprocess.run(copied, check=True, capture_output=True)
            (place / "runner.new").rename(place / "runner")
        own = {
            "HOME": str(place / "home"), "RUNS_FLEET_INSTANCE_ID": identity, "RUNS_FLEET_RUNNER_DIR": str(place / "runner"),
            "RUNS_FLEET_WORK_DIR": str(place / "work"), "RUNS_FLEET_STATE_DIR": str(place / "state"),
            "RUNS_FLEET_POWER_OFF": "true",
        }  # fmt: skip
        words = ["/bin/sh", "-c", BEGIN, "begin", *self._command]
        env = {**self._environment, **own}
        with (place / "console.log").open("ab") as console:
            child = subprocess.Popen(
                words, cwd=place, env=env, start_new_session=True, stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )
        self._children.append(child)

    def stop(self, identity: str) -> None:
        """Asked politely, and killed after a while by a process that needs nobody."""
        place = self._bodies / identity
        (place / "stopped").touch()
        with suppress(OSError, ValueError):
            leader = int((place / "begun").read_text(encoding="ascii"))
            os.kill(leader, signal.SIGTERM)
            words = ["/bin/sh", "-c", END, "end", str(leader), str(int(2 * self._polite_s))]
            self._children.append(subprocess.Popen(words, cwd=place, start_new_session=True))

    def known(self) -> list[str]:
        """All there ever were, living or not."""
        return sorted(place.name for place in self._bodies.iterdir())

    def tags(self, identity: str) -> dict[str, str]:
        """Empty: there is no such agent."""
        with suppress(OSError, ValueError):
            found: dict[str, str] = json.loads((self._bodies / identity / "tags.json").read_text(encoding="utf-8"))
            return found
        return {}

    def began_at(self, identity: str) -> float:
        """When the launch's process began, epoch seconds; 0: never."""
        with suppress(OSError):
            return (self._bodies / identity / "tags.json").stat().st_mtime
        return 0.0

    def console(self, identity: str) -> str:
        """The end of what it printed; empty: nothing."""
        with suppress(OSError), (self._bodies / identity / "console.log").open("rb") as console:
            console.seek(max(0, console.seek(0, os.SEEK_END) - PRINTED))
            return console.read().decode("utf-8", "replace")
        return ""

    def state(self, identity: str) -> InstanceState:
        """By its marks and its lock on the disk."""
        self._children = [child for child in self._children if child.poll() is None]
        place = self._bodies / identity
        if not (place / "begun").exists():
            waits = time.time() - self.began_at(identity) < PENDING_S and not (place / "stopped").exists()
            return InstanceState.PENDING if waits else InstanceState.TERMINATED
        with (place / "lock").open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who look are not each other's agent
            except OSError:
                return InstanceState.SHUTTING_DOWN if (place / "stopped").exists() else InstanceState.RUNNING
        return InstanceState.TERMINATED
