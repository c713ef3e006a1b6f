"""What we say where whoever waits for a job looks: on the page of its commit; in our own log in any case.

It is written down before it is said, and said until GitHub takes it.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.contract.messages import OUT_OF_MEMORY, FinalWord, Status
from orchestrator.errors import Conflict, ServiceFailed, Throttled
from orchestrator.model import Job, Note, Session, changed
from orchestrator.patience import NOTE_S, NOTED_WITHIN_S, NOTES
from orchestrator.ports import Clock, Journal
from orchestrator.records import Records
from orchestrator.services import GitHub, Scope
from orchestrator.states import NoteState

CAUSES = {
    OUT_OF_MEMORY: "the machine ran out of memory ({}): ask for more with `ram=`",
    "listener_killed": "its runner was killed ({}), most often for want of memory: ask for more with `ram=`",
    "disk_full": "the disk was full ({}): ask for more with `disk=`",
}
"""Ends that are the machine's size and not the job's fault, by the agent's word."""


def cause_of(word: FinalWord) -> str:
    """Why the machine was too small for its job, in words for whoever wrote its labels; empty: it was not."""
    for part in word.degraded:
        name, _, why = part.partition(": ")
        if name == OUT_OF_MEMORY and word.status is Status.FAILURE:
            return CAUSES[name].format(why[:100])
    return CAUSES[word.reason].format(word.error[:100]) if word.reason in CAUSES else ""


@dataclass
class Notes:
    """Notes; on ports that are handed in."""

    records: Records
    github: GitHub
    clock: Clock
    journal: Journal

    def say_cause(self, job: Job | None, session: Session) -> None:
        """That a job is red because its machine was too small, whichever end was told second. Raises: ServiceFailed."""
        if job is not None and session.cause and session.bound_job == job.job_id and job.conclusion == "failure":
            self.say(job, "This job's machine was too small", f"failed, and {session.cause}.")

    def say(self, job: Job, title: str, text: str) -> None:
        """Once for each job of an attempt, and title. Raises: ServiceFailed (of the tables)."""
        note = self.about(job, title, text)
        if note is not None:
            try:
                self.send(self.records.put(note))
            except Conflict:
                return  # somebody else says it

    def about(self, job: Job, title: str, text: str) -> Note | None:
        """What is to be written down with whatever is the reason for it, and then sent; None: it is said already.

        Raises: ServiceFailed.
        """
        name, now = f"{title}/{job.job_id}", self.clock.now()
        if self.records.note(name) is not None:
            return None
        return Note(
            name=name, job_id=job.job_id, owner=job.owner, repo=job.repo, installation_id=job.installation_id,
            head_sha=job.head_sha, title=title, text=f"`{job.name}` {text}", noted_at=now, due=now + NOTE_S,
        )  # fmt: skip

    def attempt(self, name: str) -> None:
        """One that is due. Raises: Conflict; ServiceFailed (of the tables)."""
        note = self.records.note(name)
        if note is not None and note.state is NoteState.WAITING and note.due <= self.clock.now():
            self.send(note)

    def send(self, note: Note) -> None:
        """Say it now; what GitHub does not take is due again. Raises: Conflict; ServiceFailed (of the tables)."""
        scope = Scope(note.installation_id, note.owner, note.repo)
        try:
            said = bool(note.head_sha) and self.github.note(scope, note.head_sha, note.title, note.text)
        except ServiceFailed as error:
            tries = note.tries + (not isinstance(error, Throttled))
            given_up = tries >= NOTES or self.clock.now() - note.noted_at > NOTED_WITHIN_S
            fields = {"job_id": note.job_id, "title": note.title, "tries": tries, "given_up": given_up}
            self.journal.event("job.note_failed", **fields, error=str(error))
            state, due = (NoteState.DONE if given_up else NoteState.WAITING), self.clock.now() + NOTE_S * 2.0**note.tries
            self.records.put(changed(note, tries=tries, state=state, due=due))
            return
        if not said:
            why = "the App has no permission to write checks" if note.head_sha else "the delivery named no commit"
            self.journal.event("job.noted_silently", job_id=note.job_id, title=note.title, text=note.text, hint=why)
        self.records.put(changed(note, state=NoteState.DONE))
