"""A harness for one real agent process: AWS, a metadata service, a runner's directory, a power switch that leaves a mark."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from agent.contract.messages import FinalWord, Message
from agent.contract.names import parameter_name
from agent.phases import Phase
from sandbox.runner import release
from tests.conftest import Moto
from tests.termination_queue import received

CHECKOUT = Path(__file__).resolve().parents[2]
KEY = "a-private-number-of-the-registration"
BRIEF = {Phase.STARTING: ("subprocess.Popen", "Runner.Listener"), Phase.CLEANING: ("shutil.rmtree", "_work")}
"""The phases that end before a test could kill the agent, each with a call that the agent makes in it: the audit event's name and
a part of its arguments. STRIKE kills the agent at that call."""
STRIKE = """
import os, signal, sys
def strike(event, words):
    if event == {event!r} and {word!r} in str(words):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(strike)
"""
"""A `sitecustomize` with which the interpreter kills itself at the audit event `event` with `word` among its arguments."""


def blob() -> str:
    """A JIT config whose runner plays the scenario file instead of asking a service."""

    def packed(value: object) -> str:
        return base64.b64encode(json.dumps(value).encode()).decode()

    files = {".runner": packed({"AgentId": "1"}), ".credentials": packed({}), ".credentials_rsaparams": packed({"d": KEY})}
    return packed(files)


class AgentHarness:
    """Everything around one agent. `scenario` is what the stand-in runner plays."""

    def __init__(self, moto: Moto, root: Path) -> None:
        self.moto, self.root = moto, root
        self.queue_url = moto.client("sqs").create_queue(QueueName="terminations")["QueueUrl"]
        launched = moto.client("ec2").run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)
        self.instance_id: str = launched["Instances"][0]["InstanceId"]
        self.runner_dir = release.install(root / "opt" / "actions-runner")
        self.off = root / "power-is-off"
        self.work = root / "opt" / "work"
        self.environment = {
            **moto.environment, "PATH": os.environ["PATH"], "HOME": str(root), "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9",
            "RUNS_FLEET_INSTANCE_ID": self.instance_id, "RUNS_FLEET_TERMINATION_QUEUE_URL": self.queue_url,
            "RUNS_FLEET_RUNNER_DIR": str(self.runner_dir), "RUNS_FLEET_WORK_DIR": str(self.work),
            "RUNS_FLEET_POWER_OFF": f"touch {self.off}", "STANDIN_RESTART_SECONDS": "0", "PYTHONPATH": str(CHECKOUT),
        }  # fmt: skip

    def configure(self, **fields: Any) -> None:
        document = {
            "org": "octo",
            "repo": "sandbox",
            "job_id": 7,
            "session_id": "s-1",
            "attempt": 2,
            "jit_config": blob(),
            **fields,
        }
        document = {name: value for name, value in document.items() if value is not None}
        name = parameter_name(self.instance_id)
        self.moto.client("ssm").put_parameter(Name=name, Value=json.dumps(document), Type="SecureString")

    def play(self, *steps: str, **scenario: Any) -> None:
        github = {"run_id": "11", "run_attempt": "1", "repository": "octo/sandbox", "job": "build"}
        job = {"id": 1, "name": "build", "github": github, "steps": [{"run": step} for step in steps]} if steps else {}
        (self.runner_dir / "standin.json").write_text(json.dumps({"job": job, **scenario}), "utf-8")

    @contextmanager
    def agent(self, command: list[str] | None = None, **extra: str | None) -> Iterator[Agent]:
        environment = {name: value for name, value in {**self.environment, **extra}.items() if value is not None}
        words = command or [sys.executable, "-m", "agent"]
        process = subprocess.Popen(
            words, env=environment, cwd=self.root, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        running = Agent(process)
        try:
            yield running
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(600)
            running.reader.join(5)
            assert process.stderr is not None
            process.stderr.close()

    def live(self, **extra: str | None) -> Agent:
        """One whole life."""
        with self.agent(None, **extra) as agent:
            agent.process.wait(600)
        return agent

    def kill_what_is_left(self) -> bool:
        """SIGKILL for all that was started here and is still there; whether there was any. A real machine would be off by now."""
        left = [one for one in psutil.process_iter(["cmdline"]) if str(self.root) in " ".join(one.info["cmdline"] or ())]
        for one in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        return bool(left)

    def messages(self) -> list[Message]:
        return received(self.moto.client("sqs"), self.queue_url)

    def word(self) -> FinalWord:
        """The one final word."""
        words = [message for message in self.messages() if isinstance(message, FinalWord)]
        assert len(words) == 1, words
        return words[0]

    def state(self) -> str:
        found = self.moto.client("ec2").describe_instances(InstanceIds=[self.instance_id])
        return str(found["Reservations"][0]["Instances"][0]["State"]["Name"])

    def log_lines(self, group: str, job_id: str = "7") -> list[str]:
        stream = f"{self.instance_id}/{job_id}"
        events = self.moto.client("logs").get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)["events"]
        return [event["message"] for event in events]


class Agent:
    """A running agent; its log is read as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._more = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    @property
    def log(self) -> str:
        return "".join(self.lines)

    @property
    def code(self) -> int | None:
        return self.process.returncode

    def says(self, words: str, within_s: float = 600.0) -> None:
        """Wait until its log says `words`."""
        with self._more:
            assert self._more.wait_for(lambda: words in self.log, within_s), f"never said {words!r}:\n{self.log}"

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._more:
                self.lines.append(line)
                self._more.notify_all()
