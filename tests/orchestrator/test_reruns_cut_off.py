"""A job is run again once: whichever call of it fails, whoever is cut off in it, whatever became of its run meanwhile."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

import msgspec
import pytest

from orchestrator.errors import OrchestratorError, Unanswered
from orchestrator.jobs.model import RerunState
from orchestrator.ports import Received
from orchestrator.retry_policy import RERUN_REFUSALS
from orchestrator.store.naming import Scope
from simulation.calls import Calls, Crash
from simulation.examples import an_event, final_fields, sender_of
from simulation.world import World
from tests.orchestrator.refusals import Refusal, refusing
from tests.orchestrator.reruns import RUN, ends, happens, is_taken_away, reruns, running


def test_deliveries_and_words_that_come_again_run_nothing_twice() -> None:
    world = World()
    running(world, "build")

    for _ in range(3):
        is_taken_away(world, "build")
        ends(world, "build")
        reruns(world)

    assert len(world.github.reruns) == 1 and "rerun.exhausted" not in world.journal.names


def test_a_rerun_whose_answer_was_lost_is_not_asked_for_again() -> None:
    world = World()
    running(world, "build")
    is_taken_away(world, "build")
    ends(world, "build")
    world.calls.lose("github.rerun")
    reruns(world)
    (again,) = [job for job in world.github.jobs.values() if job.run_attempt == 2]
    happens(world, msgspec.structs.replace(again, action="completed", conclusion="failure"))

    assert len(reruns(world)) == 1
    rerun = world.records.rerun(RUN)
    assert rerun is not None and (rerun.state, rerun.tried) == (RerunState.RESTING, {"build": (1,)})


@pytest.mark.parametrize("fatal", range(1, 12))
def test_a_late_word_withdraws_a_rescue_wherever_who_hears_it_is_cut_off(fatal: int) -> None:
    calls = Calls()
    world = World(calls)
    running(world, "build")
    session = world.session
    world.compute.instances[session.instance_id] = "terminated"
    world.ticks(until_s=60.0)
    ends(world, "build")

    calls.made.clear()
    calls.fatal = fatal
    with contextlib.suppress(Crash):
        world.hear_the_end("failure", session=session, reason="job_failed")
    calls.fatal = 0
    world.hear_the_end("failure", session=session, reason="job_failed")

    assert reruns(world) == []


def rescue_of_one(calls: Calls, refusal: Refusal | None = None) -> World:
    """A job is reclaimed; whoever crashes, or is refused something, does the same again."""
    fatal, calls.fatal = calls.fatal, 0
    world = World(calls)
    running(world, "build")
    (session,) = world.sessions
    world.github.jobs["1"] = told = an_event(
        "completed", name="build", runner_name=session.registration_name, conclusion="failure"
    )
    word = json.dumps({**final_fields("interrupted"), "status": "interrupted", "reason": "spot_notice", "job_id": "1"})
    body = json.dumps({**json.loads(word), "instance_id": session.instance_id, "session_id": session.session_id})
    world.compute.instances[session.instance_id] = "terminated"
    begun = len(calls.made)
    calls.fatal = begun + fatal if fatal else 0
    refusing(world, refusal or Refusal())
    again(world, lambda: world.turns.on_agent_message(Received(body, "receipt", sender_of(session))))
    again(world, lambda: world.turns.on_job_event(told))
    for _ in range(40):
        world.clock.at += 5.0
        again(world, world.turns.on_sweep)
        again(world, world.reconcile)
    calls.made = calls.made[begun:]
    return world


def again(world: World, turn: Callable[[], object]) -> None:
    for _ in range(3):
        try:
            turn()
        except (Crash, OrchestratorError):
            world.wakes.taken()
            continue
        return


CALLS = 64
"""Those from the final word to the re-run, and some."""


@pytest.mark.parametrize("failure", [Crash, Unanswered])
@pytest.mark.parametrize("fatal", range(CALLS))
def test_whoever_is_cut_off_anywhere_in_it_the_job_is_run_again_once(fatal: int, failure: type[Exception]) -> None:
    world = rescue_of_one(Calls(fatal=fatal, failure=failure))

    assert world.github.reruns == [("7", "")]


@pytest.mark.parametrize("number", range(1, CALLS))
def test_whichever_call_of_it_is_refused_the_job_is_run_again_once(number: int) -> None:
    refusal = Refusal(number)

    world = rescue_of_one(Calls(), refusal)

    assert refusal.made >= number and world.github.reruns == [("7", "")]


def test_the_calls_above_reach_beyond_the_rerun() -> None:
    calls = Calls()

    rescue_of_one(calls)

    assert calls.made.index("github.rerun") < CALLS - 2


def test_a_rerun_that_github_refuses_now_is_asked_for_later() -> None:
    world = World()
    running(world, "build")
    is_taken_away(world, "build")
    ends(world, "build")
    world.calls.script("github.rerun", answer=lambda *_: False)

    assert reruns(world) == [("7", "")]
    assert (world.journal.names.count("rerun.refused"), world.calls.made.count("github.rerun")) == (1, 1)


def test_a_re_run_that_github_does_not_allow_is_said_and_given_up() -> None:
    world = World()
    running(world, "build")
    world.told(an_event("queued", head_sha="c0ffee"))
    world.calls.script("github.rerun", times=None, answer=lambda *_: False)
    is_taken_away(world, "build")
    ends(world, "build")

    world.ticks(until_s=7200.0, every_s=30.0)

    rerun = world.records.rerun(RUN)
    assert rerun is not None and (rerun.state, rerun.doing) == (RerunState.RESTING, ())
    assert world.journal.names.count("rerun.refused") == RERUN_REFUSALS
    assert "actions: write" in rerun.history[-1].what or "did not allow it" in rerun.history[-1].what


def test_a_run_that_is_gone_is_given_up() -> None:
    world = World()
    running(world, "build")
    is_taken_away(world, "build")
    ends(world, "build")
    world.github.gone = {"7"}

    reruns(world)

    rerun = world.records.rerun(RUN)
    assert rerun is not None and rerun.state is RerunState.RESTING and "rerun.dropped" in world.journal.names


def test_what_somebody_else_ran_again_is_left_to_him() -> None:
    world = World()
    running(world, "build")
    is_taken_away(world, "build")
    ends(world, "build")
    world.github.rerun(Scope("3", "octo", "widgets"), "7")
    (again,) = [job for job in world.github.jobs.values() if job.run_attempt == 2]
    happens(world, msgspec.structs.replace(again, action="completed", conclusion="failure"))

    assert len(reruns(world)) == 1 and "rerun.dropped" in world.journal.names


def test_a_run_that_somebody_cancelled_is_not_run_again() -> None:
    world = World()
    running(world, "build", "other")
    session = next(one for one in world.sessions if one.bound_job == "1")
    world.hear_the_end("interrupted", session=session, reason="spot_notice")
    world.github.cancelled.add("7")
    for number, conclusion in (("1", "failure"), ("2", "cancelled")):
        told = world.github.jobs[number]
        happens(world, msgspec.structs.replace(told, action="completed", conclusion=conclusion, at=world.clock.at))

    assert reruns(world) == []
    rerun = world.records.rerun("octo/widgets/7")
    assert rerun is not None and "somebody cancelled the run" in rerun.history[-1].what
