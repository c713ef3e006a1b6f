"""From a committed launch to configured sessions.

The request is sent; it is committed which session got which machine; each session becomes a record, and is registered and
configured. It may be cut off anywhere and taken up again: a replay gives the same machines, and a record is made once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from orchestrator.compute.dispatch import Strategies
from orchestrator.compute.port import Payload, Started, Wanted
from orchestrator.errors import Conflict, FailureKind, ServiceFailed, Unanswered, Unlaunchable
from orchestrator.fleet import limits
from orchestrator.fleet.demand import after_a_refusal
from orchestrator.fleet.failures import log_failures, one_per_code, raise_first
from orchestrator.fleet.sessions import Sessions
from orchestrator.fleet.work import Sources
from orchestrator.ports import Clock, Journal, WorkerPool
from orchestrator.retry_policy import LEARN_TRIES, OLD_LAUNCH_S, REFUSALS, SENT_S
from orchestrator.settings import ServerSettings
from orchestrator.store.kinds import changed
from orchestrator.store.launch import Attempt, Launch, PlannedSession
from orchestrator.store.model import LabelSet, Session, Stack
from orchestrator.store.naming import registration_name
from orchestrator.store.records import Records
from orchestrator.store.request import Fallback
from orchestrator.store.states import LaunchState, SessionState

REASON_CHARACTERS = 200
"""Characters kept of each reason."""


@dataclass(kw_only=True)
class Launching:
    """Launches; on ports that are handed in."""

    settings: ServerSettings
    records: Records
    strategies: Strategies
    sources: Sources
    sessions: Sessions
    clock: Clock
    journal: Journal
    workers: WorkerPool
    configurers: WorkerPool
    """Threads of their own: configurations are written three a second, and no launch waits for that."""

    def carry(self, launch: Launch, *, sent_before: bool = False) -> None:
        """Take a launch as far as it goes; safe to repeat from any point at which it was cut off. Raises: OrchestratorError.

        What one session's configuration fails with keeps no other from its machine: it is raised in the end.
        """
        failures: list[Exception] = []
        while launch.state is not LaunchState.CLOSED:
            label_sets = {key: self.records.label_set(key) for key in launch.sets}
            if launch.state is LaunchState.INTENDED:
                answer = self._answered(launch, label_sets, sent_before=sent_before)
                if answer is None:
                    break
                launch = self._assigned(*answer)
            made = self._all_made(launch, label_sets)
            try:
                launch, sent_before = self._next(launch, label_sets), False
            finally:  # a lost race for the rest of it keeps no machine from its configuration
                came = self.configurers.run_all([partial(self._configure, session) for session in made])
                log_failures(self.journal, came)
                failures += came
        raise_first(failures)

    def resume(self, launch: Launch) -> None:
        """A launch that somebody left lying: take it over, and go on. Raises: Conflict if they did not; OrchestratorError."""
        claimed = self.records.put(changed(launch, due=self.sessions.leased()))
        self.carry(claimed, sent_before=True)

    def planned(self, launch: Launch, *, after: int | None = None, failure: FailureKind | None = None) -> Launch | None:
        """The launch with the exact request of its next step, for the sessions it still has to serve.

        None: its strategy can ask for nothing else now. Raises: ServiceFailed.
        """
        wanted = Wanted(
            launch_id=launch.launch_id, request=launch.machine, sessions=tuple(one.session_id for one in launch.sessions),
            expires_at=launch.expires_at,
        )  # fmt: skip
        plan = self.strategies.of(launch.strategy).plan(wanted, after=after, failure=failure)
        if plan is None:
            return None
        return changed(
            launch, step=plan.step, market=plan.market, interruptible=plan.interruptible, request=plan.request,
            due=self.sessions.leased(), asked_at=self.clock.now(), lost=False,
        )  # fmt: skip

    def _answered(
        self, launch: Launch, label_sets: dict[str, LabelSet | None], *, sent_before: bool
    ) -> tuple[Launch, Started] | None:
        """The strategy's answer, and the launch as it was asked; None: nothing is to be asked for, and nothing is there yet."""
        held_back = sent_before and (self.records.stack().paused or self._is_old(launch))
        in_call = self.strategies.of(launch.strategy).traits.payload is Payload.IN_CALL
        if held_back or (in_call and sent_before and launch.registrations):
            found = self._found(launch, is_final=not held_back)
            return None if found is None else (launch, found)
        launch, payloads = self._registered(launch, label_sets) if in_call else (launch, {})
        return launch, self._started(launch, payloads, sent_before=sent_before)

    def _is_old(self, launch: Launch) -> bool:
        """Whether it lay so long that its machines would end too soon: their end was fixed when it was made."""
        return self.clock.now() - launch.created_at > OLD_LAUNCH_S

    def _found(self, launch: Launch, *, is_final: bool) -> Started | None:
        """What was made before, looked for where nothing is to be asked for; None: the strategy may still show it.

        `is_final`: its payload travelled in the call and is nowhere kept, so that the same call cannot be made again. What is
        missing is asked for in the next step, under a token of its own.
        """
        strategy = self.strategies.of(launch.strategy)
        found = strategy.look_up(launch.request)
        if len(found.instances) < len(launch.sessions) and self.clock.now() - launch.asked_at < strategy.traits.unseen_s:
            why = "looked for, not asked again" if is_final else "not asked for any more: the stack is paused, or it lay too long"
            self.records.add_failure(launch, self.clock.now(), why)
            return None
        return found

    def _registered(self, launch: Launch, label_sets: dict[str, LabelSet | None]) -> tuple[Launch, dict[str, str]]:
        """Register all sessions before the call in which their configurations travel. Raises: ServiceFailed."""
        payloads: dict[str, str] = {}
        registrations: dict[str, int] = {}
        for planned in launch.sessions:
            session = self._new_session(launch, planned, label_sets[planned.set_key], None)
            registered = self.sources.of(session).register(session)
            registrations[planned.session_id] = registered.registration_id
            try:
                payloads[planned.session_id] = registered.configuration(session)
            except Unlaunchable as error:
                raise ServiceFailed("fleet:configuration", "Unconfigurable", str(error)) from error
        return self.records.put(changed(launch, registrations=registrations)), payloads

    def _assigned(self, launch: Launch, started: Started) -> Launch:
        """Commit which session got what, in the order of both: machines first, then what the strategy complained of."""
        by_id = {one.handle.instance: one for one in started.instances}
        identities = sorted(by_id)
        instances = dict(started.assigned) or dict(zip((one.session_id for one in launch.sessions), identities, strict=False))
        now, reasons = self.clock.now(), one_per_code(started.reasons, REASON_CHARACTERS)
        wanted, got = len(launch.sessions), len(instances)
        came = Attempt(
            at=now, step=launch.step, market=launch.market, wanted=wanted, got=got, reasons=reasons, why=started.why,
            failure=(started.failure or FailureKind.UNKNOWN) if got < wanted else None,
        )  # fmt: skip
        assigned = self.records.put(
            changed(
                launch, state=LaunchState.ASSIGNED, instances=instances, attempts=(*launch.attempts, came),
                placements={name: one.placement for name, one in by_id.items() if one.placement},
                found={name: one.resources for name, one in by_id.items() if one.resources is not None},
                due=self.sessions.leased(),
            )
        )  # fmt: skip
        if instances and now - launch.created_at > limits.SEEN_S:
            self._recount(lambda stack: limits.came_late(stack, got, launch, now))
        fields = {"launch_id": launch.launch_id, "step": launch.step, "wanted": wanted, "got": got}
        self.journal.event("launch.assigned", **fields, reasons="; ".join(started.reasons))
        return assigned

    def _started(self, launch: Launch, payloads: dict[str, str], *, sent_before: bool) -> Started:
        """The strategy's answer; a refusal is one, too, and so is silence that lasts. What may pass raises: it is due again."""
        strategy = self.strategies.of(launch.strategy)
        try:
            return strategy.start_sessions(launch.request, payloads, sent_before=sent_before)
        except ServiceFailed as error:
            failure, lost = strategy.classify(error), isinstance(error, Unanswered)
            early = self.clock.now() - launch.asked_at < SENT_S
            if failure.kind in (FailureKind.THROTTLED, FailureKind.UNKNOWN) and (early or (lost and not launch.lost)):
                self.records.add_failure(changed(launch, lost=launch.lost or lost), self.clock.now(), str(error))
                raise  # what a lost answer made is asked for once more at least, however late it is
            fields = {"launch_id": launch.launch_id, "step": launch.step, "error": str(error)}
            self.journal.event("launch.refused", **fields, hint=failure.hint)
            found = strategy.look_up(launch.request)  # whatever an unanswered call made after all
            return Started(
                instances=found.instances, reasons=(f"{error.code}: {error}",), failure=failure.kind, why=failure.words,
                assigned=found.assigned,
            )  # fmt: skip

    def _all_made(self, launch: Launch, label_sets: dict[str, LabelSet | None]) -> list[Session]:
        """The records of all that have a machine, side by side. Raises: Conflict; ServiceFailed; some of them may be made."""
        made: dict[str, Session] = {}

        def make(planned: PlannedSession) -> None:
            made[planned.session_id] = self._made(launch, planned, label_sets[planned.set_key])

        assigned = [planned for planned in launch.sessions if planned.session_id in launch.instances]
        failures = self.workers.run_all([partial(make, planned) for planned in assigned])
        if failures:
            raise next((one for one in failures if not isinstance(one, Conflict)), failures[0])
        return [made[planned.session_id] for planned in assigned]

    def _made(self, launch: Launch, planned: PlannedSession, label_set: LabelSet | None) -> Session:
        """The record of a session that has a machine; if it is there already, somebody was cut off, and it is ours now."""
        session = self._new_session(launch, planned, label_set, launch.instances[planned.session_id])
        try:
            saved = self.records.put(session)
        except Conflict:
            known = self.records.session(planned.session_id)
            if known is None:
                raise
            return self.sessions.claimed(known)
        self.journal.event("session.launched", session_id=session.session_id, instance_id=session.instance_id)
        return saved

    def _new_session(
        self, launch: Launch, planned: PlannedSession, label_set: LabelSet | None, instance_id: str | None
    ) -> Session:
        """A session as it begins. Where its payload travelled in the call it is configured already. Raises: ServiceFailed."""
        if label_set is None:
            raise ServiceFailed("records:label_set", "LabelSetMissing", planned.set_key)
        now, registration = self.clock.now(), launch.registrations.get(planned.session_id)
        session = Session(
            session_id=planned.session_id, launch_id=launch.launch_id, set_key=planned.set_key, source=label_set.source,
            launched_for=planned.item_id, scope=label_set.scope, repository=label_set.repository, run_id=planned.run_id,
            labels=label_set.labels, strategy=launch.strategy, instance_id=instance_id or "", spec=launch.spec,
            image=launch.image, market=launch.market, placement=launch.placements.get(instance_id or "", ""),
            non_interruptible=not launch.interruptible,
            resources=launch.found.get(instance_id or "", launch.each),
            registration_name=registration_name(self.settings.stack_id, planned.session_id), launched_at=now,
            deadline=now + limits.boot_s(self.settings), due=self.sessions.leased(), expires_at=launch.expires_at,
        )  # fmt: skip
        if registration is None or instance_id is None:
            return session
        return changed(session, state=SessionState.CONFIGURED, registration_id=registration, configured_at=now)

    def _configure(self, session: Session) -> None:
        """Configure a session that is still ours, or claimed again where its turn comes so late that somebody may have begun."""
        late = self.clock.now() > session.due - self.settings.lease_s / 2
        self.sessions.configure(self.sessions.claimed(session) if late else session)

    def _next(self, launch: Launch, label_sets: dict[str, LabelSet | None]) -> Launch:
        """After an assignment: the next step of the fallback for those without a machine, or the end."""
        left, last = tuple(one for one in launch.sessions if one.session_id not in launch.instances), launch.attempts[-1]
        stopped = bool(left) and (self._is_old(launch) or self.records.stack().paused)
        if left and not stopped:
            rest = changed(launch, sessions=left, instances={})
            again = self.planned(rest, after=launch.step, failure=last.failure)
            if again is not None:
                return self.records.put(changed(again, state=LaunchState.INTENDED, registrations={}))
        refused = [self.records.label_set(key) for key in sorted({one.set_key for one in left})] if not stopped else []
        now = self.clock.now()
        wiser = [after_a_refusal(found, launch.launch_id, last.why, now) for found in refused if found is not None]
        closed: Launch
        closed, *_ = self.records.save(changed(launch, state=LaunchState.CLOSED), *wiser)
        if stopped:
            for key in dict.fromkeys(one.set_key for one in left):
                self.sessions.wake(key)
        elif left:
            self._recount(lambda stack: limits.given_back(stack, len(left), launch))
            self._report_refusal(launch, left, wiser)
        return closed

    def _report_refusal(self, launch: Launch, left: Sequence[PlannedSession], label_sets: Sequence[LabelSet]) -> None:
        """Wake the label sets that got nothing, and tell whoever waits for their work."""
        last = launch.attempts[-1]
        for found in label_sets:
            fields = {"set_key": found.set_key, "until": found.backoff_until, "why": last.why, "times": found.refusals}
            self.journal.event("label_set.unfulfilled", **fields, reasons="; ".join(last.reasons))
            self.sessions.wake(found.set_key)
        for label_set in label_sets:
            items = [one.item_id for one in left if one.set_key == label_set.set_key]
            source, lacks = self.sources.of(label_set), last.failure in LACKING
            if launch.machine.fallback is Fallback.FAIL and lacks:
                source.give_up(items, "; ".join(last.reasons) or "no reason given")
            elif label_set.refusals >= REFUSALS:
                source.waits(items, last.why)

    def _recount(self, change: Callable[[Stack], Stack]) -> None:
        """Correct what the stack has in use. A failed write costs others some seconds: it is counted again soon."""
        for _ in range(LEARN_TRIES):
            try:
                self.records.put(change(self.records.stack()))
                return
            except Conflict:
                continue


LACKING = (FailureKind.NO_CAPACITY, FailureKind.QUOTA, FailureKind.UNKNOWN)
"""Failures that say that there is not enough of something, and not that something is wrong."""
