"""How GitHub is asked: as the App, or with an installation's token; its limits are kept, errors come out in our words.

Source: GitHub REST, "Authenticating as a GitHub App installation", API version 2022-11-28.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
import requests

from agent.contract.secret import Secret
from orchestrator.adapters.clock import THE_MACHINES
from orchestrator.adapters.trust import bundle
from orchestrator.errors import BUDGET_SPENT, ServiceFailed, Throttled, Unanswered, without_header
from orchestrator.jobs.rate_limits import Budgets, Need
from orchestrator.ports import Timepiece
from orchestrator.store.naming import Scope, place_of

TIMEOUT_S = (5.0, 20.0)
BACKDATED_S, JWT_S = 60, 540
"""The JWT's clock is set back a minute for skewed machines; its life stays below GitHub's ten minutes."""
RENEW_BEFORE_S = 300.0
SHUT_OUT, SHUT_OUT_S = frozenset({403, 404}), 600.0
"""An installation that was removed or suspended, or may not register runners, answers so; how long nothing is registered then."""
OVERVIEW_S = 60.0
"""How often GitHub's overview is asked for, where no answer has told of the limits."""
APP = ""
"""The account of calls that the App makes as itself."""
PAGE = 100
"""Of a list. Source: GitHub REST, "Using pagination": 100 at most."""


@lru_cache(maxsize=16)
def _signing_key(pem: str) -> Any:
    """The key in `pem`, read once for each App: reading checks its primes, which takes a hundred times as long as signing."""
    import jwt

    return jwt.get_algorithm_by_name("RS256").prepare_key(pem)


class GitHubWire:
    """Calls of one App."""

    def __init__(
        self,
        api_url: str,
        app_id: str,
        private_key: Secret,
        session: requests.Session | None = None,
        clock: Timepiece = THE_MACHINES,
    ) -> None:
        self.api_url, self._app_id, self._private_key, self._clock = api_url, app_id, private_key, clock
        self._session, self._verify = session or requests.Session(), bundle() or True
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

    def left(self, scope: Scope) -> int | None:
        """Registrations, by GitHub's own count; None: it has not told."""
        account = scope.installation_id or self._installations.get(place_of(scope), "")
        return self.budgets.left(account, Need.REGISTRATION, self._clock.now()) if account else None

    def look_over(self, scope: Scope) -> None:
        """What is left, of everything: it costs none of it. Source: GitHub REST, "Get rate limit status for the user"."""
        with self._lock:
            if self._clock.now() - self._overviews.get(place_of(scope), 0.0) < OVERVIEW_S:
                return
            self._overviews[place_of(scope)] = self._clock.now()
        with contextlib.suppress(ServiceFailed):  # then nobody knows; or it is shut out, which is remembered
            status, answer = self.as_installation("GET", scope, f"{self.api_url}/rate_limit", Need.LOOKING)
            self.expect(status, 200, "rate limit", answer)
            with readable("rate limit"):
                self.budgets.read(self._account(scope), answer["resources"])

    def is_shut_out(self, scope: Scope) -> bool:
        """Whether the App was not let in there, or in its installation, a while ago."""
        return any(self._shut_out.get(key, 0.0) > self._clock.now() for key in self._doors(scope))

    def is_on_trial(self, scope: Scope) -> bool:
        """Whether it was shut out there, and has not been let in since."""
        return any(key in self._shut_out for key in self._doors(scope))

    def let_in(self, scope: Scope) -> None:
        """It may register there (again)."""
        for key in self._doors(scope):
            self._shut_out.pop(key, None)

    def _doors(self, scope: Scope) -> tuple[str, str, str]:
        """Under which it may be shut out there."""
        place = place_of(scope)
        return place, scope.installation_id, self._installations.get(place, "")

    def shut(self, key: str) -> None:
        """An installation, or a repository (`place_of`)."""
        self._shut_out[key] = self._clock.now() + SHUT_OUT_S

    def listed(self, scope: Scope, path: str, name: str, need: Need = Need.WORK, **query: str) -> Iterator[Any]:
        """The entries of every page of a list."""
        for page in itertools.count(1):
            told = {**query, "per_page": str(PAGE), "page": str(page)}
            status, answer = self.call("GET", scope, path, part="", need=need, params=told)
            self.expect(status, 200, f"list {name}", answer)
            with readable(f"list {name}"):
                found = list(answer[name])
            yield from found
            if len(found) < PAGE:
                return

    def call(
        self, method: str, scope: Scope, path: str, *, part: str = "runners", need: Need = Need.WORK, **extra: Any
    ) -> tuple[int, Any]:
        """Of a repository's Actions; `part`: which part of them. Raises: as `answered`."""
        url = "/".join(filter(None, (f"{self.api_url}/repos/{scope.owner}/{scope.repo}/actions", part, path)))
        return self.as_installation(method, scope, url, need, **extra)

    def as_installation(self, method: str, scope: Scope, url: str, need: Need, **extra: Any) -> tuple[int, Any]:
        """With the token of whoever installed the App there; one that is refused is not used again."""
        account = self._account(scope)
        status, answer = self.exchange(method, url, self._token(account), account, need, **extra)
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
        if ends_at - self._clock.now() < RENEW_BEFORE_S:
            url = f"{self.api_url}/app/installations/{account}/access_tokens"
            status, answer = self.exchange("POST", url, self.signed(), APP, Need.REGISTRATION)
            if status in SHUT_OUT:
                self.shut(account)
                for place in [place for place, known in list(self._installations.items()) if known == account]:
                    self._installations.pop(place, None)  # one that is installed again has another
            self.expect(status, 201, "installation token", answer)
            with readable("installation token"):
                token = str(answer["token"])
                ends_at = moment(answer["expires_at"])
            self._tokens[account] = (token, ends_at)
        return token

    def _account(self, scope: Scope) -> str:
        """The installation, which has one token and one budget for all of its repositories; asked for once of each of them."""
        if scope.installation_id:
            return scope.installation_id
        known = self._installations.get(place_of(scope))
        if known is None:
            url = f"{self.api_url}/repos/{scope.owner}/{scope.repo}/installation"
            status, answer = self.exchange("GET", url, self.signed(), APP, Need.REGISTRATION)
            if status in SHUT_OUT:
                self.shut(place_of(scope))
            self.expect(status, 200, "installation lookup", answer)
            with readable("installation lookup"):
                known = self._installations[place_of(scope)] = str(answer["id"])
        return known

    def signed(self) -> str:
        """The App's own JWT, good for some minutes."""
        import jwt  # late: the commands that only look at records sign nothing, and cryptography takes a tenth of a second

        now = int(self._clock.now())
        claims = {"iss": self._app_id, "iat": now - BACKDATED_S, "exp": now - BACKDATED_S + JWT_S}
        return jwt.encode(claims, _signing_key(self._private_key.reveal()), algorithm="RS256")

    def exchange(self, method: str, url: str, bearer: str, account: str, need: Need, **extra: Any) -> tuple[int, Any]:
        """Status and content. Raises: Throttled, Unanswered."""
        answer = self.answered(method, url, bearer, account, need, **extra)
        return answer.status_code, content_of(answer)

    def answered(self, method: str, url: str, bearer: str, account: str, need: Need, **extra: Any) -> requests.Response:
        """Raises: Throttled, also without asking where the rest of the budget is for something more urgent."""
        action = f"github:{method} {url}"
        if (until := self.budgets.refused(account, need, self._clock.now())) is not None:
            raise Throttled(action, BUDGET_SPENT, f"what is left of GitHub's limit is kept until {_told(until)}", until)
        try:
            told = {"Authorization": f"Bearer {bearer}"}
            answer = self._session.request(method, url, timeout=TIMEOUT_S, headers=told, verify=self._verify, **extra)
        except requests.RequestException as error:
            raise Unanswered(action, without_header(str(error))) from error
        limited = answer.status_code in (403, 429) and _says_limit(content_of(answer))
        until = self.budgets.told(account, need, answer.status_code, answer.headers, self._clock.now(), limited=limited)
        if until is not None:
            why = f"too many calls, by GitHub's own count; again at {_told(until)}"
            raise Throttled(action, str(answer.status_code), why, until)
        return answer

    @staticmethod
    def expect(status: int, wanted: int, action: str, answer: Any) -> None:
        """Raises: ServiceFailed with GitHub's own words, if it is another status."""
        if status != wanted:
            told = answer.get("message", "") if isinstance(answer, dict) else ""
            raise ServiceFailed(f"github:{action}", str(status), str(told))


def content_of(answer: requests.Response) -> Any:
    """None: nothing, or nothing that can be read."""
    try:
        return answer.json() if answer.content else None
    except ValueError:
        return None


def _says_limit(content: Any) -> bool:
    """GitHub has no code for it. Source: "Troubleshooting the REST API", "Rate limit errors"."""
    told = content if isinstance(content, dict) else {}
    return "rate limit" in f"{told.get('message')} {told.get('documentation_url')}".lower().replace("-", " ")


def moment(raw: str) -> float:
    """Epoch seconds of GitHub's timestamps."""
    return datetime.fromisoformat(raw.replace("Z", "+00:00")).timestamp()


def _told(until: float) -> str:
    return datetime.fromtimestamp(until, UTC).strftime("%H:%M:%S UTC")


@contextlib.contextmanager
def readable(action: str) -> Iterator[None]:
    """An answer of another shape than GitHub's is a failed call, not a crash."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, msgspec.ValidationError) as error:
        raise ServiceFailed(f"github:{action}", "Unreadable", repr(error)) from error
