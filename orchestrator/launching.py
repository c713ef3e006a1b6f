"""From a committed wish to configured sessions.

The request is sent; it is committed which session got which instance; each session becomes a record, and is registered and
configured. It may be cut off anywhere and taken up again: a replay gives the same instances, and a record is made once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from orchestrator import caps, demand, planning
from orchestrator.catalogue import Catalogue
from orchestrator.circuits import after_an_answer, open_pools
from orchestrator.errors import Conflict, ServiceFailed, Unanswered
from orchestrator.labels import Ask
from orchestrator.model import Circuits, Launch, Ledger, Planned, Session, Stack, Try, changed
from orchestrator.naming import runner_name
from orchestrator.notes import Notes
from orchestrator.patience import LEARNED, REFUSALS, SENT_S
from orchestrator.ports import Clock, Crew, Journal
from orchestrator.reapers import UNSEEN_S
from orchestrator.records import Records
from orchestrator.services import Compute, Started
from orchestrator.sessions import Sessions
from orchestrator.settings import ServerSettings
from orchestrator.states import JobState, LaunchState, SessionState
from orchestrator.troubles import Trouble, compact, gravest, told, trouble

OLD_S = 1800.0
"""A launch that is still not sent, or only in part, after so long is not asked for any more; another one is made instead."""
REASON = 200
"""Characters kept of what EC2 says of one code."""
HINTS: dict[Trouble | None, str] = {
    Trouble.CAPACITY: "another row is tried, or another launch",
    Trouble.QUOTA: "ask AWS for a higher quota (Service Quotas, EC2)",
    Trouble.LATER: "EC2 has not answered well for ten minutes: another launch is made",
    Trouble.REFUSED: "nothing can be launched like this: look at the role's permissions, the launch template and the subnets",
    None: "a code we do not know: another launch is made",
}


@dataclass
class Launching:
    """Launches; on ports that are handed in."""

    settings: ServerSettings
    records: Records
    compute: Compute
    sessions: Sessions
    notes: Notes
    catalogue: Catalogue
    clock: Clock
    journal: Journal
    crew: Crew
    configurers: Crew
    """Hands of their own: SSM takes three configurations a second, and no launch waits for that."""

    def carry(self, launch: Launch, *, sent_before: bool = False) -> None:
        """As far as it goes; safe to repeat from any point at which it was cut off. Raises: OrchestratorError.

        What one session's configuration fails with keeps no other from its machine: it is raised in the end.
        """
        troubles: list[Exception] = []
        while launch.state is not LaunchState.CLOSED:
            ledgers = {key: self.records.ledger(key) for key in launch.sets}
            if launch.state is LaunchState.INTENDED:
                held_back = sent_before and (self.records.stack().paused or self._is_old(launch))
                started = self._found(launch) if held_back else self._started(launch, sent_before=sent_before)
                if started is None:
                    break
                launch = self._dealt(launch, started)
            made = self._all_made(launch, ledgers)
            try:
                launch, sent_before = self._next(launch, ledgers), False
            finally:  # a lost race for the rest of it keeps no machine from its configuration
                came = self.configurers.each([partial(self._configure, session) for session in made])
                _journaled(self.journal, came)
                troubles += came
        _raised(troubles)

    def resume(self, launch: Launch) -> None:
        """A launch that somebody left lying: take it over, and go on. Raises: Conflict if they did not; OrchestratorError."""
        claimed = self.records.put(changed(launch, due=self.sessions.leased()))
        self.carry(claimed, sent_before=True)

    def requested(self, launch: Launch, ask: Ask) -> Launch:
        """The launch with the exact request of its step, for the sessions it still has to serve.

        A row of which every pool is to be left alone is passed over, if there is another.
        """
        site, kinds = self.compute.site(), planning.serving(self.settings, self.catalogue, ask)
        steps, shunned = planning.steps(ask, self.settings), open_pools(self.records.circuits(), self.clock.now())
        better = (n for n in range(launch.step, len(steps)) if not planning.all_shunned(site, kinds, steps[n], shunned))
        step = next(better, launch.step)
        request = planning.launch_request(
            self.settings, site, ask, kinds, steps[step], launch_id=launch.launch_id, number=step, count=len(launch.sessions),
            spec=launch.spec, expires_at=launch.expires_at, shunned=shunned,
        )  # fmt: skip
        return changed(
            launch, step=step, market=steps[step].market, request=request, due=self.sessions.leased(), asked_at=self.clock.now(),
            lost=False,
        )  # fmt: skip

    def _is_old(self, launch: Launch) -> bool:
        """Whether it lay so long that its machines would end too soon: their tag was fixed when it was made."""
        return self.clock.now() - launch.created_at > OLD_S

    def _found(self, launch: Launch) -> Started | None:
        """While nothing is to be asked for: what was made before is looked for; None: EC2 may still show it."""
        found = self.compute.look_up(launch.request)
        if len(found) < len(launch.sessions) and self.clock.now() - launch.asked_at < UNSEEN_S:
            self.records.noted(launch, self.clock.now(), "not asked for any more: the stack is paused, or it lay too long")
            return None
        return Started(found)

    def _dealt(self, launch: Launch, started: Started) -> Launch:
        """Commit which session got what, in the order of both: instances first, then what EC2 complained of."""
        instances = sorted(body.handle.body for body in started.bodies)
        bodies = dict(zip((one.session_id for one in launch.sessions), instances, strict=False))
        now = self.clock.now()
        reasons = compact(started.reasons, REASON)
        came = Try(at=now, step=launch.step, market=launch.market, wanted=len(launch.sessions), got=len(bodies), reasons=reasons)
        tries = (*launch.tries, came)
        pools = {body.handle.body: body.pool for body in started.bodies if body.pool}
        dealt = self.records.put(
            changed(launch, state=LaunchState.DEALT, bodies=bodies, pools=pools, tries=tries, due=self.sessions.leased())
        )
        self.learned(lambda known: after_an_answer(known, started.refused, pools.values(), now))
        if bodies and now - launch.created_at > caps.SEEN_S:
            self._counted_anew(lambda stack: caps.came_late(stack, len(bodies), launch, now))
        fields = {"launch_id": launch.launch_id, "step": launch.step, "wanted": len(launch.sessions), "got": len(bodies)}
        self.journal.event("launch.dealt", **fields, reasons="; ".join(started.reasons))
        return dealt

    def _started(self, launch: Launch, *, sent_before: bool) -> Started:
        """EC2's answer; a refusal is one, too, and so is silence that lasts. What may pass raises: it is due again."""
        try:
            return self.compute.start_sessions(launch.request, sent_before=sent_before)
        except ServiceFailed as error:
            kind, lost = trouble(error.code), isinstance(error, Unanswered)
            early = self.clock.now() - launch.asked_at < SENT_S
            if kind in (Trouble.LATER, None) and (early or (lost and not launch.lost)):
                self.records.noted(changed(launch, lost=launch.lost or lost), self.clock.now(), str(error))
                raise  # what a lost answer made is asked for once more at least, however late it is
            fields = {"launch_id": launch.launch_id, "step": launch.step, "error": str(error)}
            self.journal.event("launch.refused", **fields, hint=HINTS.get(kind, HINTS[None]))
            found = self.compute.look_up(launch.request)  # whatever an unanswered call made after all
            return Started(found, (f"{error.code}: {error}",))

    def learned(self, change: Callable[[Circuits], Circuits]) -> None:
        """For the breakers; several may learn at once. Not knowing it costs a call, not a machine. Raises: ServiceFailed."""
        for _ in range(LEARNED):
            known = self.records.circuits()
            wiser = change(known)
            try:
                if wiser is not known:
                    self.records.put(wiser)
                    self.journal.event("circuits.changed", open=len(open_pools(wiser, self.clock.now())))
                return
            except Conflict:
                continue

    def _all_made(self, launch: Launch, ledgers: dict[str, Ledger | None]) -> list[Session]:
        """The records of all that have a body, side by side. Raises: Conflict; ServiceFailed; some of them may be made."""
        made: dict[str, Session] = {}

        def make(planned: Planned) -> None:
            made[planned.session_id] = self._made(launch, planned, ledgers[planned.set_key])

        dealt = [planned for planned in launch.sessions if planned.session_id in launch.bodies]
        troubles = self.crew.each([partial(make, planned) for planned in dealt])
        if troubles:
            raise next((one for one in troubles if not isinstance(one, Conflict)), troubles[0])
        return [made[planned.session_id] for planned in dealt]

    def _made(self, launch: Launch, planned: Planned, ledger: Ledger | None) -> Session:
        """The record of a session that has a body; if it is there already, somebody was cut off, and it is ours now."""
        if ledger is None:
            raise ServiceFailed("records:ledger", "LedgerMissing", planned.set_key)
        now = self.clock.now()
        instance_id = launch.bodies[planned.session_id]
        pool = launch.pools.get(instance_id, "")
        kind = self.catalogue.named(pool.partition("/")[0])
        session = Session(
            session_id=planned.session_id, launch_id=launch.launch_id, set_key=planned.set_key, launched_for=planned.job_id,
            owner=ledger.owner, repo=ledger.repo, run_id=planned.run_id, labels=ledger.labels,
            installation_id=ledger.installation_id, strategy=self.compute.name,
            instance_id=instance_id, spec=launch.spec, image=launch.image,
            market=launch.tries[-1].market, pool=pool, launched_at=now,
            cpus=kind.cpus if kind else launch.cpus, usd=kind.usd if kind else launch.usd,
            runner_name=runner_name(self.settings.stack_id, planned.session_id),
            deadline=now + planning.BOOT_S, due=self.sessions.leased(), expires_at=launch.expires_at,
        )  # fmt: skip
        try:
            saved = self.records.put(session)
        except Conflict:
            known = self.records.session(planned.session_id)
            if known is None:
                raise
            return self.claimed(known)
        self.journal.event("session.launched", session_id=session.session_id, instance_id=session.instance_id)
        return saved

    def _configure(self, session: Session) -> None:
        """Still ours, or claimed again where its turn comes so late that somebody else may have begun."""
        late = self.clock.now() > session.due - self.settings.lease_s / 2
        self.sessions.configure(self.claimed(session) if late else session)

    def claimed(self, session: Session) -> Session:
        """Ours now, if it still wants its configuration. Raises: Conflict: it is somebody else's."""
        if session.state is not SessionState.LAUNCHED:
            return session
        return self.records.put(changed(session, due=self.sessions.leased()))

    def _next(self, launch: Launch, ledgers: dict[str, Ledger | None]) -> Launch:
        """After a deal: the next row of the fallback for those without a body, or the end."""
        left, reasons = tuple(one for one in launch.sessions if one.session_id not in launch.bodies), launch.tries[-1].reasons
        ledger = ledgers[left[0].set_key] if left else None
        ask = self.settings.ask_of(ledger.owner, ledger.repo, ledger.labels) if ledger is not None else None
        paused = bool(left) and (self._is_old(launch) or self.records.stack().paused)
        if ask is not None and not paused:
            wanted = planning.firm(ask) if launch.firm else ask
            row = planning.next_row(planning.steps(wanted, self.settings), launch.step, reasons)
            if row is not None and self._can_be_asked(wanted):
                again = changed(launch, state=LaunchState.INTENDED, step=row, sessions=left, bodies={})
                return self.records.put(self.requested(again, wanted))
        refused = [self.records.ledger(key) for key in sorted({one.set_key for one in left})]
        why = told(reasons)
        wiser = [
            demand.after_a_refusal(found, launch.launch_id, why, self.clock.now())
            for found in refused
            if found is not None and not paused
        ]
        closed: Launch
        closed, *_ = self.records.save(changed(launch, state=LaunchState.CLOSED), *wiser)
        if paused:
            for key in {one.set_key for one in left}:
                self.sessions.wake(key)
            return closed
        if left:
            self._counted_anew(lambda stack: caps.given_back(stack, len(left), launch))
        for found in wiser:
            fields = {"set_key": found.set_key, "until": found.backoff_until, "why": why, "times": found.refusals}
            self.journal.event("level.refused", **fields, reasons="; ".join(reasons))
            self.sessions.wake(found.set_key)
        if ask is not None and ask.fallback == "fail" and gravest(reasons) in (Trouble.CAPACITY, Trouble.QUOTA):
            self._give_up([one.job_id for one in left], reasons)
        elif any(found.refusals >= REFUSALS for found in wiser):
            self._say_that_it_waits([one.job_id for one in left], why)
        return closed

    def _counted_anew(self, change: Callable[[Stack], Stack]) -> None:
        """In what the whole stack has. Where it cannot be written it costs others some seconds: EC2's list is read again soon."""
        for _ in range(LEARNED):
            try:
                self.records.put(change(self.records.stack()))
                return
            except Conflict:
                continue

    def _can_be_asked(self, ask: Ask) -> bool:
        """What there was when the launch was made may be gone: a template, types of the operator's list or of EC2's."""
        there = ask.architecture in self.compute.site().templates
        return there and not planning.unservable(self.settings, self.catalogue, ask)

    def _say_that_it_waits(self, job_ids: list[str], why: str) -> None:
        """Once for each job: whoever waits for it shall not wonder. It goes on being tried."""
        for job in map(self.records.job, job_ids):
            if job is not None and job.state is JobState.QUEUED and not job.refused:
                text = f"waits: {why}. It is tried again, every ten minutes at the latest."
                self.notes.say(job, "This job waits for a machine", text)

    def _give_up(self, job_ids: list[str], reasons: tuple[str, ...]) -> None:
        """`fallback=fail`: who asked so would rather know than wait. GitHub itself has no way to fail a queued job."""
        for job_id in job_ids:
            job = self.records.job(job_id)
            if job is None or job.state is not JobState.QUEUED or job.refused:
                continue
            why = f"EC2 has no machine for it ({'; '.join(reasons) or 'no reason given'}), and its label says fallback=fail"
            text = f"is not run: {why}. Cancel the run, or run it again later."
            note = self.notes.about(job, "This job gets no machine", text)
            saved = self.records.save(changed(job, refused=why, given_up=True), *([note] if note is not None else []))
            self.journal.event("job.refused", job_id=job_id, repository=f"{job.owner}/{job.repo}", why=why)
            if note is not None:
                self.notes.send(saved[-1])


def _journaled(journal: Journal, troubles: Sequence[Exception]) -> None:
    for one in troubles:
        journal.event("launching.troubled", error=f"{type(one).__name__}: {one}")


def report(journal: Journal, troubles: Sequence[Exception]) -> None:
    """All of them are in the journal; the first that is more than a lost race is raised."""
    _journaled(journal, troubles)
    _raised(troubles)


def _raised(troubles: Sequence[Exception]) -> None:
    serious = [one for one in troubles if not isinstance(one, Conflict)]
    if serious:
        raise serious[0]
