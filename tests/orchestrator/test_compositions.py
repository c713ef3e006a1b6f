"""Every other turn, cut short after each of its calls: killed there, the answer lost, the call refused, the message again.

A normal run and a rescue have pages of their own (test_crashes, test_rescues). Here a turn is cut short once, then the world goes
on as it would (the queue delivers again, an operator repeats himself, the schedules come round), and must be right in the end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from orchestrator.cleaning import SUSPECTED_S
from orchestrator.errors import OrchestratorError, ServiceFailed, Unanswered
from orchestrator.intake import QUEUED_S, RUNNING_S
from orchestrator.naming import set_key
from orchestrator.orders import COUNTED_S
from orchestrator.settings import ServerSettings
from orchestrator.states import JobState, SessionState
from tests.orchestrator.memory import MORNING, Crash, Registration, World, an_event, an_instance_event, some_settings
from tests.orchestrator.refusals import Refusal, refusing

STRANGER = "i-0123456789abcdef0"
LABELS = ("runs-fleet",)
RUN = "octo/widgets/7"


@dataclass
class Play:
    """One turn in its world. `again`: whoever asked for it asks once more after a failure; the schedules come round anyway."""

    prepare: Callable[[World], None]
    act: Callable[[World], None]
    right: Callable[[World], None]
    again: bool = True
    rounds: int = 8
    step_s: float = 30.0
    after: Callable[[World], None] = field(default=lambda world: None)
    """What happens outside in each round."""
    settings: ServerSettings | None = None

    def world(self) -> World:
        world = World(settings=self.settings)
        self.prepare(world)
        return world

    def goes_on(self, world: World, *, repeated: bool) -> None:
        world.wakes.taken()  # what a process only knew died with it
        if repeated:
            with contextlib.suppress(OrchestratorError):
                self.act(world)
        for _ in range(self.rounds):
            world.clock.at += self.step_s
            self.after(world)
            for turn in (world.turns.on_sweep, world.settle, world.turns.on_tick, world.turns.on_recovery, world.settle):
                with contextlib.suppress(OrchestratorError):
                    turn()


def idle(world: World) -> None:
    world.launched()
    world.hear("started")


def busy(world: World) -> None:
    session = world.at_work()
    world.hear("started")
    world.hear("busy", session=session)


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
    world.turns.on_recovery()
    world.settle()


def is_heard(world: World) -> None:
    assert set(world.github.redelivered) == {"d1"}
    assert world.records.job("2") is not None and world.compute.launched == 2


def is_reclaimed(world: World) -> None:
    world.hear("interrupting", session=world.sessions[0], reason="spot")


def has_one_more_machine(world: World) -> None:
    assert world.compute.launched == 2
    assert [session.interrupting_at is not None for session in world.sessions] == [True, False]


def dismisses(world: World) -> None:
    world.turns.dismiss(world.sessions[0].session_id)
    world.settle()


def unregistered(world: World) -> None:
    """What GitHub does by itself with a runner whose machine is gone: it goes offline, and is not busy any more."""
    for runner in world.github.runners.values():
        runner.busy = False


def deregistered(world: World) -> None:
    """A listener whose registration is gone leaves, and its agent says so and goes."""
    names = {runner.name for runner in world.github.runners.values()}
    for session in world.sessions:
        if session.state is SessionState.READY and session.runner_name not in names:
            with contextlib.suppress(OrchestratorError):
                world.hear_the_end("failure", session=session, reason="registration_deleted")
            world.compute.instances[session.instance_id] = "terminated"


def nothing_is_left_of_the_only_one(world: World) -> None:
    assert (world.session.state, set(world.compute.instances.values())) == (SessionState.CLOSED, {"terminated"})
    assert (world.configurations.values, world.github.runners, world.compute.launched) == ({}, {}, 1)


def paused_with_a_job(world: World) -> None:
    world.turns.pause(paused=True)
    world.told(an_event())
    assert world.compute.launched == 0


def resumes(world: World) -> None:
    world.turns.pause(paused=False)
    world.settle()


def one_machine_and_no_pause(world: World) -> None:
    assert not world.records.stack().paused and world.compute.launched == 1


def drains(world: World) -> None:
    world.turns.pause(paused=True)
    world.turns.drain()


def prepares(world: World) -> None:
    world.turns.prepare("octo", "widgets", LABELS, 2, 600.0)
    world.settle()


def all_or_none_is_prepared(world: World) -> None:
    ledger = world.records.ledger(set_key("octo", "widgets", 1, LABELS))
    assert world.compute.launched == (2 if ledger is not None and ledger.prepared else 0)


def hear_of_the_first(world: World, kind: str, **detail: str) -> None:
    """EventBridge's word about the oldest session's machine."""
    world.turns.on_instance_event(an_instance_event(kind, world.sessions[0].instance_id, **detail))
    world.settle()


def is_warned_of(world: World) -> None:
    hear_of_the_first(world, "EC2 Spot Instance Interruption Warning")


def vanishes(world: World) -> None:
    world.compute.instances[world.sessions[0].instance_id] = "terminated"
    hear_of_the_first(world, "EC2 Instance State-change Notification", state="terminated")


def powers_off(world: World) -> None:
    """Its power was switched off, and it did not terminate: its disk is still billed."""
    world.compute.instances[world.sessions[0].instance_id] = "stopped"
    hear_of_the_first(world, "EC2 Instance State-change Notification", state="stopped")


def the_first_is_gone_and_its_job_has_another(world: World) -> None:
    first, second = world.sessions
    assert (first.state, second.state) == (SessionState.CLOSED, SessionState.CONFIGURED) and world.compute.launched == 2
    assert [world.compute.instances[one.instance_id] for one in (first, second)] == ["terminated", "running"]
    assert set(world.configurations.values) == {second.instance_id}
    assert [runner.name for runner in world.github.runners.values()] == [second.runner_name]


def its_session_is_over(world: World) -> None:
    session = world.sessions[0]
    assert (session.state, session.reason) == (SessionState.CLOSED, "instance_gone")
    assert world.configurations.values == {} and all(not r.busy for r in world.github.runners.values())


def cancelled_while_idle(world: World) -> None:
    idle(world)
    world.told(an_event("completed", conclusion="cancelled"))


def time_passes(world: World) -> None:
    for _ in range(3):
        world.clock.at += 61.0
        world.turns.on_sweep()
        world.settle()


def nothing_to_be_had(world: World) -> None:
    world.compute.full = {"*"}


def asks_to_fail(world: World) -> None:
    world.told(an_event(labels=("runs-fleet/fallback=fail",), head_sha="0f"))


def it_was_refused(world: World) -> None:
    job = world.records.job("1")
    assert job is not None and job.refused and world.compute.launched == 0
    assert 1 <= len(world.github.notes) <= 2, "once more where nobody knows whether it was heard"


def asks_nonsense(world: World) -> None:
    world.told(an_event(labels=("runs-fleet/cpu=many",), head_sha="0f"))


def no_spot(world: World) -> None:
    world.compute.full = {"spot"}


def asks(world: World) -> None:
    world.told(an_event())


def one_on_demand(world: World) -> None:
    assert (world.session.market, world.session.state, world.compute.launched) == ("on-demand", SessionState.CONFIGURED, 1)


def half_of_them(world: World) -> None:
    """Two jobs of two label sets that need the same machine; there is room for one, later for all."""
    world.compute.room = 1
    for number in (1, 2):
        world.turns.on_job_event(an_event(job_id=str(number), labels=(f"runs-fleet={number}",)))


def settles(world: World) -> None:
    world.settle()


def there_is_room_again(world: World) -> None:
    world.compute.room, world.compute.full = None, set()


def each_has_one(world: World) -> None:
    sets = [session.set_key for session in world.sessions]
    assert len(sets) == len(set(sets)) == 2 == world.compute.launched
    assert {session.state for session in world.sessions} == {SessionState.CONFIGURED}


def would_rather_wait(world: World) -> None:
    world.told(an_event(labels=("runs-fleet/fallback=wait",)))


def one_of_spot(world: World) -> None:
    assert (world.session.market, world.session.state, world.compute.launched) == ("spot", SessionState.CONFIGURED, 1)


def refuses(world: World) -> None:
    """Every request, until somebody mends it."""
    world.compute.answers = [ServiceFailed("ec2:CreateFleet", "UnauthorizedOperation")] * 3


def a_quota(world: World) -> None:
    world.compute.answers = [ServiceFailed("ec2:CreateFleet", "MaxSpotInstanceCountExceeded")]


def one_machine(world: World) -> None:
    assert (world.session.state, world.compute.launched) == (SessionState.CONFIGURED, 1)


def too_small(world: World) -> None:
    session = world.at_work()
    world.hear("busy", session=session)
    told = {"runner_name": session.runner_name, "head_sha": "0f", "conclusion": "failure"}
    world.told(an_event("completed", **told))


def says_that_it_was_too_small(world: World) -> None:
    session = world.sessions[0]
    world.compute.instances[session.instance_id] = "terminated"
    world.hear_the_end("failure", session=session, degraded=["out-of-memory: the kernel killed 1 process"])


def it_is_over_and_said(world: World) -> None:
    assert (world.session.state, world.compute.launched) == (SessionState.CLOSED, 1)
    assert 1 <= len(world.github.notes) <= 2, "once more where nobody knows whether it was heard"


def stolen(world: World) -> None:
    """A runner works for a job of another label set, of which no delivery told; its own job was cancelled."""
    session = world.launched()
    world.hear("busy", session=session, ran_run_id="8")
    world.told(an_event("completed", conclusion="cancelled"))
    taken = {"job_id": "2", "run_id": "8", "labels": ("runs-fleet=8",), "runner_name": session.runner_name}
    world.github.jobs["2"] = an_event("in_progress", **taken)
    world.clock.at += 121.0


def looks_at_its_level(world: World) -> None:
    world.turns.on_sweep()
    world.settle()


def it_is_bound(world: World) -> None:
    assert (world.session.bound_job, world.compute.launched) == ("2", 1)


def its_end_was_never_told(world: World) -> None:
    """A job whose session is long closed, and of which no delivery told that it is over; GitHub says so if it is asked."""
    session = world.at_work()
    world.hear_the_end()
    world.compute.instances[session.instance_id] = "terminated"
    world.tick(after_s=2.0)
    world.github.jobs["1"] = an_event("completed", conclusion="success", runner_name=session.runner_name)
    world.clock.at += RUNNING_S


def nobody_knows_it_any_more(world: World) -> None:
    """A job that waited for a day beside a stack that was paused."""
    paused_with_a_job(world)
    world.forgotten()
    world.clock.at += QUEUED_S


def is_swept(world: World) -> None:
    """What is cut off after GitHub's answer may be looked at again only a day later."""
    world.turns.on_sweep()
    world.settle()


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
    failed = an_event("completed", conclusion="failure", runner_name=session.runner_name, at=world.clock.at)
    world.github.jobs["1"] = failed
    world.told(failed)
    assert world.session.reason == "instance_gone" and world.records.rescue(RUN).wanted == {"build": 1}  # type: ignore[union-attr]


def says_after_all_how_it_went(world: World) -> None:
    world.hear_the_end("failure", reason="job_failed")


def it_is_corrected_and_nothing_is_run_again(world: World) -> None:
    rescue = world.records.rescue(RUN)
    assert (world.session.state, world.session.status, world.session.reason) == (SessionState.CLOSED, "failure", "job_failed")
    assert rescue is not None and (rescue.wanted, rescue.tried, world.github.reruns) == ({}, {}, [])
    assert world.compute.launched == 1


def launched_unheard(world: World) -> None:
    """EC2 made a machine, and its answer was lost."""
    world.compute.loses = 1
    with contextlib.suppress(Unanswered):
        world.told(an_event())
    assert (world.compute.launched, world.sessions) == (1, [])


def pauses_and_is_swept(world: World) -> None:
    world.turns.pause(paused=True)
    world.tick(after_s=world.settings.lease_s + 1.0)


def what_was_made_is_used_and_nothing_more_is_asked_for(world: World) -> None:
    assert world.records.stack().paused and (world.compute.sent, world.compute.launched) == (1, 1)
    assert (world.session.state, set(world.configurations.values)) == (SessionState.CONFIGURED, set(world.compute.instances))


def put_off(world: World) -> None:
    """The only machine that the stack may have is at work, and a job of another label set waits for its place."""
    busy(world)
    world.told(an_event(job_id="2", run_id="8", labels=("runs-fleet=8",)))
    assert len(world.records.line(world.clock.now())) == world.compute.launched == 1


def the_other_ends(world: World) -> None:
    session = world.sessions[0]
    world.told(an_event("completed", conclusion="success", runner_name=session.runner_name))
    world.github.runners.pop(session.runner_id, None)  # as GitHub does with an ephemeral runner that had its job
    world.compute.instances[session.instance_id] = "terminated"
    world.hear_the_end(session=session)
    world.tick(after_s=COUNTED_S + 1.0)


def its_place_is_taken(world: World) -> None:
    the_first_is_gone_and_its_job_has_another(world)
    assert [session.launched_for for session in world.sessions] == ["1", "2"]


PLAYS = {
    "spot is full": Play(no_spot, asks, one_on_demand),
    "half a launch is given": Play(half_of_them, settles, each_has_one, again=False, rounds=12, after=there_is_room_again),
    "a job would rather wait": Play(no_spot, would_rather_wait, one_of_spot, rounds=12, after=there_is_room_again),
    "ec2 refuses until it is mended": Play(refuses, asks, one_machine, rounds=30),
    "a quota is used up": Play(a_quota, asks, one_machine, rounds=12),
    "a machine was too small": Play(too_small, says_that_it_was_too_small, it_is_over_and_said, after=unregistered),
    "a job was stolen and nobody told": Play(stolen, looks_at_its_level, it_is_bound, rounds=12),
    "cleaning": Play(strangers, ticks, only_ours_is_left, again=False, rounds=12, step_s=700.0),
    "recovery": Play(unheard, recovers, is_heard, again=False, rounds=2, step_s=301.0),
    "an idle machine is reclaimed": Play(idle, is_reclaimed, has_one_more_machine),
    "a machine at work is reclaimed": Play(busy, is_reclaimed, has_one_more_machine, rounds=4),
    "an operator ends a session": Play(busy, dismisses, nothing_is_left_of_the_only_one, after=unregistered),
    "an operator resumes": Play(paused_with_a_job, resumes, one_machine_and_no_pause),
    "an operator drains": Play(idle, drains, nothing_is_left_of_the_only_one, after=deregistered),
    "an operator prepares": Play(lambda world: None, prepares, all_or_none_is_prepared, again=False),
    "a machine vanishes": Play(busy, vanishes, its_session_is_over, after=unregistered),
    "an idle machine powers off": Play(idle, powers_off, the_first_is_gone_and_its_job_has_another, rounds=6),
    "eventbridge warns of an idle machine": Play(idle, is_warned_of, has_one_more_machine, rounds=4),
    "eventbridge warns of a machine at work": Play(busy, is_warned_of, has_one_more_machine, rounds=4),
    "a machine outlived its end": Play(outlived, two_ticks, only_the_one_at_work_is_left, again=False, rounds=6, step_s=61.0),
    "a job is overdue and over": Play(
        its_end_was_never_told, is_swept, it_ended_as_github_says, again=False, rounds=8, step_s=1800.0
    ),
    "a job is overdue and unknown": Play(
        nobody_knows_it_any_more, is_swept, it_is_given_up_and_gets_no_machine, again=False, rounds=4, step_s=3600.0
    ),
    "a machine cannot boot": Play(configured, cannot_boot, it_could_not_boot_and_its_job_has_another, rounds=4),
    "a late word corrects an end": Play(inferred, says_after_all_how_it_went, it_is_corrected_and_nothing_is_run_again),
    "a pause meets a lost answer": Play(
        launched_unheard, pauses_and_is_swept, what_was_made_is_used_and_nothing_more_is_asked_for, rounds=4, step_s=61.0
    ),
    "a place becomes free": Play(put_off, the_other_ends, its_place_is_taken, rounds=6, settings=some_settings(max_sessions=1)),
    "a surplus is taken back": Play(
        cancelled_while_idle, time_passes, nothing_is_left_of_the_only_one, again=False, rounds=10, after=deregistered
    ),
    "a job would rather fail": Play(nothing_to_be_had, asks_to_fail, it_was_refused),
    "a label cannot be read": Play(lambda world: None, asks_nonsense, it_was_refused),
}


def _calls(play: Play) -> list[str]:
    world = play.world()
    before = len(world.calls.made)
    play.act(world)
    return world.calls.made[before:]


CASES = [(name, number, call) for name, play in PLAYS.items() for number, call in enumerate(_calls(play), 1)]
IDS = [f"{name}-{number}-{call}" for name, number, call in CASES]


@pytest.mark.parametrize("name", PLAYS)
def test_a_turn_that_nothing_cuts_short_is_right_and_taken_twice_it_changes_nothing(name: str) -> None:
    play = PLAYS[name]
    for repeated in (False, play.again):
        world = play.world()
        play.act(world)

        play.goes_on(world, repeated=repeated)

        play.right(world)


@pytest.mark.parametrize("failure", [Crash, Unanswered])
@pytest.mark.parametrize(("name", "number", "call"), CASES, ids=IDS)
def test_cut_short_after_any_call_the_world_is_right_in_the_end(
    name: str, number: int, call: str, failure: type[Exception]
) -> None:
    play = PLAYS[name]
    world = play.world()
    world.calls.fatal, world.calls.failure = len(world.calls.made) + number, failure

    with contextlib.suppress(Crash, OrchestratorError):
        play.act(world)

    assert world.calls.made[world.calls.fatal - 1] == call
    play.goes_on(world, repeated=play.again)
    play.right(world)


@pytest.mark.parametrize("name", PLAYS)
def test_with_any_call_refused_the_world_is_right_in_the_end(name: str) -> None:
    play, refused = PLAYS[name], Refusal(number=1)
    while refused.made >= refused.number - 1:
        world = play.world()
        refused = Refusal(number=refused.number)
        refusing(world, refused)

        with contextlib.suppress(OrchestratorError):
            play.act(world)
        reached = refused.made >= refused.number
        play.goes_on(world, repeated=play.again)

        play.right(world)
        if not reached:
            return
        refused = Refusal(number=refused.number + 1, made=refused.number)
