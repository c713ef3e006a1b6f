"""What an operator would deploy, in the sandbox's cloud: queues, tables, launch templates, and the server's environment."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import socket
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.adapters.dynamodb import table_definition
from orchestrator.checks.table_shape import EXPIRY
from orchestrator.compute.ec2.launch_templates import IMAGE_ARCHITECTURE
from sandbox.cloud import CREDENTIALS, REGION, Cloud
from sandbox.github.server import StandInGitHub
from sandbox.imds import ROLE_ID
from sandbox.instances import user_data
from sandbox.moto_speedups import registered_image
from sandbox.runner import release

STACK, SERVER_KEY = "sandbox", "AKIASERVER"
LOG_GROUP = "/runs-fleet/agent"


@dataclass(frozen=True)
class Stack:
    """The deployed names."""

    queue_url: str
    termination_queue_url: str
    port: int
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where the orchestrator serves."""
        return f"http://127.0.0.1:{self.port}"


def deploy(
    cloud: Cloud, github: StandInGitHub, *, visibility_s: int = 30, agent: dict[str, str] | None = None, name: str = STACK, config_source: str = "ssm",
    local: Path | None = None,
) -> Stack:  # fmt: skip
    """Create everything of the stack `name`; returns what the server needs. `agent` adds to the machines' settings.

    `local`: where machines are processes of this one, without EC2.
    """
    sqs, dynamodb, ec2 = cloud.client("sqs"), cloud.client("dynamodb"), cloud.client("ec2")
    fifo = {"FifoQueue": "true", "VisibilityTimeout": str(visibility_s)}
    queue = sqs.create_queue(QueueName=f"{name}-main.fifo", Attributes=fifo)["QueueUrl"]
    terminations = sqs.create_queue(QueueName=f"{name}-termination", Attributes={"VisibilityTimeout": str(visibility_s)})[
        "QueueUrl"
    ]
    cloud.events_queue_url = sqs.create_queue(QueueName=f"{name}-events", Attributes={"VisibilityTimeout": str(visibility_s)})[
        "QueueUrl"
    ]
    for table in (f"{name}-jobs", f"{name}-sessions"):
        dynamodb.create_table(**table_definition(table))
        expiry = {"Enabled": True, "AttributeName": EXPIRY}
        dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification=expiry)
    source = {"RUNS_FLEET_CONFIG_SOURCE": config_source, "RUNS_FLEET_CONFIG_BUCKET": f"{name}-config"}
    cloud.client("s3").create_bucket(Bucket=f"{name}-config")
    settings = {
        **source, "RUNS_FLEET_TERMINATION_QUEUE_URL": terminations, "RUNS_FLEET_LOG_GROUP": LOG_GROUP, "RUNS_FLEET_GRACE_SECONDS": "20",
        "RUNS_FLEET_GITHUB_URL": github.url, "RUNS_FLEET_GITHUB_API_URL": github.url, **(agent or {}),
    }  # fmt: skip
    data = {
        "InstanceInitiatedShutdownBehavior": "terminate", "InstanceType": "m7i.large",
        "UserData": base64.b64encode(user_data(settings).encode()).decode(), "MetadataOptions": {"HttpTokens": "required"},
        "IamInstanceProfile": {"Arn": f"arn:aws:iam::123456789012:instance-profile/{name}-machines"},
    }  # fmt: skip
    for arch, kind in IMAGE_ARCHITECTURE.items():
        own = {**data, "ImageId": registered_image(ec2, kind)}
        ec2.create_launch_template(LaunchTemplateName=f"{name}-runner-{arch}", LaunchTemplateData=own)
    subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"][:2]]
    port = free_port()
    environment = {
        "PATH": os.environ.get("PATH", os.defpath), "AWS_ENDPOINT_URL": cloud.url, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": SERVER_KEY, "AWS_SECRET_ACCESS_KEY": CREDENTIALS["aws_secret_access_key"],
        "RUNS_FLEET_GITHUB_WEBHOOK_SECRET": github.webhook_secret, "RUNS_FLEET_GITHUB_APP_ID": github.app_id,
        "RUNS_FLEET_GITHUB_APP_PRIVATE_KEY": base64.b64encode(github.app_private_key.encode()).decode(),
        "RUNS_FLEET_GITHUB_API_URL": github.url, "RUNS_FLEET_QUEUE_URL": queue, "RUNS_FLEET_TERMINATION_QUEUE_URL": terminations,
        "RUNS_FLEET_SUBNET_IDS": ",".join(subnets), "RUNS_FLEET_EVENTS_QUEUE_URL": cloud.events_queue_url, "RUNS_FLEET_STACK_ID": name,
        "RUNS_FLEET_JOBS_TABLE": f"{name}-jobs", "RUNS_FLEET_SESSIONS_TABLE": f"{name}-sessions",
        "RUNS_FLEET_LAUNCH_TEMPLATE_NAME": f"{name}-runner", "RUNS_FLEET_LOG_GROUP": LOG_GROUP, "RUNS_FLEET_PORT": str(port),
        "RUNS_FLEET_SWEEP_SECONDS": "0.5", "RUNS_FLEET_LEASE_SECONDS": "10", "RUNS_FLEET_WATCH_SECONDS": "2",
        "RUNS_FLEET_INDEX_SHARDS": "1", "RUNS_FLEET_CONFIG_WRITES_PER_SECOND": "100", "RUNS_FLEET_SHUTDOWN_DRAIN_DELAY_SECONDS": "0", "RUNS_FLEET_RECOVERY_SECONDS": "10",
        "RUNS_FLEET_POLL_SECONDS": "2", "RUNS_FLEET_MAX_SESSIONS_PER_REPOSITORY": "0", "RUNS_FLEET_LABEL_ALIASES": json.dumps([{"match": ".*", "regex": True}]),
        "HOME": os.environ.get("HOME", "/"), "RUNS_FLEET_RUNNER_ROLE_ID": ROLE_ID, **source,
    }  # fmt: skip
    if local is not None:
        environment |= _on_this_machine(local, settings, environment["PATH"])
    return Stack(queue, terminations, port, environment)


def _on_this_machine(directory: Path, settings: dict[str, str], path: str) -> dict[str, str]:
    """What an orchestrator needs whose machines are processes below `directory`."""
    release.install(directory / "runner")
    agent = Path(sysconfig.get_path("scripts")) / "runs-fleet-agent"
    return {
        "RUNS_FLEET_STRATEGY": "local", "RUNS_FLEET_LOCAL_DIR": str(directory), "RUNS_FLEET_LOCAL_SLOTS": "4",
        "RUNS_FLEET_LOCAL_RUNNER_DIR": str(directory / "runner"), "RUNS_FLEET_LOCAL_AGENT": str(agent), "RUNS_FLEET_SUBNET_IDS": "",
        "RUNS_FLEET_RUNNER_ROLE_ID": "", "PATH": path,
        "RUNS_FLEET_LOCAL_AGENT_ENVIRONMENT": json.dumps({**settings, "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9"}),
    }  # fmt: skip


def free_port() -> int:
    """A port nobody listens on, below those the kernel hands out by itself: it must still be free after a restart."""
    while True:
        port = random.randrange(12_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
