"""What the parts of the stand-in GitHub share: its Apps and their keys, its state, who may ask."""

from __future__ import annotations

import base64
import json
import threading
import uuid
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.github import views
from sandbox.github.behaviour import GitHubBehaviour
from sandbox.github.deliveries import Deliveries
from sandbox.github.http import Call
from sandbox.github.limits import Limits
from sandbox.github.records import JobRecord, Refusal
from sandbox.github.state import GitHubState
from sandbox.runner.release import Archive


class RunnerKeys:
    """Private keys for registrations, one after the other in turn: GitHub makes one for each, which takes 100 ms of a processor."""

    DIFFERENT = 4

    def __init__(self) -> None:
        self._made: list[rsa.RSAPrivateKey] = []
        self._next, self._more = 0, threading.Condition()

    def get(self) -> rsa.RSAPrivateKey:
        """Another one than the last three times, as soon as there is one."""
        with self._more:
            self._next += 1
            place = (self._next - 1) % self.DIFFERENT
            self._more.wait_for(lambda: len(self._made) > place)
            return self._made[place]

    def make(self) -> None:
        """All of them, unless there are."""
        for _ in range(self.DIFFERENT - len(self._made)):
            key = _new_key()
            with self._more:
                self._made.append(key)
                self._more.notify_all()


KEYS = RunnerKeys()
"""For all stand-ins of this process."""


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def _key_of_app(_: str) -> rsa.RSAPrivateKey:
    """The same in all stand-ins of this process."""
    return _new_key()


class GitHubContext:
    """One repository and the Apps that are installed there."""

    url: str

    def __init__(
        self, owner: str = "octo", repo: str = "sandbox", archive: Archive | None = None, architecture: str = "x64", apps: int = 1
    ) -> None:
        """`apps`: how many Apps are installed here; the first has the webhook."""
        self.webhook_secret = uuid.uuid4().hex
        self.app_id = "1"
        self.app_keys = {app: _key_of_app(app) for app in map(str, range(1, apps + 1))}
        self.uninstalled: set[str] = set()
        """Apps that somebody took away again."""
        self.minted: list[str] = []
        """Every JIT configuration that was ever handed out."""
        self.permissions, self.events = dict(views.PERMISSIONS), ["workflow_job"]
        self.is_suspended = False
        """Whether somebody suspended the installation."""
        self.limits, self.behaviour = Limits(), GitHubBehaviour()
        self.app_of_token: dict[str, str] = {}
        self.state = GitHubState(owner, repo, self._on_change)
        self.archive, self.architecture = archive, architecture
        self.deliveries = Deliveries(self.webhook_secret)
        self.keys = KEYS

    @property
    def app_private_key(self) -> str:
        """The first App's key as PEM."""
        return self.private_key(self.app_id)

    def private_key(self, app_id: str) -> str:
        """The private key of that App as PEM."""
        kind = serialization.PrivateFormat.PKCS8
        return self.app_keys[app_id].private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption()).decode()

    def installation(self) -> dict[str, Any]:
        """The one installation, as GitHub tells it."""
        told = views.installation(self.state.owner, self.url, self.permissions, self.events)
        return {**told, **({"suspended_at": "2026-07-21T00:00:00Z"} if self.is_suspended else {})}

    def insist_on_token(self, call: Call) -> None:
        """Raises: Refusal 401 without a token of ours that is still valid."""
        self.state.insist_on_token(call.headers.get("Authorization", ""))

    def insist_on_app(self, call: Call) -> str:
        """The App that signed the request."""
        token = call.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            app = str(jwt.decode(token, options={"verify_signature": False}).get("iss", ""))
            key = self.app_keys.get(app, self.app_keys[self.app_id]).public_key()
            claims = jwt.decode(token, key, algorithms=["RS256"], options={"require": ["exp", "iat", "iss"]})
        except jwt.PyJWTError as error:
            raise Refusal(401, f"A JSON web token could not be decoded: {error}") from error
        if app not in self.app_keys or claims["exp"] - claims["iat"] > 600:
            raise Refusal(401, "'Issuer' or 'Expiration time' claim is not acceptable")
        return app

    def runner_files(self, identity: int, name: str, client_id: str, key: rsa.RSAPrivateKey, work: str) -> dict[str, str]:
        """Source: the layers of a JIT config in actions/runner; values are strings there too."""
        runner = {
            "AgentId": str(identity), "AgentName": name, "PoolId": "1", "PoolName": "Default", "ServerUrl": f"{self.url}/",
            "ServerUrlV2": f"{self.url}/broker/", "UseV2Flow": "True", "WorkFolder": work, "Ephemeral": "True",
        }  # fmt: skip
        token_url = f"{self.url}/oauth/token"
        credentials = {
            "scheme": "OAuth",
            "data": {"clientId": client_id, "authorizationUrl": token_url, "requireFipsCryptography": "True"},
        }
        numbers = key.private_numbers()
        parts = {
            "d": numbers.d, "dp": numbers.dmp1, "dq": numbers.dmq1, "exponent": numbers.public_numbers.e,
            "inverseQ": numbers.iqmp, "modulus": numbers.public_numbers.n, "p": numbers.p, "q": numbers.q,
        }  # fmt: skip
        parameters = {n: base64.b64encode(v.to_bytes((v.bit_length() + 7) // 8, "big")).decode() for n, v in parts.items()}
        files = {".runner": runner, ".credentials": credentials, ".credentials_rsaparams": parameters}
        return {file: base64.b64encode(json.dumps(content).encode()).decode() for file, content in files.items()}

    def _on_change(self, action: str, job: JobRecord) -> None:
        run = self.state.runs.get(job.run_id)
        if run is not None:
            self.deliveries.put(action, json.dumps(views.delivery(self.state, action, run, job, self.url)).encode())

    def deliver(self, guid: str, body: bytes) -> int:
        """One delivery at once; the status it was answered with, 599 for no answer."""
        return self.deliveries.send(guid, body)[0]

    @property
    def webhook_url(self) -> str | None:
        """Where deliveries go; None: nowhere yet."""
        return self.deliveries.url

    @webhook_url.setter
    def webhook_url(self, url: str | None) -> None:
        self.deliveries.url = url
