"""Which jobs failed because their machines were taken away: by what GitHub, the agent and EC2 say, and when each said it."""

from __future__ import annotations

import itertools
import json

import msgspec
import pytest

from orchestrator.jobs.model import JobState
from orchestrator.jobs.reruns import LOST_AS, was_reclaimed
from orchestrator.ports import Received
from simulation.clock import MORNING
from simulation.examples import a_job, a_session, an_event, an_instance_event, sender_of, some_settings
from simulation.world import World
from tests.orchestrator.reruns import RUN, ends, happens, is_taken_away, reruns, running

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


def test_a_late_word_that_the_job_was_red_on_its_own_withdraws_the_rerun() -> None:
    world = World()
    running(world, "build")
    session = world.session
    world.compute.instances[session.instance_id] = "terminated"
    world.ticks(until_s=60.0)
    ends(world, "build")
    assert world.records.rerun(RUN).wanted == {"build": 1}  # type: ignore[union-attr]

    world.hear_the_end("failure", session=session, reason="job_failed")

    assert reruns(world) == [] and "rerun.withdrawn" in world.journal.names


def test_a_job_that_an_operator_ended_is_not_run_again() -> None:
    world = World()
    running(world, "build")

    world.turns.dismiss(world.session.session_id)
    ends(world, "build")

    assert reruns(world) == []


def test_a_job_that_was_red_before_its_machine_went_without_a_word_is_not_run_again() -> None:
    world = World()
    running(world, "build")
    world.hear("busy")
    ends(world, "build")

    world.clock.at += 60.0
    world.compute.instances[world.session.instance_id] = "terminated"
    world.ticks(until_s=120.0)

    assert (world.session.reason, reruns(world)) == ("instance_gone", [])


@pytest.mark.parametrize("conclusion", ["failure", "cancelled"])
@pytest.mark.parametrize(("before_s", "again"), [(0.0, True), (25.0, True), (60.0, False)])
def test_a_job_whose_runner_ended_with_a_dead_agent_is_run_again_though_its_machine_goes_some_seconds_later(
    before_s: float, again: bool, conclusion: str
) -> None:
    world = World()
    running(world, "build")
    world.hear("busy")
    ends(world, "build", conclusion)

    world.clock.at += before_s
    world.compute.instances[world.session.instance_id] = "terminated"
    world.ticks(until_s=120.0)

    assert bool(reruns(world)) is again


def test_a_job_that_was_red_on_another_machine_is_not_run_again_for_the_first() -> None:
    world = World()
    running(world, "build")
    first = world.session
    world.told(an_event(job_id="9"))
    second = next(one for one in world.sessions if not one.bound_job)

    ended = {
        "job_id": "1",
        "name": "build",
        "runner_name": second.registration_name,
        "conclusion": "failure",
        "at": world.clock.at,
    }
    happens(world, an_event("completed", **ended))
    world.hear_the_end("interrupted", session=first, reason="spot_notice")

    assert reruns(world) == []


def test_a_machine_that_vanished_without_a_word_is_a_reclaim_too() -> None:
    world = World()
    running(world, "build")
    world.compute.instances[world.session.instance_id] = "terminated"
    world.ticks(until_s=60.0)

    ends(world, "build")

    assert reruns(world) == [("7", "")]


@pytest.mark.parametrize(
    ("conclusion", "status", "bound"),
    list(itertools.product(["failure", "success", "cancelled"], ["interrupted", "failure"], ["1", "2"])),
)
def test_only_a_failed_job_on_an_interrupted_machine_of_its_own_was_reclaimed(conclusion: str, status: str, bound: str) -> None:
    job = a_job(state=JobState.COMPLETED, conclusion=conclusion)

    reclaimed = was_reclaimed(job, a_session(status=status, bound_job=bound))

    assert reclaimed is (conclusion in LOST_AS and (status, bound) == ("interrupted", "1"))


@pytest.mark.parametrize(
    ("gone_s", "warned_s", "reclaimed"),
    [(0.0, None, True), (4.0, None, True), (29.0, None, True), (31.0, None, False), (6.0, 4.0, False), (6.0, 1.0, True)],
)
def test_a_job_cancelled_in_its_set_up_was_reclaimed_though_the_instance_goes_later_unless_a_warning_came_later_still(
    gone_s: float, warned_s: float | None, reclaimed: bool
) -> None:
    job = a_job(state=JobState.COMPLETED, conclusion="cancelled", completed_at=MORNING)
    warned_at = None if warned_s is None else MORNING + warned_s
    session = a_session(status="interrupted", reason="signal", bound_job="1", gone_at=MORNING + gone_s, interrupting_at=warned_at)

    assert was_reclaimed(job, session) is reclaimed


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


def test_an_interruption_that_waited_in_the_queue_came_before_what_followed_from_it() -> None:
    world = World()
    running(world, "build")
    world.hear("busy")
    session = world.session
    world.clock.at += 10.0
    ends(world, "build")

    world.clock.at += 10.0
    told = {"status": "interrupting", "instance_id": session.instance_id, "session_id": session.session_id, "job_id": "1"}
    message = Received(json.dumps({**told, "reason": "spot_notice"}), "receipt", sender_of(session), waited_s=12.0)
    world.turns.on_agent_message(message)
    world.compute.instances[session.instance_id] = "terminated"
    world.ticks(until_s=60.0)

    assert (world.session.reason, reruns(world)) == ("instance_gone", [("7", "")])


@pytest.mark.parametrize("order", [("taken", "failed"), ("failed", "taken")])
def test_t6_a_reclaimed_job_is_run_again_in_whichever_order_both_are_told(order: tuple[str, ...]) -> None:
    world = World()
    running(world, "build")

    for what in order:
        is_taken_away(world, "build") if what == "taken" else ends(world, "build")

    assert reruns(world) == [("7", "")]
    assert "rerun.requested" in world.journal.names


def test_a_job_that_is_red_on_its_own_merits_is_not_run_again() -> None:
    world = World()
    running(world, "build")

    ends(world, "build")
    world.hear_the_end("failure", session=world.session, reason="job_failed")

    assert reruns(world) == [] and world.records.rerun(RUN) is None


@pytest.mark.parametrize("conclusion", ["success", "skipped", "timed_out", "neutral"])
def test_a_reclaimed_machine_whose_job_did_not_fail_changes_nothing(conclusion: str) -> None:
    world = World()
    running(world, "build")

    is_taken_away(world, "build")
    ends(world, "build", conclusion)

    assert reruns(world) == []


@pytest.mark.parametrize("order", [("taken", "cancelled"), ("cancelled", "taken")])
def test_a_job_that_lost_its_machine_while_it_was_set_up_is_cancelled_by_github_and_run_again(order: tuple[str, ...]) -> None:
    """The shutdown of a runner is a cancelled job where it falls into "Set up job" (actions/runner, JobRunner)."""
    world = World()
    running(world, "build")
    world.hear("interrupting", reason="spot_notice")
    world.clock.at += 20.0

    for what in order:
        is_taken_away(world, "build") if what == "taken" else ends(world, "build", "cancelled")

    assert reruns(world) == [("7", "1")]


def test_a_job_that_somebody_cancelled_before_its_machine_was_to_go_is_not_run_again() -> None:
    world = World()
    running(world, "build")
    ends(world, "build", "cancelled")
    world.clock.at += 60.0

    world.hear("interrupting", reason="spot_notice")
    is_taken_away(world, "build")

    assert reruns(world) == []


def test_of_a_run_that_somebody_cancelled_nothing_is_run_again() -> None:
    world = World()
    running(world, "build", "test")
    world.hear("interrupting", session=world.sessions[0], reason="spot_notice")
    is_taken_away(world, "build")
    ends(world, "build", "cancelled")
    ends(world, "test", "cancelled")

    assert reruns(world) == []


def test_a_run_that_a_newer_one_may_have_cancelled_is_not_run_again_and_the_commit_says_so() -> None:
    world = World()
    running(world, "build")
    world.github.superseded = {"7"}
    is_taken_away(world, "build")
    ends(world, "build", "cancelled")

    assert reruns(world) == []
    notice = world.records.notice("This job lost its machine/octo/widgets/7/1")
    assert notice is not None and "newer run of its branch" in notice.items[0].text


@pytest.mark.parametrize("reason", ["agent_died", "internal"])
@pytest.mark.parametrize("order", [("died", "failed"), ("failed", "died")])
def test_a_job_whose_agent_died_in_its_middle_is_run_again_once(order: tuple[str, ...], reason: str) -> None:
    world = World()
    running(world, "build")
    session = world.session

    for what in order:
        ends(world, "build") if what == "failed" else world.hear_the_end("failure", session=session, reason=reason)

    assert reruns(world) == [("7", "")]


def test_a_job_whose_boot_script_spoke_for_a_dead_agent_is_run_again() -> None:
    world = World()
    running(world, "build")
    session = world.session
    text = json.dumps({"instance_id": session.instance_id, "status": "bootstrap_failed", "error": "killed"})

    world.turns.on_agent_message(Received(text, "receipt", sender_of(session)))
    ends(world, "build")

    assert reruns(world) == [("7", "")]


def test_a_job_that_was_red_long_before_its_agent_died_is_not_run_again() -> None:
    world = World()
    running(world, "build")
    session = world.session
    ends(world, "build")
    world.clock.at += 120.0

    world.hear_the_end("failure", session=session, reason="agent_died")

    assert reruns(world) == []
