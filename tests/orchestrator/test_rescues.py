"""A job whose machine was taken away is run again, once; a job that was red on its own merits never."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable

import msgspec
import pytest

from orchestrator.errors import OrchestratorError, Unanswered
from orchestrator.patience import RERUN_REFUSALS
from orchestrator.ports import Received
from orchestrator.rescues import next_rerun, was_reclaimed
from orchestrator.services import Ended, Scope
from orchestrator.states import JobState, RescueState, SessionState
from orchestrator.webhook import JobEvent
from tests.orchestrator.memory import (
    Calls,
    Crash,
    World,
    a_job,
    a_session,
    an_event,
    an_instance_event,
    final_fields,
    sender_of,
    some_settings,
)
from tests.orchestrator.refusals import Refusal, refusing

RUN = "octo/widgets/7"


def running(world: World, *names: str) -> None:
    """A run of these jobs, each on a machine of its own."""
    world.github.attempts["7"] = 1
    for number, name in enumerate(names, 1):
        told = {"job_id": str(number), "name": name}
        world.told(an_event(**told))
        session = next(s for s in world.sessions if not s.bound_job)
        happens(world, an_event("in_progress", runner_name=session.runner_name, **told))


def happens(world: World, event: object) -> None:
    """GitHub's state changes, and it tells us."""
    world.github.jobs[event.job_id] = event  # type: ignore[attr-defined,assignment]
    world.told(event)  # type: ignore[arg-type]


def ends(world: World, name: str, conclusion: str = "failure") -> None:
    told = max((job for job in world.github.jobs.values() if job.name == name), key=lambda job: job.run_attempt)
    happens(world, msgspec.structs.replace(told, action="completed", conclusion=conclusion, at=world.clock.at))


def is_taken_away(world: World, name: str) -> None:
    job = next(job for job in world.records.jobs() if job.name == name)
    session = next(s for s in world.sessions if s.bound_job == job.job_id)
    world.hear_the_end("interrupted", session=session, reason="spot")
    world.compute.instances[session.instance_id] = "terminated"


def reruns(world: World) -> list[tuple[str, str]]:
    world.ticks(until_s=90.0)
    return world.github.reruns


def run_again(world: World) -> JobEvent:
    """A job lost its machine; its second attempt, which nobody has told us of yet."""
    running(world, "build")
    is_taken_away(world, "build")
    ends(world, "build")
    reruns(world)
    (again,) = [job for job in world.github.jobs.values() if job.run_attempt == 2]
    return again


WARNING = "EC2 Spot Instance Interruption Warning"


@pytest.mark.parametrize("reason", ["job_lost", "listener_killed"])
@pytest.mark.parametrize("order", sorted(itertools.permutations(["warned", "word", "failed"])))
def test_a_runner_that_only_went_is_explained_by_the_warning_that_ec2_gave_before_whenever_that_is_heard(
    order: tuple[str, ...], reason: str
) -> None:
    world = World()
    running(world, "build")
    session, warned_at = world.session, world.clock.at
    world.clock.at += 100.0

    for what in order:
        if what == "warned":
            world.turns.on_instance_event(an_instance_event(WARNING, session.instance_id, warned_at))
        elif what == "word":
            world.hear_the_end("failure", session=session, reason=reason)
            world.compute.instances[session.instance_id] = "terminated"
        else:
            ends(world, "build")

    assert reruns(world) == [("7", "")]


@pytest.mark.parametrize(
    ("reason", "warned_s"), [("job_lost", None), ("job_lost", +60.0), ("job_failed", -60.0), ("runner_failed", -60.0)]
)
def test_a_job_that_was_red_on_its_own_is_not_run_again_for_a_warning(reason: str, warned_s: float | None) -> None:
    """None: there was none; else seconds after its end."""
    world = World()
    running(world, "build")
    session = world.session
    world.clock.at += 100.0
    ended_at = world.clock.at
    world.hear_the_end("failure", session=session, reason=reason)
    ends(world, "build")
    world.compute.instances[session.instance_id] = "terminated"
    world.clock.at += 100.0

    if warned_s is not None:
        world.turns.on_instance_event(an_instance_event(WARNING, session.instance_id, ended_at + warned_s))

    assert reruns(world) == []


@pytest.mark.parametrize("order", [("taken", "failed"), ("failed", "taken")])
def test_t6_a_reclaimed_job_is_run_again_in_whichever_order_both_are_told(order: tuple[str, ...]) -> None:
    world = World()
    running(world, "build")

    for what in order:
        is_taken_away(world, "build") if what == "taken" else ends(world, "build")

    assert reruns(world) == [("7", "")]
    assert "rescue.rerun" in world.journal.names


def test_a_job_that_is_red_on_its_own_merits_is_not_run_again() -> None:
    world = World()
    running(world, "build")

    ends(world, "build")
    world.hear_the_end("failure", session=world.session, reason="job_failed")

    assert reruns(world) == [] and world.records.rescue(RUN) is None


def test_r1_a_job_that_is_run_again_finds_a_runner_with_the_very_labels_that_it_asks_for() -> None:
    world, labels = World(), ("runs-fleet=7/cpu=4", "Team-A")
    world.github.attempts["7"] = 1
    happens(world, an_event(name="build", labels=labels))
    happens(world, an_event("in_progress", name="build", labels=labels, runner_name=world.session.runner_name))
    world.hear("busy")

    world.hear("interrupting", reason="spot")
    is_taken_away(world, "build")
    ends(world, "build")
    reruns(world)
    (again,) = [job for job in world.github.jobs.values() if job.run_attempt == 2]
    world.told(again)

    first, second = world.sessions
    assert again.labels == first.labels == second.labels == world.github.runners[second.runner_id].labels == labels
    assert (first.set_key, first.market, second.market, world.compute.launched) == (second.set_key, "spot", "on-demand", 2)


@pytest.mark.parametrize("conclusion", ["success", "cancelled", "skipped", "timed_out", "neutral"])
def test_a_reclaimed_machine_whose_job_did_not_fail_changes_nothing(conclusion: str) -> None:
    world = World()
    running(world, "build")

    is_taken_away(world, "build")
    ends(world, "build", conclusion)

    assert reruns(world) == []


def test_nothing_is_run_again_while_the_run_still_runs() -> None:
    world = World()
    running(world, "build", "test")
    is_taken_away(world, "build")
    ends(world, "build")

    early = list(reruns(world))
    ends(world, "test", "success")

    assert (early, reruns(world)) == ([], [("7", "")])


def test_beside_a_job_that_is_really_red_only_the_reclaimed_one_is_run_again() -> None:
    world = World()
    running(world, "build", "test")
    is_taken_away(world, "build")

    ends(world, "build")
    ends(world, "test")

    assert reruns(world) == [("7", "1")]


def test_two_reclaimed_jobs_beside_a_red_one_are_run_again_one_after_the_other() -> None:
    world = World()
    running(world, "build", "test", "red")
    for name in ("build", "test"):
        is_taken_away(world, name)
    for name in ("build", "test", "red"):
        ends(world, name)

    first = list(reruns(world))
    again = next(job for job in world.github.jobs.values() if job.run_attempt == 2 and job.action == "queued")
    happens(world, msgspec.structs.replace(again, action="completed", conclusion="success"))

    assert first == [("7", "1")] and [job.partition("+")[0] for _, job in reruns(world)] == ["1", "2"]


def test_a_job_reclaimed_again_is_given_up_and_that_is_said() -> None:
    world = World()
    again = run_again(world)

    again = msgspec.structs.replace(again, head_sha="0f")
    world.told(again)
    session = next(s for s in world.sessions if s.state is SessionState.CONFIGURED)
    happens(world, msgspec.structs.replace(again, action="in_progress", runner_name=session.runner_name))
    world.hear_the_end("interrupted", session=session, reason="spot")
    ends(world, "build")

    assert len(reruns(world)) == 1
    exhausted = [fields for name, fields in world.journal.events if name == "rescue.exhausted"]
    assert exhausted and exhausted[0]["attempt"] == 2
    assert world.github.notes == [
        "`build` failed because its machine was taken away (spot), as in attempt 1: it is not run again by itself."
    ]


def test_deliveries_and_words_that_come_again_run_nothing_twice() -> None:
    world = World()
    running(world, "build")

    for _ in range(3):
        is_taken_away(world, "build")
        ends(world, "build")
        reruns(world)

    assert len(world.github.reruns) == 1 and "rescue.exhausted" not in world.journal.names


def test_a_rerun_whose_answer_was_lost_is_not_asked_for_again() -> None:
    world = World()
    running(world, "build")
    is_taken_away(world, "build")
    ends(world, "build")
    rerun = world.github.rerun

    def lossy(scope: Scope, run_id: str, job_id: str = "") -> bool:
        rerun(scope, run_id, job_id)
        raise Unanswered("github:re-run")

    world.github.rerun = lossy  # type: ignore[method-assign]
    reruns(world)
    world.github.rerun = rerun  # type: ignore[method-assign]
    (again,) = [job for job in world.github.jobs.values() if job.run_attempt == 2]
    happens(world, msgspec.structs.replace(again, action="completed", conclusion="failure"))

    assert len(reruns(world)) == 1
    rescue = world.records.rescue(RUN)
    assert rescue is not None and (rescue.state, rescue.tried) == (RescueState.RESTING, {"build": (1,)})


def test_a_late_word_that_the_job_was_red_on_its_own_withdraws_the_rescue() -> None:
    world = World()
    running(world, "build")
    session = world.session
    world.compute.instances[session.instance_id] = "terminated"
    world.ticks(until_s=60.0)
    ends(world, "build")
    assert world.records.rescue(RUN).wanted == {"build": 1}  # type: ignore[union-attr]

    world.hear_the_end("failure", session=session, reason="job_failed")

    assert reruns(world) == [] and "rescue.withdrawn" in world.journal.names


def test_a_job_that_an_operator_ended_is_not_run_again() -> None:
    world = World()
    running(world, "build")

    world.turns.dismiss(world.session.session_id)
    ends(world, "build")

    assert reruns(world) == []


def test_what_somebody_else_ran_again_is_left_to_him() -> None:
    world = World()
    running(world, "build")
    is_taken_away(world, "build")
    ends(world, "build")
    world.github.rerun(Scope("3", "octo", "widgets"), "7")
    (again,) = [job for job in world.github.jobs.values() if job.run_attempt == 2]
    happens(world, msgspec.structs.replace(again, action="completed", conclusion="failure"))

    assert len(reruns(world)) == 1 and "rescue.dropped" in world.journal.names


def test_of_two_jobs_of_one_name_the_one_that_lost_its_machine_is_known_by_its_id() -> None:
    both = [Ended("1", "build", "failure"), Ended("2", "build", "failure")]

    assert next_rerun(("build",), (), both) == ((), ""), "in another attempt nobody can tell them apart"
    assert next_rerun(("build",), ("2",), both) == (("build",), "2")
    assert next_rerun(("build",), ("1", "2"), both) == (("build",), "")


@pytest.mark.parametrize("conclusion", ["timed_out", "action_required", "startup_failure"])
def test_beside_a_job_that_ended_badly_on_its_own_only_the_other_is_run_again(conclusion: str) -> None:
    badly = [Ended("1", "build", "failure"), Ended("2", "slow", conclusion)]

    assert next_rerun(("build",), ("1",), badly) == (("build",), "1")


def test_the_rest_of_a_matrix_that_fails_fast_is_cancelled_because_of_the_one_that_lost_its_machine() -> None:
    matrix = [Ended("1", "build", "failure"), *(Ended(str(n), f"m{n}", "cancelled") for n in range(2, 7))]

    assert next_rerun(("build",), ("1",), matrix) == (("build",), "")
    assert next_rerun(("build",), ("1",), [*matrix, Ended("9", "lint", "failure")]) == (("build",), "1")


def test_a_run_that_somebody_cancelled_is_not_run_again() -> None:
    world = World()
    running(world, "build", "other")
    session = next(one for one in world.sessions if one.bound_job == "1")
    world.hear_the_end("interrupted", session=session, reason="spot")
    world.github.cancelled.add("7")
    for number, conclusion in (("1", "failure"), ("2", "cancelled")):
        told = world.github.jobs[number]
        happens(world, msgspec.structs.replace(told, action="completed", conclusion=conclusion, at=world.clock.at))

    assert reruns(world) == []
    rescue = world.records.rescue("octo/widgets/7")
    assert rescue is not None and "somebody cancelled the run" in rescue.told[-1].what


def test_two_reclaimed_jobs_of_one_name_are_both_run_again() -> None:
    world = World()
    running(world, "build", "build")
    for number in ("1", "2"):
        session = next(one for one in world.sessions if one.bound_job == number)
        world.hear_the_end("interrupted", session=session, reason="spot")
        world.compute.instances[session.instance_id] = "terminated"
        told = world.github.jobs[number]
        happens(world, msgspec.structs.replace(told, action="completed", conclusion="failure", at=world.clock.at))

    assert reruns(world) == [("7", "")]


def test_a_job_that_was_red_before_its_machine_went_without_a_word_is_not_run_again() -> None:
    world = World()
    running(world, "build")
    world.hear("busy")
    ends(world, "build")

    world.clock.at += 60.0
    world.compute.instances[world.session.instance_id] = "terminated"
    world.ticks(until_s=120.0)

    assert (world.session.reason, reruns(world)) == ("instance_gone", [])


def test_a_job_that_was_red_on_another_machine_is_not_run_again_for_the_first() -> None:
    world = World()
    running(world, "build")
    first = world.session
    world.told(an_event(job_id="9"))
    second = next(one for one in world.sessions if not one.bound_job)

    ended = {"job_id": "1", "name": "build", "runner_name": second.runner_name, "conclusion": "failure", "at": world.clock.at}
    happens(world, an_event("completed", **ended))
    world.hear_the_end("interrupted", session=first, reason="spot")

    assert reruns(world) == []


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


def test_a_re_run_that_github_does_not_allow_is_said_and_given_up() -> None:
    world = World()
    running(world, "build")
    world.told(an_event("queued", head_sha="c0ffee"))
    world.github.rerun = lambda *_: False  # type: ignore[method-assign,assignment]
    is_taken_away(world, "build")
    ends(world, "build")

    world.ticks(until_s=7200.0, every_s=30.0)

    rescue = world.records.rescue(RUN)
    assert rescue is not None and (rescue.state, rescue.doing) == (RescueState.RESTING, ())
    assert world.journal.names.count("rescue.refused") == RERUN_REFUSALS
    assert "actions: write" in rescue.told[-1].what or "did not allow it" in rescue.told[-1].what


def test_each_job_that_lost_its_machine_gets_one_that_stays_also_where_they_are_run_again_one_by_one() -> None:
    world = World()
    running(world, "build", "test", "red")
    for name in ("build", "test"):
        is_taken_away(world, name)
    for name in ("build", "test", "red"):
        ends(world, name)

    firm = []
    for attempt in (2, 3):
        reruns(world)
        again = next(job for job in world.github.jobs.values() if job.run_attempt == attempt and job.action == "queued")
        happens(world, again)
        firm.append(world.records.job(again.job_id).firm)  # type: ignore[union-attr]
        happens(world, msgspec.structs.replace(again, action="completed", conclusion="success", at=world.clock.at))

    assert firm == [True, True]


def test_nothing_is_launched_for_a_job_that_will_not_be_run_again() -> None:
    world = World()
    again = run_again(world)
    happens(world, again)
    session = next(one for one in world.sessions if one.state is SessionState.CONFIGURED)
    happens(world, msgspec.structs.replace(again, action="in_progress", runner_name=session.runner_name))
    world.hear("busy", session=session)
    before = world.compute.launched

    world.hear("interrupting", session=session, reason="spot")
    world.ticks(until_s=20.0)

    assert world.compute.launched == before


def test_when_the_last_job_of_a_long_run_is_over_the_reclaimed_one_is_run_again_at_once() -> None:
    world = World()
    running(world, "build", "long")
    is_taken_away(world, "build")
    ends(world, "build")
    world.ticks(until_s=4 * 3600.0, every_s=30.0)

    ends(world, "long", "success")
    world.ticks(until_s=15.0)

    assert len(world.github.reruns) == 1


def rescue_of_one(calls: Calls, refusal: Refusal | None = None) -> World:
    """A job is reclaimed; whoever crashes, or is refused something, does the same again."""
    fatal, calls.fatal = calls.fatal, 0
    world = World(calls)
    running(world, "build")
    (session,) = world.sessions
    world.github.jobs["1"] = told = an_event("completed", name="build", runner_name=session.runner_name, conclusion="failure")
    word = json.dumps({**final_fields("interrupted"), "status": "interrupted", "reason": "spot", "job_id": "1"})
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
        again(world, world.settle)
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
    rerun, refused = world.github.rerun, []

    def refusing(scope: Scope, run_id: str, job_id: str = "") -> bool:
        refused.append(run_id)
        return False if len(refused) == 1 else rerun(scope, run_id, job_id)

    world.github.rerun = refusing  # type: ignore[method-assign]

    assert (reruns(world), len(refused)) == ([("7", "")], 2)


def test_a_run_that_is_gone_is_given_up() -> None:
    world = World()
    running(world, "build")
    is_taken_away(world, "build")
    ends(world, "build")
    world.github.gone = {"7"}

    reruns(world)

    rescue = world.records.rescue(RUN)
    assert rescue is not None and rescue.state is RescueState.RESTING and "rescue.dropped" in world.journal.names


def test_a_machine_that_vanished_without_a_word_is_a_reclaim_too() -> None:
    world = World()
    running(world, "build")
    world.compute.instances[world.session.instance_id] = "terminated"
    world.ticks(until_s=60.0)

    ends(world, "build")

    assert reruns(world) == [("7", "")]


@pytest.mark.parametrize(
    ("wanted", "failed", "chosen"),
    [
        ("", "ab", ((), "")),
        ("a", "", ((), "")),
        ("a", "a", (("a",), "")),
        ("ab", "ab", (("a", "b"), "")),
        ("ab", "a", (("a",), "")),
        ("a", "ab", (("a",), "id-a")),
        ("ab", "abc", (("a",), "id-a")),
    ],
)
def test_what_is_run_again_next(wanted: str, failed: str, chosen: tuple[tuple[str, ...], str]) -> None:
    assert next_rerun(tuple(wanted), (), [Ended(f"id-{name}", name, "failure") for name in failed]) == chosen


@pytest.mark.parametrize(
    ("conclusion", "status", "bound"),
    list(itertools.product(["failure", "success", "cancelled"], ["interrupted", "failure"], ["1", "2"])),
)
def test_only_a_failed_job_on_an_interrupted_machine_of_its_own_was_reclaimed(conclusion: str, status: str, bound: str) -> None:
    job = a_job(state=JobState.COMPLETED, conclusion=conclusion)

    reclaimed = was_reclaimed(job, a_session(status=status, bound_job=bound))

    assert reclaimed is ((conclusion, status, bound) == ("failure", "interrupted", "1"))


def market(world: World, at: int = -1) -> str:
    """Of one request."""
    return str(world.compute.requests[at]["TargetCapacitySpecification"]["DefaultTargetCapacityType"])


def test_a_job_that_lost_its_machine_gets_one_that_is_not_taken_back() -> None:
    world = World()
    again = run_again(world)

    world.told(again)

    assert [market(world, at) for at in (0, -1)] == ["spot", "on-demand"]
    told = world.records.job(again.job_id)
    assert told is not None and told.firm


def test_a_machine_at_work_that_is_about_to_go_is_replaced_by_one_that_is_not_taken_back() -> None:
    world = World()
    running(world, "build")
    world.hear("busy")

    world.hear("interrupting", reason="spot")

    assert [market(world, at) for at in range(len(world.compute.requests))] == ["spot", "on-demand"]


def test_a_job_that_somebody_ran_again_himself_is_as_any_other() -> None:
    world = World()
    running(world, "build")
    ends(world, "build")

    world.told(an_event(job_id="5", name="build", run_attempt=2))

    assert market(world) == "spot"


@pytest.mark.parametrize("label", ["runs-fleet/fallback=wait", "runs-fleet/price=0.2"])
def test_who_wants_spot_and_nothing_else_gets_nothing_else(label: str) -> None:
    world = World()
    world.github.attempts["7"] = 1
    world.told(an_event(labels=(label,)))
    happens(world, an_event("in_progress", runner_name=world.session.runner_name, labels=(label,)))
    world.hear("busy")

    world.hear("interrupting", reason="spot")

    assert {market(world, at) for at in range(len(world.compute.requests))} == {"spot"}


def test_beside_it_others_still_get_spot() -> None:
    world = World()
    running(world, "build")
    world.hear("busy")
    for number in (11, 12):
        world.turns.on_job_event(an_event(job_id=str(number)))

    world.hear("interrupting", reason="spot", session=world.sessions[0])
    world.ticks(until_s=10.0)

    asked = {
        market(world, at): world.compute.requests[at]["TargetCapacitySpecification"]
        for at in range(1, len(world.compute.requests))
    }
    assert {name: told["TotalTargetCapacity"] for name, told in asked.items()} == {"on-demand": 1, "spot": 2}


def test_a_machine_that_is_about_to_go_after_its_job_is_done_is_not_replaced() -> None:
    world = World()
    running(world, "build")
    world.hear("busy")
    ends(world, "build", "success")

    world.hear("interrupting", reason="spot")
    world.ticks(until_s=60.0)

    assert world.compute.launched == 1


def test_a_job_whose_end_is_told_while_its_machine_is_said_to_go_is_not_expected_back() -> None:
    world = World()
    running(world, "build")
    world.hear("busy")
    other, save, done = world.replica(), world.turns.endings.records.save, []

    def meanwhile(*records: object) -> object:
        if not done:
            done.append(True)
            other.on_job_event(an_event("completed", name="build", conclusion="success", runner_name=world.session.runner_name))
        return save(*records)  # type: ignore[arg-type]

    world.turns.endings.records.save = meanwhile  # type: ignore[method-assign]
    world.hear("interrupting", reason="spot")
    world.ticks(until_s=60.0)

    assert done and world.compute.launched == 1


@pytest.mark.parametrize(("label", "settings"), [("runs-fleet/spot=false", {}), ("runs-fleet", {"spot": False})])
def test_where_everything_is_on_demand_a_rescued_job_beside_another_holds_nothing_up(
    label: str, settings: dict[str, bool]
) -> None:
    world = World(settings=some_settings(**settings))
    world.github.attempts["7"] = 1
    world.told(an_event(name="build", labels=(label,)))
    happens(world, an_event("in_progress", name="build", runner_name=world.session.runner_name, labels=(label,)))
    world.hear("busy")
    world.turns.on_job_event(an_event(job_id="11", labels=(label,)))

    world.hear("interrupting", reason="spot", session=world.sessions[0])
    world.ticks(until_s=10.0)

    assert world.compute.launched == 3, "for the one that waits, and for the one that is expected back"


def test_a_job_that_failed_while_we_were_away_for_want_of_its_machine_is_run_again() -> None:
    world = World(settings=some_settings(watch_s=60.0))
    running(world, "build")
    world.compute.instances[world.session.instance_id] = "terminated"
    world.clock.at += 1200.0
    told = world.github.jobs["1"]

    world.github.jobs["1"] = failed = msgspec.structs.replace(
        told, action="completed", conclusion="failure", at=world.clock.at - 600.0
    )
    world.told(failed)
    world.ticks(until_s=180.0)

    assert reruns(world) == [("7", "")]


def test_where_ec2_says_when_a_machine_went_that_is_when_it_went() -> None:
    world = World()
    running(world, "build")
    world.hear("busy")
    ends(world, "build")
    went_at, identity = world.clock.at + 40.0, world.session.instance_id
    world.compute.instances[identity] = "terminated"
    world.compute.ended[identity] = went_at

    world.clock.at += 50.0
    world.ticks(until_s=30.0)

    assert (world.session.gone_at, reruns(world)) == (went_at, [])


def test_a_long_run_whose_jobs_end_one_after_the_other_is_not_asked_for_each_time() -> None:
    world = World(settings=some_settings(watch_s=60.0))
    running(world, *(f"job-{number}" for number in range(30)))
    is_taken_away(world, "job-0")
    ends(world, "job-0")
    before = world.calls.made.count("github.run")

    for number in range(1, 29):
        world.ticks(until_s=10.0)
        ends(world, f"job-{number}", "success")

    assert world.calls.made.count("github.run") - before <= 7


def test_an_interruption_that_waited_in_the_queue_came_before_what_followed_from_it() -> None:
    world = World()
    running(world, "build")
    world.hear("busy")
    session = world.session
    world.clock.at += 10.0
    ends(world, "build")

    world.clock.at += 10.0
    told = {"status": "interrupting", "instance_id": session.instance_id, "session_id": session.session_id, "job_id": "1"}
    message = Received(json.dumps({**told, "reason": "spot"}), "receipt", sender_of(session), waited_s=12.0)
    world.turns.on_agent_message(message)
    world.compute.instances[session.instance_id] = "terminated"
    world.ticks(until_s=60.0)

    assert (world.session.reason, reruns(world)) == ("instance_gone", [("7", "")])


def test_a_job_that_is_back_is_expected_no_more_though_the_first_that_was_told_of_it_is_that_it_runs() -> None:
    world = World()
    running(world, "build")
    world.hear("busy")
    world.hear("interrupting", reason="spot", session=world.sessions[0])
    is_taken_away(world, "build")
    ends(world, "build")
    reruns(world)
    again = next(job for job in world.github.jobs.values() if job.run_attempt == 2)
    spare = next(one for one in world.sessions if one.state is SessionState.CONFIGURED)

    happens(world, msgspec.structs.replace(again, action="in_progress", runner_name=spare.runner_name))

    ledger = world.records.ledger(spare.set_key)
    assert ledger is not None and ledger.expected == ()
