"""The backfill's rounds: which deliveries and repositories have their turn, and what becomes of what is found."""

from __future__ import annotations

import pytest

from orchestrator.errors import Conflict, ServiceFailed, Throttled, Unanswered
from orchestrator.jobs.backfill import LATELY_S, REPOSITORIES
from orchestrator.jobs.intake import UNHEARD
from orchestrator.jobs.model import JobState
from orchestrator.store.naming import Scope
from orchestrator.turns import Turns
from simulation.clock import MORNING
from simulation.examples import SET, a_job, an_event
from simulation.world import World


def repositories(world: World, number: int) -> list[str]:
    """So many that were heard of, in the order of their turns."""
    names = [f"r{at:03}" for at in range(number)]
    for name in names:
        world.records.repositories.heard_of(Scope("3", "octo", name), MORNING)
    return names


def round_of(world: World, turns: Turns | None = None) -> list[str]:
    """The repositories that one round looks through, in order; then it is time for the next."""
    seen: list[str] = []
    world.calls.script("github.waiting_jobs", times=None, before=lambda scope: seen.append(scope.repo))
    (turns or world.turns).on_backfill()
    world.clock.at += world.settings.backfill_s
    return seen


def test_what_was_sent_again_and_what_was_found_are_counted_together() -> None:
    world = World()
    world.launched()
    world.github.lost, world.github.jobs = ["a", "b"], {"8": an_event(job_id="8"), "9": an_event(job_id="9")}

    assert world.turns.on_backfill() == 4
    assert [fields["job_id"] for fields in world.journal.of("job.found")] == ["8", "9"]
    assert [fields["delivery"] for fields in world.journal.of("delivery.requested_again")] == ["b", "a"]


def test_a_job_that_waits_and_whose_label_set_nobody_looks_at_is_woken_and_is_no_find() -> None:
    world = World()
    world.turns.on_job_event(an_event())
    world.wakes.taken()
    world.github.jobs["1"] = an_event()

    assert (world.turns.on_backfill(), world.wakes.waiting) == (0, [SET])
    assert "job.found" not in world.journal.names


@pytest.mark.parametrize("state", [JobState.IN_PROGRESS, JobState.COMPLETED])
def test_a_job_that_github_still_lists_as_queued_though_it_told_that_it_went_on_is_left_as_it_is(state: JobState) -> None:
    world = World()
    world.records.repositories.heard_of(Scope("3", "octo", "widgets"), MORNING)
    world.records.put(a_job(state=state, conclusion="success" if state is JobState.COMPLETED else ""))
    world.github.jobs["1"] = an_event()

    assert (world.turns.on_backfill(), world.wakes.waiting) == (0, [])
    known = world.records.job("1")
    assert known is not None and known.state is state


@pytest.mark.parametrize("known", [{"state": JobState.WAITING}, {"state": JobState.COMPLETED, "conclusion": UNHEARD}])
def test_a_job_that_github_calls_queued_is_found_though_no_approval_was_told_or_its_end_was_inferred(
    known: dict[str, str],
) -> None:
    world = World()
    world.records.repositories.heard_of(Scope("3", "octo", "widgets"), MORNING)
    world.records.put(a_job(**known))
    world.github.jobs["1"] = an_event()

    assert (world.turns.on_backfill(), world.wakes.waiting) == (1, [SET])
    job = world.records.job("1")
    assert job is not None and (job.state, job.conclusion) == (JobState.QUEUED, "")
    assert "github.job" not in world.calls.made, "the list was GitHub's word already"


def test_a_job_whose_delivery_comes_just_now_is_no_find_and_keeps_no_other_from_being_found() -> None:
    world = World()
    world.records.repositories.heard_of(Scope("3", "octo", "widgets"), MORNING)
    world.github.jobs = {"8": an_event(job_id="8"), "9": an_event(job_id="9")}
    world.calls.fail("tables.write", Conflict("its delivery came"), skip=2)  # after the lease, and the repository's name

    assert world.turns.on_backfill() == 1
    assert [fields["job_id"] for fields in world.journal.of("job.found")] == ["9"]
    assert "backfill.failed" not in world.journal.names


def test_a_round_begins_where_the_last_one_ended_whichever_process_makes_it() -> None:
    world = World()
    names = repositories(world, REPOSITORIES + 20)

    first, second = round_of(world), round_of(world, world.replica())

    assert (first, second) == (names[:REPOSITORIES], names[REPOSITORIES:] + names[: REPOSITORIES - 20])


def test_a_round_that_is_cut_off_is_taken_up_at_the_repository_that_it_broke_off_at() -> None:
    world = World()
    names = repositories(world, 5)
    world.calls.fail("tables.write", Unanswered("tables"), skip=3)  # after the lease and two repositories

    assert round_of(world) == names[:3]
    assert round_of(world) == [*names[2:], *names[:2]]
    assert [fields["what"] for fields in world.journal.of("backfill.failed")] == ["jobs"]


@pytest.mark.parametrize(("error", "comes_first"), [(Throttled("github", "429"), True), (ServiceFailed("github", "500"), False)])
def test_a_repository_whose_turn_it_was_while_github_was_throttling_comes_first_in_the_next_round(
    error: ServiceFailed, comes_first: bool
) -> None:
    world = World()
    names = repositories(world, 2 * REPOSITORIES)
    world.calls.fail("github.waiting_jobs", error, skip=1)

    first, second, third = round_of(world), round_of(world), round_of(world)

    assert first == names[2:REPOSITORIES], "of the first two calls none is noted here"
    turn = names[REPOSITORIES:]
    assert second == ([names[1], *turn[:-1]] if comes_first else turn)
    assert third == ([turn[-1], *names[: REPOSITORIES - 1]] if comes_first else names[:REPOSITORIES]), "and only once"


def test_however_many_were_throttled_others_have_half_of_the_next_round() -> None:
    world = World()
    names = repositories(world, 2 * REPOSITORIES)
    world.calls.fail("github.waiting_jobs", Throttled("github", "429"), times=REPOSITORIES)

    first, second = round_of(world), round_of(world)

    half = REPOSITORIES // 2
    assert (first, second) == ([], names[:half] + names[REPOSITORIES : REPOSITORIES + half])


def test_repositories_of_which_nothing_was_heard_for_a_week_are_not_looked_through() -> None:
    world = World()
    for name, age_s in (("lately", LATELY_S - 60.0), ("long-ago", LATELY_S + 60.0)):
        world.records.repositories.heard_of(Scope("3", "octo", name), MORNING - age_s)

    assert round_of(world) == ["lately"]


def test_a_delivery_that_one_process_had_sent_again_is_not_asked_for_by_another() -> None:
    world = World()
    world.github.lost = ["a"]
    world.turns.on_backfill()
    world.clock.at += world.settings.backfill_s

    assert (world.replica().on_backfill(), world.github.redelivered) == (0, ["a"])


def test_a_delivery_whose_answer_was_lost_is_asked_for_once_more_and_then_no_more() -> None:
    world = World()
    world.github.lost = ["a"]
    world.calls.lose("github.redeliver")

    for _ in range(4):
        world.turns.on_backfill()
        world.clock.at += world.settings.backfill_s

    assert world.github.redelivered == ["a", "a"]
    assert [fields["what"] for fields in world.journal.of("backfill.failed")] == ["delivery"]


def test_what_github_has_just_told_of_a_job_is_not_asked_for_again() -> None:
    world, asked = World(), list[str]()
    world.turns.on_job_event(an_event("waiting"))
    world.github.jobs["1"] = an_event()
    world.calls.script("github.job", times=None, before=lambda scope, job_id, **_: asked.append(job_id))

    world.turns.on_backfill()

    job = world.records.job("1")
    assert (job is not None and job.state, asked) == (JobState.QUEUED, [])
