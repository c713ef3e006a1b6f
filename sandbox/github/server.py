"""The stand-in GitHub over HTTP: REST, the runner's broker, downloads, and signed webhooks going out."""

from __future__ import annotations

import base64
import json
import queue
import re
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.github import views
from sandbox.github.deliveries import Deliveries
from sandbox.github.limits import CORE, REGISTRATIONS, Limits
from sandbox.github.state import GitHubState, JobRecord, Refusal
from sandbox.runner.release import Archive

POLL_S = 20.0
"""Seconds of the broker's long poll; GitHub's is about 50."""


@dataclass(frozen=True)
class Reply:
    """An answer: JSON unless `raw` is given."""

    status: int
    body: Any = None
    raw: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Call:
    """A request, taken apart."""

    path: tuple[str, ...]
    query: dict[str, str]
    body: bytes
    headers: Any

    def json(self) -> dict[str, Any]:
        """The body as an object. Raises: Refusal 400."""
        try:
            return dict(json.loads(self.body or b"{}"))
        except (ValueError, TypeError) as error:
            raise Refusal(400, "Problems parsing JSON") from error


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    """Connections that wait to be taken: with the library's five, those of a burst are reset."""


class StandInGitHub:
    """One repository, one App, on loopback."""

    def __init__(
        self, owner: str = "octo", repo: str = "sandbox", archive: Archive | None = None, architecture: str = "x64", apps: int = 1
    ) -> None:
        """`apps`: how many Apps are installed here; the first has the webhook."""
        self.webhook_secret = uuid.uuid4().hex
        self.app_id = "1"
        self.app_keys = {str(n + 1): rsa.generate_private_key(public_exponent=65537, key_size=2048) for n in range(apps)}
        self.uninstalled: set[str] = set()
        """Apps that somebody took away again."""
        self.permissions = dict(views.PERMISSIONS)
        self.limits = Limits()
        self._app_of_token: dict[str, str] = {}
        self.state = GitHubState(owner, repo, self._on_change)
        self.archive, self.architecture = archive, architecture
        self.deliveries = Deliveries(self.webhook_secret)
        self.calls: list[tuple[str, str]] = []
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._keys: queue.Queue[rsa.RSAPrivateKey] = queue.Queue(4)
        self._threads = [
            threading.Thread(target=target, daemon=True, name=name)
            for name, target in (
                ("github", lambda: self._server.serve_forever(0.02)),
                ("webhooks", self.deliveries.run),
                ("keys", self._make_keys),
            )
        ]

    def start(self) -> StandInGitHub:
        """Serve."""
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """Stop serving and delivering."""
        self.state.closed = True
        with self.state.lock:
            self.state.lock.notify_all()
        self.deliveries.close()
        self._server.shutdown()
        self._server.server_close()

    @property
    def app_private_key(self) -> str:
        """The first App's key as PEM."""
        return self.private_key(self.app_id)

    def private_key(self, app_id: str) -> str:
        """That App's key as PEM."""
        kind = serialization.PrivateFormat.PKCS8
        return self.app_keys[app_id].private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption()).decode()

    def answer(self, method: str, call: Call) -> Reply:
        """Route one request."""
        path = call.path[2:] if call.path[:2] == ("api", "v3") else call.path
        self.calls.append((method, "/" + "/".join(path)))
        for wanted, pattern, handle in self._routes():
            if method == wanted and len(pattern) == len(path) and all(p in (w, "*") for p, w in zip(pattern, path, strict=True)):
                return self._counted(Call(path, call.query, call.body, call.headers), handle)
        raise Refusal(404, "Not Found")

    def _counted(self, call: Call, handle: Callable[[Call], Reply]) -> Reply:
        """Against the limit of the App whose token it carries; a runner's own calls are not counted."""
        app = self._app_of_token.get(call.headers.get("Authorization", "").partition(" ")[2])
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

    def _routes(self) -> list[tuple[str, tuple[str, ...], Callable[[Call], Reply]]]:
        repository = ("repos", self.state.owner, self.state.repo)
        runners = (*repository, "actions", "runners")
        releases = ("repos", "actions", "runner", "releases")
        return [
            ("POST", ("app", "installations", "*", "access_tokens"), self._installation_token),
            ("GET", (*repository, "installation"), self._installation),
            ("POST", (*runners, "generate-jitconfig"), self._generate_jitconfig),
            ("POST", (*runners, "registration-token"), self._registration_token),
            ("GET", runners, self._list_runners),
            ("GET", (*runners, "*"), self._get_runner),
            ("DELETE", (*runners, "*"), self._delete_runner),
            ("GET", (*repository, "actions", "jobs", "*"), self._get_job),
            ("GET", (*repository, "actions", "jobs", "*", "logs"), self._job_logs),
            ("GET", (*repository, "actions", "runs", "*", "jobs"), self._run_jobs),
            ("POST", (*repository, "actions", "runs", "*", "cancel"), self._cancel),
            ("GET", (*repository, "actions", "runs"), self._list_runs),
            ("GET", (*repository, "actions", "runs", "*"), self._get_run),
            ("POST", (*repository, "actions", "runs", "*", "rerun-failed-jobs"), self._rerun_failed),
            ("POST", (*repository, "actions", "jobs", "*", "rerun"), self._rerun_job),
            ("POST", (*repository, "check-runs"), self._create_check_run),
            ("GET", ("rate_limit",), self._rate_limit),
            ("GET", ("app", "hook", "deliveries"), self._list_deliveries),
            ("POST", ("app", "hook", "deliveries", "*", "attempts"), self._redeliver),
            ("GET", (*releases, "latest"), self._latest_release),
            ("GET", (*releases, "tags", "*"), self._tagged_release),
            ("GET", ("actions", "runner", "releases", "download", "*", "*"), self._download),
            ("GET", ("cdn", "*"), self._bytes),
            ("POST", ("actions", "runner-registration"), self._runner_registration),
            ("POST", ("actions", "runners", "register"), self._register),
            ("POST", ("oauth", "token"), self._oauth_token),
            ("POST", ("broker", "session"), self._open_session),
            ("DELETE", ("broker", "session"), self._close_session),
            ("GET", ("broker", "message"), self._next_message),
            ("POST", ("run", "acquirejob"), self._acquire),
            ("POST", ("run", "renewjob"), self._renew),
            ("POST", ("run", "completejob"), self._complete),
        ]

    def _installation_token(self, call: Call) -> Reply:
        app, token = self._insist_on_app(call), self.state.token("ghs_")
        if app in self.uninstalled:
            raise Refusal(404, "Not Found")
        self._app_of_token[token] = app
        answer = {
            "token": token, "expires_at": views.moment(time.time() + 3600),
            "permissions": self.permissions, "repository_selection": "selected",
        }  # fmt: skip
        return Reply(201, answer)

    def _rate_limit(self, call: Call) -> Reply:
        """Of the App whose token it carries."""
        self._insist_on_token(call)
        app = self._app_of_token.get(call.headers.get("Authorization", "").partition(" ")[2], self.app_id)
        return Reply(200, views.rate_limits(self.limits.overview(app)))

    def _installation(self, call: Call) -> Reply:
        if self._insist_on_app(call) in self.uninstalled:
            raise Refusal(404, "Not Found")
        return Reply(200, views.installation(self.state.owner, self.url, self.permissions))

    def _generate_jitconfig(self, call: Call) -> Reply:
        self._insist_on_token(call)
        asked = call.json()
        for name in ("name", "runner_group_id", "labels"):
            if name not in asked:
                raise Refusal(422, f"Invalid input: object is missing required key: {name}")
        if not 1 <= len(asked["labels"]) <= 100 or len(str(asked["name"])) > 64:
            raise Refusal(422, "Invalid input: expected 1 to 100 labels and a name of at most 64 characters")
        key = self._keys.get()
        runner = self.state.register(str(asked["name"]), tuple(asked["labels"]), int(asked["runner_group_id"]), key.public_key())
        files = self._runner_files(runner.id, runner.name, runner.client_id, key, str(asked.get("work_folder") or "_work"))
        blob = base64.b64encode(json.dumps(files).encode()).decode()
        return Reply(201, {"runner": views.runner(runner), "encoded_jit_config": blob})

    def _registration_token(self, call: Call) -> Reply:
        self._insist_on_token(call)
        return Reply(201, {"token": self.state.token("AREG"), "expires_at": views.moment(time.time() + 3600)})

    def _list_runners(self, call: Call) -> Reply:
        self._insist_on_token(call)
        name = call.query.get("name")
        found = [views.runner(r) for r in self.state.runners.values() if name is None or r.name == name]
        return Reply(200, {"total_count": len(found), "runners": _paged(found, call)})

    def _get_runner(self, call: Call) -> Reply:
        self._insist_on_token(call)
        runner = self.state.runners.get(_number(call.path[-1]))
        if runner is None:
            raise Refusal(404, "Not Found")
        return Reply(200, views.runner(runner))

    def _delete_runner(self, call: Call) -> Reply:
        self._insist_on_token(call)
        self.state.remove(_number(call.path[-1]))
        return Reply(204)

    def _get_job(self, call: Call) -> Reply:
        self._insist_on_token(call)
        run, job = self.state.job(_number(call.path[-1]))
        return Reply(200, views.job(self.state, run, job, self.url))

    def _job_logs(self, call: Call) -> Reply:
        _, job = self.state.job(_number(call.path[-2]))
        lines = [line for step in job.steps for line in (f"##[group]{step['name']}", *step["lines"], "##[endgroup]")]
        return Reply(200, raw="\n".join([*lines, ""]).encode(), headers=(("Content-Type", "text/plain; charset=utf-8"),))

    def _run_jobs(self, call: Call) -> Reply:
        self._insist_on_token(call)
        run = self.state.runs.get(_number(call.path[-2]))
        if run is None:
            raise Refusal(404, "Not Found")
        known = [*run.past, *run.jobs] if call.query.get("filter") == "all" else run.jobs
        jobs = [views.job(self.state, run, job, self.url) for job in known if job.status != "pending"]
        return Reply(200, {"total_count": len(jobs), "jobs": _paged(jobs, call)})

    def _cancel(self, call: Call) -> Reply:
        self._insist_on_token(call)
        self.state.cancel(_number(call.path[-2]))
        return Reply(202, {})

    def _list_runs(self, call: Call) -> Reply:
        self._insist_on_token(call)
        wanted = call.query.get("status")
        runs = [run for run in self.state.runs.values() if wanted in (None, run.status)]
        found = [views.run(self.state, run, self.url) for run in _paged(runs, call)]
        return Reply(200, {"total_count": len(runs), "workflow_runs": found})

    def _get_run(self, call: Call) -> Reply:
        self._insist_on_token(call)
        run = self.state.runs.get(_number(call.path[-1]))
        if run is None:
            raise Refusal(404, "Not Found")
        return Reply(200, views.run(self.state, run, self.url))

    def _rerun_failed(self, call: Call) -> Reply:
        self._insist_on_token(call)
        self.state.rerun(_number(call.path[-2]))
        return Reply(201, {})

    def _rerun_job(self, call: Call) -> Reply:
        self._insist_on_token(call)
        run, job = self.state.job(_number(call.path[-2]))
        self.state.rerun(run.id, job.id)
        return Reply(201, {})

    def _create_check_run(self, call: Call) -> Reply:
        self._insist_on_token(call)
        if self.permissions.get("checks") != "write":
            raise Refusal(403, "Resource not accessible by integration")
        asked = call.json()
        for name in ("name", "head_sha"):
            if name not in asked:
                raise Refusal(422, f"Invalid request. {name} wasn't supplied.")
        record = self.state.check(str(asked["head_sha"]), str(asked["name"]), asked)
        return Reply(201, views.check_run(self.state, record, self.url))

    def _list_deliveries(self, call: Call) -> Reply:
        self._insist_on_app(call)
        newest = sorted(self.deliveries.log, key=lambda one: -one.id)
        wanted = [one for one in newest if call.query.get("status") != "failure" or not 200 <= one.status_code < 300]
        older = [one for one in wanted if one.id < _number(call.query.get("cursor", str(1 << 60)))]
        page = older[: min(int(call.query.get("per_page", "30")), 100)]
        query = {**call.query, "cursor": str(page[-1].id)} if len(older) > len(page) else {}
        beyond = (("Link", f'<{self.url}/app/hook/deliveries?{urlencode(query)}>; rel="next"'),) if query else ()
        return Reply(200, [views.delivery_item(one) for one in page], headers=beyond)

    def _redeliver(self, call: Call) -> Reply:
        self._insist_on_app(call)
        if not self.deliveries.again(_number(call.path[-2])):
            raise Refusal(404, "Not Found")
        return Reply(202, {})

    def _latest_release(self, _call: Call) -> Reply:
        if self.archive is None:
            raise Refusal(404, "Not Found")
        return Reply(200, views.release(self.archive, self.architecture, self.url))

    def _tagged_release(self, call: Call) -> Reply:
        if self.archive is None or call.path[-1] != f"v{self.archive.version}":
            raise Refusal(404, "Not Found")
        return Reply(200, views.release(self.archive, self.architecture, self.url))

    def _download(self, call: Call) -> Reply:
        return Reply(302, headers=(("Location", f"{self.url}/cdn/{call.path[-1]}"),))

    def _bytes(self, call: Call) -> Reply:
        assert self.archive is not None
        content = self.archive.content
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", call.headers.get("Range", ""))
        if wanted is None:
            return Reply(200, raw=content, headers=(("Content-Type", "application/octet-stream"), ("Accept-Ranges", "bytes")))
        first, last = int(wanted.group(1)), min(int(wanted.group(2) or len(content) - 1), len(content) - 1)
        if first >= len(content):
            return Reply(416, headers=(("Content-Range", f"bytes */{len(content)}"),))
        return Reply(206, raw=content[first : last + 1], headers=(("Content-Range", f"bytes {first}-{last}/{len(content)}"),))

    def _runner_registration(self, call: Call) -> Reply:
        self._insist_on_token(call)
        return Reply(
            200, {"url": self.url, "token_schema": "OAuthAccessToken", "token": self.state.token("RREG"), "use_v2_flow": True}
        )

    def _register(self, call: Call) -> Reply:
        self._insist_on_token(call)
        asked, key = call.json(), self._keys.get()
        runner = self.state.register(
            asked["name"], tuple(asked["labels"]), 1, key.public_key(), replace=bool(asked.get("replace"))
        )
        return Reply(200, {"id": runner.id, "name": runner.name, "files": self._runner_files(runner.id, runner.name, runner.client_id, key, "_work")})  # fmt: skip

    def _oauth_token(self, call: Call) -> Reply:
        """Client credentials with an assertion signed by the registration's own key."""
        assertion = parse_qs(call.body.decode()).get("client_assertion", [""])[0]
        try:
            client_id = jwt.decode(assertion, options={"verify_signature": False})["sub"]
            runner = next(r for r in self.state.runners.values() if r.client_id == client_id)
            jwt.decode(assertion, runner.public_key, algorithms=["RS256"], audience=f"{self.url}/oauth/token", leeway=300)
        except (jwt.PyJWTError, StopIteration, KeyError) as error:
            raise Refusal(400, "invalid_client", "invalid_client") from error
        return Reply(200, {"access_token": self.state.token("RUN"), "token_type": "bearer", "expires_in": 3600})

    def _open_session(self, call: Call) -> Reply:
        self._insist_on_token(call)
        agent = call.json()["agent"]
        return Reply(200, {"sessionId": self.state.open_session(int(agent["id"]), str(agent["version"]))})

    def _close_session(self, call: Call) -> Reply:
        self._insist_on_token(call)
        self.state.close_session(call.query.get("sessionId", ""))
        return Reply(204)

    def _next_message(self, call: Call) -> Reply:
        self._insist_on_token(call)
        job = self.state.next_job(call.query.get("sessionId", ""), POLL_S)
        if job is None:
            return Reply(202)
        body = {
            "id": str(job.id),
            "runner_request_id": str(job.id),
            "should_acknowledge": True,
            "run_service_url": f"{self.url}/run",
        }
        return Reply(200, {"messageId": job.id, "messageType": "RunnerJobRequest", "body": json.dumps(body)})

    def _acquire(self, call: Call) -> Reply:
        self._insist_on_token(call)
        run, job = self.state.acquire(_number(call.json()["jobMessageId"]))
        contexts = self.state.contexts(run, job)
        message = {
            "job": {
                "id": job.id, "name": job.plan.name, "repository": f"{self.state.owner}/{self.state.repo}",
                "github": contexts["github"], "needs": contexts["needs"], "matrix": job.plan.matrix, "env": contexts["env"],
                "steps": list(job.plan.steps), "outputs": job.plan.outputs, "timeout-minutes": job.plan.timeout_minutes,
            },
            "runner_name": job.runner_name, "run_service_url": f"{self.url}/run", "token": self.state.token("JOB"),
        }  # fmt: skip
        return Reply(200, message)

    def _renew(self, call: Call) -> Reply:
        self._insist_on_token(call)
        return Reply(200, {"cancelled": self.state.renew(int(call.json()["jobId"]))})

    def _complete(self, call: Call) -> Reply:
        self._insist_on_token(call)
        told = call.json()
        self.state.complete(int(told["jobId"]), str(told["conclusion"]), dict(told["outputs"]), list(told["steps"]))
        return Reply(200, {})

    def _insist_on_token(self, call: Call) -> None:
        self.state.insist_on_token(call.headers.get("Authorization", ""))

    def _insist_on_app(self, call: Call) -> str:
        """Which App it is."""
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

    def _runner_files(self, identity: int, name: str, client_id: str, key: rsa.RSAPrivateKey, work: str) -> dict[str, str]:
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

    def _make_keys(self) -> None:
        """RSA keys take a while: a few are kept ready."""
        while not self.state.closed:
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            while not self.state.closed:
                try:
                    self._keys.put(key, timeout=1.0)
                    break
                except queue.Full:
                    continue

    def _on_change(self, action: str, job: JobRecord) -> None:
        run = self.state.runs.get(job.run_id)
        if run is not None:
            self.deliveries.put(action, json.dumps(views.delivery(self.state, action, run, job, self.url)).encode())

    def deliver(self, guid: str, body: bytes) -> int:
        """One delivery at once; the status it was answered with, 599 for no answer."""
        return self.deliveries.send(guid, body)

    @property
    def webhook_url(self) -> str | None:
        """Where deliveries go; None: nowhere yet."""
        return self.deliveries.url

    @webhook_url.setter
    def webhook_url(self, url: str | None) -> None:
        self.deliveries.url = url


def _paged(found: list[Any], call: Call) -> list[Any]:
    """The page that was asked for; 30 items unless said, 100 at most."""
    size = min(int(call.query.get("per_page", "30")), 100)
    first = (int(call.query.get("page", "1")) - 1) * size
    return found[first : first + size]


def _number(text: str) -> int:
    if not str(text).isdigit():
        raise Refusal(404, "Not Found")
    return int(text)


def _handler(github: StandInGitHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _turn(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            call = Call(tuple(part for part in parts.path.split("/") if part), query, self.rfile.read(length), self.headers)
            try:
                reply = github.answer(self.command, call)
            except Refusal as error:
                told = {
                    "message": error.message,
                    "documentation_url": "https://docs.github.com/rest",
                    "status": str(error.status),
                }
                broker = {
                    "source": "actions-broker-listener",
                    "errorKind": error.kind,
                    "statusCode": error.status,
                    "errorMessage": error.message,
                }
                reply = Reply(error.status, {**told, **(broker if error.kind else {})}, headers=error.headers)
            content = reply.raw if reply.raw is not None else b"" if reply.body is None else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            headers = dict(reply.headers)
            if reply.body is not None:
                headers.setdefault("Content-Type", "application/json; charset=utf-8")
            for name, value in headers.items():
                self.send_header(name, value)
            if reply.status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if content and self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_POST = do_DELETE = do_HEAD = _turn

        def log_message(self, *_: Any) -> None:
            """Quiet."""

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (ConnectionError, TimeoutError):
                self.close_connection = True

    return Handler
