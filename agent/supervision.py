"""Decide what to do to the runner: events and the time go in, signals come out.

A runner is asked once, politely (SIGINT to the listener: it cancels the job, tells GitHub and leaves). When the grace is
over it is told (SIGTERM), then everything it started is killed. Whoever asks again may shorten the grace, never lengthen it.

Source of the ladder: actions/runner handles SIGINT without a time limit of its own and SIGTERM within 30 s; only the listener
is ever signalled.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import assert_never

from agent.contract.messages import Interruption

GREEN = frozenset({"Succeeded", "SucceededWithIssues", "Skipped"})
TERM_S = 5.0
"""Seconds between SIGTERM and SIGKILL: the polite stage is over, this is for closing files."""
KILL_S = 5.0
"""Seconds after SIGKILL in which a process that can end has ended."""
LINGER_S = 60.0
"""Seconds a runner may take to leave after its job completed; some hang there for ever (actions/runner#4418)."""
RESTARTS = 3
"""How often a listener may be started again before any job: an outage of GitHub, not a loop."""
SECOND_ASK_S = 5.0
"""What a second termination signal leaves of the grace."""
NOTICE_RESERVE_S = 30.0
"""Seconds of a spot notice kept for SIGTERM, SIGKILL, the last log lines and the final word."""


class Stop(StrEnum):
    """Why the runner was asked to stop; the value is the final word's `reason`."""

    MAX_RUNTIME = "max_runtime"
    SPOT_NOTICE = "spot_notice"
    SIGNAL = "signal"
    UNCLAIMED = "unclaimed"
    DISK = "disk_full"
    RESTART_LOOP = "restart_loop"
    LINGERED = "lingered"


class NoticeKind(StrEnum):
    """What the host announces about the machine. A new kind is a member here and a row in NOTICES."""

    SPOT = "spot"
    REBALANCE = "rebalance"
    SILENT = "silent"


@dataclass(frozen=True)
class NoticeHandling:
    """What follows from one kind of notice."""

    stop: Stop | None = None
    """The reason to stop the work; None: the work goes on."""
    reported_as: Interruption | None = None
    """The reason in the message `interrupting`; None: no message, the final message lists it under `degraded`."""


NOTICES: dict[NoticeKind, NoticeHandling] = {
    NoticeKind.SPOT: NoticeHandling(Stop.SPOT_NOTICE, Interruption.SPOT_NOTICE),
    NoticeKind.REBALANCE: NoticeHandling(reported_as=Interruption.REBALANCE),
    NoticeKind.SILENT: NoticeHandling(),
}


class Action(StrEnum):
    """What the executor does now."""

    INTERRUPT = "SIGINT"
    TERMINATE = "SIGTERM"
    KILL = "SIGKILL"
    GIVE_UP = "give up"


class Rung(StrEnum):
    """How far up the ladder the stop has come."""

    NONE = "none"
    ASKED = "asked"
    TOLD = "told"
    KILLED = "killed"
    GONE = "gone"


@dataclass(frozen=True)
class Listening:
    """Connected and idle."""


@dataclass(frozen=True)
class JobRunning:
    """A job was taken; its display name is untrusted."""

    name: str


@dataclass(frozen=True)
class JobCompleted:
    """The job ended; `result` is one of JOB_RESULTS."""

    result: str


@dataclass(frozen=True)
class Restarting:
    """The listener is about to be started again."""


class Complaint(StrEnum):
    """A refusal or fault the runner names itself; the value is our stable word for it."""

    REGISTRATION_DELETED = "registration_deleted"
    VERSION_REFUSED = "version_refused"
    SESSION_CONFLICT = "session_conflict"
    REMOVED_BY_SERVER = "removed_by_server"
    NOT_CONFIGURED = "not_configured"
    CLOCK_SKEW = "clock_skew"
    WORK_DIRECTORY = "work_directory"
    UPDATING = "updating"


@dataclass(frozen=True)
class Complained:
    """The runner said what is wrong, in its own words."""

    complaint: Complaint
    text: str


Announcement = Listening | JobRunning | JobCompleted | Restarting | Complained


@dataclass(frozen=True)
class Limits:
    """Seconds: of the runner's life, of grace, of waiting for a job."""

    runtime_s: float
    grace_s: float
    idle_s: float


@dataclass(frozen=True)
class StopRequested:
    """Someone wants the runner gone, `within_s` seconds at most (None: the usual grace)."""

    stop: Stop
    within_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Watch:
    """All that is known of a running runner; `started_s` is on the monotonic clock."""

    limits: Limits
    started_s: float
    stop: Stop | None = None
    rung: Rung = Rung.NONE
    next_rung_s: float = 0.0
    connected: bool = False
    job: str | None = None
    job_result: str | None = None
    job_result_before_stop: bool = False
    completed_s: float | None = None
    restarts: int = 0
    complaints: tuple[Complained, ...] = ()
    exit_code: int | None = None
    """The listener's own, 128 and more where a signal ended it; negative: whoever started it was ended by that signal."""
    reported: frozenset[str] = field(default_factory=frozenset)

    @property
    def over(self) -> bool:
        """Whether there is nothing left to wait for."""
        return self.exit_code is not None or self.rung is Rung.GONE

    def wakes_at_s(self) -> float:
        """When the next decision is due without any event."""
        if self.rung is not Rung.NONE:
            return self.next_rung_s
        due = [self.started_s + self.limits.runtime_s]
        if self.job is None:
            due.append(self.started_s + self.limits.idle_s)
        if self.completed_s is not None:
            due.append(self.completed_s + LINGER_S)
        return min(due)


def heard(watch: Watch, announcement: Announcement, now_s: float) -> tuple[Watch, tuple[Action, ...]]:
    """The runner said something."""
    match announcement:
        case Listening():
            return replace(watch, connected=True), ()
        case JobRunning(name):
            return replace(watch, connected=True, job=name), ()
        case JobCompleted(result):
            first = watch.job_result is None
            before = watch.stop is None if first else watch.job_result_before_stop
            red = watch.stop is None and watch.job_result in GREEN and result not in GREEN
            believed = result if red else watch.job_result or result
            return replace(watch, job_result=believed, job_result_before_stop=before, completed_s=now_s), ()
        case Complained(complaint):
            known = complaint in {said.complaint for said in watch.complaints}
            return (watch if known else replace(watch, complaints=(*watch.complaints, announcement))), ()
        case Restarting():
            return _restarting(replace(watch, restarts=watch.restarts + 1), now_s)
        case _:
            assert_never(announcement)


def asked(watch: Watch, request: StopRequested, now_s: float) -> tuple[Watch, tuple[Action, ...]]:
    """Someone asked for the end: the first to ask names the reason, the hastiest sets the pace."""
    grace_s = watch.limits.grace_s if request.within_s is None else max(0.0, min(request.within_s, watch.limits.grace_s))
    match watch.rung:
        case Rung.NONE:
            if request.stop is Stop.RESTART_LOOP:
                return _killed(replace(watch, stop=request.stop), now_s)
            return replace(watch, stop=request.stop, rung=Rung.ASKED, next_rung_s=now_s + grace_s), (Action.INTERRUPT,)
        case Rung.ASKED:
            return replace(watch, next_rung_s=min(watch.next_rung_s, now_s + grace_s)), ()
        case Rung.TOLD | Rung.KILLED | Rung.GONE:
            return watch, ()
        case _:
            assert_never(watch.rung)


def passed(watch: Watch, now_s: float) -> tuple[Watch, tuple[Action, ...]]:
    """Time went by: climb the ladder, or find that a limit is reached."""
    if now_s < watch.wakes_at_s() or watch.over:
        return watch, ()
    match watch.rung:
        case Rung.NONE:
            return asked(watch, StopRequested(_limit_reached(watch, now_s)), now_s)
        case Rung.ASKED:
            return replace(watch, rung=Rung.TOLD, next_rung_s=now_s + TERM_S), (Action.TERMINATE,)
        case Rung.TOLD:
            return _killed(watch, now_s)
        case Rung.KILLED:
            return replace(watch, rung=Rung.GONE), (Action.GIVE_UP,)
        case Rung.GONE:
            return watch, ()
        case _:
            assert_never(watch.rung)


def explained(watch: Watch, request: StopRequested) -> Watch:
    """What ended it was asked of us, too, and heard a moment later."""
    return replace(watch, stop=watch.stop or request.stop)


def exited(watch: Watch, code: int) -> Watch:
    """The process we started is gone; negative codes are signals, as Python counts them."""
    return replace(watch, exit_code=code)


def _limit_reached(watch: Watch, now_s: float) -> Stop:
    if now_s >= watch.started_s + watch.limits.runtime_s:
        return Stop.MAX_RUNTIME
    return Stop.LINGERED if watch.completed_s is not None else Stop.UNCLAIMED


def _restarting(watch: Watch, now_s: float) -> tuple[Watch, tuple[Action, ...]]:
    """A single-use registration is spent once a job was seen: a restarted listener can only loop (actions/runner#3822)."""
    updating = any(said.complaint is Complaint.UPDATING for said in watch.complaints)
    if watch.job is not None or watch.job_result is not None or watch.restarts > RESTARTS + updating:
        return asked(watch, StopRequested(Stop.RESTART_LOOP), now_s)
    return watch, ()


def _killed(watch: Watch, now_s: float) -> tuple[Watch, tuple[Action, ...]]:
    return replace(watch, rung=Rung.KILLED, next_rung_s=now_s + KILL_S), (Action.KILL,)
