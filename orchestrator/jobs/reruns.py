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
from orchestrator.fleet.session_events import LOST
from orchestrator.jobs.github import EndedJob, GitHub
from orchestrator.jobs.model import Job, JobState, Rerun, RerunState
from orchestrator.jobs.notices import Notices
from orchestrator.jobs.records import JobRecords
from orchestrator.ports import Clock, Journal
from orchestrator.retry_policy import RERUN_REFUSALS, RERUN_WITHIN_S, RERUNS
from orchestrator.store.kinds import HistoryEntry, changed
from orchestrator.store.model import Session
from orchestrator.store.naming import Scope

HISTORY = 20
"""Entries of a run's history that are kept."""
LONGEST_LOOK_S = 3600.0
SOON_S = 5.0
"""GitHub calls a run over some seconds after its last job."""
CLOCKS_S = 2.0
"""GitHub tells whole seconds, and its clock is not ours."""
INFERRED = "instance_gone"
"""The end of a session whose agent has not said how it went."""
OUR_LOSSES = frozenset({"agent_died", "bootstrap_failed", "internal", "deadline"})
"""Ends that are not called interruptions and yet took the job's machine from it: our agent died or broke in the middle of it, or
nobody heard of the machine any more."""
DYING_S = 30.0
"""Seconds between the stop of a runner, or the death of an agent, and the end of the instance as it is seen: the unit has 20 s to
send the last will.
"""
LOST_AS = frozenset({"failure", "cancelled"})
"""How GitHub concludes a job whose runner was shut down: `failure` in a step, `cancelled` during "Set up job".

Source: actions/runner, `JobRunner` (the shutdown during the job's initialisation).
"""


def run_key(job: Job) -> str:
    """Under which the reruns of its run are kept."""
    return f"{job.owner}/{job.repo}/{job.run_id}"


def was_reclaimed(job: Job, session: Session) -> bool:
    """Whether the job ended because our side lost its machine, whatever told us of that loss.

    A job that ended before its machine was said to go was ended on its own merits, or by somebody's cancellation: GitHub gives
    up a runner that it does not hear any more only after minutes. Where nobody announced it, the machine was seen to be gone some
    time after: the runner tells GitHub as soon as it is stopped, and its agent ends the instance, or its last will is sent, up to
    half a minute later. A runner whose job a person cancelled ends by itself, so its agent says nothing of an interruption.
    """
    ended = job.state is JobState.COMPLETED and job.conclusion in LOST_AS
    its_own = session.bound_job == job.job_id and job.runner_name in ("", session.registration_name)
    warned = session.reason in LOST and session.interrupting_at is not None
    died = session.reason in OUR_LOSSES and session.status == "failure"
    if not ended or not its_own or not (session.status == "interrupted" or warned or died) or session.reason == "dismissed":
        return False
    if died:
        return job.completed_at is None or session.ended_at is None or job.completed_at >= session.ended_at - DYING_S
    if session.reason != INFERRED and job.conclusion == "failure":
        return True
    going = [at for at in (session.interrupting_at, session.gone_at) if at is not None]
    before_s = DYING_S if session.interrupting_at is None else CLOCKS_S
    return job.completed_at is None or not going or job.completed_at >= min(going) - before_s


def next_rerun(wanted: Iterable[str], ids: Iterable[str], badly: Sequence[EndedJob]) -> tuple[tuple[str, ...], str]:
    """Which jobs (names) the next re-run runs, and the id of the one job it is of (empty: all that ended badly).

    `wanted`, `ids`: those that lost their machines, by name and, as far as known, by id in this attempt; `badly`: all that
    ended badly, by whose own fault or not: nobody can cancel one job alone. Nothing: no re-run.
    """
    names, known = Counter(one.name for one in badly), set(ids)
    there = [one for one in badly if one.job_id in known or (one.name in set(wanted) and names[one.name] == 1)]
    there = sorted((one for one in there if one.conclusion in LOST_AS), key=lambda one: (one.name, one.job_id))
    if not there:
        return (), ""
    if any(one.conclusion == "cancelled" for one in there):
        return (there[0].name,), there[0].job_id  # "re-run failed jobs" need not mean a cancelled one
    if len(there) == sum(one.conclusion != "cancelled" for one in badly):  # the others of a matrix that fails fast went with it
        return tuple(dict.fromkeys(one.name for one in there)), ""
    return (there[0].name,), there[0].job_id


@dataclass
class Reruns:
    """Re-runs; on ports that are handed in."""

    records: JobRecords
    notices: Notices
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
        known = self.records.rerun(key) or Rerun(
            run_key=key, owner=job.owner, repo=job.repo, run_id=job.run_id, installation_id=job.installation_id,
            state=RerunState.RESTING,
        )  # fmt: skip
        tried = known.tried.get(job.name, ())
        if job.run_attempt in tried or job.job_id in known.ids or job.run_attempt < known.wanted.get(job.name, 0):
            return
        if len(tried) >= RERUNS:
            words = f"attempt {job.run_attempt} lost its machine ({session.reason}), too: not run again by itself"
            history = _with_history(known, now, [job.name], words)
            if [one.what for one in history[-1:]] != [one.what for one in known.history[-1:]]:
                self.records.put(changed(known, history=history))
            self.journal.event("rerun.exhausted", run=key, job=job.name, attempt=job.run_attempt, reason=session.reason)
            why = f"its machine was taken away ({session.reason}), as in attempt {tried[-1]}: it is not run again by itself."
            self.notices.post(job, "This job lost its machine again", f"failed because {why}")
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
        more["history"] = _with_history(known, now, [job.name], words)
        self.records.put(changed(known, state=RerunState.WAITING, **more))
        self.journal.event("rerun.wanted", run=key, job=job.name, reason=session.reason)

    def was_tried(self, job: Job) -> bool:
        """Whether this attempt is there after we ran the job again because it had lost its machine. Raises: ServiceFailed."""
        if job.run_attempt == 1:
            return False
        rerun = self.records.rerun(run_key(job))
        tried = (*rerun.tried.get(job.name, ()), *_doing(rerun, job.name)) if rerun is not None else ()
        return any(attempt < job.run_attempt for attempt in tried)

    def will_try(self, job: Job) -> bool:
        """Whether it would be run again if its machine were taken away now. Raises: ServiceFailed."""
        rerun = self.records.rerun(run_key(job))
        return rerun is None or len(rerun.tried.get(job.name, ())) < RERUNS

    def hurry(self, run_key: str) -> None:
        """A job of this run is over: if others wait for the end of the run, it is looked for at once. Raises: ServiceFailed."""
        rerun = self.records.rerun(run_key)
        if rerun is None or rerun.state is RerunState.RESTING:
            return
        soon = max(self.clock.now() + SOON_S, rerun.looked_at + self.look_s)  # a run's jobs may end one after the other
        if soon < rerun.due:
            with contextlib.suppress(Conflict):  # somebody looks at it anyway
                self.records.put(changed(rerun, due=soon))

    def withdraw(self, job: Job | None) -> None:
        """A job that was not reclaimed after all: it is not run again, unless it was already. Raises: Conflict; ServiceFailed."""
        rerun = self.records.rerun(run_key(job)) if job is not None else None
        if job is None or rerun is None or job.name not in rerun.wanted or job.name in rerun.doing:
            return
        ids = {identity: name for identity, name in rerun.ids.items() if identity != job.job_id}
        left = {name: n for name, n in rerun.wanted.items() if name != job.name or name in ids.values()}
        self.records.put(changed(rerun, wanted=left, ids=ids, state=RerunState.WAITING if left else RerunState.RESTING))
        self.journal.event("rerun.withdrawn", run=rerun.run_key, job=job.name)

    def attempt(self, run_key: str) -> None:
        """A rerun that is due: run again what may be, or look again later. Raises: Conflict; ServiceFailed."""
        rerun, now = self.records.rerun(run_key), self.clock.now()
        if rerun is None or rerun.state is RerunState.RESTING or rerun.due > now:
            return
        waited_s = min(LONGEST_LOOK_S, max(self.look_s, (now - rerun.changed_at) / 2))
        rerun = self.records.put(changed(rerun, due=now + waited_s, looked_at=now))
        scope = Scope(rerun.installation_id, rerun.owner, rerun.repo)
        run = self.github.run(scope, rerun.run_id)
        if run is None or now - rerun.changed_at > RERUN_WITHIN_S:
            self._dropped(rerun, "the run is gone or too old")
        elif rerun.doing and run.attempt == rerun.seen_attempt + 1:
            self._done(rerun)  # its answer was lost
        elif run.attempt != rerun.seen_attempt:
            self._dropped(rerun, "somebody else ran it again")
        elif run.over:
            badly = self.github.ended_badly(scope, rerun.run_id)
            if run.conclusion == "cancelled" and self._was_cancelled(rerun, scope, badly):
                return
            names, job_id = next_rerun(rerun.wanted, rerun.ids, badly)
            if not names:
                twins = any(one.name in rerun.wanted for one in badly)
                self._dropped(rerun, "several jobs have its name" if twins else "nothing of it is failed any more")
                return
            rerun = self.records.put(changed(rerun, doing=names, seen_attempt=run.attempt))
            if self.github.rerun(scope, rerun.run_id, job_id):
                self._done(rerun)
            else:
                self._refused(rerun, badly)

    def _was_cancelled(self, rerun: Rerun, scope: Scope, badly: Sequence[EndedJob]) -> bool:
        """Whether a cancelled run was cancelled by somebody; then nothing of it is run again.

        A run whose only cancelled jobs are those that lost their machines during "Set up job" is called cancelled, too. Where a
        newer run of the branch is there it may have cancelled this one, or not: then the commit says that nothing was repeated.
        """
        lost = [one for one in badly if one.job_id in rerun.ids or one.name in rerun.wanted]
        cancelled = [one for one in badly if one.conclusion == "cancelled"]
        if not cancelled or any(one not in lost for one in cancelled):
            self._dropped(rerun, "somebody cancelled the run")
            return True
        if not self.github.is_superseded(scope, rerun.run_id):
            return False
        for job in filter(None, (self.records.job(one.job_id) for one in lost)):
            text = "lost its machine. A newer run of its branch is there, so it is not run again by itself."
            self.notices.post(job, "This job lost its machine", text)
        self._dropped(rerun, "a newer run of its branch is there")
        return True

    def _done(self, rerun: Rerun) -> None:
        """What was run again is not wanted any more."""
        tried = {name: (*rerun.tried.get(name, ()), rerun.wanted[name]) for name in rerun.doing if name in rerun.wanted}
        left = {name: attempt for name, attempt in rerun.wanted.items() if name not in rerun.doing}
        state = RerunState.WAITING if left else RerunState.RESTING
        now = self.clock.now()
        done: dict[str, object] = {"wanted": left, "ids": {}, "tried": {**rerun.tried, **tried}, "doing": (), "changed_at": now}
        done["history"] = _with_history(rerun, now, rerun.doing, f"run again, as attempt {rerun.seen_attempt + 1}")
        self.records.put(changed(rerun, state=state, seen_attempt=rerun.seen_attempt + 1, refusals=0, **done))
        for name in rerun.doing:
            self.journal.event("rerun.requested", run=rerun.run_key, job=name)

    def _refused(self, rerun: Rerun, badly: Sequence[EndedJob]) -> None:
        """GitHub does not allow it: it runs again meanwhile, or the App may not. Tried some times, then said."""
        refusals = rerun.refusals + 1
        hint = "the App needs the permission `actions: write`, unless somebody else ran it again"
        self.journal.event("rerun.refused", run=rerun.run_key, jobs=", ".join(rerun.doing), times=refusals, hint=hint)
        refused = self.records.put(changed(rerun, doing=(), refusals=refusals))
        if refusals < RERUN_REFUSALS:
            return
        lost = [one.job_id for one in badly if one.job_id in rerun.ids or one.name in rerun.wanted]
        for job in filter(None, map(self.records.job, lost)):
            text = f"lost its machine, and GitHub did not allow to run it again ({hint}): run it again yourself."
            self.notices.post(job, "This job lost its machine", text)
        self._dropped(refused, f"GitHub did not allow it {refusals} times")

    def _dropped(self, rerun: Rerun, why: str) -> None:
        now = self.clock.now()
        history = _with_history(rerun, now, rerun.wanted, f"not run again: {why}")
        self.records.put(
            changed(rerun, wanted={}, ids={}, doing=(), refusals=0, state=RerunState.RESTING, changed_at=now, history=history)
        )
        self.journal.event("rerun.dropped", run=rerun.run_key, jobs=", ".join(rerun.wanted), why=why)


def _with_history(rerun: Rerun, now: float, names: Iterable[str], what: str) -> tuple[HistoryEntry, ...]:
    """With one line more for each of these jobs."""
    return (*rerun.history, *(HistoryEntry(at=now, what=f"{name}: {what}") for name in names))[-HISTORY:]


def _doing(rerun: Rerun, name: str) -> tuple[int, ...]:
    """The attempt of a job that GitHub is being asked to run again now."""
    return (rerun.wanted[name],) if name in rerun.doing and name in rerun.wanted else ()
