"""GitHub as an App: a signed JWT becomes an installation token, which registers, finds and removes runners.

Source: GitHub REST, "Self-hosted runners" and "Authenticating as a GitHub App installation", API version 2022-11-28.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

from agent.contract.releases import file_of, release_path, version_of
from agent.contract.secret import Secret
from agent.contract.shown import as_cell, as_markdown
from orchestrator.adapters.github_wire import APP, PAGE, SHUT_OUT, GitHubWire, content_of, moment, readable
from orchestrator.checks.github_app import AppFacts
from orchestrator.errors import ServiceFailed
from orchestrator.fleet.work import RegistrationQuota
from orchestrator.jobs.github import EndedJob, FailedDelivery, Minted, RegisteredRunner, Run, RunnerRelease
from orchestrator.jobs.rate_limits import Need
from orchestrator.jobs.webhook import JobEvent, as_told
from orchestrator.store.naming import Scope, place_of

DELIVERY_PAGES = 50
NOT_LET_IN = "the GitHub App to be let in: it is not installed there, suspended, or may not register runners"
RUNNERS_WORDS = {"amd64": "x64", "arm64": "arm64"}
"""How the runner calls our architectures. Source: the asset names of actions/runner releases."""
FINE = frozenset({None, "success", "skipped", "neutral"})


class GitHubApp(GitHubWire):
    """GitHub (services) over REST."""

    def mint(self, scope: Scope, name: str, labels: tuple[str, ...]) -> Minted | None:
        """201 with the blob; 409: the name is taken."""
        body = {"name": name, "runner_group_id": scope.group_id, "labels": list(labels), "work_folder": "_work"}
        status, answer = self.call("POST", scope, "generate-jitconfig", need=Need.REGISTRATION, json=body)
        if status == 409:
            return None
        if status in SHUT_OUT:
            self.shut(place_of(scope))
        self.expect(status, 201, "generate-jitconfig", answer)
        self.let_in(scope)
        with readable("generate-jitconfig"):
            return Minted(int(answer["runner"]["id"]), Secret(str(answer["encoded_jit_config"])))

    def registrations(self, scope: Scope) -> RegistrationQuota:
        """By the headers of the last answer, or by GitHub's overview; none while the App may not register there, then one."""
        if self.is_shut_out(scope):
            return RegistrationQuota(0, NOT_LET_IN)
        left = self.left(scope)
        if left is None:
            self.look_over(scope)
            left = self.left(scope)
        if self.is_shut_out(scope):
            return RegistrationQuota(0, NOT_LET_IN)
        if self.is_on_trial(scope) and left != 0:
            return RegistrationQuota(1, NOT_LET_IN, on_trial=True)
        return RegistrationQuota(left, "GitHub's limit of registrations")

    def facts(self, *, hears: bool) -> AppFacts:
        """What GitHub says of this App. `hears`: whether its webhook is ours.

        Raises: ServiceFailed; code `401`: GitHub does not accept its key; `404`: it knows no such App.
        """

        def told(path: str, about: str) -> Any:
            status, answer = self.exchange("GET", f"{self.api_url}/{path}", self.signed(), APP, Need.WORK)
            self.expect(status, 200, about, answer)
            return answer

        about = told("app", "look at the App")
        hook = self._hook(told) if hears else None
        installations = told(f"app/installations?per_page={PAGE}", "list the App's installations")
        with readable("look at the App"):
            return AppFacts(
                about=dict(about), hook=None if hook is None else dict(hook), installations=[dict(one) for one in installations]
            )

    @staticmethod
    def _hook(told: Callable[[str, str], Any]) -> Any:
        """An App that has no webhook has no configuration of one."""
        try:
            return told("app/hook/config", "look at the App's webhook")
        except ServiceFailed as error:
            if error.code != "404":
                raise
            return {}

    def find(self, scope: Scope, name: str) -> int | None:
        """The runner of exactly this name."""
        status, answer = self.call("GET", scope, "", params={"name": name, "per_page": "100"})
        self.expect(status, 200, "list runners", answer)
        with readable("list runners"):
            return next((int(runner["id"]) for runner in answer["runners"] if runner["name"] == name), None)

    def remove(self, scope: Scope, runner_id: int) -> bool:
        """204 and 404: gone; 422: it runs a job."""
        status, answer = self.call("DELETE", scope, str(runner_id))
        if status == 422:
            return False
        if status != 404:
            self.expect(status, 204, "delete runner", answer)
        return True

    def registered(self, scope: Scope) -> Iterator[RegisteredRunner]:
        """Registered runners, from all pages."""
        for runner in self.listed(scope, "runners", "runners", Need.LOOKING):
            with readable("list runners"):
                yield RegisteredRunner(int(runner["id"]), str(runner["name"]), runner["status"] == "online", bool(runner["busy"]))

    def job(self, scope: Scope, job_id: str, *, urgent: bool = True) -> JobEvent | None:
        """None where GitHub answers 404."""
        status, answer = self.call("GET", scope, job_id, part="jobs", need=Need.WORK if urgent else Need.LOOKING)
        if status == 404:
            return None
        self.expect(status, 200, "get job", answer)
        with readable("get job"):
            return as_told(answer, scope.owner, scope.repo, scope.installation_id)

    def jobs_of(self, scope: Scope, run_id: str) -> Iterator[JobEvent]:
        """Of the latest attempt, all pages. Source: GitHub REST, "List jobs for a workflow run"."""
        if not run_id.isdigit():
            return  # an agent's hint, which a job can write: never part of a path as it is
        try:
            for job in self.listed(scope, f"runs/{run_id}/jobs", "jobs", Need.LOOKING, filter="latest"):
                with readable("list jobs"):
                    yield as_told(job, scope.owner, scope.repo, scope.installation_id)
        except ServiceFailed as error:
            if error.code != "404":
                raise

    def run(self, scope: Scope, run_id: str) -> Run | None:
        """None where GitHub answers 404."""
        status, answer = self.call("GET", scope, run_id, part="runs")
        if status == 404:
            return None
        self.expect(status, 200, "get run", answer)
        with readable("get run"):
            fork = (answer.get("head_repository") or {}).get("full_name") != answer["repository"]["full_name"]
            over, public = answer["status"] == "completed", not answer["repository"]["private"]
            ended = str(answer.get("conclusion") or "")
            return Run(over=over, attempt=int(answer["run_attempt"]), conclusion=ended, fork=fork, public=public)

    def is_superseded(self, scope: Scope, run_id: str) -> bool:
        """By the newest run of its workflow and branch. Source: GitHub REST, "List workflow runs for a workflow"."""
        status, answer = self.call("GET", scope, run_id, part="runs")
        if status == 404:
            return False
        self.expect(status, 200, "get run", answer)
        with readable("get run"):
            number, workflow, branch = int(answer["run_number"]), int(answer["workflow_id"]), str(answer["head_branch"] or "")
        told = {"branch": branch, "per_page": "1"}
        status, newest = self.call("GET", scope, f"{workflow}/runs", part="workflows", params=told)
        self.expect(status, 200, "list workflow runs", newest)
        with readable("list workflow runs"):
            return any(int(run["run_number"]) > number for run in newest["workflow_runs"])

    def ended_badly(self, scope: Scope, run_id: str) -> list[EndedJob]:
        """All pages. Source: the conclusions of "Get a job for a workflow run", GitHub REST."""
        jobs = self.listed(scope, f"runs/{run_id}/jobs", "jobs", filter="latest")
        with readable("list jobs"):
            return [EndedJob(str(j["id"]), str(j["name"]), str(j["conclusion"])) for j in jobs if j["conclusion"] not in FINE]

    def waiting_jobs(self, scope: Scope) -> Iterator[JobEvent]:
        """Of runs that are queued or in progress."""
        for status in ("queued", "in_progress"):
            for run in self.listed(scope, "runs", "workflow_runs", Need.LOOKING, status=status):
                for job in self.listed(scope, f"runs/{run['id']}/jobs", "jobs", Need.LOOKING, filter="latest"):
                    if job.get("status") == "queued":
                        with readable("list jobs"):
                            yield as_told(job, scope.owner, scope.repo, scope.installation_id)

    def failed_deliveries(self, since: float) -> list[FailedDelivery]:
        """Of each guid the newest failure, unless one of the newest hundred deliveries shows that it was answered well since.

        Five thousand failures at most; pages are told by a cursor in its `Link`. Source: GitHub REST, "List deliveries for
        an app webhook".
        """
        found: dict[str, Any] = {}
        with readable("list deliveries"):
            for query, most in (({"status": "failure"}, DELIVERY_PAGES), ({}, 1)):
                for one in itertools.takewhile(partial(_is_since, since), self._deliveries(query, most)):
                    if one["event"] == "workflow_job":
                        known = found.setdefault(one["guid"], one)
                        found[one["guid"]] = one if _is_well(one) else known
            return [FailedDelivery(str(one["id"]), str(one["guid"])) for one in found.values() if not _is_well(one)]

    def _deliveries(self, query: dict[str, str], pages: int) -> Iterator[Any]:
        """Newest first, as they are asked for."""
        cursor: dict[str, str] = {}
        for _ in range(pages):
            url, told = f"{self.api_url}/app/hook/deliveries", {"per_page": str(PAGE), **query, **cursor}
            answer = self.answered("GET", url, self.signed(), APP, Need.LOOKING, params=told)
            listed = content_of(answer)
            self.expect(answer.status_code, 200, "list deliveries", listed)
            yield from listed
            beyond = parse_qs(urlsplit(answer.links.get("next", {}).get("url", "")).query).get("cursor")
            if not beyond:
                return
            cursor = {"cursor": beyond[0]}

    def answer_to(self, delivery_id: str) -> str:
        """Source: GitHub REST, "Get a delivery for an app webhook"; the payload of our own answer is JSON with `error`."""
        status, answer = self.exchange(
            "GET", f"{self.api_url}/app/hook/deliveries/{delivery_id}", self.signed(), APP, Need.LOOKING
        )
        if status == 404:
            return ""
        self.expect(status, 200, "get delivery", answer)
        with readable("get delivery"):
            payload = (answer.get("response") or {}).get("payload")
            return f"{answer['status_code']}: {payload or answer.get('status', '')}"[:300]

    def redeliver(self, delivery_id: str) -> None:
        """Have a delivery sent again; 202 says that it will be."""
        url = f"{self.api_url}/app/hook/deliveries/{delivery_id}/attempts"
        status, answer = self.exchange("POST", url, self.signed(), APP, Need.LOOKING)
        self.expect(status, 202, "redeliver", answer)

    def post_notice(self, scope: Scope, head_sha: str, title: str, text: str) -> bool:
        """A check run that is over. 403: the App has no permission for checks. Source: GitHub REST, "Create a check run"."""
        url = f"{self.api_url}/repos/{scope.owner}/{scope.repo}/check-runs"
        body = {
            "name": "runs-fleet", "head_sha": head_sha, "status": "completed", "conclusion": "neutral",
            "output": {"title": as_cell(title), "summary": as_markdown(text)},
        }  # fmt: skip
        status, answer = self.as_installation("POST", scope, url, Need.NOTICE, json=body)
        if status in (403, 404):
            return False
        self.expect(status, 201, "create check run", answer)
        return True

    def rerun(self, scope: Scope, run_id: str, job_id: str = "") -> bool:
        """201: done; 403: it runs already, or is too old. Source: GitHub REST, "Re-run failed jobs", "Re-run a job"."""
        path, room = (f"{job_id}/rerun", "jobs") if job_id else (f"{run_id}/rerun-failed-jobs", "runs")
        status, answer = self.call("POST", scope, path, part=room)
        if status == 403:
            return False
        self.expect(status, 201, "re-run", answer)
        return True

    def release(self, scope: Scope, version: str) -> RunnerRelease | None:
        """With an installation's token: without one an address has sixty calls an hour, which anybody behind it can use up."""
        url = f"{self.api_url}/{release_path(version)}"
        status, answer = self.as_installation("GET", scope, url, Need.LOOKING)
        if status == 404:
            return None
        self.expect(status, 200, "get release", answer)
        with readable("get release"):
            files = {ours: file_of(answer, theirs) for ours, theirs in RUNNERS_WORDS.items()}
            return RunnerRelease(version_of(answer), {name: one.sha256 for name, one in files.items() if one and one.sha256})


def _is_since(since: float, delivery: Any) -> bool:
    return moment(delivery["delivered_at"]) >= since


def _is_well(delivery: Any) -> bool:
    return bool(200 <= delivery["status_code"] < 300)
