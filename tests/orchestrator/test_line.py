"""What is scarce goes to whoever waits longest, nothing is launched beyond a limit, and nothing for jobs that want no machine."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import caps
from orchestrator.cards import is_over
from orchestrator.catalogue import Kind
from orchestrator.demand import without_one
from orchestrator.errors import OrchestratorError, ServiceFailed, Throttled
from orchestrator.model import Stack
from orchestrator.orders import IN_LINE
from orchestrator.patience import SENT_S
from orchestrator.services import Allowance, Scope
from orchestrator.settings import Caps
from orchestrator.states import JobState, LaunchState, SessionState
from tests.orchestrator.memory import MORNING, SET, World, an_event, some_settings
from tests.orchestrator.test_explain import explanation


def arrives(world: World, name: str, **more: object) -> None:
    """A job of a label set of its own."""
    world.turns.on_job_event(an_event(**{"job_id": name, "at": world.clock.at, "labels": (f"runs-fleet={name}",), **more}))


def settles(world: World) -> None:
    try:
        world.settle()
    except OrchestratorError:
        return  # the sweep takes it up


def runs_and_ends(world: World) -> None:
    """The oldest machine takes the job that it was launched for, and is gone."""
    session = next(one for one in world.sessions if not is_over(one))
    told = {"job_id": session.launched_for, "runner_name": session.runner_name}
    world.told(an_event("in_progress", **told))
    world.told(an_event("completed", conclusion="success", **told))
    world.compute.instances[session.instance_id] = "terminated"
    world.hear_the_end(session=session)


def unclaimed(world: World, until_s: float, listens_s: float = 240.0) -> None:
    """Machines boot in a minute, listen for some, and go as nobody gave them a job."""
    end = world.clock.at + until_s
    while world.clock.at < end:
        world.tick(30.0)
        for session in world.sessions:
            if session.state is SessionState.CONFIGURED and world.clock.at - (session.launched_at or 0.0) >= 60.0:
                world.hear("started", session=session)
            elif session.state is SessionState.READY and world.clock.at - (session.ready_at or 0.0) >= listens_s:
                world.compute.instances[session.instance_id] = "terminated"
                world.hear_the_end("interrupted", session=session, reason="unclaimed")


def test_under_a_limit_nobody_is_overtaken_by_a_label_set_that_came_later() -> None:
    world = World(settings=some_settings(max_sessions=3))
    for name in ("a", "b", "c"):
        arrives(world, name)
    world.settle()
    world.clock.at += 1.0
    for number in range(8):
        arrives(world, f"first-{number}")
    world.settle()

    served = []
    for number in range(8):
        world.clock.at += 11.0
        runs_and_ends(world)
        arrives(world, f"later-{number}")
        world.settle()
        served = [one.launched_for for one in world.sessions][3:]

    assert len(served) >= 6
    assert all(name.startswith("first-") for name in served)


def test_the_oldest_job_comes_first_whatever_machine_it_needs() -> None:
    world = World(settings=some_settings(max_sessions=2))
    arrives(world, "old", labels=("runs-fleet=1/cpu=8",))
    world.clock.at += 1.0
    arrives(world, "middle", labels=("runs-fleet=2",))
    arrives(world, "young", labels=("runs-fleet=3/cpu=8",), at=world.clock.at + 1.0)

    world.settle()

    assert [one.launched_for for one in world.sessions] == ["old", "middle"]


def test_shares_go_by_age_alone() -> None:
    wanted = [[1.0, 4.0], [2.0, 3.0], [0.5]]

    assert [caps.shares(wanted, room) for room in (0, 1, 3, 4, 9)] == [(0, 0, 0), (0, 0, 1), (1, 1, 1), (1, 2, 1), (2, 2, 1)]


def test_who_waits_for_a_limit_of_the_stack_is_told_its_place_in_the_whole_stack() -> None:
    world = World(settings=some_settings(max_sessions=1))
    arrives(world, "running")
    world.settle()
    for name in ("11", "12", "13"):
        world.clock.at += 1.0
        arrives(world, name)
        world.settle()

    said = [explanation(world, name).waits_for for name in ("11", "12", "13")]

    assert [words.partition(";")[0] for words in said] == ["the 1 machines that are allowed"] * 3
    assert [words.partition("; ")[2] for words in said] == [f"it is number {place} of the stack" for place in (1, 2, 3)]


def test_who_has_its_machine_stands_in_no_line_any_more() -> None:
    world = World(settings=some_settings(max_sessions=1))
    arrives(world, "a")
    arrives(world, "b", at=MORNING + 1.0)
    world.settle()
    waiting = [place.jobs for place in world.records.line(world.clock.now())]

    runs_and_ends(world)
    world.ticks(until_s=30.0)

    assert (waiting, world.records.line(world.clock.now())) == ([1], [])


def test_a_label_set_that_stands_in_line_for_nothing_is_let_go() -> None:
    world = World(settings=some_settings(max_sessions=1))
    arrives(world, "a")
    arrives(world, "b", at=MORNING + 1.0)
    world.settle()

    world.told(an_event("completed", job_id="b", labels=("runs-fleet=b",), conclusion="cancelled"))
    world.clock.at += 2.0
    arrives(world, "c")
    world.settle()

    assert [place.since for place in world.records.line(world.clock.now())] == [MORNING + 2.0]


def test_a_launch_that_ec2_does_not_answer_counts_until_it_does() -> None:
    world = World(settings=some_settings(max_sessions=2))
    world.compute.answers = [Throttled("ec2:CreateFleet", "RequestLimitExceeded")]
    for name in ("1", "2"):
        arrives(world, name, labels=("runs-fleet=a",))
    settles(world)

    world.clock.at += 35.0
    for name in ("3", "4"):
        arrives(world, name, labels=("runs-fleet=b",))
    settles(world)
    world.ticks(until_s=120.0)

    assert world.compute.launched == 2


def test_no_minute_sees_more_launches_than_allowed_however_small_they_are() -> None:
    settings = some_settings(launches_per_minute=1000.0, max_sessions=10**6, ec2_at_once=1e6)
    stack, launched, now = Stack(), 0, MORNING

    while now < MORNING + 59.0:
        stack = caps.after_a_pause(stack, settings, now)
        if caps.room(stack, settings, caps.Each(2, 0.1)).machines > 0:
            stack, launched = caps.launched(stack, 1, caps.Each(2, 0.1)), launched + 1
        now += 0.03

    assert launched == 1000
    assert len(stack.lately) <= 61


def test_what_ec2_did_not_give_is_not_taken_from_anybodys_pace() -> None:
    world = World(settings=some_settings(launches_per_minute=5.0))
    world.compute.full = {"*"}
    for number in range(5):
        arrives(world, f"1{number}", labels=("runs-fleet=many/fallback=wait",))
    world.settle()

    world.compute.full = set()
    arrives(world, "one", labels=("runs-fleet=one/arch=arm64",))
    world.settle()

    assert [one.launched_for for one in world.sessions] == ["one"]


@pytest.mark.parametrize("waits_s", [20.0, 400.0])
def test_while_the_stack_is_paused_a_launch_that_was_not_answered_is_not_sent_again(waits_s: float) -> None:
    world = World()
    world.compute.answers = [Throttled("ec2:CreateFleet", "RequestLimitExceeded")]
    world.turns.on_job_event(an_event())
    settles(world)

    world.turns.pause(paused=True)
    world.ticks(until_s=waits_s)
    sent = world.compute.sent
    world.turns.pause(paused=False)
    world.ticks(until_s=130.0)

    assert (sent, world.compute.launched) == (1, 1)


def test_while_the_stack_is_paused_no_other_row_is_asked_for() -> None:
    world = World()
    world.compute.answers = [Throttled("ec2:CreateFleet", "RequestLimitExceeded"), "InsufficientInstanceCapacity: none"]
    world.turns.on_job_event(an_event())
    settles(world)

    start = world.compute.start_sessions

    def pausing(request: str, *, sent_before: bool) -> object:
        came = start(request, sent_before=sent_before)
        world.turns.pause(paused=True)
        return came

    world.compute.start_sessions = pausing  # type: ignore[method-assign,assignment]
    world.ticks(until_s=130.0)

    assert world.compute.sent == 2
    ledger = world.records.ledger(SET)
    assert ledger is not None and ledger.refusals == 0


def test_machines_that_a_lost_answer_made_are_found_while_the_stack_is_paused() -> None:
    world = World()
    world.compute.loses = 1
    world.turns.on_job_event(an_event())
    settles(world)

    world.turns.pause(paused=True)
    world.ticks(until_s=70.0)

    assert [one.state for one in world.sessions] == [SessionState.CONFIGURED]


def test_a_lost_answer_is_asked_for_again_once_more_however_late_it_was_lost() -> None:
    world = World()
    world.compute.answers = [Throttled("ec2:CreateFleet", "RequestLimitExceeded")]
    world.turns.on_job_event(an_event())
    settles(world)
    world.clock.at += SENT_S + 1.0
    world.compute.loses, world.compute.look_up = 1, lambda request: ()  # type: ignore[method-assign]

    world.tick()
    world.ticks(until_s=130.0)

    assert (world.compute.launched, len(world.sessions)) == (1, 1), "EC2 shows late what it made"


def test_jobs_that_github_gives_to_nobody_get_one_machine_more_each_and_no_more() -> None:
    world = World()
    for number in range(10):
        world.turns.on_job_event(an_event(job_id=str(number)))
    world.settle()

    unclaimed(world, 1800.0, listens_s=1e9)

    assert world.compute.launched <= 20


def test_a_job_that_waits_for_an_approval_after_all_wants_no_machine_until_it_has_it() -> None:
    world = World()
    world.told(an_event("queued"))
    world.github.jobs["1"] = an_event("waiting")
    world.told(an_event("waiting"))

    unclaimed(world, 3600.0)
    waited = world.records.job("1")
    world.github.jobs["1"] = an_event("queued", at=world.clock.at)
    world.told(an_event("queued", at=world.clock.at))

    assert waited is not None and waited.state is JobState.WAITING
    assert world.compute.launched == 2, "one before anybody knew, one when it was approved"


def test_a_waiting_that_github_does_not_stand_by_changes_nothing() -> None:
    world = World()
    world.told(an_event("queued"))
    world.github.jobs["1"] = an_event("queued")

    world.told(an_event("waiting"))

    job = world.records.job("1")
    assert job is not None and job.state is JobState.QUEUED


def test_a_job_whose_end_was_never_heard_gets_no_machine_after_the_other() -> None:
    world = World()
    world.told(an_event())
    world.github.jobs["1"] = an_event("completed", conclusion="cancelled")

    unclaimed(world, 3600.0)

    job = world.records.job("1")
    assert job is not None and (job.conclusion, world.compute.launched) == ("cancelled", 1)


def test_a_job_that_was_found_and_then_not_looked_at_is_looked_at_in_the_next_round() -> None:
    world = World()
    world.records.seen(Scope("3", "octo", "widgets"), world.clock.now())
    world.github.jobs["2"] = an_event(job_id="2")
    count, failures = world.tables.count, [ServiceFailed("dynamodb:UpdateItem", "ThrottlingException")]

    def throttled(*told: object) -> int:
        if failures:
            raise failures.pop()
        return count(*told)  # type: ignore[arg-type]

    world.tables.count = throttled  # type: ignore[method-assign,assignment]
    world.turns.on_recovery()
    world.settle()
    missed = world.compute.launched

    world.clock.at += 301.0
    world.turns.on_recovery()
    world.settle()

    assert (missed, world.compute.launched) == (0, 1)


def test_the_rounds_go_through_all_repositories_however_long_each_takes() -> None:
    world = World()
    names = [f"r{number:03}" for number in range(120)]
    for name in names:
        world.records.seen(Scope("3", "octo", name), world.clock.now())
    asked: list[str] = []
    world.github.waiting_jobs = lambda scope: (asked.append(scope.repo), iter(()))[1]  # type: ignore[method-assign,assignment]

    for _ in range(3):
        world.turns.on_recovery()
        world.clock.at += 600.0

    assert sorted(set(asked)) == names


@pytest.mark.parametrize("spelling", ["octo/widgets", "Octo/WIDGETS"])
def test_a_machine_that_was_made_before_is_bound_however_its_repository_is_spelt(spelling: str) -> None:
    world = World()
    owner, _, repo = spelling.partition("/")
    world.turns.prepare(owner, repo, an_event().labels, 1, 600.0)
    world.settle()

    world.told(an_event())
    world.told(an_event("in_progress", runner_name=world.session.runner_name))

    assert (world.session.bound_job, world.compute.launched) == ("1", 1)


def test_a_job_takes_a_machine_that_was_made_before_and_none_is_made_instead() -> None:
    world = World()
    world.turns.prepare("octo", "widgets", an_event().labels, 2, 3600.0)
    world.settle()
    first, second = world.sessions
    for number, session in (("1", first), ("2", second)):
        world.told(an_event(job_id=number))
        world.told(an_event("in_progress", job_id=number, runner_name=session.runner_name))

    world.ticks(until_s=120.0)

    assert world.compute.launched == 2


def test_machines_that_an_operator_ends_are_no_reason_to_wait() -> None:
    world = World()
    world.told(an_event())

    for _ in range(6):
        world.turns.dismiss(world.sessions[-1].session_id)
        world.settle()
        world.clock.at += 1.0

    ledger = world.records.ledger(SET)
    assert ledger is not None and (ledger.backoff_until, world.compute.launched) == (0.0, 7)


def test_where_money_is_limited_nothing_is_asked_for_whose_price_nobody_knows() -> None:
    world = World(settings=some_settings(max_usd_per_hour=0.15))
    priced, unpriced = Kind("m7i.large", "amd64", 2, 8.0, usd=0.10), Kind("c7i.large", "amd64", 2, 4.0)
    world.turns.launching.catalogue.kinds = (priced, unpriced)

    for number in range(5):
        arrives(world, str(number))
        world.settle()
        world.ticks(until_s=40.0)

    assert (world.compute.launched, set(world.compute.kinds.values())) == (1, {"m7i.large"})


def test_machines_of_an_unknown_price_count_as_the_dearest() -> None:
    world = World(settings=some_settings(max_usd_per_hour=0.25))
    world.turns.launching.catalogue.kinds = (Kind("m7i.large", "amd64", 2, 8.0, usd=0.10), Kind("c7i.large", "amd64", 2, 4.0))
    arrives(world, "1")
    world.settle()
    world.compute.kinds[world.session.instance_id] = "c7i.large"
    world.clock.at += 40.0

    arrives(world, "2")
    arrives(world, "3")
    world.settle()

    assert world.compute.launched == 2


def test_a_registration_that_fails_for_one_repository_keeps_no_other_waiting_for_its_machine() -> None:
    world = World()
    world.compute.room = 1
    mint = world.github.mint

    def refused(scope: Scope, *more: object) -> object:
        world.compute.room = None  # there is more in the next row
        if scope.repo == "aaa":
            raise ServiceFailed("github:generate-jitconfig", "500")
        return mint(scope, *more)  # type: ignore[arg-type]

    world.github.mint = refused  # type: ignore[method-assign,assignment]
    for repo in ("aaa", "bbb"):
        world.turns.on_job_event(an_event(job_id=repo, repo=repo))
    settles(world)

    assert {one.repo: one.state for one in world.sessions} == {"aaa": SessionState.LAUNCHED, "bbb": SessionState.CONFIGURED}
    assert all(launch.state is LaunchState.CLOSED for launch in world.records.launches())


def test_caps_of_nobody_else_are_a_place_in_line() -> None:
    world = World(settings=some_settings(per_repository=Caps(sessions=1)))
    arrives(world, "1")
    arrives(world, "2", at=MORNING + 1.0)
    arrives(world, "3", repo="gadgets", at=MORNING + 2.0)

    world.settle()

    assert sorted(one.launched_for for one in world.sessions) == ["1", "3"]
    assert [place.whose for place in world.records.line(world.clock.now())] == ["octo/widgets"]


def test_a_line_longer_than_is_looked_at_together_is_not_overtaken_either() -> None:
    at_once = IN_LINE + 10
    world = World(settings=some_settings(max_sessions=at_once, launches_per_minute=1000.0))
    for number in range(at_once):
        arrives(world, f"running-{number}")
    world.settle()
    world.clock.at += 1.0
    for number in range(2 * at_once):
        arrives(world, f"first-{number}")
    world.settle()

    world.clock.at += 40.0
    world.compute.instances = dict.fromkeys(world.compute.instances, "terminated")
    arrives(world, "later")
    world.settle()

    served = {one.launched_for for one in world.sessions if not one.launched_for.startswith("running")}
    assert "later" not in served and len(served) == IN_LINE


def test_label_sets_of_an_app_that_is_not_let_in_keep_nobody_from_his_machine() -> None:
    world = World(settings=some_settings(max_sessions=50))
    allowed = world.github.registrations
    world.github.registrations = lambda scope: Allowance(0, "the App") if scope.repo == "shut" else allowed(scope)  # type: ignore[method-assign]
    for number in range(IN_LINE + 5):
        arrives(world, f"shut-{number}", repo="shut")
    world.settle()

    world.clock.at += 1.0
    arrives(world, "1")
    world.settle()

    assert [one.launched_for for one in world.sessions] == ["1"]


def test_a_label_set_that_cannot_be_served_any_more_leaves_the_line() -> None:
    world = World(settings=some_settings(max_sessions=1))
    arrives(world, "1")
    arrives(world, "2", labels=("runs-fleet=2/family=m7i",), at=MORNING + 1.0)
    world.settle()
    waiting = len(world.records.line(world.clock.now()))

    world.turns.launching.catalogue.kinds = tuple(k for k in world.turns.launching.catalogue.kinds if "m7i" not in k.family)
    world.ticks(until_s=30.0)

    assert (waiting, world.records.line(world.clock.now())) == (1, [])


def test_a_large_job_that_has_waited_for_long_is_not_starved_by_small_ones() -> None:
    world = World(settings=some_settings(max_cpus=16, launches_per_minute=1000.0))
    arrives(world, "small-0")
    world.settle()
    world.clock.at += 1.0
    arrives(world, "large", labels=("runs-fleet=large/cpu=8+16",))
    world.settle()

    for number in range(1, 120):
        world.clock.at += 11.0
        arrives(world, f"small-{number}")
        world.settle()
        if not all(map(is_over, world.sessions)):
            runs_and_ends(world)

    assert "large" in {one.launched_for for one in world.sessions}


def test_a_job_that_is_served_already_moves_its_label_set_to_no_other_place() -> None:
    world = World(settings=some_settings(max_sessions=2))
    arrives(world, "1", labels=("runs-fleet=a/cpu=8",))
    world.settle()
    world.clock.at += 50.0
    arrives(world, "2", labels=("runs-fleet=b",))
    world.clock.at += 50.0
    arrives(world, "3", labels=("runs-fleet=a/cpu=8",))

    world.settle()

    assert [one.launched_for for one in world.sessions] == ["1", "2"]


@pytest.mark.parametrize("first", ["8", "2"])
def test_jobs_of_the_same_second_are_served_in_some_order_and_it_comes_to_an_end(first: str) -> None:
    world = World(settings=some_settings(max_sessions=1))
    second = {"8": "2", "2": "8"}[first]
    for name, cpus in (("1", first), ("2", second), ("3", first), ("4", second)):
        arrives(world, name, labels=(f"runs-fleet={name}/cpu={cpus}",))

    world.settle()

    assert world.compute.launched == 1


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["2", "8", "16"]), st.integers(0, 4)), min_size=1, max_size=12),
    st.integers(1, 6), st.sampled_from([0, 8, 20]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_whatever_waits_each_look_comes_to_an_end_and_no_more_than_allowed_is_launched(
    jobs: list[tuple[int, str, int]], most: int, cpus: int
) -> None:
    world = World(settings=some_settings(max_sessions=most, max_cpus=cpus))

    for number, (label, size, later_s) in enumerate(jobs):
        arrives(world, str(number), labels=(f"runs-fleet={label}/cpu={size}",), at=world.clock.at + later_s)
        world.settle()
        world.clock.at += 3.0
    world.ticks(until_s=60.0)  # until EC2's list is believed again

    assert world.compute.launched <= min(most, len(jobs))
    assert cpus or world.compute.launched == min(most, len(jobs))


def test_without_a_list_from_ec2_no_more_than_allowed_is_launched_however_long_it_lasts() -> None:
    world = World(settings=some_settings(max_sessions=3))
    arrives(world, "0")
    world.settle()

    def throttled() -> object:
        raise Throttled("ec2:DescribeInstances", "RequestLimitExceeded")

    world.compute.list_sessions = throttled  # type: ignore[method-assign,assignment]
    for number in range(1, 30):
        world.clock.at += 31.0
        arrives(world, str(number))
        settles(world)

    assert world.compute.launched == 3


def test_while_paused_a_part_of_what_a_lost_answer_made_is_not_taken_for_all() -> None:
    world = World()
    world.compute.loses = 1
    for number in range(3):
        world.turns.on_job_event(an_event(job_id=str(number)))
    settles(world)
    shown = world.compute.look_up
    world.compute.look_up = lambda request: shown(request)[:1]  # type: ignore[method-assign]

    world.turns.pause(paused=True)
    world.ticks(until_s=70.0)
    early, world.compute.look_up = len(world.sessions), shown  # type: ignore[method-assign]
    world.ticks(until_s=70.0)

    assert (early, len(world.sessions)) == (0, 3)


def test_who_was_served_by_another_replica_and_must_wait_again_stands_in_line_again() -> None:
    world = World(settings=some_settings(max_sessions=1))
    arrives(world, "1")
    world.settle()
    world.clock.at += 1.0
    arrives(world, "2")
    world.settle()
    key = world.records.line(world.clock.now())[0].set_key
    world.records.let_go(key)

    world.turns.on_wake([key])

    assert [place.set_key for place in world.records.line(world.clock.now())] == [key]


def test_a_machine_that_was_made_before_is_counted_off_by_the_one_whose_time_ends_first_and_is_not_over() -> None:
    assert without_one((MORNING - 1.0, MORNING + 9.0, MORNING + 5.0), MORNING) == (MORNING + 9.0,)
