"""Where every measurement plays: tmpfs, the endpoint, and a process started from outside with nothing but its environment."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import release

TREE = Path(__file__).resolve().parents[1]
INSTANCE = "i-0123456789abcdef0"
LOG_GROUP = "/bench"
LIFE_S = 60.0
"""Longer than any life here takes; what is still there then is a fault of the measurement."""
ROOT = Path("/dev/shm/runs-fleet-bench")


@dataclass
class Stage:
    """The endpoint and a place for each process; `record` is what the endpoint was asked since `reset`."""

    url: str
    archive: Path
    place: Path

    def environment(self, place: Path, **more: str) -> dict[str, str]:
        """What the agent is given: nothing of ours leaks in, so byte code is written and read as on a machine."""
        return {
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "HOME": str(place),
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "AKIDBENCHMARK",
            "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-benchmark",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9",
            "RUNS_FLEET_INSTANCE_ID": INSTANCE,
            "RUNS_FLEET_TERMINATION_QUEUE_URL": f"{self.url}/queue",
            "RUNS_FLEET_LOG_GROUP": LOG_GROUP,
            "RUNS_FLEET_GITHUB_API_URL": self.url,
            "RUNS_FLEET_RUNNER_DIR": str(place / "opt"),
            "RUNS_FLEET_WORK_DIR": str(place / "work"),
            "RUNS_FLEET_POWER_OFF": f"touch {place}/power-off",
            **more,
        }

    @contextlib.contextmanager
    def fresh(self) -> Iterator[Path]:
        """A directory of its own for one process, on tmpfs, gone afterwards; the record begins anew."""
        self._post("/-/reset")
        place = Path(tempfile.mkdtemp(dir=self.place))
        try:
            yield place
        finally:
            shutil.rmtree(place)

    def record(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/-/record", timeout=30) as answer:
            told: dict[str, Any] = json.load(answer)
            return told

    def _post(self, path: str, body: bytes = b"{}") -> None:
        urllib.request.urlopen(urllib.request.Request(f"{self.url}{path}", body), timeout=30).close()


@dataclass
class Started:
    """A process under measurement; every moment is a wall-clock second of this machine."""

    process: subprocess.Popen[bytes]
    began_at: float
    place: Path
    peak_kib: int = 0
    said: list[str] = field(default_factory=list)

    def exec_at(self) -> float:
        """When the runner was executed, as its run.sh wrote."""
        return float((self.place / "exec-at").read_text(encoding="ascii"))

    def finish(self) -> float:
        """Wait for its end, noting peak memory of the process itself; returns the moment it ended."""
        until_s = time.monotonic() + LIFE_S
        while self.process.poll() is None:
            with contextlib.suppress(OSError, StopIteration, ValueError):
                status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
                peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
                self.peak_kib = max(self.peak_kib, int(peak.split()[1]))
            if time.monotonic() > until_s:
                self.process.kill()
                raise TimeoutError(f"{self.process.args!r} did not end: {self.errors()}")
            time.sleep(0.02)
        ended_at = time.time()
        if self.process.returncode:
            raise RuntimeError(f"{self.process.args!r} ended with {self.process.returncode}: {self.errors()}")
        return ended_at

    def errors(self) -> str:
        """What it wrote to stderr."""
        return (self.place / "stderr").read_text(encoding="utf-8")


def start(command: list[str], place: Path, environment: dict[str, str]) -> Started:
    """Start it; the clock runs from just before."""
    with (place / "stderr").open("wb") as errors:
        began_at = time.time()
        process = subprocess.Popen(
            command, cwd=TREE, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        )
    return Started(process, began_at, place)


def agent(place: Path, environment: dict[str, str]) -> Started:
    """The agent, exactly as its unit would start it."""
    return start([sys.executable, "-m", "agent"], place, environment)


def peer(which: Callable[..., None], place: Path, environment: dict[str, str], *words: str) -> Started:
    """One of the alternatives in `benchmarks.peers`."""
    return start([sys.executable, str(TREE / "benchmarks" / "peers.py"), which.__name__, *words], place, environment)


def final_word(record: dict[str, Any]) -> dict[str, Any]:
    """The last message on the queue."""
    word: dict[str, Any] = json.loads([detail for _, action, detail in record["calls"] if action == "SendMessage"][-1])
    return word


@contextlib.contextmanager
def staged() -> Iterator[Stage]:
    """Everything precompiled, the release made, the endpoint up."""
    ROOT.mkdir(exist_ok=True)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-m", "compileall", "-q", "agent", "benchmarks"], cwd=TREE, env=clean, check=True)
    archive = release.make(ROOT)
    command = [sys.executable, "-m", "benchmarks.endpoint", str(archive), release.VERSION]
    with tempfile.TemporaryDirectory(dir=ROOT) as place, subprocess.Popen(command, cwd=TREE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        try:
            stage = Stage(f"http://127.0.0.1:{int(server.stdout.readline())}", archive, Path(place))
            stage._post("/-/parameter", _parameter().encode())
            yield stage
        finally:
            server.kill()


def _parameter() -> str:
    def packed(content: object) -> str:
        return base64.b64encode(json.dumps(content).encode()).decode()

    key = {"d": "x" * 342, "modulus": "y" * 342, "p": "z" * 172}
    blob = packed({".runner": packed({"AgentId": "1"}), ".credentials": packed({}), ".credentials_rsaparams": packed(key)})
    return json.dumps({"org": "o", "job_id": "7", "jit_config": blob})
