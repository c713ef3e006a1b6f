"""Every kind of record with every field filled, and the same with as little as they may have."""

from __future__ import annotations

from orchestrator.compute.ec2.breakers import Circuits, PoolFault
from orchestrator.errors import FailureKind
from orchestrator.jobs.model import JobState, Notice, NoticeItem, NoticeState, Rerun, RerunState
from orchestrator.store.kinds import HistoryEntry, Record
from orchestrator.store.launch import Attempt
from orchestrator.store.model import RecentLaunch, Stack, TokenBucket
from orchestrator.store.naming import Scope
from orchestrator.store.request import Fallback, MachineRequest
from orchestrator.store.resources import Resources
from orchestrator.store.states import LaunchState, SessionState
from simulation.examples import SET, a_job, a_label_set, a_launch, a_session

TWO_CPUS = Resources(1, 2.0, 0.125)
A_MACHINE = MachineRequest(cpu_min=4, families=("m7i",), architecture="arm64", fallback=Fallback.WAIT, price_limit=0.5)
FULL_JOB = a_job(
    non_interruptible=True, name="bäuen \u2028 🚀", labels=("a", "b"), machine=A_MACHINE, state=JobState.COMPLETED,
    conclusion="success", runner_name="tests-s-1", head_sha="0f", refused="no", queued_at=1_769_860_800.123456, started_at=0.1,
    completed_at=2.0, given_up=True,
)  # fmt: skip
FULL_SESSION = a_session(
    source="other", strategy="local", state=SessionState.CLOSED, deadline=1_769_860_800.987654, expires_at=3.0, spec="amd64",
    image="t:3", market="spot", non_interruptible=True, placement="m7i.large/subnet-1/spot", resources=TWO_CPUS, bound_job="9",
    registration_name="tests-s-1", registration_id=12_345_678_901, attempt=2, launched_at=1.5, configured_at=1.75, ready_at=2.25,
    busy_at=2.5, interrupting_at=2.75, taken_back=True, gone_at=3.125, ended_at=4.0, closed_at=5.0,
    status="failure", reason="disk",
    error="no room\n", ran_job="b", phases_ms={"boot": 7, "configuration": 0}, log_outcome="shipped", log_lines=9,
    console="Kernel panic", ran_run="7", cause="too small", failures=(HistoryEntry(at=2.5, what="no"),),
)  # fmt: skip
FULL_LAUNCH = a_launch(
    non_interruptible=True, repositories=("octo/widgets",), machine=A_MACHINE, interruptible=True, state=LaunchState.CLOSED,
    step=3, instances={"s-1": "i-1"}, placements={"i-1": "m7i.large/subnet-1/spot"}, found={"i-1": TWO_CPUS}, each=TWO_CPUS,
    registrations={"s-1": 7}, image="t:3", created_at=0.5, expires_at=7.0, sessions=(), sets=(SET, "other"), market="spot",
    asked_at=0.75, lost=True, failures=(HistoryEntry(at=2.5, what="no"),),
    attempts=(Attempt(at=1.5, step=0, market="spot", wanted=2, got=1, reasons=("A: b",), failure=FailureKind.QUOTA, why="c"),),
)  # fmt: skip
FULL_LABEL_SET = a_label_set(
    source="other", machine=A_MACHINE, surplus_since=1.5, idle_exits={"amd64 t:3": 7}, backoff_until=9.25,
    backoff_at=8.5, backoff_why="why",
    backoff_of="amd64 t:3", refusals=2, refused_launches=("l-1",), expected=(3.5, 4.5), prepared=(6.5,),
    hold_reasons=(HistoryEntry(at=1.5, what="why"),), touched_at=2.0, working={"s-1": 5.5},
)  # fmt: skip
FULL_RERUN = Rerun(
    run_key="octo/widgets/7", owner="octo", repo="widgets", run_id="7", installation_id="3", wanted={"build": 1},
    doing=("build",), tried={"test": (1, 2)}, seen_attempt=2, state=RerunState.RESTING, changed_at=3.5,
    history=(HistoryEntry(at=2.5, what="build: again"),), ids={"1": "build"}, refusals=2, looked_at=2.5,
)  # fmt: skip
FULL_NOTICE = Notice(
    name="title/1", job_id="1", owner="octo", repo="widgets", installation_id="3", head_sha="c0ffee", title="title",
    items=(NoticeItem(job_id="1", name="build", text="text"),), more=2, said_at=1.0, attempts=2,
    state=NoticeState.DONE, noted_at=1.5,
)  # fmt: skip
FULL_STACK = Stack(
    paused=True, tokens=7.5, at=3.0, counted_at=4.0, in_use=Resources(3, 8.0, 0.5), strategy_tokens={"ec2": 7.5},
    lately=(RecentLaunch(at=4.5, resources=Resources(2, 8.0, 0.5)),),
)  # fmt: skip
FULL: list[Record] = [
    FULL_RERUN, FULL_NOTICE, FULL_JOB, FULL_SESSION, FULL_LAUNCH, FULL_LABEL_SET, FULL_STACK,
    Circuits(faults={"m7i.large/subnet-1/spot": PoolFault(refusals=2, refused_until=3.5, reclaims=(1.5,), reclaimed_until=2.5)}),
    TokenBucket(key="repository/octo/widgets", tokens=1.5, at=2.5),
]  # fmt: skip
EVERY: list[Record] = [*FULL, a_job(), a_session(), a_launch(), a_label_set(), Stack(), Circuits()]
EVERY += [a_job(name="", installation_id="", labels=(), queued_at=0.0)]
EVERY += [a_session(scope=Scope("", "", ""), repository="", run_id="", labels=())]
