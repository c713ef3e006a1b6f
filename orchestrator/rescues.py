"""Jobs that lost their machine are run again, once; jobs that were red on their own merits never.

GitHub takes one re-run at a time, and only when the run is over. So a run's reclaimed jobs are gathered, and when it is over
either all its failed jobs are run again (if all of them were reclaimed), or one of them, and the others after that attempt.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.errors import Conflict
from orchestrator.model import Job, Rescue, Session, Told, changed
from orchestrator.notes import Notes
from orchestrator.patience import RERUN_REFUSALS, RERUN_WITHIN_S, RERUNS
from orchestrator.ports import Clock, Journal
from orchestrator.records import Records
from orchestrator.services import Ended, GitHub, Scope
from orchestrator.states import JobState, RescueState

TOLD = 20
"""Lines of a run that are kept."""
LONGEST_LOOK_S = 3600.0
SOON_S = 5.0
"""GitHub calls a run over some seconds after its last job."""
CLOCKS_S = 2.0
"""GitHub tells whole seconds, and its clock is not ours."""
INFERRED = "instance_gone"
"""The end of a session whose agent has not said how it went."""
LOST = frozenset({"job_lost", "listener_killed"})
"""What an agent says that only saw its runner go: why, EC2 may have said."""


def run_key(job: Job) -> str:
    """Under which the rescues of its run are kept."""
    return f"{job.owner}/{job.repo}/{job.run_id}"


def was_reclaimed(job: Job, session: Session) -> bool:
    """Whether the job failed because its machine was taken away: GitHub says it failed, and we know that it was interrupted.

    Where the agent has not said so itself, a job that failed before its machine was seen to go was red on its own merits: GitHub
    gives up a runner that it does not hear any more only after minutes.
    """
    failed = job.state is JobState.COMPLETED and job.conclusion == "failure"
    its_own = session.bound_job == job.job_id and job.runner_name in ("", session.runner_name)
    warned = session.reason in LOST and session.interrupting_at is not None
    if not failed or not its_own or not (session.status == "interrupted" or warned) or session.reason == "dismissed":
        return False
    if session.reason != INFERRED:
        return True
    going = [at for at in (session.interrupting_at, session.gone_at) if at is not None]
    return job.completed_at is None or not going or job.completed_at >= min(going) - CLOCKS_S


def next_rerun(wanted: Iterable[str], ids: Iterable[str], badly: Sequence[Ended]) -> tuple[tuple[str, ...], str]:
    """Which jobs (names) the next re-run runs, and the id of the one job it is of (empty: all that ended badly).

    `wanted`, `ids`: those that lost their machines, by name and, as far as known, by id in this attempt; `badly`: all that
    ended badly, by whose own fault or not: nobody can cancel one job alone. Nothing: no re-run.
    """
    names, known = Counter(one.name for one in badly), set(ids)
    there = [one for one in badly if one.job_id in known or (one.name in set(wanted) and names[one.name] == 1)]
    there = sorted((one for one in there if one.conclusion == "failure"), key=lambda one: (one.name, one.job_id))
    if not there:
        return (), ""
    if len(there) == sum(one.conclusion != "cancelled" for one in badly):  # the others of a matrix that fails fast went with it
        return tuple(dict.fromkeys(one.name for one in there)), ""
    return (there[0].name,), there[0].job_id


@dataclass
class Rescues:
    """Re-runs; on ports that are handed in."""

    records: Records
    notes: Notes
    github: GitHub
    clock: Clock
    journal: Journal
    look_s: float
    """How often it is looked whether the run is over."""

    def consider(self, job: Job | None, session: Session) -> None:
        """After either of the two was told its end: if both agree that the job was reclaimed, it is to be run again.

        Safe to repeat. Raises: Conflict; ServiceFailed.
        """
        if job is None or not was_reclaimed(job, session):
            return
        key, now = run_key(job), self.clock.now()
        known = self.records.rescue(key) or Rescue(
            run_key=key, owner=job.owner, repo=job.repo, run_id=job.run_id, installation_id=job.installation_id,
            state=RescueState.RESTING,
        )  # fmt: skip
        tried = known.tried.get(job.name, ())
        if job.run_attempt in tried or job.job_id in known.ids or job.run_attempt < known.wanted.get(job.name, 0):
            return
        if len(tried) >= RERUNS:
            words = f"attempt {job.run_attempt} lost its machine ({session.reason}), too: not run again by itself"
            told = _told(known, now, [job.name], words)
            if [one.what for one in told[-1:]] != [one.what for one in known.told[-1:]]:
                self.records.put(changed(known, told=told))
            self.journal.event("rescue.exhausted", run=key, job=job.name, attempt=job.run_attempt, reason=session.reason)
            why = f"its machine was taken away ({session.reason}), as in attempt {tried[-1]}: it is not run again by itself."
            self.notes.say(job, "This job lost its machine again", f"failed because {why}")
            return
        seen = max(known.seen_attempt, job.run_attempt)
        ids = {**known.ids, job.job_id: job.name} if seen == known.seen_attempt or not known.ids else {job.job_id: job.name}
        wanted = {**known.wanted, job.name: job.run_attempt}
        more: dict[str, object] = {
            "wanted": wanted,
            "ids": ids,
            "seen_attempt": seen,
            "changed_at": now,
            "due": now + self.look_s,
        }
        words = f"attempt {job.run_attempt} lost its machine ({session.reason}): to be run again when the run is over"
        more["told"] = _told(known, now, [job.name], words)
        self.records.put(changed(known, state=RescueState.WAITING, **more))
        self.journal.event("rescue.wanted", run=key, job=job.name, reason=session.reason)

    def was_tried(self, job: Job) -> bool:
        """Whether this attempt is there after we ran the job again because it had lost its machine. Raises: ServiceFailed."""
        if job.run_attempt == 1:
            return False
        rescue = self.records.rescue(run_key(job))
        tried = (*rescue.tried.get(job.name, ()), *_doing(rescue, job.name)) if rescue is not None else ()
        return any(attempt < job.run_attempt for attempt in tried)

    def will_try(self, job: Job) -> bool:
        """Whether it would be run again if its machine were taken away now. Raises: ServiceFailed."""
        rescue = self.records.rescue(run_key(job))
        return rescue is None or len(rescue.tried.get(job.name, ())) < RERUNS

    def hurry(self, run_key: str) -> None:
        """A job of this run is over: if others wait for the end of the run, it is looked for at once. Raises: ServiceFailed."""
        rescue = self.records.rescue(run_key)
        if rescue is None or rescue.state is RescueState.RESTING:
            return
        soon = max(self.clock.now() + SOON_S, rescue.looked_at + self.look_s)  # a run's jobs may end one after the other
        if soon < rescue.due:
            with contextlib.suppress(Conflict):  # somebody looks at it anyway
                self.records.put(changed(rescue, due=soon))

    def withdraw(self, job: Job | None) -> None:
        """A job that was not reclaimed after all: it is not run again, unless it was already. Raises: Conflict; ServiceFailed."""
        rescue = self.records.rescue(run_key(job)) if job is not None else None
        if job is None or rescue is None or job.name not in rescue.wanted or job.name in rescue.doing:
            return
        ids = {identity: name for identity, name in rescue.ids.items() if identity != job.job_id}
        left = {name: n for name, n in rescue.wanted.items() if name != job.name or name in ids.values()}
        self.records.put(changed(rescue, wanted=left, ids=ids, state=RescueState.WAITING if left else RescueState.RESTING))
        self.journal.event("rescue.withdrawn", run=rescue.run_key, job=job.name)

    def attempt(self, run_key: str) -> None:
        """A rescue that is due: run again what may be, or look again later. Raises: Conflict; ServiceFailed."""
        rescue, now = self.records.rescue(run_key), self.clock.now()
        if rescue is None or rescue.state is RescueState.RESTING or rescue.due > now:
            return
        waited_s = min(LONGEST_LOOK_S, max(self.look_s, (now - rescue.changed_at) / 2))
        rescue = self.records.put(changed(rescue, due=now + waited_s, looked_at=now))
        scope = Scope(rescue.installation_id, rescue.owner, rescue.repo)
        run = self.github.run(scope, rescue.run_id)
        if run is None or now - rescue.changed_at > RERUN_WITHIN_S:
            self._dropped(rescue, "the run is gone or too old")
        elif rescue.doing and run.attempt == rescue.seen_attempt + 1:
            self._done(rescue)  # its answer was lost
        elif run.attempt != rescue.seen_attempt:
            self._dropped(rescue, "somebody else ran it again")
        elif run.over and run.conclusion == "cancelled":
            self._dropped(rescue, "somebody cancelled the run")
        elif run.over:
            badly = self.github.ended_badly(scope, rescue.run_id)
            names, job_id = next_rerun(rescue.wanted, rescue.ids, badly)
            if not names:
                twins = any(one.name in rescue.wanted for one in badly)
                self._dropped(rescue, "several jobs have its name" if twins else "nothing of it is failed any more")
                return
            rescue = self.records.put(changed(rescue, doing=names, seen_attempt=run.attempt))
            if self.github.rerun(scope, rescue.run_id, job_id):
                self._done(rescue)
            else:
                self._refused(rescue, badly)

    def _done(self, rescue: Rescue) -> None:
        """What was run again is not wanted any more."""
        tried = {name: (*rescue.tried.get(name, ()), rescue.wanted[name]) for name in rescue.doing if name in rescue.wanted}
        left = {name: attempt for name, attempt in rescue.wanted.items() if name not in rescue.doing}
        state = RescueState.WAITING if left else RescueState.RESTING
        now = self.clock.now()
        done: dict[str, object] = {"wanted": left, "ids": {}, "tried": {**rescue.tried, **tried}, "doing": (), "changed_at": now}
        done["told"] = _told(rescue, now, rescue.doing, f"run again, as attempt {rescue.seen_attempt + 1}")
        self.records.put(changed(rescue, state=state, seen_attempt=rescue.seen_attempt + 1, refusals=0, **done))
        for name in rescue.doing:
            self.journal.event("rescue.rerun", run=rescue.run_key, job=name)

    def _refused(self, rescue: Rescue, badly: Sequence[Ended]) -> None:
        """GitHub does not allow it: it runs again meanwhile, or the App may not. Tried some times, then said."""
        refusals = rescue.refusals + 1
        hint = "the App needs the permission `actions: write`, unless somebody else ran it again"
        self.journal.event("rescue.refused", run=rescue.run_key, jobs=", ".join(rescue.doing), times=refusals, hint=hint)
        refused = self.records.put(changed(rescue, doing=(), refusals=refusals))
        if refusals < RERUN_REFUSALS:
            return
        lost = [one.job_id for one in badly if one.job_id in rescue.ids or one.name in rescue.wanted]
        for job in filter(None, map(self.records.job, lost)):
            text = f"lost its machine, and GitHub did not allow to run it again ({hint}): run it again yourself."
            self.notes.say(job, "This job lost its machine", text)
        self._dropped(refused, f"GitHub did not allow it {refusals} times")

    def _dropped(self, rescue: Rescue, why: str) -> None:
        now = self.clock.now()
        told = _told(rescue, now, rescue.wanted, f"not run again: {why}")
        self.records.put(
            changed(rescue, wanted={}, ids={}, doing=(), refusals=0, state=RescueState.RESTING, changed_at=now, told=told)
        )
        self.journal.event("rescue.dropped", run=rescue.run_key, jobs=", ".join(rescue.wanted), why=why)


def _told(rescue: Rescue, now: float, names: Iterable[str], what: str) -> tuple[Told, ...]:
    """With one line more for each of these jobs."""
    return (*rescue.told, *(Told(at=now, what=f"{name}: {what}") for name in names))[-TOLD:]


def _doing(rescue: Rescue, name: str) -> tuple[int, ...]:
    """The attempt of a job that GitHub is being asked to run again now."""
    return (rescue.wanted[name],) if name in rescue.doing and name in rescue.wanted else ()
