"""A server that is told to stop: it says so first, answers meanwhile, and leaves nothing half done."""

from __future__ import annotations

import hashlib
import hmac
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from sandbox.world import World, world
from tests.waiting import sooner_or_later


@pytest.fixture
def up(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        made.serve(RUNS_FLEET_SHUTDOWN_DRAIN_DELAY_SECONDS="3")
        yield made


def ready(up: World) -> int:
    assert up.stack is not None
    return requests.get(f"{up.stack.url}/ready", timeout=600).status_code


def delivered(up: World) -> int:
    assert up.stack is not None
    job = {"id": 1, "run_id": 7, "run_attempt": 1, "name": "b", "labels": ["runs-fleet"], "created_at": "2026-01-31T12:00:00Z"}
    told = {"action": "waiting", "workflow_job": job, "repository": {"name": "sandbox", "owner": {"login": "octo"}}}
    body = json.dumps(told).encode()
    signature = "sha256=" + hmac.new(up.github.webhook_secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-GitHub-Event": "workflow_job", "X-Hub-Signature-256": signature}
    return requests.post(f"{up.stack.url}/webhook", body, headers=headers, timeout=600).status_code


def test_s10_it_is_not_ready_any_more_but_answers_until_nobody_sends_and_ends_by_itself(up: World) -> None:
    assert up.server is not None and up.stack is not None
    sooner_or_later(lambda: ready(up) == 200)
    before = ready(up)

    up.server.send_signal(signal.SIGTERM)
    sooner_or_later(lambda: ready(up) == 503)
    meanwhile = (ready(up), delivered(up))
    code = up.server.wait(600)

    assert (before, meanwhile) == (200, (503, 200))
    assert code in (0, -signal.SIGTERM)
    log = (up.root / "orchestrator.log").read_text("utf-8")
    assert "serve.draining signal=SIGTERM" in log and "serve.stopped" in log and "Traceback" not in log
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    told = up.cloud.client("sqs").get_queue_attributes(QueueUrl=up.stack.queue_url, AttributeNames=names)["Attributes"]
    assert sum(int(told[name]) for name in names) == 1, "what came meanwhile waits for somebody who stays"
