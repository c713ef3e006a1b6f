"""Schedules that come round, as plays to be cut short (test_cut_off)."""

from __future__ import annotations

from orchestrator.fleet.garbage import SUSPECTED_S
from orchestrator.jobs.intake import QUEUED_S, RUNNING_S
from orchestrator.jobs.model import JobState
from orchestrator.store.states import SessionState
from simulation.clock import MORNING
from simulation.examples import an_event
from simulation.github import Registration
from simulation.world import World
from tests.orchestrator.plays import Play, busy, deregistered, idle, nothing_is_left_of_the_only_one, paused_with_a_job

STRANGER = "i-0123456789abcdef0"
LABELS = ("runs-fleet",)


def strangers(world: World) -> None:
    """Beside a session at work: a machine, a configuration and a registration of nobody."""
    busy(world)
    world.compute.instances[STRANGER], world.compute.launched_by[STRANGER] = "running", "l-unknown"
    world.configurations.put(STRANGER, "left over")
    world.github.runners[77] = Registration("tests-s-00000000000000ff-0", LABELS)


def outlived(world: World) -> None:
    """Beside a session at work: a machine of nobody, past the end that its tag names."""
    busy(world)
    world.compute.instances[STRANGER], world.compute.launched_by[STRANGER] = "running", "l-unknown"
    world.compute.expires = {STRANGER: MORNING - 1.0, world.session.instance_id: world.session.expires_at}


def two_ticks(world: World) -> None:
    for _ in range(2):
        world.clock.at += 61.0
        world.turns.on_tick()


def only_the_one_at_work_is_left(world: World) -> None:
    assert world.clock.at - MORNING < SUSPECTED_S, "it is not removed for being nobody's"
    assert world.compute.instances == {STRANGER: "terminated", world.session.instance_id: "running"}
    assert world.session.state is SessionState.BUSY


def ticks(world: World) -> None:
    for pause_s in (0.0, 700.0, 3700.0):
        world.clock.at += pause_s
        world.turns.on_tick()


def only_ours_is_left(world: World) -> None:
    states = dict(world.compute.instances)
    assert states.pop(STRANGER) == "terminated" and set(states.values()) == {"running"}
    assert world.configurations.values == {} and 77 not in world.github.runners
    assert [session.state for session in world.sessions] == [SessionState.BUSY]


def unheard(world: World) -> None:
    """One delivery failed, and of one job nobody ever told us."""
    world.launched()
    world.github.jobs["2"] = an_event(job_id="2")
    world.github.lost = ["d1"]


def recovers(world: World) -> None:
    world.turns.on_backfill()
    world.reconcile()


def is_heard(world: World) -> None:
    assert set(world.github.redelivered) == {"d1"}
    assert world.records.job("2") is not None and world.compute.launched == 2


def cancelled_while_idle(world: World) -> None:
    idle(world)
    world.told(an_event("completed", conclusion="cancelled"))


def time_passes(world: World) -> None:
    for _ in range(3):
        world.clock.at += 61.0
        world.turns.on_sweep()
        world.reconcile()


def stolen(world: World) -> None:
    """A runner works for a job of another label set, of which no delivery told; its own job was cancelled."""
    session = world.launched()
    world.hear("busy", session=session, ran_run_id="8")
    world.told(an_event("completed", conclusion="cancelled"))
    taken = {"job_id": "2", "run_id": "8", "labels": ("runs-fleet=8",), "runner_name": session.registration_name}
    world.github.jobs["2"] = an_event("in_progress", **taken)
    world.clock.at += 121.0


def looks_at_its_level(world: World) -> None:
    world.turns.on_sweep()
    world.reconcile()


def it_is_bound(world: World) -> None:
    assert (world.session.bound_job, world.compute.launched) == ("2", 1)


def its_end_was_never_told(world: World) -> None:
    """A job whose session is long closed, and of which no delivery told that it is over; GitHub says so if it is asked."""
    session = world.at_work()
    world.hear_the_end()
    world.compute.instances[session.instance_id] = "terminated"
    world.tick(after_s=2.0)
    world.github.jobs["1"] = an_event("completed", conclusion="success", runner_name=session.registration_name)
    world.clock.at += RUNNING_S


def nobody_knows_it_any_more(world: World) -> None:
    """A job that waited for a day beside a stack that was paused."""
    paused_with_a_job(world)
    world.forgotten()
    world.clock.at += QUEUED_S


def is_swept(world: World) -> None:
    """What is cut off after GitHub's answer may be looked at again only a day later."""
    world.turns.on_sweep()
    world.reconcile()


def it_ended_as_github_says(world: World) -> None:
    job = world.records.job("1")
    assert job is not None and (job.state, job.conclusion) == (JobState.COMPLETED, "success")
    assert (world.compute.launched, world.session.state, world.session.status) == (1, SessionState.CLOSED, "success")


def it_is_given_up_and_gets_no_machine(world: World) -> None:
    world.turns.pause(paused=False)
    world.ticks(until_s=120.0, every_s=30.0)
    job = world.records.job("1")
    assert job is not None and (job.state, job.conclusion) == (JobState.COMPLETED, "unheard")
    assert world.compute.launched == 0


PLAYS = {
    "garbage": Play(strangers, ticks, only_ours_is_left, again=False, rounds=12, step_s=700.0),
    "backfill": Play(unheard, recovers, is_heard, again=False, rounds=2, step_s=301.0),
    "a machine outlived its end": Play(outlived, two_ticks, only_the_one_at_work_is_left, again=False, rounds=6, step_s=61.0),
    "a job is overdue and over": Play(
        its_end_was_never_told, is_swept, it_ended_as_github_says, again=False, rounds=8, step_s=1800.0
    ),
    "a job is overdue and unknown": Play(
        nobody_knows_it_any_more, is_swept, it_is_given_up_and_gets_no_machine, again=False, rounds=4, step_s=3600.0
    ),
    "a job was stolen and nobody told": Play(stolen, looks_at_its_level, it_is_bound, rounds=12),
    "a surplus is taken back": Play(
        cancelled_while_idle, time_passes, nothing_is_left_of_the_only_one, again=False, rounds=10, after=deregistered
    ),
}
