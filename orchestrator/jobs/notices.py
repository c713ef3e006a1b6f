"""What we say where whoever waits for a job looks: on the page of its commit; in our own log in any case.

It is written down before it is said, and said until GitHub takes it.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.contract.messages import OUT_OF_MEMORY, FinalWord, Status
from agent.contract.shown import cut
from orchestrator.errors import Conflict, ServiceFailed, Throttled
from orchestrator.jobs.github import GitHub
from orchestrator.jobs.model import Job, Notice, NoticeItem, NoticeState
from orchestrator.jobs.records import JobRecords
from orchestrator.ports import Clock, Journal
from orchestrator.retry_policy import NOTICE_AGAIN_S, NOTICE_RACES, NOTICE_S, NOTICE_TRIES, NOTICE_WITHIN_S
from orchestrator.store.kinds import changed
from orchestrator.store.model import Session
from orchestrator.store.naming import Scope

CAUSES = {
    OUT_OF_MEMORY: "the machine ran out of memory ({}): ask for more with `ram=`",
    "listener_killed": "its runner was killed ({}), most often for want of memory: ask for more with `ram=`",
    "disk_full": "the disk was full ({}): ask for more with `disk=`",
}
"""Ends that are the machine's size and not the job's fault, by the agent's word."""

MOST_ITEMS, MOST_NAME, MOST_TEXT = 250, 100, 500
"""Jobs that a notice lists; characters of a job's name, and of what is said of it: a record has at most 400 KB."""


def cause_of(word: FinalWord) -> str:
    """Why the machine was too small for its job, in words for whoever wrote its labels; empty: it was not."""
    for part in word.degraded:
        name, _, why = part.partition(": ")
        if name == OUT_OF_MEMORY and word.status is Status.FAILURE:
            return CAUSES[name].format(why[:100])
    return CAUSES[word.reason].format(word.error[:100]) if word.reason in CAUSES else ""


@dataclass
class Notices:
    """Notices; on ports that are handed in."""

    records: JobRecords
    github: GitHub
    clock: Clock
    journal: Journal

    def post_cause(self, job: Job | None, session: Session) -> None:
        """That a job is red because its machine was too small, whichever end was told second. Raises: ServiceFailed."""
        if job is not None and session.cause and session.bound_job == job.job_id and job.conclusion == "failure":
            self.post(job, "This job's machine was too small", f"failed, and {session.cause}.")

    def post(self, job: Job, title: str, text: str) -> None:
        """Once for each job of an attempt, and title. Raises: ServiceFailed (of the tables)."""
        for _ in range(NOTICE_RACES):
            notice = self.about(job, title, text)
            if notice is None:
                return
            try:
                self.send(self.records.put(notice))
            except Conflict:
                continue  # somebody else says it, or adds another job
            return
        self.journal.event("notice.failed", job_id=job.job_id, title=title, given_up=True, error="written to by too many at once")

    def about(self, job: Job, title: str, text: str) -> Notice | None:
        """What is to be written down with whatever is the reason for it, and then sent; None: it is said already.

        One notice for each title and attempt of a run, whatever is said of each job: a matrix of hundreds that is refused would
        earn GitHub's limit for content, and with it for everything else. Raises: ServiceFailed.
        """
        name, now = f"{title}/{job.repository}/{job.run_id}/{job.run_attempt}", self.clock.now()
        known, item = self.records.notice(name), _item(job, text)
        if known is None:
            return Notice(
                name=name, job_id=job.job_id, owner=job.owner, repo=job.repo, installation_id=job.installation_id,
                head_sha=job.head_sha, title=title, items=(item,), noted_at=now, due=now + NOTICE_S,
            )  # fmt: skip
        if any(one.job_id == job.job_id for one in known.items):
            return None
        is_full = len(known.items) >= MOST_ITEMS
        items, more = (known.items, known.more + 1) if is_full else ((*known.items, item), known.more)
        due = max(now, known.said_at + NOTICE_AGAIN_S) if known.state is NoticeState.DONE else known.due
        return changed(known, items=items, more=more, state=NoticeState.WAITING, attempts=0, noted_at=now, due=due)

    def attempt(self, name: str) -> None:
        """One that is due. Raises: Conflict; ServiceFailed (of the tables)."""
        notice = self.records.notice(name)
        if notice is not None and notice.state is NoticeState.WAITING and notice.due <= self.clock.now():
            self.send(notice)

    def send(self, notice: Notice) -> None:
        """Say it now, or when it may be said again; what GitHub does not take is due again.

        Raises: Conflict; ServiceFailed (of the tables).
        """
        if len(notice.items) > 1 and self.clock.now() < notice.due:
            return  # a further job was added to it: the sweep sends it, with all that come until then
        scope = Scope(notice.installation_id, notice.owner, notice.repo)
        try:
            said = bool(notice.head_sha) and self.github.post_notice(scope, notice.head_sha, notice.title, words_of(notice))
        except ServiceFailed as error:
            attempts = notice.attempts + (not isinstance(error, Throttled))
            given_up = attempts >= NOTICE_TRIES or self.clock.now() - notice.noted_at > NOTICE_WITHIN_S
            fields = {"job_id": notice.job_id, "title": notice.title, "attempts": attempts, "given_up": given_up}
            self.journal.event("notice.failed", **fields, error=str(error))
            state, due = (
                (NoticeState.DONE if given_up else NoticeState.WAITING),
                self.clock.now() + NOTICE_S * 2.0**notice.attempts,
            )
            self.records.put(changed(notice, attempts=attempts, state=state, due=due))
            return
        if not said:
            why = "the App has no permission to write checks" if notice.head_sha else "the delivery named no commit"
            self.journal.event("notice.not_permitted", job_id=notice.job_id, title=notice.title, text=words_of(notice), hint=why)
        self.records.put(changed(notice, state=NoticeState.DONE, said_at=self.clock.now()))


def words_of(notice: Notice) -> str:
    """What a notice says: a paragraph for each reason, with the jobs that it holds for."""
    names: dict[str, list[str]] = {}
    for item in notice.items:
        names.setdefault(item.text, []).append(f"`{item.name}`")
    told = [f"{', '.join(jobs)}{':' if len(jobs) > 1 else ''} {text}" for text, jobs in names.items()]
    more = [f"The same, or the like, holds for {notice.more} more jobs of this run."] if notice.more else []
    return "\n\n".join([*told, *more])


def _item(job: Job, text: str) -> NoticeItem:
    return NoticeItem(job_id=job.job_id, name=cut(job.name, MOST_NAME), text=cut(text, MOST_TEXT))
