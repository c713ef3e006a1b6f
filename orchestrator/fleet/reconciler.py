"""How a label set is reconciled: what lacks is asked for (`admission.py`), what is too much is taken back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

from orchestrator.compute.dispatch import Strategies
from orchestrator.errors import Conflict, ServiceFailed
from orchestrator.fleet.admission import Admission, PendingLaunch
from orchestrator.fleet.demand import Assessment, assess, without_backoff
from orchestrator.fleet.failures import log_failures, raise_first
from orchestrator.fleet.launching import Launching
from orchestrator.fleet.sessions import Sessions
from orchestrator.fleet.work import Sources
from orchestrator.ports import Clock, Journal, WorkerPool
from orchestrator.retry_policy import ASKED_S, DOUBTED_S, LONGEST_DOUBT_S, THROTTLED_S
from orchestrator.settings import ServerSettings
from orchestrator.store.kinds import changed
from orchestrator.store.model import LabelSet, LabelSetView
from orchestrator.store.naming import machine_kind
from orchestrator.store.records import Records

MOST_TOLD = 20
"""Pieces of work of one label set that are told at one look that machines were there and none was given them."""
ASKED_KNOWN = 10_000
"""Label sets of which a process remembers when it asked about them."""


@dataclass(frozen=True)
class Asked:
    """When the origin of a label set's work was asked, and how often in a row only to be sure, and for nothing.

    `again_at`: when what it did not answer is asked again; None: it answered. Times in epoch seconds.
    """

    at: float = 0.0
    in_vain: int = 0
    again_at: float | None = None

    def is_due(self, now: float, *, urgent: bool) -> bool:
        """Whether it is asked again now."""
        due = self.at + (ASKED_S if urgent else min(LONGEST_DOUBT_S, DOUBTED_S * 2.0**self.in_vain))
        return now >= (due if self.again_at is None else min(due, self.again_at))


@dataclass(kw_only=True)
class Reconciler:
    """Compares the demand and supply of label sets, and launches what is missing."""

    settings: ServerSettings
    records: Records
    strategies: Strategies
    sources: Sources
    launching: Launching
    sessions: Sessions
    admission: Admission
    clock: Clock
    journal: Journal
    workers: WorkerPool
    _asked: dict[str, Asked] = field(default_factory=dict)

    def reconcile(self, set_keys: Iterable[str]) -> None:
        """Correct the number of sessions of each label set; sets that need the same kind of machine share a launch.

        Raises: OrchestratorError.
        """
        wanted: dict[str, list[PendingLaunch]] = defaultdict(list)
        own, freed = sorted(set(set_keys)), set[str]()
        failures = self.workers.run_all([partial(self._assessed, key, wanted, freed) for key in own])
        before = self._of_the_line(partial(self.admission.waiting_longer, own, wanted), failures) if wanted else []
        failures += self.workers.run_all([partial(self._assessed, key, wanted, freed) for key in before])
        self.admission.line.room(sorted(freed))
        launches = self.admission.admit(wanted, failures)
        waiting = self._of_the_line(partial(self.admission.waitlisted, own, before), failures)
        served = [partial(self.admission.leave_waitlist, key, wanted) for key in waiting]
        failures += self.workers.run_all([*(partial(self.launching.carry, launch) for launch in launches), *served])
        log_failures(self.journal, failures)
        raise_first(failures)

    @staticmethod
    def _of_the_line(ask: Callable[[], list[str]], failures: list[Exception]) -> list[str]:
        """Label sets that wait; that the waitlist cannot be read now keeps nobody from his machine."""
        try:
            return ask()
        except ServiceFailed as error:
            failures.append(error)
            return []

    def _assessed(self, key: str, wanted: dict[str, list[PendingLaunch]], freed: set[str]) -> None:
        """Beside others; who loses a race is looked at again. Raises: ServiceFailed."""
        try:
            self._assess(key, wanted, freed)
        except Conflict:
            self.sessions.wake(key)

    def _assess(self, key: str, wanted: dict[str, list[PendingLaunch]], freed: set[str]) -> None:
        """`freed`: gets its repository, where nothing lacks: machines of it may have gone."""
        view, now = self.records.view(key), self.clock.now()
        view, found = self._refreshed(view, assess(view, now), now)
        source = self.sources.of_view(view)
        label_set = view.label_set or (source.describe(view) if source is not None else None)
        if label_set is None:
            self.records.rest(view, None)
            return
        if found.held and self._has_a_new_image(label_set):
            label_set = self.records.put(without_backoff(label_set))
            found = assess(changed(view, label_set=label_set), now)
        if found.surplus_since != label_set.surplus_since and view.label_set is not None:
            label_set = self.records.put(changed(label_set, surplus_since=found.surplus_since))
        look_at = found.look_at
        if not found.lacking:
            freed.add(label_set.repository)
        if found.lacking:
            look_at = now + self.settings.lease_s
            self._want(changed(view, label_set=label_set), label_set, found, wanted)
        elif found.held:
            is_news = self.admission.hold(label_set, found, found.held) is not label_set
            if is_news and label_set.backoff_of and source is not None:
                offered = [item.identity for item in found.waiting if item.since <= label_set.backoff_at]
                source.untaken(offered[:MOST_TOLD], label_set.backoff_why)
        failed = self.workers.run_all([partial(self.sessions.release, name) for name in found.surplus])
        log_failures(self.journal, failed)
        raise_first(failed)
        self.records.rest(view, look_at)

    def _refreshed(self, view: LabelSetView, found: Assessment, now: float) -> tuple[LabelSetView, Assessment]:
        """The same after the origin was asked what it has not told, where that is in doubt and was not asked just now."""
        key, source = view.set_key, self.sources.of_view(view)
        before, urgent = self._asked.get(key, Asked()), bool(found.ask)
        if source is None or not (urgent or found.doubtful) or not before.is_due(now, urgent=urgent):
            return view, found
        if len(self._asked) >= ASKED_KNOWN:
            self._asked.clear()
        self._asked[key] = Asked(now, before.in_vain)
        silent = [one for one in map(self.records.session, found.ask) if one is not None]
        refreshed = source.refresh(key, silent, urgent=urgent)
        in_vain = 0 if urgent or refreshed.news else before.in_vain
        if refreshed.answered:
            self._asked[key] = Asked(now, 0 if urgent or refreshed.news else min(in_vain + 1, 10))
        else:  # it is no word that there is no news; a machine may be waiting for work that is over
            again_at = now + ASKED_S if refreshed.again_at is None else refreshed.again_at
            self._asked[key] = Asked(now, in_vain, min(now + DOUBTED_S, max(now + THROTTLED_S, again_at)))
        view = self.records.view(key)
        if refreshed.answered:
            view = self._without_asked(view, found.ask)
        return view, assess(view, now)

    def _without_asked(self, view: LabelSetView, sessions: Iterable[str]) -> LabelSetView:
        """Sessions that are over and of whose work the origin has told by now are not asked about again. Raises: Conflict."""
        label_set, asked = view.label_set, frozenset(sessions)
        left = {name: at for name, at in label_set.working.items() if name not in asked} if label_set is not None else {}
        if label_set is None or left == label_set.working:
            return view
        return changed(view, label_set=self.records.put(changed(label_set, working=left)))

    def _has_a_new_image(self, label_set: LabelSet) -> bool:
        """Whether a launch would now be of another kind, or boot from another image, than those that did no work."""
        request = label_set.machine
        if not label_set.backoff_of or not self.strategies.offers(request.compute):
            return False
        image = self.strategies.of(request.compute).image(request)
        if not image:
            return False
        kinds = [machine_kind(one.spec(), image) for one in (request, request.non_interruptible())]
        return label_set.backoff_of not in kinds

    def _want(self, view: LabelSetView, label_set: LabelSet, found: Assessment, wanted: dict[str, list[PendingLaunch]]) -> None:
        """What this label set adds to a launch: no more than its limits allow."""
        source = self.sources.of(label_set)
        fresh = source.describe(view)  # its newest work may tell of another scope, or another request
        label_set = fresh if fresh is not None else label_set
        offered = self.strategies.offers(label_set.machine.compute)  # one that is not is refused aloud by the admission
        most = self.admission.headrooms.of_view(view, label_set.machine) if offered else None
        if most is not None and most.machines < found.lacking:
            label_set = self.admission.hold(label_set, found, most.why)
            found = replace(found, lacking=most.machines)
        request, lasting = label_set.machine, label_set.machine.non_interruptible()
        apart = request.may_be_non_interruptible and lasting is not request
        number = min(found.non_interruptible, found.lacking) if apart else 0
        for lacking, one in ((number, lasting), (found.lacking - number, request)):
            if lacking:
                pending = PendingLaunch(label_set, replace(found, lacking=lacking), one, non_interruptible=one is not request)
                wanted[one.spec()].append(pending)
