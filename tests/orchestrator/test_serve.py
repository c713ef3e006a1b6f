"""The webhook over real HTTP: how much is read, who is believed, and what is answered."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import requests

from agent.contract.secret import Secret
from orchestrator.jobs.webhook import LIMIT_BYTES
from orchestrator.readiness import Fault
from simulation.examples import some_settings
from simulation.world import World
from tests.orchestrator.web import DELIVERY, PATIENCE_S, Served, checked, serving


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    """One server for nearly all tests here."""
    with serving(World()) as served:
        yield served


@pytest.fixture
def served(server: Served) -> Served:
    """The server with nothing in its queue."""
    server.world.queue.refuses = False
    server.world.queue.forget()
    return server


def test_a_genuine_delivery_is_taken_and_queued(served: Served) -> None:
    assert served.post(DELIVERY) == (200, {"taken": True})
    assert [json.loads(body)["job_id"] for body in served.world.queue.bodies] == ["1"]


def test_a_delivery_for_somebody_elses_runner_is_answered_and_not_queued(served: Served) -> None:
    body = DELIVERY.replace(b"runs-fleet", b"ubuntu-24.04")

    assert served.post(body) == (200, {"taken": False})
    assert served.world.queue.bodies == []


@pytest.mark.parametrize("event", ["ping", "push", "workflow_run", ""])
def test_only_workflow_job_is_acted_on(served: Served, event: str) -> None:
    status, answer = served.post(DELIVERY, event)

    assert (status, answer["taken"], served.world.queue.bodies) == (200, False, [])


def test_a_wrong_secret_is_answered_with_401(served: Served) -> None:
    status, _ = served.post(DELIVERY, secret="hash")

    assert (status, served.world.queue.bodies) == (401, [])


def test_while_a_secret_is_being_changed_the_one_before_is_believed_too() -> None:
    with serving(World(settings=some_settings(webhook_secret_previous=Secret("once")))) as served:
        statuses = [served.post(DELIVERY, secret=secret)[0] for secret in ("hush", "once", "hash")]

    assert statuses == [200, 200, 401]


@pytest.mark.parametrize("signature", ["", "sha256=", "sha256=\xfc", "sha1=abc"])
def test_a_signature_of_another_shape_is_answered_with_401(served: Served, signature: str) -> None:
    status, _ = served.post(DELIVERY, **{"X-Hub-Signature-256": signature})

    assert status == 401


def test_no_signature_at_all_is_answered_with_401(served: Served) -> None:
    assert served.raw(f"Content-Length: {len(DELIVERY)}\r\nX-GitHub-Event: workflow_job", DELIVERY) == 401


def test_a_wrong_signature_is_refused_before_the_event_is_looked_at(served: Served) -> None:
    assert served.post(DELIVERY, event="ping", secret="hash")[0] == 401


NONSENSE = [
    b"",
    b"nonsense",
    b"[]",
    b"{}",
    b"\xff\xfe",
    b"[" * 200_000,
    DELIVERY.replace(b'"run_attempt": 1', b'"run_attempt": 1e999'),
]


@pytest.mark.parametrize("body", NONSENSE, ids=["nothing", "text", "list", "object", "bytes", "deep", "infinite"])
def test_genuine_nonsense_is_answered_with_400(served: Served, body: bytes) -> None:
    status, answer = served.post(body)

    assert (status, list(answer)) == (400, ["error"])


def test_s12_g2_a_queue_that_refuses_is_answered_with_503_so_that_it_is_delivered_again(served: Served) -> None:
    served.world.queue.refuses = True
    first, _ = served.post(DELIVERY)
    served.world.queue.refuses = False

    assert (first, served.post(DELIVERY)[0], len(served.world.queue.bodies)) == (503, 200, 1)


def test_a_redelivery_is_queued_once(served: Served) -> None:
    assert [served.post(DELIVERY)[0] for _ in range(3)] == [200, 200, 200]
    assert len(served.world.queue.bodies) == 1


def test_a_declared_length_beyond_the_limit_is_refused_before_anything_is_sent(served: Served) -> None:
    assert served.raw(f"Content-Length: {LIMIT_BYTES + 1}") == 413


def test_a_body_of_undeclared_length_is_refused_before_it_is_read(served: Served) -> None:
    signature = f"X-Hub-Signature-256: sha256={'0f' * 32}"

    assert served.raw(f"Transfer-Encoding: chunked\r\n{signature}") == 411


def test_a_body_of_exactly_the_limit_is_read(served: Served) -> None:
    body = DELIVERY + b" " * (LIMIT_BYTES - len(DELIVERY))

    assert served.post(body) == (200, {"taken": True})


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_only_post_delivers(served: Served, method: str) -> None:
    assert requests.request(method, f"http://127.0.0.1:{served.port}/webhook", timeout=PATIENCE_S).status_code == 405


def test_health_says_that_it_is_up(served: Served) -> None:
    assert served.get("health") == (200, {"status": "up"})


def test_before_everything_is_checked_it_says_what_is_missing_by_name_alone_and_takes_deliveries_all_the_same() -> None:
    world = World()
    fault = Fault(found="no queue q-1", expected="a queue", remedy="make one")
    with serving(world, checked(world, fault)) as served:
        status, answer = served.get("ready")

        assert (status, answer) == (503, {"status": "not ready", "failed": ["queue-jobs"]})
        assert "q-1" not in str(answer)
        assert served.post(DELIVERY) == (200, {"taken": True})


def test_a_process_that_drains_wants_no_more_deliveries_but_lives_and_takes_those_that_come() -> None:
    with serving(World()) as served:
        before = served.get("ready")
        served.app.state.draining = True

        assert before == (200, {"status": "ready"})
        assert served.get("ready") == (503, {"status": "draining"})
        assert served.get("health")[0] == 200
        assert served.post(DELIVERY) == (200, {"taken": True})


def test_why_a_delivery_was_not_stored_is_in_the_log_and_not_in_the_answer(served: Served) -> None:
    served.world.queue.refuses = True
    before = len(served.world.journal.of("webhook.not_stored"))
    _, answer = served.post(DELIVERY)

    (told,) = served.world.journal.of("webhook.not_stored")[before:]
    assert "ServiceUnavailable" in str(told["error"]) and "ServiceUnavailable" not in str(answer)
