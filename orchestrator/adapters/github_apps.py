"""Several Apps as one: each has budgets of its own at GitHub, so registrations a minute grow with their number."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from orchestrator.adapters.clock import THE_MACHINES
from orchestrator.adapters.github import GitHubApp
from orchestrator.adapters.rate_limiter import RateLimiter
from orchestrator.errors import BUDGET_SPENT, PACED, ServiceFailed, Throttled
from orchestrator.fleet.work import RegistrationQuota
from orchestrator.jobs.github import EndedJob, FailedDelivery, Minted, RegisteredRunner, Run, RunnerRelease
from orchestrator.jobs.webhook import JobEvent
from orchestrator.ports import Timepiece
from orchestrator.store.naming import Scope, place_of

Answer = TypeVar("Answer")
Shard = tuple[GitHubApp, Scope]
"""An App, and the scope as it knows it."""
ABSENT_S = 600.0
"""For how long an App that is not installed for a repository is not asked about it again."""
NOT_LET_IN = ("github:installation lookup", "github:installation token", "github:generate-jitconfig")
"""What an App that is not there, or may not, fails with: another one may."""
A_REPOSITORY, A_REPOSITORY_S = 1500, 300.0
"""Registrations of one repository, by whichever App. Source: the actions_runner_registration limit that operators report."""
A_REPOSITORYS = "GitHub's limit of registrations for one repository, 1500 in five minutes"
A_MINUTE_S = 60.0
"""GitHub counts an App's registrations over so long; those of one launch may come late and together with the next one's."""
AN_APPS = 170.0
"""Registrations a minute of one App: GitHub takes 180."""
PATIENCE_S = 10.0
"""For how long a registration waits for its turn here, by whichever App. One that would wait longer comes again."""
MORE_S = 15.0
"""A registration that GitHub did not take comes again once a lease, and so much later at most, unless another has made it."""
TOO_MANY = "GitHub's limit of registrations, which others wait for already"
UNKNOWN = 1 << 30
"""Of a budget of which GitHub has not told."""


class GitHubApps:
    """GitHub (services). The first App is the one whose webhook we hear; the others lend it their budgets.

    Each must be installed for the repositories, with the same permissions; where one is not, the others do without it.
    """

    def __init__(
        self,
        apps: Sequence[GitHubApp],
        registrations_per_minute: float = AN_APPS,
        lease_s: float = 60.0,
        clock: Timepiece = THE_MACHINES,
    ) -> None:
        """`registrations_per_minute`: what all may together; where only some are installed, each of these as an App may."""
        self._apps, self._clock = tuple(apps), clock
        self._most, self._waiting_s = int(registrations_per_minute), lease_s + MORE_S
        each = max(registrations_per_minute / len(self._apps), min(registrations_per_minute, AN_APPS))
        self._paces = {id(app): RateLimiter(int(each), A_MINUTE_S, clock) for app in self._apps}
        self._waiting: dict[str, float] = {}
        self._absent: dict[tuple[int, str, str], float] = {}
        self._minted: dict[str, deque[float]] = defaultdict(deque)
        self._turn = 0
        self._lock = threading.Lock()

    def mint(self, scope: Scope, name: str, labels: tuple[str, ...]) -> Minted | None:
        """By whichever App can soonest, and has most left; one that may not any more is followed by the next."""
        until_s = self._clock.monotonic_s() + PATIENCE_S

        def in_turn(app: GitHubApp, own: Scope) -> Minted | None:
            """One App's registration, when its turn has come."""
            with self._paces[id(app)].turn(max(0.0, until_s - self._clock.monotonic_s())) as turn:
                if turn.late_s:
                    why, until = f"its turn is in {turn.late_s:.0f} s", self._clock.now() + turn.late_s
                    raise Throttled("github:generate-jitconfig", PACED, why, until)
                try:
                    return app.mint(own, name, labels)
                except Throttled as error:
                    turn.used = error.code != BUDGET_SPENT
                    raise

        try:
            minted = self._by_any(scope, in_turn, self._soonest_first)
        except Throttled:
            with self._lock:
                self._waiting[name] = self._clock.now()
            raise
        with self._lock:
            self._waiting.pop(name, None)
            self._minted[place_of(scope)].append(self._clock.now())
        return minted

    def registrations(self, scope: Scope) -> RegistrationQuota:
        """As `_told`; those that wait for theirs come first."""
        told, waiting = self._told(scope), self._late()
        left = max(0, self._most - waiting)
        return told if not waiting or (told.left is not None and told.left <= left) else RegistrationQuota(left, TOO_MANY)

    def _soonest_first(self, shard: Shard) -> tuple[bool, float, int]:
        """Of equals, most left first; those that may not now come last."""
        most_left = _most_left_first(shard)
        return most_left == 0, self._paces[id(shard[0])].wait_s(), most_left

    def _late(self) -> int:
        """Registrations that GitHub did not take, and that are to come again."""
        with self._lock:
            self._waiting = {name: at for name, at in self._waiting.items() if at > self._clock.now() - self._waiting_s}
            return len(self._waiting)

    def _told(self, scope: Scope) -> RegistrationQuota:
        """Of all together, and no more than the repository may have; unknown if one of them does not know."""
        known = [app.registrations(own) for app, own in self._shards(scope)]
        on_trial = [one for one in known if one.on_trial]
        if on_trial and all(one.on_trial or one.left == 0 for one in known):
            return on_trial[0]
        counted = [one.left for one in known if one.left is not None]
        lately = self._lately(scope)
        if len(counted) < len(known):
            return RegistrationQuota(None if len(lately) < A_REPOSITORY else 0, A_REPOSITORYS)
        least = max(0, A_REPOSITORY - len(lately))
        return RegistrationQuota(least, A_REPOSITORYS) if least < sum(counted) else RegistrationQuota(sum(counted), known[0].why)

    def find(self, scope: Scope, name: str) -> int | None:
        """Every App sees every runner of the repository."""
        return self._by_any(scope, lambda app, own: app.find(own, name))

    def remove(self, scope: Scope, runner_id: int) -> bool:
        """Through the App that registered it."""
        return self._by_any(scope, lambda app, own: app.remove(own, runner_id))

    def registered(self, scope: Scope) -> Iterator[RegisteredRunner]:
        """All pages of the list, asked of one App."""
        return self._by_any(scope, lambda app, own: iter(list(app.registered(own))))

    def job(self, scope: Scope, job_id: str, *, urgent: bool = True) -> JobEvent | None:
        """With the first App's installation, as its webhook tells it."""
        found = self._by_any(scope, lambda app, own: app.job(own, job_id, urgent=urgent))
        return found and _of_installation(found, scope)

    def jobs_of(self, scope: Scope, run_id: str) -> Iterator[JobEvent]:
        """All pages of the list, asked of one App."""
        found = self._by_any(scope, lambda app, own: list(app.jobs_of(own, run_id)))
        return (_of_installation(job, scope) for job in found)

    def run(self, scope: Scope, run_id: str) -> Run | None:
        """The answer of the first App that is installed there."""
        return self._by_any(scope, lambda app, own: app.run(own, run_id))

    def is_superseded(self, scope: Scope, run_id: str) -> bool:
        """The answer of the first App that is installed there."""
        return self._by_any(scope, lambda app, own: app.is_superseded(own, run_id))

    def ended_badly(self, scope: Scope, run_id: str) -> list[EndedJob]:
        """The answer of the first App that is installed there."""
        return self._by_any(scope, lambda app, own: app.ended_badly(own, run_id))

    def waiting_jobs(self, scope: Scope) -> Iterator[JobEvent]:
        """All pages of the list, asked of one App."""
        found = self._by_any(scope, lambda app, own: list(app.waiting_jobs(own)))
        return (_of_installation(job, scope) for job in found)

    def failed_deliveries(self, since: float) -> list[FailedDelivery]:
        """The first App's: nobody listens to the others' webhooks."""
        return self._apps[0].failed_deliveries(since)

    def answer_to(self, delivery_id: str) -> str:
        """Of the App whose webhook we hear."""
        return self._apps[0].answer_to(delivery_id)

    def redeliver(self, delivery_id: str) -> None:
        """Through the first App, whose webhook it is."""
        self._apps[0].redeliver(delivery_id)

    def post_notice(self, scope: Scope, head_sha: str, title: str, text: str) -> bool:
        """Always by the first App: whoever reads it shall see one author."""
        return self._apps[0].post_notice(scope, head_sha, title, text)

    def rerun(self, scope: Scope, run_id: str, job_id: str = "") -> bool:
        """Always by the first App: a second one would not recognise its own re-run."""
        return self._apps[0].rerun(scope, run_id, job_id)

    def release(self, scope: Scope, version: str) -> RunnerRelease | None:
        """By any App that is installed there."""
        return self._by_any(scope, lambda app, own: app.release(own, version))

    def _lately(self, scope: Scope) -> deque[float]:
        """When this process registered runners there within the time that GitHub counts."""
        with self._lock:
            minted = self._minted[place_of(scope)]
            while minted and minted[0] < self._clock.now() - A_REPOSITORY_S:
                minted.popleft()
            return minted

    def _by_any(
        self, scope: Scope, ask: Callable[[GitHubApp, Scope], Answer], first: Callable[[Shard], Any] | None = None
    ) -> Answer:
        """Raises: what the last of them says, or who may soonest."""
        shards = self._shards(scope, first)
        soonest: Throttled | None = None
        for at, (app, own) in enumerate(shards):
            try:
                return ask(app, own)
            except ServiceFailed as error:
                absent = error.action in NOT_LET_IN and error.code in ("403", "404")
                if absent:
                    self._absent[id(app), scope.owner, scope.repo] = self._clock.now() + ABSENT_S
                if isinstance(error, Throttled) and (soonest is None or (error.until or 0.0) < (soonest.until or 0.0)):
                    soonest = error
                if not (absent or isinstance(error, Throttled)) or (at == len(shards) - 1 and soonest is None):
                    raise
        assert soonest is not None, "there is always one App"
        raise soonest

    def _shards(self, scope: Scope, first: Callable[[Shard], Any] | None = None) -> list[Shard]:
        """Those that may serve it, most left first or as said; equals in turn. An installation belongs to the first App alone."""
        with self._lock:
            self._turn += 1
            turned = self._apps[self._turn % len(self._apps) :] + self._apps[: self._turn % len(self._apps)]
        now = self._clock.now()
        here = [app for app in turned if self._absent.get((id(app), scope.owner, scope.repo), 0.0) <= now] or [self._apps[0]]
        shards = [(app, scope if app is self._apps[0] else msgspec.structs.replace(scope, installation_id="")) for app in here]
        return sorted(shards, key=first or _most_left_first)


def _of_installation(job: JobEvent, scope: Scope) -> JobEvent:
    """The same job, as the first App tells it."""
    return msgspec.structs.replace(job, installation_id=scope.installation_id)


def _most_left_first(shard: Shard) -> int:
    left = shard[0].registrations(shard[1]).left
    return -UNKNOWN if left is None else -left
