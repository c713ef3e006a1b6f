"""One process: the webhook, the consumers of queues, the reconciler's threads, the schedule. Any number may run side by side."""

from __future__ import annotations

import errno
import signal
import socket
import threading
from functools import partial
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agent.contract.variables import PREFIX
from orchestrator.adapters.clock import THE_MACHINES
from orchestrator.adapters.http_server import (
    Connections,
    Dropped,
    config_of,
    count_refused_accepts,
    most_connections,
    raised_file_limit,
)
from orchestrator.adapters.log_group import LogGroup, log_group
from orchestrator.adapters.loops import Loops
from orchestrator.endpoints import Answer, Endpoints, read_job_message
from orchestrator.errors import DeliveryRefused, SettingsInvalid
from orchestrator.ports import Received, Timepiece
from orchestrator.readiness import Readiness
from orchestrator.schedule import SCHEDULE
from orchestrator.settings import ServerSettings
from orchestrator.webhook_wiring import endpoints_of
from orchestrator.wiring import Orchestrator

CONSUMERS, RECONCILERS = 4, 8
"""Threads per queue: each turn waits for the network most of its time. A launch may take seconds.

Other label sets need not wait for it.
"""
AGAIN_S, LATER_S = 10.0, 300.0
"""Seconds until the checks are made again: while one is not passed, so that somebody who corrects it sees it; and afterwards."""
BIND_TRIES, BIND_AGAIN_S = 15, 0.2
"""How often and how quickly a port is asked for that another process still has: one that was killed lets it go a moment later."""
USD_PER_VCPU = 0.0504
"""Of an hour on demand: m7i in us-east-1 (0.1008 for two). Source: "Amazon EC2 On-Demand Pricing", 2026."""
STOP_S = 15.0
"""Seconds a running turn gets when the process is told to stop."""


def application(endpoints: Endpoints, readiness: Readiness) -> Starlette:
    """The HTTP side: `POST /webhook`, `GET /health` (the process lives), `GET /ready` (it wants deliveries)."""

    async def webhook(request: Request) -> Response:
        try:
            body = await _bounded(request, endpoints)
        except DeliveryRefused as error:
            return _response(endpoints.refuse(error, request.headers))
        except ClientDisconnect:
            endpoints.dropped(Dropped.ABORTED)
            return Response(status_code=400)  # nobody reads it
        return _response(await run_in_threadpool(endpoints.webhook, request.headers, body))

    async def health(_request: Request) -> Response:
        return _response(endpoints.health())

    async def ready(request: Request) -> Response:
        return _response(endpoints.ready(draining=request.app.state.draining, readiness=readiness))

    routes = [Route("/webhook", webhook, methods=["POST"]), Route("/health", health), Route("/ready", ready)]
    app = Starlette(routes=routes)
    app.state.draining = False
    return app


def serve(orchestrator: Orchestrator) -> None:
    """Run until SIGTERM or SIGINT; turns that run then are let finish.

    The port is bound first: until everything is checked, `/ready` says what is missing. Turns begin as soon as the tables and the
    queues are what they must be; whatever else is missing, what runs already is looked after.
    """
    settings, journal = orchestrator.settings, orchestrator.journal
    shipped = _shipped(orchestrator)
    loops = Loops(journal, settings.poll_s)
    for warning in settings.warnings:
        journal.event("settings.warning", warning=warning)
    journal.event("serve.limits", **bounds(settings))
    endpoints = endpoints_of(settings, orchestrator.turns.acceptance, journal)
    app = application(endpoints, orchestrator.readiness)
    connections = Connections(most_connections(raised_file_limit()), endpoints.dropped)
    with _listening(settings.host, settings.port) as listening:
        DrainingServer(connections, app, orchestrator, loops).run([listening])
    loops.stop(STOP_S)
    for pool in orchestrator.pools:
        pool.stop()
    journal.event("serve.stopped")
    if shipped is not None:
        shipped.stop()


def bounds(settings: ServerSettings) -> dict[str, object]:
    """What the stack may have and cost at most, for whoever starts it."""
    own, estimate = settings.max_usd_per_hour, settings.max_cpus * USD_PER_VCPU
    most = min((one for one in (own, estimate) if one), default=0.0)
    by = "RUNS_FLEET_MAX_USD_PER_HOUR" if most == own else f"{USD_PER_VCPU} USD a vCPU and hour"
    return {
        "machines": settings.max_sessions, "vcpus": settings.max_cpus or "no limit",
        "usd_per_hour": f"{most:.2f}" if most else "no limit", **({"by": by} if most else {}),
        "machines_per_repository": settings.per_repository.sessions or "no limit",
        "launches_per_minute": f"{settings.launches_per_minute:g}",
    }  # fmt: skip


def _shipped(orchestrator: Orchestrator) -> LogGroup | None:
    """The log group that the log goes to besides; None: to none."""
    group, journal = orchestrator.settings.own_log_group, orchestrator.journal
    if not group:
        return None
    shipped = log_group(group, orchestrator.clients, lambda why: journal.say_here("log_group.failed", why=why))
    journal.ship(shipped.put)
    return shipped


def _begin(orchestrator: Orchestrator, loops: Loops) -> None:
    """Everything that is done beside answering requests."""
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


class Start:
    """The way from a bound port to a server that is ready, in turns of one thread."""

    def __init__(self, orchestrator: Orchestrator, loops: Loops) -> None:
        self._orchestrator, self._loops = orchestrator, loops
        self._has_begun = False

    def turn(self) -> float:
        """Look at what must be there, and go on as far as that allows; returns seconds until the next look."""
        readiness = self._orchestrator.readiness
        if not self._has_begun:
            readiness.look(first=True)
            if not readiness.may_begin:
                readiness.look()  # so that everything that is wrong is told at once
                return AGAIN_S
            try:
                _begin(self._orchestrator, self._loops)
            except RuntimeError as error:  # no more threads may be started: half of the loops are worse than none
                self._orchestrator.journal.event("serve.not_begun", error=str(error))
                signal.raise_signal(signal.SIGTERM)
                return LATER_S
            self._has_begun = True
        was_ready = readiness.is_ready
        readiness.look()
        if readiness.is_ready and not was_ready:
            unchecked = {"unchecked": ",".join(readiness.unchecked)} if readiness.unchecked else {}
            self._orchestrator.journal.event("serve.ready", checks=len(readiness.findings), **unchecked)
        return LATER_S if readiness.is_ready and not readiness.failed else AGAIN_S


class DrainingServer(uvicorn.Server):
    """A server that, when told to stop, first says that it is not ready, and goes on answering until nobody sends any more."""

    def __init__(self, connections: Connections, app: Starlette, orchestrator: Orchestrator, loops: Loops) -> None:
        settings = orchestrator.settings
        super().__init__(config_of(app, settings.host, settings.port, connections))
        self._connections, self._app, self._orchestrator, self._loops = connections, app, orchestrator, loops

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Answers from now on, and begins to look what is there."""
        count_refused_accepts(self._connections)
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            self._orchestrator.journal.event("serve.bound", host=host, port=port)
            self._loops.paced("readiness", Start(self._orchestrator, self._loops).turn)

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


def _listening(host: str, port: int, clock: Timepiece = THE_MACHINES) -> socket.socket:
    """The port, bound; a process that is on its way out is waited for. Raises: SettingsInvalid: it cannot be."""
    for left in reversed(range(BIND_TRIES)):
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
            return socket.create_server((host, port), family=family)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and left:
                clock.pause(BIND_AGAIN_S)
                continue
            expected = "expected an address of this machine and a port that is free"
            found = f"found {host}:{port} ({error.strerror or error})"
            raise SettingsInvalid((f"{PREFIX}HOST, {PREFIX}PORT: {expected}, {found}",)) from error
    raise AssertionError("the last try returns or raises")


async def _bounded(request: Request, endpoints: Endpoints) -> bytes:
    """The body, declared and counted: never more than the limit in memory. Raises: DeliveryRefused; ClientDisconnect."""
    endpoints.before_the_body(request.headers)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        endpoints.read_size(len(body))
    return bytes(body)


def _response(answer: Answer) -> Response:
    return JSONResponse(dict(answer.content), status_code=answer.status)
