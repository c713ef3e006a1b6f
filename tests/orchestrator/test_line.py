"""Who waits for a limit: when each is looked at again, who is woken by room, and what six hundred that wait cost."""

from __future__ import annotations

import pytest

from orchestrator.fleet.line import BEHIND_S, FRONT, FRONT_OF_OTHERS, PACED_S, WAITLISTED_BEFORE, Line
from orchestrator.setting_values import Limits
from orchestrator.store.model import WaitlistEntry
from simulation.clock import MORNING
from simulation.examples import an_event, some_settings
from simulation.world import World


class Noting:
    """Wakes (ports) that are looked at."""

    def __init__(self) -> None:
        self.woken: list[tuple[str, float]] = []

    def wake(self, set_key: str, after_s: float = 0.0) -> None:
        self.woken.append((set_key, after_s))


def entry(name: str, since: float = 0.0, repository: str = "a/a", whose: str = "") -> WaitlistEntry:
    return WaitlistEntry(set_key=name, since=MORNING + since, jobs=1, at=MORNING, whose=whose, repository=repository)


@pytest.fixture
def wakes() -> Noting:
    return Noting()


@pytest.fixture
def line(wakes: Noting) -> Line:
    world = World()
    return Line(records=world.records, clock=world.clock, wakes=wakes)


def waiting(line: Line, *entries: WaitlistEntry) -> None:
    """They wait already, and this process has read it."""
    for one in entries:
        line.records.waitlist.add(one)
    line.read((), ())


def test_the_front_is_looked_at_soon_and_the_rest_when_it_comes_to_the_front(line: Line, wakes: Noting) -> None:
    everybody = [entry(f"{number:03}", number) for number in range(50)]
    waiting(line, *everybody)

    for one in everybody:
        line.put_off(one, paused=False)

    pauses = dict(wakes.woken)
    assert [key for key, pause_s in pauses.items() if pause_s == PACED_S] == [f"{number:03}" for number in range(FRONT)]
    assert set(pauses.values()) == {PACED_S, BEHIND_S}
    wakes.woken.clear()
    line.leave("001")
    assert wakes.woken == [(f"{FRONT:03}", 0.0)]


def test_the_front_is_shared_by_repositories(line: Line, wakes: Noting) -> None:
    crowd = [entry(f"crowd-{number}", number, "crowd/crowd") for number in range(300)]
    lone = entry("lone", 1_000.0, "lone/lone")
    waiting(line, *crowd, lone)

    line.put_off(lone, paused=False)

    assert wakes.woken == [("lone", PACED_S)]


def test_who_wants_machines_now_lets_those_go_first_whose_turn_is_before(line: Line) -> None:
    for number in range(300):
        line.records.waitlist.add(entry(f"crowd-{number:03}", number, "crowd/crowd"))

    before, behind = line.read((), [entry("lone", 1_000.0, "lone/lone")])
    assert (before, behind) == (["crowd-000"], frozenset())

    before, behind = line.read((), [entry("last", 1_000.0, "crowd/crowd")])
    assert before == [f"crowd-{number:03}" for number in range(WAITLISTED_BEFORE)]
    assert behind == frozenset({"last"})


def test_who_waits_for_another_limit_than_the_stacks_goes_before_nobody(line: Line) -> None:
    line.records.waitlist.add(entry("own", whose="its label set"))

    assert line.read((), [entry("late", 10.0)]) == ([], frozenset())


def test_room_in_a_repository_wakes_who_waits_for_its_limit_and_nobody_else(line: Line, wakes: Noting) -> None:
    mine = [entry(f"mine-{number}", number, "a/a", "a/a") for number in range(FRONT + 3)]
    waiting(line, *mine, entry("other", 0.0, "b/b", "b/b"), entry("stack", 0.0, "a/a"))

    line.room(["a/a"])

    assert wakes.woken == [(f"mine-{number}", 0.0) for number in range(FRONT)]


def test_many_that_wait_for_limits_of_their_own_are_not_all_looked_at_each_moment(line: Line, wakes: Noting) -> None:
    everybody = [entry(f"{number:03}", number, f"a/{number}", f"a/{number}") for number in range(600)]
    waiting(line, *everybody)

    for one in everybody:
        line.put_off(one, paused=False)

    assert sum(pause_s == PACED_S for _, pause_s in wakes.woken) == FRONT_OF_OTHERS


def test_who_was_put_off_by_a_process_that_is_gone_leaves_the_line_all_the_same(line: Line, wakes: Noting) -> None:
    line.records.waitlist.add(entry("left"))

    assert line.among(["left", "other"]) == ["left"]
    line.leave("left")
    assert line.records.waitlist.entries(MORNING) == []


def test_a_pause_wakes_nobody(line: Line, wakes: Noting) -> None:
    line.put_off(entry("a"), paused=True)

    assert wakes.woken == []


def test_six_hundred_label_sets_that_wait_say_so_once_and_cost_few_looks() -> None:
    """Five at the front every two seconds, the others twice a minute: before, each came every few seconds, with a line each."""
    world = World(settings=some_settings(max_sessions=1))
    for job in range(600):
        world.told(an_event(job_id=str(job), run_id=str(job), labels=("self-hosted", f"runs-fleet={job}/cpu=2")))
    world.ticks(until_s=60.0)
    said = len(world.journal.of("label_set.held"))

    world.ticks(until_s=60.0)

    assert 599 <= said <= 2 * 600
    assert len(world.journal.of("label_set.held")) - said < 20
    assert world.compute.launched == 1


def test_a_lone_job_of_another_repository_gets_one_of_the_next_two_machines() -> None:
    world = World(settings=some_settings(max_sessions=2))
    for job in range(30):
        world.told(an_event(job_id=str(job), run_id=str(job), repo="crowd", labels=("self-hosted", f"runs-fleet={job}/cpu=2")))
        world.clock.pause(1.0)
    lone = an_event(job_id="lone", run_id="900", repo="lone", labels=("self-hosted", "runs-fleet=900/cpu=2"))
    world.told(lone)
    world.ticks(until_s=30.0)
    for running in list(world.sessions):
        world.hear_the_end(session=running)
        world.compute.instances[running.instance_id] = "terminated"
    world.ticks(until_s=60.0)

    assert [session.repository for session in world.sessions].count(f"{lone.owner}/lone") == 1


@pytest.mark.parametrize("share", [3, 0])
def test_a_repositorys_share_bounds_what_it_may_have_and_can_be_lifted(share: int) -> None:
    world = World(settings=some_settings(per_repository=Limits(sessions=share)))
    for job in range(8):
        world.told(an_event(job_id=str(job), run_id=str(job), labels=("self-hosted", f"runs-fleet={job}/cpu=2")))
    world.ticks(until_s=30.0)

    assert world.compute.launched == (share or 8)
