"""One process: the webhook, the consumers, the waker and the tick. Any number of such processes may run side by side."""

from __future__ import annotations

import signal
import threading
from functools import partial
from types import FrameType

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from orchestrator.adapters.system import Wheels
from orchestrator.errors import DeliveryRefused, ServiceFailed
from orchestrator.ports import Received
from orchestrator.webhook import LIMIT_BYTES, JobEvent, is_genuine, read_delivery
from orchestrator.wiring import Orchestrator

CONSUMERS, WAKERS = 4, 8
"""Threads per queue: each turn waits for the network most of its time. A launch may take seconds.

Other levels need not wait for it.
"""
STOP_S = 15.0
"""Seconds a running turn gets when the process is told to stop."""


def application(orchestrator: Orchestrator) -> Starlette:
    """The HTTP side: `POST /webhook`, `GET /health` (the process lives), `GET /ready` (it wants deliveries)."""

    settings = orchestrator.settings
    secrets = [settings.webhook_secret, *([settings.webhook_secret_previous] if settings.webhook_secret_previous else [])]

    async def webhook(request: Request) -> Response:
        try:
            body = await _bounded(request)
            signature = request.headers.get("x-hub-signature-256", "")
            if not any(is_genuine(body, signature, secret) for secret in secrets):
                raise DeliveryRefused(401, "the signature does not fit the body: check the webhook's secret on both sides")
            if request.headers.get("x-github-event") != "workflow_job":
                return JSONResponse({"taken": False, "why": "only workflow_job is acted on"})
            event = read_delivery(body)
            taken = await run_in_threadpool(orchestrator.turns.on_webhook, body, event)
        except DeliveryRefused as error:
            return JSONResponse({"error": str(error)}, status_code=error.status)
        except ServiceFailed as error:
            orchestrator.journal.event("webhook.not_stored", error=str(error))
            return JSONResponse({"error": "the delivery could not be stored: redeliver it"}, status_code=503)
        return JSONResponse({"taken": taken})

    async def health(_request: Request) -> Response:
        return JSONResponse({"status": "up"})

    async def ready(request: Request) -> Response:
        draining = request.app.state.draining
        return JSONResponse({"status": "draining" if draining else "ready"}, status_code=503 if draining else 200)

    routes = [Route("/webhook", webhook, methods=["POST"]), Route("/health", health), Route("/ready", ready)]
    app = Starlette(routes=routes)
    app.state.draining = False
    return app


def serve(orchestrator: Orchestrator) -> None:
    """Until SIGTERM or SIGINT; turns that run then are let finish."""
    wheels = Wheels(orchestrator.journal, orchestrator.settings.poll_s)
    turns = orchestrator.turns

    def on_job(received: Received) -> None:
        try:
            event = msgspec.json.decode(received.body, type=JobEvent)
        except msgspec.MsgspecError as error:
            orchestrator.journal.event("job_message.unusable", error=str(error))
            return
        turns.on_job_event(event)

    wheels.every("sweep", orchestrator.settings.sweep_s, turns.on_sweep)
    wheels.every("tick", orchestrator.settings.tick_s, turns.on_tick)
    wheels.every("recovery", orchestrator.settings.recovery_s, turns.on_recovery)
    wheels.awake("levels", orchestrator.waker, turns.on_wake, WAKERS)
    wheels.consume("jobs", orchestrator.job_queue, on_job, CONSUMERS)
    wheels.consume("terminations", orchestrator.termination_queue, turns.on_agent_message, CONSUMERS)
    if orchestrator.events_queue is not None:
        wheels.consume("events", orchestrator.events_queue, turns.on_instance_event)
    settings = orchestrator.settings
    orchestrator.journal.event("serve.ready", host=settings.host, port=settings.port)
    app = application(orchestrator)
    config = uvicorn.Config(app, host=settings.host, port=settings.port, log_level="warning", access_log=False)
    DrainingServer(config, app, orchestrator, wheels).run()
    wheels.stop(STOP_S)
    for hands in orchestrator.hands:
        hands.stop()
    orchestrator.journal.event("serve.stopped")


class DrainingServer(uvicorn.Server):
    """A server that, when told to stop, first says that it is not ready, and goes on answering until nobody sends any more."""

    def __init__(self, config: uvicorn.Config, app: Starlette, orchestrator: Orchestrator, wheels: Wheels) -> None:
        super().__init__(config)
        self._app, self._orchestrator, self._wheels = app, orchestrator, wheels

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains; a second one does not wait."""
        if self._app.state.draining:
            self.should_exit = True
            return
        self._app.state.draining = True
        self._wheels.halt()
        self._orchestrator.journal.event("serve.draining", signal=signal.Signals(sig).name)
        timer = threading.Timer(self._orchestrator.settings.drain_s, partial(setattr, self, "should_exit", True))
        timer.daemon = True
        timer.start()


async def _bounded(request: Request) -> bytes:
    """The body, declared and counted: never more than the limit in memory."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > LIMIT_BYTES:
        raise DeliveryRefused(413, f"expected at most {LIMIT_BYTES} bytes, {declared} are declared")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LIMIT_BYTES:
            raise DeliveryRefused(413, f"expected at most {LIMIT_BYTES} bytes, more came")
    return bytes(body)
