"""What the runner itself calls at the stand-in: its release, its registration, the broker, the run service."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from urllib.parse import parse_qs

import jwt

from sandbox.github import views
from sandbox.github.context import GitHubContext
from sandbox.github.http import Call, Reply, number
from sandbox.github.records import Refusal

POLL_S = 20.0
"""Seconds of the broker's long poll; GitHub's is about 50."""


class RunnerService:
    """What a runner is answered."""

    def __init__(self, github: GitHubContext) -> None:
        self._github = github

    def routes(self) -> list[tuple[str, tuple[str, ...], Callable[[Call], Reply]]]:
        """Method, path (`*`: any word) and handler."""
        releases = ("repos", "actions", "runner", "releases")
        return [
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

    def _latest_release(self, _call: Call) -> Reply:
        if self._github.archive is None:
            raise Refusal(404, "Not Found")
        return Reply(200, views.release(self._github.archive, self._github.architecture, self._github.url))

    def _tagged_release(self, call: Call) -> Reply:
        if self._github.archive is None or call.path[-1] != f"v{self._github.archive.version}":
            raise Refusal(404, "Not Found")
        return Reply(200, views.release(self._github.archive, self._github.architecture, self._github.url))

    def _download(self, call: Call) -> Reply:
        return Reply(302, headers=(("Location", f"{self._github.url}/cdn/{call.path[-1]}"),))

    def _bytes(self, call: Call) -> Reply:
        assert self._github.archive is not None
        content = self._github.archive.content
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", call.headers.get("Range", ""))
        if wanted is None:
            return Reply(200, raw=content, headers=(("Content-Type", "application/octet-stream"), ("Accept-Ranges", "bytes")))
        first, last = int(wanted.group(1)), min(int(wanted.group(2) or len(content) - 1), len(content) - 1)
        if first >= len(content):
            return Reply(416, headers=(("Content-Range", f"bytes */{len(content)}"),))
        return Reply(206, raw=content[first : last + 1], headers=(("Content-Range", f"bytes {first}-{last}/{len(content)}"),))

    def _runner_registration(self, call: Call) -> Reply:
        self._github.insist_on_token(call)
        return Reply(
            200,
            {
                "url": self._github.url,
                "token_schema": "OAuthAccessToken",
                "token": self._github.state.token("RREG"),
                "use_v2_flow": True,
            },
        )

    def _register(self, call: Call) -> Reply:
        self._github.insist_on_token(call)
        asked, key = call.json(), self._github.keys.get()
        runner = self._github.state.register(
            asked["name"], tuple(asked["labels"]), 1, key.public_key(), replace=bool(asked.get("replace"))
        )
        return Reply(200, {"id": runner.id, "name": runner.name, "files": self._github.runner_files(runner.id, runner.name, runner.client_id, key, "_work")})  # fmt: skip

    def _oauth_token(self, call: Call) -> Reply:
        """Client credentials with an assertion signed by the registration's own key."""
        assertion = parse_qs(call.body.decode()).get("client_assertion", [""])[0]
        try:
            client_id = jwt.decode(assertion, options={"verify_signature": False})["sub"]
            runner = next(r for r in self._github.state.runners.values() if r.client_id == client_id)
            jwt.decode(assertion, runner.public_key, algorithms=["RS256"], audience=f"{self._github.url}/oauth/token", leeway=300)
        except (jwt.PyJWTError, StopIteration, KeyError) as error:
            raise Refusal(400, "invalid_client", "invalid_client") from error
        return Reply(200, {"access_token": self._github.state.token("RUN"), "token_type": "bearer", "expires_in": 3600})

    def _open_session(self, call: Call) -> Reply:
        self._github.insist_on_token(call)
        agent = call.json()["agent"]
        return Reply(200, {"sessionId": self._github.state.open_session(int(agent["id"]), str(agent["version"]))})

    def _close_session(self, call: Call) -> Reply:
        self._github.insist_on_token(call)
        self._github.state.close_session(call.query.get("sessionId", ""))
        return Reply(204)

    def _next_message(self, call: Call) -> Reply:
        self._github.insist_on_token(call)
        job = self._github.state.next_job(call.query.get("sessionId", ""), POLL_S)
        if job is None:
            return Reply(202)
        body = {
            "id": str(job.id),
            "runner_request_id": str(job.id),
            "should_acknowledge": True,
            "run_service_url": f"{self._github.url}/run",
        }
        return Reply(200, {"messageId": job.id, "messageType": "RunnerJobRequest", "body": json.dumps(body)})

    def _acquire(self, call: Call) -> Reply:
        self._github.insist_on_token(call)
        run, job = self._github.state.acquire(number(call.json()["jobMessageId"]))
        contexts = self._github.state.contexts(run, job)
        message = {
            "job": {
                "id": job.id, "name": job.plan.name, "repository": f"{self._github.state.owner}/{self._github.state.repo}",
                "github": contexts["github"], "needs": contexts["needs"], "matrix": job.plan.matrix, "env": contexts["env"],
                "vars": contexts["vars"], "inputs": contexts["inputs"], "strategy": contexts["strategy"],
                "steps": list(job.plan.steps), "outputs": job.plan.outputs, "timeout-minutes": job.plan.timeout_minutes,
                "setup-seconds": self._github.behaviour.setup_s,
            },
            "runner_name": job.runner_name, "run_service_url": f"{self._github.url}/run", "token": self._github.state.token("JOB"),
        }  # fmt: skip
        return Reply(200, message)

    def _renew(self, call: Call) -> Reply:
        self._github.insist_on_token(call)
        return Reply(200, {"cancelled": self._github.state.renew(int(call.json()["jobId"]))})

    def _complete(self, call: Call) -> Reply:
        self._github.insist_on_token(call)
        told = call.json()
        self._github.state.complete(int(told["jobId"]), str(told["conclusion"]), dict(told["outputs"]), list(told["steps"]))
        return Reply(200, {})
