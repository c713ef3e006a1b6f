"""Examples of records, deliveries and settings, each complete and changeable."""

from __future__ import annotations

import base64
import json
import random
from datetime import UTC, datetime

from agent.contract.secret import Secret
from orchestrator.compute.port import Wanted
from orchestrator.jobs.model import Job
from orchestrator.jobs.webhook import JobEvent
from orchestrator.ports import Received
from orchestrator.setting_values import Alias
from orchestrator.settings import ServerSettings
from orchestrator.store.launch import Launch, PlannedSession
from orchestrator.store.model import LabelSet, Session
from orchestrator.store.naming import Scope, set_key
from orchestrator.store.request import MachineRequest
from simulation.clock import MORNING

KEY_BYTES = {"d": 256, "dp": 128, "dq": 128, "exponent": 3, "inverseQ": 128, "modulus": 256, "p": 128, "q": 128}
"""The numbers of an RSA key of 2,048 bits."""

PEM = "-----BEGIN PRIVATE KEY-----\nhush-hush\n-----END PRIVATE KEY-----\n"  # pragma: allowlist secret
"""Nobody's key; nothing that is shown may contain `hush`."""
REQUIRED_ENVIRONMENT = {
    "RUNS_FLEET_GITHUB_WEBHOOK_SECRET": "hush",
    "RUNS_FLEET_GITHUB_APP_ID": "12",
    "RUNS_FLEET_GITHUB_APP_PRIVATE_KEY": base64.b64encode(PEM.encode()).decode(),
    "RUNS_FLEET_QUEUE_URL": "http://sqs/main.fifo",
    "RUNS_FLEET_TERMINATION_QUEUE_URL": "http://sqs/termination",
    "RUNS_FLEET_SUBNET_IDS": "subnet-1, subnet-2,",
}
"""The variables without which no server starts."""
BOOT_S = 900.0
"""What a machine gets to say that it is ready, in seconds, where no setting says otherwise."""


def sender_of(session: Session) -> str:
    """As SQS names its machine."""
    return f"AROARUNNER:{session.instance_id}"


def final_fields(status: str) -> dict[str, object]:
    """What a final word must say."""
    return {
        "exit_code": 0 if status == "success" else 1,
        "duration_seconds": 7,
        "started_at": "2026-01-31T12:00:10Z",
        "completed_at": "2026-01-31T12:00:17Z",
        "error": "" if status == "success" else "it broke",
    }


def some_settings(**changes: object) -> ServerSettings:
    """Usable settings of a stack of tests; of three index shards, for each of the usual sixteen is a call more in every look."""
    given: dict[str, object] = {
        "max_sessions": 1000, "max_cpus": 0,
        "webhook_secret": Secret("hush"), "app_id": "1", "app_private_key": Secret("-----BEGIN"), "queue_url": "q.fifo",
        "termination_queue_url": "t", "subnet_ids": ("subnet-1", "subnet-2"), "stack_id": "tests",
        "aliases": (Alias("ubuntu-latest"),), "watch_s": 0.0, "index_shards": 3, **changes,
    }  # fmt: skip
    return ServerSettings(**given)  # type: ignore[arg-type]


def an_instance_event(kind: str, instance_id: str, at: float | None = None, **detail: str) -> Received:
    """As EventBridge puts it into a queue; `at`: when it happened."""
    time = {} if at is None else {"time": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
    told = {
        "version": "0", "source": "aws.ec2", "account": "123456789012", "region": "us-east-1", **time, "detail-type": kind,
        "resources": [f"arn:aws:ec2:us-east-1:123456789012:instance/{instance_id}"],
        "detail": {"instance-id": instance_id, **detail},
    }  # fmt: skip
    return Received(json.dumps(told), "receipt")


def an_event(action: str = "queued", **changes: object) -> JobEvent:
    """A webhook delivery, already read."""
    given: dict[str, object] = {
        "action": action, "job_id": "1", "run_id": "7", "run_attempt": 1, "owner": "octo", "repo": "widgets", "name": "build",
        "labels": ("runs-fleet=7/arch=amd64",), "installation_id": "3", "at": MORNING, **changes,
    }  # fmt: skip
    return JobEvent(**given)  # type: ignore[arg-type]


SCOPE = Scope("3", "octo", "widgets")
SET = set_key("octo", "widgets", 1, ("runs-fleet=7/arch=amd64",))
"""The label set of the job that all these helpers speak of."""


def a_job(**changes: object) -> Job:
    """A job that is queued."""
    given: dict[str, object] = {
        "job_id": "1", "run_id": "7", "run_attempt": 1, "owner": "octo", "repo": "widgets", "name": "build",
        "labels": ("runs-fleet=7/arch=amd64",), "installation_id": "3", "queued_at": MORNING, "set_key": SET, **changes,
    }  # fmt: skip
    return Job(**given)  # type: ignore[arg-type]


def a_session(**changes: object) -> Session:
    """A session that has just got its instance."""
    given: dict[str, object] = {
        "session_id": "s-1", "launch_id": "l-1", "set_key": SET, "launched_for": "1", "scope": SCOPE,
        "repository": "octo/widgets", "run_id": "7", "labels": ("runs-fleet",), "instance_id": "i-1", **changes,
    }  # fmt: skip
    return Session(**given)  # type: ignore[arg-type]


def a_launch(**changes: object) -> Launch:
    """A launch of one session that is intended."""
    planned = PlannedSession(session_id="s-1", set_key=SET, item_id="1", run_id="7")
    given: dict[str, object] = {
        "launch_id": "l-1", "spec": "amd64", "strategy": "ec2", "request": "{}",
        "sessions": (planned,), "sets": (SET,), **changes,
    }  # fmt: skip
    return Launch(**given)  # type: ignore[arg-type]


def some_wanted(request: MachineRequest | None = None, count: int = 1, **changes: object) -> Wanted:
    """What a strategy is asked for: so many instances for a request."""
    given: dict[str, object] = {
        "launch_id": "l-1", "request": request or MachineRequest(), "sessions": tuple(f"s-{n}" for n in range(count)),
        "expires_at": MORNING + 3600.0, **changes,
    }  # fmt: skip
    return Wanted(**given)  # type: ignore[arg-type]


def a_label_set(**changes: object) -> LabelSet:
    """The label_set of the label set."""
    given: dict[str, object] = {
        "set_key": SET, "scope": SCOPE, "repository": "octo/widgets", "labels": ("runs-fleet=7/arch=amd64",), **changes,
    }  # fmt: skip
    return LabelSet(**given)  # type: ignore[arg-type]


def a_blob(seed: int = 1, name: str = "runner") -> str:
    """A JIT config with as much chance in it as a real one."""
    chance = random.Random(seed)
    runner = {"AgentId": str(seed), "AgentName": name, "ServerUrl": "https://example/" + "aB3" * 16, "WorkFolder": "_work"}
    credentials = {"Scheme": "OAuth", "Data": {"ClientId": "01234567-89ab-cdef-0123-456789abcdef"}}
    key = {part: base64.b64encode(chance.randbytes(size)).decode() for part, size in KEY_BYTES.items()}
    files = {".runner": runner, ".credentials": credentials, ".credentials_rsaparams": key}
    inner = {file: base64.b64encode(json.dumps(content).encode()).decode() for file, content in files.items()}
    return base64.b64encode(json.dumps(inner).encode()).decode()
