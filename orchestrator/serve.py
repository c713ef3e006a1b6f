"""One process: the webhook, the consumers of queues, the reconciler's threads, the schedule. Any number may run side by side."""

from __future__ import annotations

import signal
import threading
from functools import partial
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from orchestrator.adapters.loops import Loops
from orchestrator.endpoints import Answer, Endpoints, read_job_message
from orchestrator.errors import DeliveryRefused
from orchestrator.ports import Received
from orchestrator.schedule import SCHEDULE
from orchestrator.webhook_wiring import endpoints_of
from orchestrator.wiring import Orchestrator

CONSUMERS, RECONCILERS = 4, 8
"""Threads per queue: each turn waits for the network most of its time. A launch may take seconds.

Other label sets need not wait for it.
"""
STOP_S = 15.0
"""Seconds a running turn gets when the process is told to stop."""


def application(endpoints: Endpoints) -> Starlette:
    """The HTTP side: `POST /webhook`, `GET /health` (the process lives), `GET /ready` (it wants deliveries)."""

    async def webhook(request: Request) -> Response:
        try:
            body = await _bounded(request, endpoints)
        except DeliveryRefused as error:
            return _response(endpoints.refuse(error, request.headers))
        return _response(await run_in_threadpool(endpoints.webhook, request.headers, body))

    async def health(_request: Request) -> Response:
        return _response(endpoints.health())

    async def ready(request: Request) -> Response:
        return _response(endpoints.ready(draining=request.app.state.draining))

    routes = [Route("/webhook", webhook, methods=["POST"]), Route("/health", health), Route("/ready", ready)]
    app = Starlette(routes=routes)
    app.state.draining = False
    return app


def serve(orchestrator: Orchestrator) -> None:
    """Run until SIGTERM or SIGINT; turns that run then are let finish."""
    loops = Loops(orchestrator.journal, orchestrator.settings.poll_s)
    turns, settings = orchestrator.turns, orchestrator.settings

    def on_job(received: Received) -> None:
        event = read_job_message(received, orchestrator.journal)
        if event is not None:
            turns.on_job_event(event)

    for cadence in SCHEDULE:
        loops.every(cadence.name, cadence.every_s(settings), partial(cadence.take, turns))
    loops.reconcile_woken("reconciler", orchestrator.wake_queue, turns.on_wake, RECONCILERS)
    loops.consume("jobs", orchestrator.job_queue, on_job, CONSUMERS)
    loops.consume("terminations", orchestrator.termination_queue, turns.on_agent_message, CONSUMERS)
    if orchestrator.events_queue is not None:
        loops.consume("events", orchestrator.events_queue, turns.on_instance_event)
    for warning in settings.warnings:
        orchestrator.journal.event("settings.deprecated", warning=warning)
    orchestrator.journal.event("serve.ready", host=settings.host, port=settings.port)
    app = application(endpoints_of(settings, turns.acceptance, orchestrator.journal))
    config = uvicorn.Config(app, host=settings.host, port=settings.port, log_level="warning", access_log=False)
    DrainingServer(config, app, orchestrator, loops).run()
    loops.stop(STOP_S)
    for pool in orchestrator.pools:
        pool.stop()
    orchestrator.journal.event("serve.stopped")


class DrainingServer(uvicorn.Server):
    """A server that, when told to stop, first says that it is not ready, and goes on answering until nobody sends any more."""

    def __init__(self, config: uvicorn.Config, app: Starlette, orchestrator: Orchestrator, loops: Loops) -> None:
        super().__init__(config)
        self._app, self._orchestrator, self._loops = app, orchestrator, loops

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains; a second one does not wait."""
        if self._app.state.draining:
            self.should_exit = True
            return
        self._app.state.draining = True
        self._loops.halt()
        self._orchestrator.journal.event("serve.draining", signal=signal.Signals(sig).name)
        timer = threading.Timer(self._orchestrator.settings.drain_s, partial(setattr, self, "should_exit", True))
        timer.daemon = True
        timer.start()


async def _bounded(request: Request, endpoints: Endpoints) -> bytes:
    """The body, declared and counted: never more than the limit in memory. Raises: DeliveryRefused."""
    endpoints.declared_size(request.headers)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        endpoints.read_size(len(body))
    return bytes(body)


def _response(answer: Answer) -> Response:
    return JSONResponse(dict(answer.content), status_code=answer.status)
