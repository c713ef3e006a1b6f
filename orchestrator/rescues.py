"""Jobs that lost their machine are run again, once; jobs that were red on their own merits never.

GitHub takes one re-run at a time, and only when the run is over. So a run's reclaimed jobs are gathered, and when it is over
either all its failed jobs are run again (if all of them were reclaimed), or one of them, and the others after that attempt.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.model import Job, JobState, Rescue, RescueState, Session, Told, changed
from orchestrator.notes import Notes
from orchestrator.patience import RERUN_WITHIN_S, RERUNS
from orchestrator.ports import Clock, GitHub, Journal, Scope
from orchestrator.records import Records

TOLD = 20
"""Lines of a run that are kept."""
LONGEST_LOOK_S = 3600.0


def run_key(job: Job) -> str:
    """Under which the rescues of its run are kept."""
    return f"{job.owner}/{job.repo}/{job.run_id}"


def was_reclaimed(job: Job, session: Session) -> bool:
    """Whether the job failed because its machine was taken away: GitHub says it failed, and we know that it was interrupted."""
    failed = job.state is JobState.COMPLETED and job.conclusion == "failure"
    taken = session.status == "interrupted" and session.reason != "dismissed"
    return failed and session.bound_job == job.job_id and taken


def next_rerun(wanted: Iterable[str], failed: dict[str, str]) -> tuple[tuple[str, ...], str]:
    """Which jobs (names) the next re-run runs, and the id of the one job it is of (empty: all failed ones).

    Nothing: no re-run.
    """
    there = tuple(sorted(name for name in wanted if failed.get(name)))  # without an id: two jobs have this name
    if not there:
        return (), ""
    return (there, "") if set(failed) <= set(there) else (there[:1], failed[there[0]])


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
        if job.run_attempt in (*tried, known.wanted.get(job.name)):
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
        wanted = {**known.wanted, job.name: job.run_attempt}
        seen = max(known.seen_attempt, job.run_attempt)
        more: dict[str, object] = {"wanted": wanted, "seen_attempt": seen, "changed_at": now, "due": now + self.look_s}
        words = f"attempt {job.run_attempt} lost its machine ({session.reason}): to be run again when the run is over"
        more["told"] = _told(known, now, [job.name], words)
        self.records.put(changed(known, state=RescueState.WAITING, **more))
        self.journal.event("rescue.wanted", run=key, job=job.name, reason=session.reason)

    def was_tried(self, job: Job) -> bool:
        """Whether this attempt is there because we ran the job again after it had lost its machine. Raises: ServiceFailed."""
        if job.run_attempt == 1:
            return False
        rescue = self.records.rescue(run_key(job))
        return rescue is not None and job.run_attempt - 1 in (*rescue.tried.get(job.name, ()), *_doing(rescue, job.name))

    def withdraw(self, job: Job | None) -> None:
        """A job that was not reclaimed after all: it is not run again, unless it was already. Raises: Conflict; ServiceFailed."""
        rescue = self.records.rescue(run_key(job)) if job is not None else None
        if job is None or rescue is None or job.name not in rescue.wanted or job.name in rescue.doing:
            return
        left = {name: attempt for name, attempt in rescue.wanted.items() if name != job.name}
        self.records.put(changed(rescue, wanted=left, state=RescueState.WAITING if left else RescueState.RESTING))
        self.journal.event("rescue.withdrawn", run=rescue.run_key, job=job.name)

    def attempt(self, run_key: str) -> None:
        """A rescue that is due: run again what may be, or look again later. Raises: Conflict; ServiceFailed."""
        rescue, now = self.records.rescue(run_key), self.clock.now()
        if rescue is None or rescue.state is RescueState.RESTING or rescue.due > now:
            return
        waited_s = min(LONGEST_LOOK_S, max(self.look_s, (now - rescue.changed_at) / 2))
        rescue = self.records.put(changed(rescue, due=now + waited_s))
        scope = Scope(rescue.installation_id, rescue.owner, rescue.repo)
        run = self.github.run(scope, rescue.run_id)
        if run is None or now - rescue.changed_at > RERUN_WITHIN_S:
            self._dropped(rescue, "the run is gone or too old")
        elif rescue.doing and run.attempt == rescue.seen_attempt + 1:
            self._done(rescue)  # its answer was lost
        elif run.attempt != rescue.seen_attempt:
            self._dropped(rescue, "somebody else ran it again")
        elif run.over:
            names, job_id = next_rerun(rescue.wanted, self.github.failed_jobs(scope, rescue.run_id))
            if not names:
                self._dropped(rescue, "nothing of it is failed any more")
                return
            rescue = self.records.put(changed(rescue, doing=names, seen_attempt=run.attempt))
            if self.github.rerun(scope, rescue.run_id, job_id):
                self._done(rescue)

    def _done(self, rescue: Rescue) -> None:
        """What was run again is not wanted any more."""
        tried = {name: (*rescue.tried.get(name, ()), rescue.wanted[name]) for name in rescue.doing if name in rescue.wanted}
        left = {name: attempt for name, attempt in rescue.wanted.items() if name not in rescue.doing}
        state = RescueState.WAITING if left else RescueState.RESTING
        now = self.clock.now()
        done: dict[str, object] = {"wanted": left, "tried": {**rescue.tried, **tried}, "doing": (), "changed_at": now}
        done["told"] = _told(rescue, now, rescue.doing, f"run again, as attempt {rescue.seen_attempt + 1}")
        self.records.put(changed(rescue, state=state, seen_attempt=rescue.seen_attempt + 1, **done))
        for name in rescue.doing:
            self.journal.event("rescue.rerun", run=rescue.run_key, job=name)

    def _dropped(self, rescue: Rescue, why: str) -> None:
        now = self.clock.now()
        told = _told(rescue, now, rescue.wanted, f"not run again: {why}")
        self.records.put(changed(rescue, wanted={}, doing=(), state=RescueState.RESTING, changed_at=now, told=told))
        self.journal.event("rescue.dropped", run=rescue.run_key, jobs=", ".join(rescue.wanted), why=why)


def _told(rescue: Rescue, now: float, names: Iterable[str], what: str) -> tuple[Told, ...]:
    """With one line more for each of these jobs."""
    return (*rescue.told, *(Told(at=now, what=f"{name}: {what}") for name in names))[-TOLD:]


def _doing(rescue: Rescue, name: str) -> tuple[int, ...]:
    """The attempt of a job that GitHub is being asked to run again now."""
    return (rescue.wanted[name],) if name in rescue.doing and name in rescue.wanted else ()
