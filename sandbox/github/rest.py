"""The stand-in's REST API: Apps, runners, runs, jobs, check runs, deliveries."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from urllib.parse import urlencode

from sandbox.github import views
from sandbox.github.context import GitHubContext
from sandbox.github.http import Call, Reply, number, paged
from sandbox.github.records import Refusal


class RestApi:
    """What GitHub's REST API answers."""

    def __init__(self, github: GitHubContext) -> None:
        self._github = github

    def routes(self) -> list[tuple[str, tuple[str, ...], Callable[[Call], Reply]]]:
        """Method, path (`*`: any word) and handler."""
        repository = ("repos", self._github.state.owner, self._github.state.repo)
        runners = (*repository, "actions", "runners")
        return [
            ("GET", ("app",), self._app),
            ("GET", ("app", "installations"), self._installations),
            ("GET", ("app", "hook", "config"), self._hook),
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
            ("GET", (*repository, "actions", "workflows", "*", "runs"), self._list_runs),
            ("POST", (*repository, "actions", "runs", "*", "rerun-failed-jobs"), self._rerun_failed),
            ("POST", (*repository, "actions", "jobs", "*", "rerun"), self._rerun_job),
            ("POST", (*repository, "check-runs"), self._create_check_run),
            ("GET", ("rate_limit",), self._rate_limit),
            ("GET", ("app", "hook", "deliveries"), self._list_deliveries),
            ("GET", ("app", "hook", "deliveries", "*"), self._get_delivery),
            ("POST", ("app", "hook", "deliveries", "*", "attempts"), self._redeliver),
        ]

    def _installation_token(self, call: Call) -> Reply:
        app, token = self._github.insist_on_app(call), self._github.state.token("ghs_")
        if app in self._github.uninstalled:
            raise Refusal(404, "Not Found")
        self._github.app_of_token[token] = app
        answer = {
            "token": token, "expires_at": views.moment(time.time() + 3600),
            "permissions": self._github.permissions, "repository_selection": "selected",
        }  # fmt: skip
        return Reply(201, answer)

    def _app(self, call: Call) -> Reply:
        app = self._github.insist_on_app(call)
        installed = 0 if app in self._github.uninstalled else 1
        return Reply(200, views.app(app, self._github.url, self._github.permissions, self._github.events, installed))

    def _installations(self, call: Call) -> Reply:
        found = [] if self._github.insist_on_app(call) in self._github.uninstalled else [self._github.installation()]
        return Reply(200, paged(found, call))

    def _hook(self, call: Call) -> Reply:
        self._github.insist_on_app(call)
        url = self._github.webhook_url
        if url is None:
            raise Refusal(404, "Not Found")
        return Reply(200, {"content_type": "json", "insecure_ssl": "0", "secret": "********", "url": url})

    def _rate_limit(self, call: Call) -> Reply:
        """Of the App whose token it carries."""
        self._github.insist_on_token(call)
        app = self._github.app_of_token.get(call.headers.get("Authorization", "").partition(" ")[2], self._github.app_id)
        return Reply(200, views.rate_limits(self._github.limits.overview(app)))

    def _installation(self, call: Call) -> Reply:
        if self._github.insist_on_app(call) in self._github.uninstalled:
            raise Refusal(404, "Not Found")
        return Reply(200, self._github.installation())

    def _generate_jitconfig(self, call: Call) -> Reply:
        self._github.insist_on_token(call)
        if self._github.behaviour.refuses_registrations:
            raise Refusal(403, "Resource not accessible by integration")
        asked = call.json()
        for name in ("name", "runner_group_id", "labels"):
            if name not in asked:
                raise Refusal(422, f"Invalid input: object is missing required key: {name}")
        if not 1 <= len(asked["labels"]) <= 100 or len(str(asked["name"])) > 64:
            raise Refusal(422, "Invalid input: expected 1 to 100 labels and a name of at most 64 characters")
        key = self._github.keys.get()
        runner = self._github.state.register(
            str(asked["name"]), tuple(asked["labels"]), int(asked["runner_group_id"]), key.public_key()
        )
        files = self._github.runner_files(runner.id, runner.name, runner.client_id, key, str(asked.get("work_folder") or "_work"))
        blob = base64.b64encode(json.dumps(files).encode()).decode()
        self._github.minted.append(blob)
        return Reply(201, {"runner": views.runner(runner), "encoded_jit_config": blob})

    def _registration_token(self, call: Call) -> Reply:
        self._github.insist_on_token(call)
        return Reply(201, {"token": self._github.state.token("AREG"), "expires_at": views.moment(time.time() + 3600)})

    def _list_runners(self, call: Call) -> Reply:
        self._github.insist_on_token(call)
        name = call.query.get("name")
        found = [views.runner(r) for r in self._github.state.runners.values() if name is None or r.name == name]
        return Reply(200, {"total_count": len(found), "runners": paged(found, call)})

    def _get_runner(self, call: Call) -> Reply:
        self._github.insist_on_token(call)
        runner = self._github.state.runners.get(number(call.path[-1]))
        if runner is None:
            raise Refusal(404, "Not Found")
        return Reply(200, views.runner(runner))

    def _delete_runner(self, call: Call) -> Reply:
        self._github.insist_on_token(call)
        self._github.state.remove(number(call.path[-1]))
        return Reply(204)

    def _get_job(self, call: Call) -> Reply:
        self._github.insist_on_token(call)
        run, job = self._github.state.job(number(call.path[-1]))
        return Reply(200, views.job(self._github.state, run, job, self._github.url))

    def _job_logs(self, call: Call) -> Reply:
        _, job = self._github.state.job(number(call.path[-2]))
        lines = [line for step in job.steps for line in (f"##[group]{step['name']}", *step["lines"], "##[endgroup]")]
        return Reply(200, raw="\n".join([*lines, ""]).encode(), headers=(("Content-Type", "text/plain; charset=utf-8"),))

    def _run_jobs(self, call: Call) -> Reply:
        self._github.insist_on_token(call)
        run = self._github.state.runs.get(number(call.path[-2]))
        if run is None:
            raise Refusal(404, "Not Found")
        known = [*run.past, *run.jobs] if call.query.get("filter") == "all" else run.jobs
        jobs = [views.job(self._github.state, run, job, self._github.url) for job in known if job.status != "pending"]
        return Reply(200, {"total_count": len(jobs), "jobs": paged(jobs, call)})

    def _cancel(self, call: Call) -> Reply:
        self._github.insist_on_token(call)
        self._github.state.cancel(number(call.path[-2]))
        return Reply(202, {})

    def _list_runs(self, call: Call) -> Reply:
        self._github.insist_on_token(call)
        wanted = call.query.get("status")
        newest = sorted(self._github.state.runs.values(), key=lambda run: -run.number)
        runs = [run for run in newest if wanted in (None, run.status)]
        found = [views.run(self._github.state, run, self._github.url) for run in paged(runs, call)]
        return Reply(200, {"total_count": len(runs), "workflow_runs": found})

    def _get_run(self, call: Call) -> Reply:
        self._github.insist_on_token(call)
        run = self._github.state.runs.get(number(call.path[-1]))
        if run is None or run.id in self._github.behaviour.unknown_runs:
            raise Refusal(404, "Not Found")
        return Reply(200, views.run(self._github.state, run, self._github.url))

    def _rerun_failed(self, call: Call) -> Reply:
        self._github.insist_on_token(call)
        self._github.state.rerun(number(call.path[-2]))
        return Reply(201, {})

    def _rerun_job(self, call: Call) -> Reply:
        self._github.insist_on_token(call)
        run, job = self._github.state.job(number(call.path[-2]))
        self._github.state.rerun(run.id, job.id)
        return Reply(201, {})

    def _create_check_run(self, call: Call) -> Reply:
        self._github.insist_on_token(call)
        if self._github.permissions.get("checks") != "write":
            raise Refusal(403, "Resource not accessible by integration")
        asked = call.json()
        for name in ("name", "head_sha"):
            if name not in asked:
                raise Refusal(422, f"Invalid request. {name} wasn't supplied.")
        record = self._github.state.check(str(asked["head_sha"]), str(asked["name"]), asked)
        return Reply(201, views.check_run(self._github.state, record, self._github.url))

    def _list_deliveries(self, call: Call) -> Reply:
        self._github.insist_on_app(call)
        newest = sorted(self._github.deliveries.log, key=lambda one: -one.id)
        wanted = [one for one in newest if call.query.get("status") != "failure" or not 200 <= one.status_code < 300]
        older = [one for one in wanted if one.id < number(call.query.get("cursor", str(1 << 60)))]
        page = older[: min(int(call.query.get("per_page", "30")), 100)]
        query = {**call.query, "cursor": str(page[-1].id)} if len(older) > len(page) else {}
        beyond = (("Link", f'<{self._github.url}/app/hook/deliveries?{urlencode(query)}>; rel="next"'),) if query else ()
        return Reply(200, [views.delivery_item(one) for one in page], headers=beyond)

    def _get_delivery(self, call: Call) -> Reply:
        self._github.insist_on_app(call)
        found = next((one for one in self._github.deliveries.log if one.id == number(call.path[-1])), None)
        if found is None:
            raise Refusal(404, "Not Found")
        return Reply(200, views.whole_delivery(found))

    def _redeliver(self, call: Call) -> Reply:
        self._github.insist_on_app(call)
        if not self._github.deliveries.again(number(call.path[-2])):
            raise Refusal(404, "Not Found")
        return Reply(202, {})
