"""The alternatives: what one would write first, with the libraries one would reach for. Each is a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def boto3_start(run: str) -> None:
    """Read the configuration with boto3, then become the runner."""
    import boto3

    value = boto3.client("ssm").get_parameter(Name="/runs-fleet/runners/i/config", WithDecryption=True)["Parameter"]["Value"]
    os.environ["ACTIONS_RUNNER_INPUT_JITCONFIG"] = value
    os.execv(run, [run])


def forward(run: str) -> None:
    """Run the child and hand each of its lines to plain watchtower, then close it."""
    handler, logger = _watchtower()
    _read_lines(run, logger)
    handler.close()


def shutdown(run: str) -> None:
    """As `forward`, then say so on the queue and terminate the instance, each with a boto3 client made when it is needed."""
    import boto3

    handler, logger = _watchtower()
    _read_lines(run, logger)
    handler.close()
    boto3.client("sqs").send_message(QueueUrl=os.environ["RUNS_FLEET_TERMINATION_QUEUE_URL"], MessageBody='{"status": "success"}')
    boto3.client("ec2").terminate_instances(InstanceIds=[os.environ["RUNS_FLEET_INSTANCE_ID"]])


def copy(run: str) -> None:
    """The least any Python reader does: bytes from the child into a file, no line looked at, nothing shipped."""
    with subprocess.Popen([run], stdout=subprocess.PIPE) as child, (Path(os.environ["HOME"]) / "copy").open("wb") as sink:
        assert child.stdout is not None
        while chunk := os.read(child.stdout.fileno(), 1 << 16):
            os.write(sink.fileno(), chunk)


def clients(*services: str) -> None:
    """Resident memory of a process with these boto3 clients, in KiB, into `$HOME/rss`."""
    import boto3

    made = [boto3.client(service) for service in services]
    status = Path("/proc/self/status").read_text(encoding="ascii")
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]
    (Path(os.environ["HOME"]) / "rss").write_text(resident, encoding="ascii")
    del made


def _watchtower() -> tuple[Any, Any]:
    import logging

    import boto3
    import watchtower

    client = boto3.client("logs")
    handler = watchtower.CloudWatchLogHandler(
        log_group_name=os.environ["RUNS_FLEET_LOG_GROUP"], log_stream_name="peer", boto3_client=client, send_interval=1
    )
    logger = logging.getLogger("job")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    return handler, logger


def _read_lines(run: str, logger: Any) -> None:
    with subprocess.Popen([run], stdout=subprocess.PIPE, text=True, errors="replace") as child, contextlib.suppress(OSError):
        for line in child.stdout or ():
            logger.info("%s", line.rstrip("\n"))


PEERS: dict[str, Any] = {peer.__name__: peer for peer in (boto3_start, forward, shutdown, copy, clients)}

if __name__ == "__main__":
    PEERS[sys.argv[1]](*sys.argv[2:])
