"""How many more machines may be launched now, by what the strategies list, what the records say, and what may be registered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from orchestrator.compute.dispatch import Strategies
from orchestrator.compute.port import ComputeInstance
from orchestrator.errors import ServiceFailed
from orchestrator.fleet import limits
from orchestrator.fleet.limits import Headroom
from orchestrator.fleet.work import Sources
from orchestrator.ports import Clock, Journal
from orchestrator.setting_values import Limits
from orchestrator.settings import ServerSettings
from orchestrator.store.launch import PlannedSession
from orchestrator.store.model import LabelSet, LabelSetView, Stack, TokenBucket
from orchestrator.store.naming import OPEN_LAUNCHES, repository_key
from orchestrator.store.records import Records
from orchestrator.store.request import MachineRequest

COUNTED_S = 10.0
"""Seconds for which a count of all machines is believed."""
TRIAL_S = 600.0
"""Seconds a machine may take to show whether registering is allowed."""


@dataclass(kw_only=True)
class Headrooms:
    """Counts what is in use and how many more machines the limits allow."""

    settings: ServerSettings
    records: Records
    strategies: Strategies
    sources: Sources
    clock: Clock
    journal: Journal
    _listed: tuple[float, LabelSetView, tuple[ComputeInstance, ...]] | None = None
    """When the strategies were asked last what there is, the launches that were open just before, and their answer."""
    _listing_at: float = field(default=0.0)

    def refreshed(self, now: float) -> Stack:
        """The stack with its buckets refilled and its machines counted, if the last count is old. Raises: ServiceFailed."""
        stack = limits.refilled(self.records.stack(), self.settings, limits.start_rates(self.strategies), now)
        if now - stack.counted_at < COUNTED_S:
            return stack
        if now - self._listing_at >= COUNTED_S:
            self._listing_at = now  # who comes while they list need not list as well
            self._list(now)
        if self._listed is None or not max(stack.counted_at, now - limits.SEEN_S) < self._listed[0]:
            return stack  # with all that was launched since it was counted, and nothing that ended: too many, not too few
        at, open_launches, instances = self._listed
        return limits.counted(stack, instances, open_launches.items, at)

    def of_stack(self, stack: Stack, request: MachineRequest) -> Headroom:
        """Of the whole stack, for machines of this kind; `stack` as refreshed just now."""
        strategy = self.strategies.of(request.compute)
        own = limits.own_limits(self.settings)
        return limits.stack_headroom(stack, self.settings, self._own(own, request), strategy.at_most(request), strategy)

    def of_view(self, view: LabelSetView, request: MachineRequest) -> Headroom:
        """Of a label set by its own view."""
        each = self.strategies.of(request.compute).at_most(request)
        return limits.view_headroom(view, self._own(self.settings.per_label_set, request), each, limits.OF_SET)

    def of_label_set(
        self, label_set: LabelSet, request: MachineRequest, stack: Stack, planned: Sequence[PlannedSession],
        buckets: dict[str, TokenBucket],
    ) -> Headroom:  # fmt: skip
        """For more machines of its repository and label set; `buckets` gets those that a launch must write.

        Those launched lately may still have to get their registration.
        """
        quota = self.sources.of(label_set).quota(label_set)
        name, settings = label_set.repository, self.settings
        taken = sum(one.repository == name for one in planned)
        spoken_for = taken + self._on_trial(name) if quota.on_trial else len(planned) + limits.lately(stack)
        found = [limits.registration_headroom(quota, spoken_for, name)]
        if settings.per_repository != Limits():
            each = self.strategies.of(request.compute).at_most(request)
            of_repository = self._own(settings.per_repository, request)
            mine = limits.view_headroom(self.records.view(repository_key(name)), of_repository, each, name)
            found.append(Headroom(max(0, mine.machines - taken), mine.why, mine.whose))
        scopes = (
            (repository_key(name), settings.per_repository, name),
            (label_set.set_key, settings.per_label_set, limits.OF_SET),
        )
        for key, of_scope, whose in scopes:
            if of_scope.launches_per_minute:
                if key not in buckets:
                    buckets[key] = limits.bucket_refilled(self.records.token_bucket(key), of_scope, stack.at)
                found.append(limits.bucket_headroom(buckets[key], whose))
        return min(found, key=lambda one: one.machines)

    def _own(self, of_scope: Limits, request: MachineRequest) -> Limits:
        """The limits that concern machines of this kind: where nobody bills for them, money does not."""
        is_priced = self.strategies.of(request.compute).traits.is_priced
        return of_scope if is_priced else replace(of_scope, usd_per_hour=0.0)

    def _list(self, now: float) -> None:
        """What there is. Where a strategy does not say, the last count is gone on with."""
        open_launches = self.records.view(OPEN_LAUNCHES)  # first: one that is answered meanwhile counts twice, not never
        try:
            self._listed = (now, open_launches, tuple(self.strategies.list_sessions()))
        except ServiceFailed as error:
            self.journal.event("stack.count_failed", error=str(error))

    def _on_trial(self, repository: str) -> int:
        """Machines of that repository that are still to show whether registering is allowed."""
        now = self.clock.now()
        items = [item for item in self.records.view(repository_key(repository)).items if now - item.since < TRIAL_S]
        return sum(1 if item.kind == "session" else len(item.sessions) for item in items)
