"""The stand-in GitHub over HTTP: REST, the runner's broker, downloads, and signed webhooks going out."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import replace

from sandbox.github.behaviour import GitHubBehaviour
from sandbox.github.context import GitHubContext
from sandbox.github.http import Call, Reply, Server, handler
from sandbox.github.limits import CORE, REGISTRATIONS
from sandbox.github.records import Refusal
from sandbox.github.rest import RestApi
from sandbox.github.runner_service import RunnerService
from sandbox.github.state import GitHubState
from sandbox.runner.release import Archive

NEIGHBOURS_IDS = 500_000
"""Ids are GitHub's own, whichever repository they are of."""


class StandInGitHub(GitHubContext):
    """One repository, one App, on loopback."""

    def __init__(
        self, owner: str = "octo", repo: str = "sandbox", archive: Archive | None = None, architecture: str = "x64", apps: int = 1
    ) -> None:
        """`apps`: how many Apps are installed here; the first has the webhook."""
        super().__init__(owner, repo, archive, architecture, apps)
        self.calls: list[tuple[str, str]] = []
        self._routes = [*RestApi(self).routes(), *RunnerService(self).routes()]
        self._server = Server(("127.0.0.1", 0), handler(self.answer))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._threads = [
            threading.Thread(target=target, daemon=True, name=name)
            for name, target in (
                ("github", lambda: self._server.serve_forever(0.02)),
                ("webhooks", self.deliveries.run),
                ("keys", self.keys.make),
            )
        ]

    def start(self) -> StandInGitHub:
        """Serve, on threads of its own."""
        for thread in self._threads:
            thread.start()
        return self

    def neighbour(self, repo: str) -> GitHubContext:
        """Another repository of the same owner and the same Apps, with runs and a behaviour of its own."""
        other = copy.copy(self)
        other.behaviour = GitHubBehaviour()
        other.state = GitHubState(self.state.owner, repo, other._on_change)
        other.state.tokens, other.state.checks = self.state.tokens, self.state.checks
        other.state.begin_at(NEIGHBOURS_IDS)
        self._routes += RestApi(other).routes()
        return other

    def stop(self) -> None:
        """Stop serving and delivering."""
        self.state.closed = True
        with self.state.lock:
            self.state.lock.notify_all()
        self.deliveries.close()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, call: Call) -> Reply:
        """Route one request and answer it."""
        path = call.path[2:] if call.path[:2] == ("api", "v3") else call.path
        self.calls.append((method, "/" + "/".join(path)))
        for wanted, pattern, handle in self._routes:
            if method == wanted and len(pattern) == len(path) and all(p in (w, "*") for p, w in zip(pattern, path, strict=True)):
                return self._counted(Call(path, call.query, call.body, call.headers), handle)
        raise Refusal(404, "Not Found")

    def _counted(self, call: Call, handle: Callable[[Call], Reply]) -> Reply:
        """Against the limit of the App whose token it carries; a runner's own calls are not counted."""
        app = self.app_of_token.get(call.headers.get("Authorization", "").partition(" ")[2])
        if app is None or call.path == ("rate_limit",):
            return handle(call)
        allowed, told = self.limits.count(app, REGISTRATIONS if call.path[-1] == "generate-jitconfig" else CORE)
        if not allowed:
            secondary = ("x-ratelimit-remaining", "0") not in told
            raise Refusal(
                self.limits.status, f"You have exceeded {'a secondary' if secondary else 'the API'} rate limit", headers=told
            )
        try:
            reply = handle(call)
        except Refusal as refusal:
            refusal.headers = told
            raise
        return replace(reply, headers=(*reply.headers, *told))
