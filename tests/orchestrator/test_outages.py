"""What an outage leaves behind: webhooks that were lost, boards that change while they are read, launches that lay for hours."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from orchestrator.adapters.system import Hands
from orchestrator.cards import is_over
from orchestrator.demand import BUSY_S, STALE_S
from orchestrator.errors import Conflict, ServiceFailed, Throttled
from orchestrator.launching import OLD_S
from orchestrator.model import Place, Session, changed
from orchestrator.naming import set_key
from orchestrator.patience import FIRST_BACKOFF_S
from orchestrator.ports import Received, Write
from orchestrator.records import LEDGER
from orchestrator.recovery import REPOSITORIES
from orchestrator.services import Allowance
from orchestrator.states import JobState, LaunchState, SessionState
from tests.orchestrator.memory import (
    MORNING,
    SET,
    Calls,
    Crash,
    GatheredWakes,
    World,
    an_event,
    sender_of,
    some_settings,
)

PATIENCE_S = 10.0


class Calm:
    """Tables that are handed in, and all that a test does not change of them."""

    def __init__(self, world: World) -> None:
        self._tables = world.tables

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tables, name)


class Torn(Calm):
    """A query of the label set's rows, by their names, in the middle of which somebody else's transaction is committed.

    So DynamoDB answers. Source: "Isolation levels" of its developer guide.
    """

    def __init__(self, world: World, after: int, happens: Callable[[], object]) -> None:
        super().__init__(world)
        self._after, self._happens = after, happens

    def rows(self, table: str, partition: str) -> list[dict[str, Any]]:
        """As they are, but for the first time."""
        found: list[dict[str, Any]] = self._tables.rows(table, partition)
        if partition != SET or self._happens is None:
            return found
        happens, self._happens = self._happens, None  # type: ignore[assignment]
        early = found[: self._after]
        last = early[-1]["row"] if early else ""
        happens()
        return [*early, *(row for row in self._tables.rows(table, partition) if row["row"] > last)]


@pytest.mark.parametrize("after", range(6))
def test_two_replicas_of_which_one_launches_while_the_other_reads_make_one_launch(after: int) -> None:
    world = World()
    world.launched()
    world.told(an_event("completed", conclusion="cancelled"))  # there is a ledger, and a machine too many
    for number in range(2, 6):
        world.turns.on_job_event(an_event(job_id=str(number)))

    world.replica(wakes=GatheredWakes(), tables=Torn(world, after, world.settle)).on_wake([SET])
    world.settle()

    assert world.compute.launched == 4


@pytest.mark.parametrize("after", range(5))
def test_a_job_that_takes_its_machine_while_the_board_is_read_gets_no_second_one(after: int) -> None:
    world = World()
    session = world.launched()

    def takes_it() -> None:
        world.turns.on_job_event(an_event("in_progress", runner_name=session.runner_name))

    world.replica(wakes=GatheredWakes(), tables=Torn(world, after, takes_it)).on_wake([SET])
    world.settle()

    assert world.compute.launched == 1


def ran_unheard(world: World, run_id: str, *job_ids: str) -> None:
    """Short jobs whose `in_progress` and `completed` got lost; their agents have said everything."""
    sessions = [one for one in world.sessions if one.launched_for in job_ids]
    for session in sessions:
        told = {"job_id": session.launched_for, "run_id": run_id, "runner_name": session.runner_name}
        world.github.jobs[session.launched_for] = an_event("completed", conclusion="success", at=world.clock.at + 30.0, **told)
        world.hear("started", session=session)
        world.hear("busy", session=world.records.session(session.session_id), ran_job="build", ran_run_id=run_id)
        world.compute.instances[session.instance_id] = "terminated"
        world.hear_the_end(session=world.records.session(session.session_id), ran_job="build")


def still_queued(world: World) -> int:
    return sum(job.state is JobState.QUEUED for job in world.records.jobs())


def test_jobs_that_ran_while_no_webhook_came_through_are_asked_for_and_get_no_second_machine() -> None:
    calls = Calls()
    world = World(calls)
    for number in range(30):
        world.turns.on_job_event(an_event(job_id=str(number), run_id="7"))
    world.settle()
    ran_unheard(world, "7", *map(str, range(30)))
    calls.made.clear()

    world.ticks(BUSY_S + 60.0)

    assert (still_queued(world), world.compute.launched) == (0, 30)
    asked = Counter(one for one in calls.made if one in ("github.job", "github.jobs_of"))
    assert asked["github.jobs_of"] <= 2 and asked["github.job"] <= 2, "of one run by one call, not job by job"
    ledger = world.records.ledger(SET)
    assert ledger is not None and ledger.working == {}, "and nobody is asked about again"


def test_what_github_did_not_answer_about_is_asked_again() -> None:
    world = World()
    world.launched()
    ran_unheard(world, "7", "1")
    answers, asked = world.github.jobs_of, []

    def refuses(*told: Any, **_: Any) -> Any:
        asked.append(told)
        raise ServiceFailed("github:list jobs", "502", "bad gateway")

    world.github.jobs_of = world.github.job = refuses  # type: ignore[method-assign,assignment]
    world.clock.at += BUSY_S + 1.0
    world.wakes.wake(SET)
    world.settle()
    ledger = world.records.ledger(SET)
    assert asked and ledger is not None and ledger.working, "it is not forgotten"
    world.github.jobs_of = answers  # type: ignore[method-assign]
    del world.github.job
    world.ticks(120.0)

    assert still_queued(world) == 0


def test_jobs_that_github_ended_unheard_are_all_found_soon_and_not_five_at_a_time() -> None:
    """Cancelled while the endpoint was down: machines are there for them, and nobody takes these."""
    world = World()
    for number in range(60):
        world.turns.on_job_event(an_event(job_id=str(number), run_id=str(number)))
    world.settle()
    for session in world.sessions:
        world.hear("started", session=session)
        told = {"job_id": session.launched_for, "run_id": session.launched_for}
        world.github.jobs[session.launched_for] = an_event("completed", conclusion="cancelled", at=world.clock.at, **told)

    world.ticks(STALE_S + 600.0)

    assert still_queued(world) == 0
    assert world.compute.launched <= 60 + 60 + 10, "at most one more for each that still looked as if it waited"


def test_after_machines_that_got_no_job_one_is_on_trial_until_a_job_takes_it() -> None:
    world = World(settings=some_settings(max_sessions=100))
    for number in range(20):
        world.turns.on_job_event(an_event(job_id=str(number)))
    world.settle()
    while idle := [one for one in world.sessions if not is_over(one)]:
        world.compute.instances[idle[0].instance_id] = "terminated"
        world.hear_the_end("interrupted", session=idle[0], reason="unclaimed")
    ledger = world.records.ledger(SET)
    assert ledger is not None and ledger.backoff_until > world.clock.at and ledger.barren
    first = world.compute.launched
    world.ticks(FIRST_BACKOFF_S + 40.0)
    on_trial = world.compute.launched - first

    trial = world.sessions[-1]
    world.hear("started", session=trial)
    world.told(an_event("in_progress", job_id="3", runner_name=trial.runner_name))

    ledger = world.records.ledger(SET)
    assert ledger is not None and (ledger.barren, ledger.backoff_of) == ({}, "")
    assert (on_trial, world.compute.launched - first) == (1, 20)


def test_where_github_did_not_let_us_in_one_machine_of_a_repository_is_on_trial_however_busy_the_stack_is() -> None:
    world = World(settings=some_settings(max_sessions=100))
    registrations = world.github.registrations
    world.github.registrations = lambda scope: (  # type: ignore[method-assign]
        Allowance(1, "let in", on_trial=True) if scope.repo == "shut" else registrations(scope)
    )
    for number in range(20):
        world.turns.on_job_event(an_event(job_id=str(number), labels=(f"runs-fleet={number}",)))
        world.turns.on_job_event(an_event(job_id=f"9{number}", labels=(f"runs-fleet=9{number}",), repo="shut"))
    world.settle()
    world.ticks(60.0)

    assert Counter(session.repo for session in world.sessions) == {"widgets": 20, "shut": 1}


def test_a_launch_that_lay_for_hours_is_not_sent_but_made_anew() -> None:
    """Its machines' tags would end them in the middle of their jobs."""
    world = World()
    start, world.compute.start_sessions = world.compute.start_sessions, _dies  # type: ignore[method-assign]
    with pytest.raises(Crash):
        world.told(an_event())
    world.compute.start_sessions = start  # type: ignore[method-assign]
    world.wakes.taken()
    world.clock.at += 4 * 3600.0

    world.ticks(60.0)

    (old, new) = sorted(world.records.launches(), key=lambda launch: launch.created_at)
    assert (old.state, new.state, world.compute.launched) == (LaunchState.CLOSED, LaunchState.CLOSED, 1)
    assert world.session.launch_id == new.launch_id
    assert world.session.expires_at - world.clock.at > 6 * 3600.0


def test_what_a_launch_that_lay_for_long_had_made_is_used() -> None:
    world = World()
    real = world.compute.start_sessions

    def answer_is_lost(*told: Any, **more: Any) -> Any:
        real(*told, **more)
        raise Crash

    world.compute.start_sessions = answer_is_lost  # type: ignore[method-assign]
    with pytest.raises(Crash):
        world.told(an_event())
    world.compute.start_sessions = real  # type: ignore[method-assign]
    world.wakes.taken()
    world.clock.at += OLD_S + 1.0

    world.ticks(30.0)

    assert (world.compute.launched, world.session.state) == (1, SessionState.CONFIGURED)


def _dies(*_: Any, **__: Any) -> Any:
    raise Crash


class Raced(Calm):
    """Somebody else is first with the next write of this item."""

    def __init__(self, world: World, partition: str, row: str, times: int = 1) -> None:
        super().__init__(world)
        self._key, self._times = (partition, row), times

    def write(self, writes: Any) -> None:
        """All or none."""
        if self._times and any(isinstance(one, Write) and one.key == self._key for one in writes):
            self._times -= 1
            raise Conflict("somebody was first")
        self._tables.write(writes)


def test_a_lost_race_for_one_ledger_keeps_no_other_label_set_from_its_machine() -> None:
    """More stand in line than are looked at, so that the youngest are put off: one of their ledgers has moved meanwhile."""
    world = World(settings=some_settings(max_sessions=1000))
    for number in range(25):
        world.records.lined_up(Place(set_key=f"old{number:02}", since=MORNING - 1000.0 + number, jobs=1, at=MORNING))
    for name, at in (("a", MORNING - 2000.0), ("b", MORNING), ("c", MORNING)):
        world.turns.on_job_event(an_event(job_id=name, labels=(f"runs-fleet={name}",), at=at))
    raced = set_key("octo", "widgets", 1, ("runs-fleet=b",))

    world.replica(tables=Raced(world, raced, LEDGER)).on_wake(world.wakes.taken())

    assert [session.launched_for for session in world.sessions] == ["a"]
    assert raced in world.wakes.waiting, "it is looked at again at once"


def test_a_line_that_cannot_be_read_keeps_nobody_from_his_machine() -> None:
    world = World()

    class Unreadable(Calm):
        def rows(self, table: str, partition: str) -> Any:
            if partition == "line":
                raise ServiceFailed("dynamodb:Query", "InternalServerError", "now")
            return self._tables.rows(table, partition)

    world.turns.on_job_event(an_event())
    with pytest.raises(ServiceFailed):
        world.replica(tables=Unreadable(world)).on_wake(world.wakes.taken())

    assert world.compute.launched == 1


def test_a_lost_race_at_the_end_of_a_launch_keeps_no_machine_from_its_configuration() -> None:
    """EC2 gave two of three: the launch closes with its ledger, which somebody has written meanwhile."""
    world = World()
    world.compute.capacity = 2
    for number in range(3):
        world.turns.on_job_event(an_event(job_id=str(number), labels=("runs-fleet=7/arch=amd64/fallback=wait",)))
    (key,) = world.wakes.taken()
    races = iter([False, False])

    class Busy(Calm):
        def write(self, writes: Any) -> None:
            closes = any(one.item and one.item.get("state") == "closed" for one in writes)
            if closes and next(races, True) is False:
                raise Conflict("somebody was first")
            self._tables.write(writes)

    try:
        world.replica(tables=Busy(world)).on_wake([key])
    except Conflict:
        pass

    assert {session.state for session in world.sessions} == {SessionState.CONFIGURED}


def reclaimed(world: World, number: int) -> list[Session]:
    """That many machines at work, of one label set."""
    for at in range(number):
        world.turns.on_job_event(an_event(job_id=str(at)))
    world.settle()
    for session in world.sessions:
        world.turns.on_job_event(an_event("in_progress", job_id=session.launched_for, runner_name=session.runner_name))
    return world.sessions


def test_machines_that_are_all_taken_at_once_are_all_heard_at_once() -> None:
    """Forty consumers, one ledger, one record of all pools: nobody's notice has to come again half a minute later."""
    world = World(settings=some_settings(max_sessions=200))
    sessions = reclaimed(world, 60)
    hands, turn = Hands(8), threading.Lock()

    class OneAtATime(Calm):
        def __getattr__(self, name: str) -> Any:
            act = getattr(self._tables, name)

            def done(*told: Any) -> Any:
                time.sleep(0.002)
                with turn:
                    found = act(*told)
                    return list(found) if name in ("due", "of_instance", "scan") else found

            return done

    turns = world.replica(tables=OneAtATime(world), crew=hands)

    def notice(session: Session) -> None:
        body = (
            f'{{"status":"interrupting","instance_id":"{session.instance_id}","session_id":"{session.session_id}",'
            f'"job_id":"1","reason":"spot_notice"}}'
        )
        turns.on_agent_message(Received(body, "receipt", sender_of(session)))

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(notice, sessions))
    hands.stop()

    ledger = world.records.ledger(SET)
    assert all(one.interrupting_at is not None for one in world.sessions)
    assert ledger is not None and len(ledger.expected) == 60


def test_breakers_that_cannot_be_written_keep_no_notice_from_being_heard() -> None:
    world = World()
    session = world.at_work()
    world.records.put(changed(session, pool="m7i.large/zone-1/spot"))

    turns = world.replica(tables=Raced(world, "circuits", "circuits", times=99))
    body = f'{{"status":"interrupting","instance_id":"{session.instance_id}","job_id":"1","reason":"spot_notice"}}'
    turns.on_agent_message(Received(body, "receipt", sender_of(session)))

    ledger = world.records.ledger(SET)
    assert world.session.interrupting_at is not None and ledger is not None and len(ledger.expected) == 1


def test_the_secret_is_deleted_only_once_its_session_wants_none_any_more() -> None:
    """Else whoever takes up an unfinished configuration finds none, and removes a runner that lives to register another."""
    world = World()
    session = world.launched()
    seen: list[SessionState] = []
    delete = world.configurations.delete

    def watched(instance_id: str) -> None:
        seen.append(world.session.state)
        delete(instance_id)

    world.configurations.delete = watched  # type: ignore[method-assign]
    world.hear("started", session=session)

    assert seen == [SessionState.READY]


def test_configurations_have_hands_of_their_own() -> None:
    """SSM takes three a second: a launch of a hundred keeps nobody else's launch waiting for half a minute."""
    world, begun, go_on = World(settings=some_settings(max_sessions=100)), threading.Semaphore(0), threading.Event()
    put = world.configurations.put

    def slow(instance_id: str, value: str) -> bool:
        begun.release()
        assert go_on.wait(PATIENCE_S)
        return put(instance_id, value)

    world.configurations.put = slow  # type: ignore[method-assign]
    hands, configurers = Hands(4), Hands(4)
    turns = world.replica(crew=hands, configurers=configurers)
    for number in range(8):
        world.turns.on_job_event(an_event(job_id=str(number)))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(turns.on_wake, world.wakes.taken())
        assert all(begun.acquire(timeout=PATIENCE_S) for _ in range(4)), "four hands are full"
        did: list[int] = []
        hands.each([lambda: did.append(1) for _ in range(4)])
        go_on.set()
        first.result(PATIENCE_S)
    configurers.stop()
    hands.stop()

    assert did == [1] * 4
    assert len(world.configurations.values) == 8


def test_repositories_whose_turn_it_was_while_github_wanted_to_be_left_alone_come_first_in_the_next_round() -> None:
    world = World()
    names = [f"repo{number:03}" for number in range(2 * REPOSITORIES)]
    for name in names:
        world.turns.on_job_event(an_event("completed", conclusion="success", job_id=name, repo=name))
    looked: list[str] = []
    shut = [True]

    def waiting_jobs(scope: Any) -> Any:
        if shut[0] and len(looked) >= 20:
            raise Throttled("github:list runs", "BudgetSpent", "kept for others")
        looked.append(scope.repo)
        return iter(())

    world.github.waiting_jobs = waiting_jobs  # type: ignore[method-assign]
    for _ in range(3):
        world.turns.on_recovery()
        world.clock.at += world.settings.recovery_s
        shut[0] = False

    half = REPOSITORIES // 2
    assert looked[:20] == names[:20], "then GitHub wanted to be left alone"
    assert looked[20 : 20 + half] == names[20 : 20 + half]
    assert looked[20 + half : 20 + 2 * half] == names[REPOSITORIES : REPOSITORIES + half], "and the others have their turn, too"
    assert set(looked) >= set(names[: REPOSITORIES + half])
