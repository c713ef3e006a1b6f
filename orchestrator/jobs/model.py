"""The records of GitHub jobs: jobs, the re-runs of runs whose jobs lost their machines, notices on commits."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar

import msgspec

from orchestrator.store.kinds import HistoryEntry, Kind, OpenItem, Record
from orchestrator.store.naming import Scope
from orchestrator.store.request import MachineRequest
from orchestrator.store.tables import JOBS, SESSIONS

SOURCE = "jobs"
"""The name of GitHub jobs as a source of work."""
RERUN_KEPT_S = 35 * 86_400
"""Seconds for which a run that may still be run again is remembered. Source: GitHub lets a workflow run last 35 days."""


class JobState(StrEnum):
    """Where a job is, as far as GitHub told."""

    WAITING = "waiting"
    """Somebody must approve it first: it wants no machine yet."""
    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"


class RerunState(StrEnum):
    """Where the re-run of a run's reclaimed jobs is."""

    WAITING = "waiting"
    """There are jobs to run again, once GitHub lets us."""
    RESTING = "resting"
    """All that may be run again was; another reclaimed job wakes it."""


class NoticeState(StrEnum):
    """Where a notice is that is to be posted on a commit."""

    WAITING = "waiting"
    """GitHub has not taken it yet."""
    DONE = "done"
    """GitHub took it, or never will."""


JOB_TRANSITIONS: dict[StrEnum, frozenset[StrEnum]] = {
    JobState.WAITING: frozenset({JobState.QUEUED, JobState.IN_PROGRESS, JobState.COMPLETED}),
    JobState.QUEUED: frozenset({JobState.IN_PROGRESS, JobState.COMPLETED}),
    JobState.IN_PROGRESS: frozenset({JobState.COMPLETED}),
    JobState.COMPLETED: frozenset(),
}
JOB_TRANSITIONS_BY_WORD: dict[StrEnum, frozenset[StrEnum]] = {JobState.QUEUED: frozenset({JobState.WAITING})}
"""What may follow besides, if GitHub was asked and says so. Deliveries come in any order, and do not prove it.

A job that an environment protects is told as queued first, then as waiting for its approval.
"""


def _job_items(job: Job) -> Mapping[str, OpenItem | None]:
    item = OpenItem(
        kind="job", identity=job.job_id, state=job.state.value, since=job.queued_at, run_id=job.run_id, source=SOURCE,
        non_interruptible=job.non_interruptible, wants_session=job.state is JobState.QUEUED,
    )  # fmt: skip
    wants = job.state in (JobState.WAITING, JobState.QUEUED) and not job.refused
    return {job.set_key: item if wants else None}


class Job(Record, frozen=True, kw_only=True):
    """One job of one attempt. Times are epoch seconds, None: not yet."""

    KIND: ClassVar[Kind[Job]] = Kind(
        table=JOBS, row="job", key=lambda it: it.job_id, is_over=lambda it: it.state is JobState.COMPLETED,
        kept_since=lambda it: it.completed_at, items=_job_items, read_order=3, transitions=JOB_TRANSITIONS,
        transitions_by_word=JOB_TRANSITIONS_BY_WORD,
    )  # fmt: skip
    job_id: str
    run_id: str
    run_attempt: int
    owner: str
    repo: str
    name: str
    labels: tuple[str, ...]
    installation_id: str
    set_key: str
    """The label set that counts it."""
    machine: MachineRequest = MachineRequest()
    """What its labels ask for, held to the operator's policy, as parsed when it was queued."""
    state: JobState = JobState.QUEUED
    conclusion: str = ""
    head_sha: str = ""
    refused: str = ""
    """Why it is not run here, in words for whoever wrote its labels; empty: it is."""
    given_up: bool = False
    """It is refused whatever the policy says: its label asked for that rather than to wait."""
    non_interruptible: bool = False
    """An earlier attempt lost its machine: this one gets one that is not taken back, if its label lets it."""
    runner_name: str = ""
    """Empty until GitHub names the runner that took it."""
    queued_at: float = 0.0
    started_at: float | None = None
    completed_at: float | None = None
    due: float = 0.0
    """When somebody must look at it, whatever happened."""

    @property
    def scope(self) -> Scope:
        """The repository it is of, as the App knows it."""
        return Scope(self.installation_id, self.owner, self.repo)

    @property
    def repository(self) -> str:
        """The job's repository, `owner/repo`."""
        return f"{self.owner}/{self.repo}"


class Rerun(Record, frozen=True, kw_only=True):
    """The jobs of one run that lost their machines, and are to be run again.

    Within an attempt they are known by their ids; each attempt renumbers them, so that beyond it their names must do.
    """

    KIND: ClassVar[Kind[Rerun]] = Kind(
        table=SESSIONS, row="rerun", key=lambda it: it.run_key, is_over=lambda it: it.state is RerunState.RESTING,
        kept_since=lambda it: it.changed_at + RERUN_KEPT_S,
        transitions={
            RerunState.WAITING: frozenset({RerunState.RESTING}), RerunState.RESTING: frozenset({RerunState.WAITING}),
        },
    )  # fmt: skip
    run_key: str
    """`owner/repo/run id`."""
    owner: str
    repo: str
    run_id: str
    installation_id: str
    wanted: dict[str, int] = {}
    """Name to the attempt that was reclaimed."""
    ids: dict[str, str] = {}
    """Id to name of those that were reclaimed in the run's latest attempt."""
    tried: dict[str, tuple[int, ...]] = {}
    """Name to the attempts that were run again."""
    doing: tuple[str, ...] = ()
    """What GitHub is being asked to run again; the answer may have been lost."""
    refusals: int = 0
    """How often GitHub did not let us, in a row."""
    looked_at: float = 0.0
    """When GitHub was asked last whether the run is over."""
    seen_attempt: int = 0
    """The run's latest attempt, as far as we made it: another one is somebody else's."""
    history: tuple[HistoryEntry, ...] = ()
    """What became of each, by name, lately."""
    state: RerunState = RerunState.WAITING
    changed_at: float = 0.0
    due: float = 0.0


class NoticeItem(msgspec.Struct, frozen=True, kw_only=True):
    """One job of a notice, and what is said of it; both are cut."""

    job_id: str
    name: str
    text: str


class Notice(Record, frozen=True, kw_only=True):
    """Something that is to be said on a commit: once for a run's attempt, with all the jobs that it is about."""

    KIND: ClassVar[Kind[Notice]] = Kind(
        table=SESSIONS, row="notice", key=lambda it: it.name, is_over=lambda it: it.state is NoticeState.DONE,
        kept_since=lambda it: it.noted_at,
        transitions={NoticeState.WAITING: frozenset({NoticeState.DONE}), NoticeState.DONE: frozenset({NoticeState.WAITING})},
    )  # fmt: skip
    name: str
    """What it is about: its title, and the run's attempt."""
    job_id: str
    """The first of its jobs."""
    owner: str
    repo: str
    installation_id: str
    head_sha: str
    """Empty: nobody told us of which commit it is, and it can only be said in the log."""
    title: str
    items: tuple[NoticeItem, ...] = ()
    more: int = 0
    """Jobs of which only the number is kept."""
    attempts: int = 0
    said_at: float = 0.0
    """When GitHub took it last; 0: not yet."""
    state: NoticeState = NoticeState.WAITING
    noted_at: float = 0.0
    due: float = 0.0


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where the code of a run comes from."""

    fork: bool
    public: bool
