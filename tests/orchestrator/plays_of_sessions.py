"""Turns that hear of a session or its machine, as plays to be cut short (test_cut_off)."""

from __future__ import annotations

from orchestrator.store.states import SessionState
from simulation.examples import an_event, an_instance_event
from simulation.world import World
from tests.orchestrator.plays import Play, busy, idle, the_first_is_gone_and_its_job_has_another, unregistered

RUN = "octo/widgets/7"


def is_reclaimed(world: World) -> None:
    world.hear("interrupting", session=world.sessions[0], reason="spot_notice")


def has_one_more_machine(world: World) -> None:
    assert world.compute.launched == 2
    assert [session.interrupting_at is not None for session in world.sessions] == [True, False]


def hear_of_the_first(world: World, kind: str, **detail: str) -> None:
    """EventBridge's word about the oldest session's machine."""
    world.turns.on_instance_event(an_instance_event(kind, world.sessions[0].instance_id, **detail))
    world.reconcile()


def is_warned_of(world: World) -> None:
    hear_of_the_first(world, "EC2 Spot Instance Interruption Warning")


def vanishes(world: World) -> None:
    world.compute.instances[world.sessions[0].instance_id] = "terminated"
    hear_of_the_first(world, "EC2 Instance State-change Notification", state="terminated")


def powers_off(world: World) -> None:
    """Its power was switched off, and it did not terminate: its disk is still billed."""
    world.compute.instances[world.sessions[0].instance_id] = "stopped"
    hear_of_the_first(world, "EC2 Instance State-change Notification", state="stopped")


def its_session_is_over(world: World) -> None:
    session = world.sessions[0]
    assert (session.state, session.reason) == (SessionState.CLOSED, "instance_gone")
    assert world.configurations.values == {} and all(not r.busy for r in world.github.runners.values())


def too_small(world: World) -> None:
    session = world.at_work()
    world.hear("busy", session=session)
    told = {"runner_name": session.registration_name, "head_sha": "0f", "conclusion": "failure"}
    world.told(an_event("completed", **told))


def says_that_it_was_too_small(world: World) -> None:
    session = world.sessions[0]
    world.compute.instances[session.instance_id] = "terminated"
    world.hear_the_end("failure", session=session, degraded=["out-of-memory: the kernel killed 1 process"])


def it_is_over_and_said(world: World) -> None:
    assert (world.session.state, world.compute.launched) == (SessionState.CLOSED, 1)
    assert 1 <= len(world.github.notices) <= 2, "once more where nobody knows whether it was heard"


def configured(world: World) -> None:
    world.launched()


def cannot_boot(world: World) -> None:
    session = world.sessions[0]
    world.compute.instances[session.instance_id] = "terminated"
    world.hear("bootstrap_failed", session=session, error="no space left on device")


def it_could_not_boot_and_its_job_has_another(world: World) -> None:
    the_first_is_gone_and_its_job_has_another(world)
    assert (world.sessions[0].status, world.sessions[0].reason) == ("failure", "bootstrap_failed")


def inferred(world: World) -> None:
    """A machine went without a word and its job failed after that: it is to be run again."""
    session = world.at_work()
    world.github.attempts["7"] = 1
    world.hear("busy")
    world.compute.instances[session.instance_id] = "terminated"
    world.ticks(until_s=30.0)
    failed = an_event("completed", conclusion="failure", runner_name=session.registration_name, at=world.clock.at)
    world.github.jobs["1"] = failed
    world.told(failed)
    assert world.session.reason == "instance_gone" and world.records.rerun(RUN).wanted == {"build": 1}  # type: ignore[union-attr]


def says_after_all_how_it_went(world: World) -> None:
    world.hear_the_end("failure", reason="job_failed")


def it_is_corrected_and_nothing_is_run_again(world: World) -> None:
    rerun = world.records.rerun(RUN)
    assert (world.session.state, world.session.status, world.session.reason) == (SessionState.CLOSED, "failure", "job_failed")
    assert rerun is not None and (rerun.wanted, rerun.tried, world.github.reruns) == ({}, {}, [])
    assert world.compute.launched == 1


PLAYS = {
    "a machine was too small": Play(too_small, says_that_it_was_too_small, it_is_over_and_said, after=unregistered),
    "an idle machine is reclaimed": Play(idle, is_reclaimed, has_one_more_machine),
    "a machine at work is reclaimed": Play(busy, is_reclaimed, has_one_more_machine, rounds=4),
    "a machine vanishes": Play(busy, vanishes, its_session_is_over, after=unregistered),
    "an idle machine powers off": Play(idle, powers_off, the_first_is_gone_and_its_job_has_another, rounds=6),
    "eventbridge warns of an idle machine": Play(idle, is_warned_of, has_one_more_machine, rounds=4),
    "eventbridge warns of a machine at work": Play(busy, is_warned_of, has_one_more_machine, rounds=4),
    "a machine cannot boot": Play(configured, cannot_boot, it_could_not_boot_and_its_job_has_another, rounds=4),
    "a late word corrects an end": Play(inferred, says_after_all_how_it_went, it_is_corrected_and_nothing_is_run_again),
}
