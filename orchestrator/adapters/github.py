"""GitHub as an App: a signed JWT becomes an installation token, which registers, finds and removes runners.

Source: GitHub REST, "Self-hosted runners" and "Authenticating as a GitHub App installation", API version 2022-11-28.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import msgspec
import requests

from agent.contract.secret import Secret
from orchestrator.budgets import Budgets, Need
from orchestrator.errors import ServiceFailed, Throttled, Unanswered
from orchestrator.ports import Allowance, Ended, Minted, Registered, Run, Scope
from orchestrator.webhook import JobEvent, as_told

TIMEOUT_S = (5.0, 20.0)
BACKDATED_S, JWT_S = 60, 540
"""The JWT's clock is set back a minute for skewed machines; its life stays below GitHub's ten minutes."""
RENEW_BEFORE_S = 300.0
PAGE, DELIVERY_PAGES = 100, 10
SHUT_OUT, SHUT_OUT_S = frozenset({403, 404}), 600.0
"""An installation that was removed or suspended, or may not register runners, answers so; how long nothing is registered then."""
NOT_LET_IN = "the GitHub App to be let in: it is not installed there, suspended, or may not register runners"
OVERVIEW_S = 60.0
"""How often GitHub's overview is asked for, where no answer has told of the limits."""
FINE = frozenset({None, "success", "skipped", "neutral"})
APP = ""
"""The account of calls that the App makes as itself."""
NOTE = 60_000
"""Characters of a check run's summary. Source: GitHub REST: 65,535."""


class GitHubApp:
    """GitHub (ports) over REST."""

    def __init__(self, api_url: str, app_id: str, private_key: Secret, session: requests.Session | None = None) -> None:
        self._api_url, self._app_id, self._private_key = api_url, app_id, private_key
        self._session = session or requests.Session()
        self._session.headers.update(
            {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28", "User-Agent": "runs-fleet"}
        )
        self.budgets = Budgets()
        self._tokens: dict[str, tuple[str, float]] = {}
        self._installations: dict[str, str] = {}
        self._shut_out: dict[str, float] = {}
        self._overviews: dict[str, float] = {}
        self._renewing: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._lock = threading.Lock()

    def mint(self, scope: Scope, name: str, labels: tuple[str, ...], group_id: int) -> Minted | None:
        """201 with the blob; 409: the name is taken."""
        body = {"name": name, "runner_group_id": group_id, "labels": list(labels), "work_folder": "_work"}
        status, answer = self._call("POST", scope, "generate-jitconfig", need=Need.REGISTRATION, json=body)
        if status == 409:
            return None
        if status in SHUT_OUT:
            self._shut(_place(scope))
        self._expect(status, 201, "generate-jitconfig", answer)
        with _readable("generate-jitconfig"):
            return Minted(int(answer["runner"]["id"]), Secret(str(answer["encoded_jit_config"])))

    def registrations(self, scope: Scope) -> Allowance:
        """By the headers of the last answer, or by GitHub's overview; none while the App may not register there."""
        if self._is_shut_out(scope):
            return Allowance(0, NOT_LET_IN)
        left = self._left(scope)
        if left is None:
            self._look_over(scope)
            left = self._left(scope)
        return Allowance(0, NOT_LET_IN) if self._is_shut_out(scope) else Allowance(left)

    def _left(self, scope: Scope) -> int | None:
        account = scope.installation_id or self._installations.get(_place(scope), "")
        return self.budgets.left(account, Need.REGISTRATION, time.time()) if account else None

    def _look_over(self, scope: Scope) -> None:
        """What is left, of everything: it costs none of it. Source: GitHub REST, "Get rate limit status for the user"."""
        with self._lock:
            if time.time() - self._overviews.get(_place(scope), 0.0) < OVERVIEW_S:
                return
            self._overviews[_place(scope)] = time.time()
        with contextlib.suppress(ServiceFailed):  # then nobody knows; or it is shut out, which is remembered
            status, answer = self._as_installation("GET", scope, f"{self._api_url}/rate_limit", Need.LOOKING)
            self._expect(status, 200, "rate limit", answer)
            with _readable("rate limit"):
                self.budgets.read(self._account(scope), answer["resources"])

    def _is_shut_out(self, scope: Scope) -> bool:
        now = time.time()
        return any(self._shut_out.get(key, 0.0) > now for key in (_place(scope), scope.installation_id))

    def _shut(self, key: str) -> None:
        self._shut_out[key] = time.time() + SHUT_OUT_S

    def find(self, scope: Scope, name: str) -> int | None:
        """By exact name."""
        status, answer = self._call("GET", scope, "", params={"name": name, "per_page": "100"})
        self._expect(status, 200, "list runners", answer)
        with _readable("list runners"):
            return next((int(runner["id"]) for runner in answer["runners"] if runner["name"] == name), None)

    def remove(self, scope: Scope, runner_id: int) -> bool:
        """204 and 404: gone; 422: it runs a job."""
        status, answer = self._call("DELETE", scope, str(runner_id))
        if status == 422:
            return False
        if status != 404:
            self._expect(status, 204, "delete runner", answer)
        return True

    def registered(self, scope: Scope) -> Iterator[Registered]:
        """All pages."""
        for runner in self._listed(scope, "runners", "runners", Need.LOOKING):
            with _readable("list runners"):
                yield Registered(int(runner["id"]), str(runner["name"]), runner["status"] == "online", bool(runner["busy"]))

    def job(self, scope: Scope, job_id: str) -> JobEvent | None:
        """404: it is not there."""
        status, answer = self._call("GET", scope, job_id, room="jobs")
        if status == 404:
            return None
        self._expect(status, 200, "get job", answer)
        with _readable("get job"):
            return as_told(answer, scope.owner, scope.repo, scope.installation_id)

    def jobs_of(self, scope: Scope, run_id: str) -> Iterator[JobEvent]:
        """Of the latest attempt, all pages. Source: GitHub REST, "List jobs for a workflow run"."""
        if not run_id.isdigit():
            return  # an agent's hint, which a job can write: never part of a path as it is
        try:
            for job in self._listed(scope, f"runs/{run_id}/jobs", "jobs", Need.LOOKING, filter="latest"):
                with _readable("list jobs"):
                    yield as_told(job, scope.owner, scope.repo, scope.installation_id)
        except ServiceFailed as error:
            if error.code != "404":
                raise

    def run(self, scope: Scope, run_id: str) -> Run | None:
        """404: it is not there."""
        status, answer = self._call("GET", scope, run_id, room="runs")
        if status == 404:
            return None
        self._expect(status, 200, "get run", answer)
        with _readable("get run"):
            fork = (answer.get("head_repository") or {}).get("full_name") != answer["repository"]["full_name"]
            over, public = answer["status"] == "completed", not answer["repository"]["private"]
            return Run(over=over, attempt=int(answer["run_attempt"]), fork=fork, public=public)

    def ended_badly(self, scope: Scope, run_id: str) -> list[Ended]:
        """All pages. Source: the conclusions of "Get a job for a workflow run", GitHub REST."""
        jobs = self._listed(scope, f"runs/{run_id}/jobs", "jobs", filter="latest")
        with _readable("list jobs"):
            return [Ended(str(j["id"]), str(j["name"]), str(j["conclusion"])) for j in jobs if j["conclusion"] not in FINE]

    def waiting_jobs(self, scope: Scope) -> Iterator[JobEvent]:
        """Of runs that are queued or in progress."""
        for status in ("queued", "in_progress"):
            for run in self._listed(scope, "runs", "workflow_runs", Need.LOOKING, status=status):
                for job in self._listed(scope, f"runs/{run['id']}/jobs", "jobs", Need.LOOKING, filter="latest"):
                    if job.get("status") == "queued":
                        with _readable("list jobs"):
                            yield as_told(job, scope.owner, scope.repo, scope.installation_id)

    def failed_deliveries(self, since: float) -> list[str]:
        """Of each guid the newest failure, unless one of the newest hundred deliveries shows that it was answered well since.

        A thousand failures at most; pages are told by a cursor in the answer's `Link`. Source: GitHub REST, "List deliveries for
        an app webhook".
        """
        found: dict[str, Any] = {}
        with _readable("list deliveries"):
            for query, most in (({"status": "failure"}, DELIVERY_PAGES), ({}, 1)):
                for one in itertools.takewhile(partial(_is_since, since), self._deliveries(query, most)):
                    if one["event"] == "workflow_job":
                        known = found.setdefault(one["guid"], one)
                        found[one["guid"]] = one if _is_well(one) else known
            return [str(one["id"]) for one in found.values() if not _is_well(one)]

    def _deliveries(self, query: dict[str, str], pages: int) -> Iterator[Any]:
        """Newest first, as they are asked for."""
        cursor: dict[str, str] = {}
        for _ in range(pages):
            url, told = f"{self._api_url}/app/hook/deliveries", {"per_page": str(PAGE), **query, **cursor}
            answer = self._answered("GET", url, self._jwt(), APP, Need.LOOKING, params=told)
            listed = _content(answer)
            self._expect(answer.status_code, 200, "list deliveries", listed)
            yield from listed
            beyond = parse_qs(urlsplit(answer.links.get("next", {}).get("url", "")).query).get("cursor")
            if not beyond:
                return
            cursor = {"cursor": beyond[0]}

    def redeliver(self, delivery_id: str) -> None:
        """202: it will be sent."""
        url = f"{self._api_url}/app/hook/deliveries/{delivery_id}/attempts"
        status, answer = self._exchange("POST", url, self._jwt(), APP, Need.LOOKING)
        self._expect(status, 202, "redeliver", answer)

    def note(self, scope: Scope, head_sha: str, title: str, text: str) -> bool:
        """A check run that is over. 403: the App has no permission for checks. Source: GitHub REST, "Create a check run"."""
        url = f"{self._api_url}/repos/{scope.owner}/{scope.repo}/check-runs"
        body = {
            "name": "runs-fleet", "head_sha": head_sha, "status": "completed", "conclusion": "neutral",
            "output": {"title": title, "summary": text[:NOTE]},
        }  # fmt: skip
        status, answer = self._as_installation("POST", scope, url, Need.LOOKING, json=body)
        if status in (403, 404):
            return False
        self._expect(status, 201, "create check run", answer)
        return True

    def rerun(self, scope: Scope, run_id: str, job_id: str = "") -> bool:
        """201: done; 403: it runs already, or is too old. Source: GitHub REST, "Re-run failed jobs", "Re-run a job"."""
        path, room = (f"{job_id}/rerun", "jobs") if job_id else (f"{run_id}/rerun-failed-jobs", "runs")
        status, answer = self._call("POST", scope, path, room=room)
        if status == 403:
            return False
        self._expect(status, 201, "re-run", answer)
        return True

    def _listed(self, scope: Scope, path: str, name: str, need: Need = Need.WORK, **query: str) -> Iterator[Any]:
        """Every page of a list."""
        for page in itertools.count(1):
            told = {**query, "per_page": str(PAGE), "page": str(page)}
            status, answer = self._call("GET", scope, path, room="", need=need, params=told)
            self._expect(status, 200, f"list {name}", answer)
            with _readable(f"list {name}"):
                found = list(answer[name])
            yield from found
            if len(found) < PAGE:
                return

    def _call(
        self, method: str, scope: Scope, path: str, *, room: str = "runners", need: Need = Need.WORK, **extra: Any
    ) -> tuple[int, Any]:
        url = "/".join(filter(None, (f"{self._api_url}/repos/{scope.owner}/{scope.repo}/actions", room, path)))
        return self._as_installation(method, scope, url, need, **extra)

    def _as_installation(self, method: str, scope: Scope, url: str, need: Need, **extra: Any) -> tuple[int, Any]:
        """With the token of whoever installed the App there; one that is refused is not used again."""
        account = self._account(scope)
        status, answer = self._exchange(method, url, self._token(account), account, need, **extra)
        if status == 401:
            self._tokens.pop(account, None)
        return status, answer

    def _token(self, account: str) -> str:
        """One for the process, whoever asks first renews it; of other installations nobody waits for that."""
        with self._lock:
            renewing = self._renewing[account]
        with renewing:
            return self._renewed(account)

    def _renewed(self, account: str) -> str:
        token, ends_at = self._tokens.get(account, ("", 0.0))
        if ends_at - time.time() < RENEW_BEFORE_S:
            url = f"{self._api_url}/app/installations/{account}/access_tokens"
            status, answer = self._exchange("POST", url, self._jwt(), APP, Need.REGISTRATION)
            if status in SHUT_OUT:
                self._shut(account)
            self._expect(status, 201, "installation token", answer)
            with _readable("installation token"):
                token = str(answer["token"])
                ends_at = _moment(answer["expires_at"])
            self._tokens[account] = (token, ends_at)
        return token

    def _account(self, scope: Scope) -> str:
        """The installation, which has one token and one budget for all of its repositories; asked for once of each of them."""
        if scope.installation_id:
            return scope.installation_id
        known = self._installations.get(_place(scope))
        if known is None:
            url = f"{self._api_url}/repos/{scope.owner}/{scope.repo}/installation"
            status, answer = self._exchange("GET", url, self._jwt(), APP, Need.REGISTRATION)
            if status in SHUT_OUT:
                self._shut(_place(scope))
            self._expect(status, 200, "installation lookup", answer)
            with _readable("installation lookup"):
                known = self._installations[_place(scope)] = str(answer["id"])
        return known

    def _jwt(self) -> str:
        now = int(time.time())
        claims = {"iss": self._app_id, "iat": now - BACKDATED_S, "exp": now - BACKDATED_S + JWT_S}
        return jwt.encode(claims, self._private_key.reveal(), algorithm="RS256")

    def _exchange(self, method: str, url: str, bearer: str, account: str, need: Need, **extra: Any) -> tuple[int, Any]:
        """Status and content. Raises: Throttled, Unanswered."""
        answer = self._answered(method, url, bearer, account, need, **extra)
        return answer.status_code, _content(answer)

    def _answered(self, method: str, url: str, bearer: str, account: str, need: Need, **extra: Any) -> requests.Response:
        """Raises: Throttled, also without asking where the rest of the budget is for something more urgent."""
        action = f"github:{method} {url}"
        if (until := self.budgets.refused(account, need, time.time())) is not None:
            raise Throttled(action, "BudgetSpent", f"what is left of GitHub's limit is kept until {_told(until)}")
        try:
            answer = self._session.request(method, url, timeout=TIMEOUT_S, headers={"Authorization": f"Bearer {bearer}"}, **extra)
        except requests.RequestException as error:
            raise Unanswered(action, str(error)) from error
        limited = answer.status_code in (403, 429) and _says_limit(_content(answer))
        until = self.budgets.told(account, need, answer.status_code, answer.headers, time.time(), limited=limited)
        if until is not None:
            raise Throttled(action, str(answer.status_code), f"too many calls, by GitHub's own count; again at {_told(until)}")
        return answer

    @staticmethod
    def _expect(status: int, wanted: int, action: str, answer: Any) -> None:
        if status != wanted:
            told = answer.get("message", "") if isinstance(answer, dict) else ""
            raise ServiceFailed(f"github:{action}", str(status), str(told))


def _content(answer: requests.Response) -> Any:
    """None: nothing, or nothing that can be read."""
    try:
        return answer.json() if answer.content else None
    except ValueError:
        return None


def _says_limit(content: Any) -> bool:
    """GitHub has no code for it. Source: "Troubleshooting the REST API", "Rate limit errors"."""
    told = content if isinstance(content, dict) else {}
    return "rate limit" in f"{told.get('message')} {told.get('documentation_url')}".lower().replace("-", " ")


def _is_since(since: float, delivery: Any) -> bool:
    return _moment(delivery["delivered_at"]) >= since


def _is_well(delivery: Any) -> bool:
    return bool(200 <= delivery["status_code"] < 300)


def _moment(raw: str) -> float:
    return datetime.fromisoformat(raw.replace("Z", "+00:00")).timestamp()


def _told(until: float) -> str:
    return datetime.fromtimestamp(until, UTC).strftime("%H:%M:%S UTC")


def _place(scope: Scope) -> str:
    """A repository, as keys name it."""
    return f"{scope.owner}/{scope.repo}".casefold()


@contextlib.contextmanager
def _readable(action: str) -> Iterator[None]:
    """An answer of another shape than GitHub's is a failed call, not a crash."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, msgspec.ValidationError) as error:
        raise ServiceFailed(f"github:{action}", "Unreadable", repr(error)) from error
