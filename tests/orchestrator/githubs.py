"""Who plays GitHub for the App's calls: the stand-in, which checks what it is sent, or one whose answers a test chooses."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from agent.contract.secret import Secret
from orchestrator.adapters.github import GitHubApp
from orchestrator.store.naming import Scope
from sandbox.github import views
from sandbox.github.behaviour import GitHubBehaviour
from sandbox.github.limits import Limits
from sandbox.github.server import StandInGitHub
from tests.answering import Answering, Asked

SCOPE = Scope("3", "octo", "sandbox")
ELSEWHERE = Scope("3", "octo", "elsewhere")
"""A repository that the App does not see."""
LABELS = ("runs-fleet=7", "linux")
RUNNERS = "/repos/octo/sandbox/actions/runners"
TOKEN = ("POST", "/app/installations/3/access_tokens")
NO_PERMISSION = (403, {"message": "Resource not accessible by integration"})
Told = tuple[int, Any]
"""A status and a content: bytes as they are, all else as JSON."""


def as_on_its_first_day(github: StandInGitHub) -> StandInGitHub:
    """Without runners, tokens or memory of calls, and with all it had."""
    state = github.state
    for kept in (state.runners, state.runs, state.tokens, state.checks, github.uninstalled):
        kept.clear()
    github.permissions, github.limits, github.behaviour = dict(views.PERMISSIONS), Limits(), GitHubBehaviour()
    github.calls.clear()
    return github


def app_of(github: StandInGitHub, **changes: Any) -> GitHubApp:
    """The stand-in's App, with its key."""
    given = {"api_url": github.url, "app_id": github.app_id, "private_key": Secret(github.app_private_key), **changes}
    return GitHubApp(**given)


@functools.cache
def foreign_key() -> Secret:
    """A key that no App of a stand-in has."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Secret(key.private_bytes(*pem).decode())


class ScriptedGitHub:
    """An API that believes everybody, from the constructor to the end of a `with`."""

    def __init__(self, answers: dict[str, Told | Callable[[Asked], Told]], token_s: float = 3600.0) -> None:
        """`answers`: by the end of a path, the longest that fits, or 404. `token_s`: how long its tokens live."""
        ends_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + token_s))
        self.answers = {"/access_tokens": (201, {"token": "t", "expires_at": ends_at}), **answers}
        self.asked: list[Asked] = []
        self._server = Answering(self._answer)
        self.url = self._server.url

    def __enter__(self) -> ScriptedGitHub:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def app(self, **changes: Any) -> GitHubApp:
        """An App of it."""
        return GitHubApp(**{"api_url": self.url, "app_id": "1", "private_key": foreign_key(), **changes})

    def count(self, end: str) -> int:
        """How many calls were made of a path with this end."""
        return sum(asked.path.partition("?")[0].endswith(end) for asked in self.asked)

    def _answer(self, asked: Asked) -> tuple[int, bytes]:
        self.asked.append(asked)
        path = asked.path.partition("?")[0]
        end = max((end for end in self.answers if path.endswith(end)), key=len, default="")
        told = self.answers.get(end, (404, {"message": "Not Found"}))
        status, content = told(asked) if callable(told) else told
        return status, content if isinstance(content, bytes) else json.dumps(content).encode()
