"""Instances as process groups: booted when EC2 has them, gone when EC2 says so or when their power goes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.adapters.process_tree import descendants
from sandbox.imds import Metadata
from sandbox.runner import release

GONE_WITHIN_S = 10.0


@dataclass
class Machine:
    """One booted instance."""

    instance_id: str
    directory: Path
    metadata: Metadata
    init: subprocess.Popen[bytes]


class Instances:
    """Boots and ends machines; `powered_off` is told of one that went by itself."""

    def __init__(self, root: Path, region: str, endpoint: Callable[[], str], powered_off: Callable[[str], None]) -> None:
        self._root, self._region, self._endpoint, self._powered_off = root, region, endpoint, powered_off
        self._lock = threading.Lock()
        self.machines: dict[str, Machine] = {}
        self.ever: list[str] = []

    def boot(self, instance_id: str, user_data: str) -> None:
        """Start the machine's first process; returns at once. A second boot of a running machine does nothing."""
        with self._lock:
            if instance_id in self.machines:
                return
            directory = self._root / instance_id
            directory.mkdir(parents=True)
            metadata = Metadata(instance_id, self._region)
            (directory / "user-data").write_text(user_data, encoding="utf-8")
            release.install(directory / "opt" / "actions-runner")
            init = subprocess.Popen(
                [sys.executable, "-m", "sandbox.init", str(directory)], cwd=directory, start_new_session=True,
                env=self._environment(directory, metadata), stdin=subprocess.DEVNULL,
            )  # fmt: skip
            self.machines[instance_id] = Machine(instance_id, directory, metadata, init)
            self.ever.append(instance_id)
        threading.Thread(target=self._watch, args=(instance_id,), daemon=True, name=f"watch {instance_id}").start()

    def end(self, instance_id: str) -> None:
        """Switch the power off; the watch sees it go."""
        machine = self.machines.get(instance_id)
        if machine is not None and machine.init.poll() is None:
            machine.init.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """End all of them and wait until they are gone."""
        for instance_id in list(self.machines):
            self.end(instance_id)
        for machine in list(self.machines.values()):
            try:
                machine.init.wait(GONE_WITHIN_S)
            except subprocess.TimeoutExpired:
                machine.init.kill()

    def console(self, instance_id: str) -> str:
        """What the machine's console shows: the boot script's and the agent's own log."""
        path = self._root / instance_id / "console.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def runner_name(self, instance_id: str) -> str:
        """The name of the runner that is registered there; empty: none is."""
        path = self._root / instance_id / "opt" / "actions-runner" / ".runner"
        with contextlib.suppress(OSError, ValueError):
            return str(json.loads(path.read_text(encoding="utf-8-sig"))["AgentName"])
        return ""

    def kill_agent(self, instance_id: str) -> bool:
        """SIGKILL to the agent alone; whether there was one."""
        machine = self.machines.get(instance_id)
        for pid in descendants(machine.init.pid) if machine is not None else ():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if any(word.endswith(b"/runs-fleet-agent") for word in words[:2]):
                    os.kill(pid, signal.SIGKILL)
                    return True
        return False

    def _watch(self, instance_id: str) -> None:
        machine = self.machines[instance_id]
        machine.init.wait()
        machine.metadata.stop()
        self.machines.pop(instance_id, None)
        self._powered_off(instance_id)

    def _environment(self, directory: Path, metadata: Metadata) -> dict[str, str]:
        """The machine's own world: nothing of ours but the way to Python."""
        agent = Path(sysconfig.get_path("scripts")) / "runs-fleet-agent"
        started = f"{boot_scripts() / 'run-agent.sh'} {agent}"
        environment = {
            "PATH": os.environ.get("PATH", os.defpath), "HOME": str(directory / "home"), "LANG": "C.UTF-8",
            "AWS_ENDPOINT_URL": self._endpoint(), "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url,
            "RUNS_FLEET_START": started, "RUNS_FLEET_ENVIRONMENT_FILE": str(directory / "etc" / "agent.env"),
            "RUNS_FLEET_POWER_OFF": f"{sys.executable} -m sandbox.power {directory}",
            "RUNS_FLEET_RUNNER_DIR": str(directory / "opt" / "actions-runner"), "RUNS_FLEET_WORK_DIR": str(directory / "opt" / "work"),
            "RUNS_FLEET_STATE_DIR": str(directory / "state"),
        }  # fmt: skip
        (directory / "home").mkdir()
        return environment


class Idle:
    """Instances that only exist: nothing boots."""

    def __init__(self) -> None:
        self.machines: dict[str, Any] = {}

    def boot(self, instance_id: str, user_data: str) -> None:
        """Keep that the instance is there."""
        self.machines[instance_id] = user_data

    def end(self, instance_id: str) -> None:
        """Keep that the instance is gone."""
        self.machines.pop(instance_id, None)

    def runner_name(self, instance_id: str) -> str:
        """No runner is registered anywhere."""
        return ""

    def kill_agent(self, instance_id: str) -> bool:
        """There is no agent."""
        return False

    def stop(self) -> None:
        """No instance is there any more."""
        self.machines.clear()

    def console(self, instance_id: str) -> str:
        """Nothing was printed: no machine."""
        return ""


def boot_scripts() -> Path:
    """Where the user-data scripts lie: beside the packages in a checkout, below share/ when installed."""
    checkout = Path(__file__).resolve().parent.parent / "userdata"
    return checkout if checkout.is_dir() else Path(sysconfig.get_path("data")) / "share" / "runs-fleet" / "userdata"


def user_data(settings: dict[str, str]) -> str:
    """The real boot script with the operator's settings before it."""
    import shlex

    script = (boot_scripts() / "runs-fleet.sh").read_text(encoding="utf-8").removeprefix("#!/bin/bash\n")
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in settings.items())
    return f"#!/bin/bash\n{exports}{script}"
