"""Notices on commits: said once for each job and title, again until GitHub takes them, and in the log in any case."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from agent.contract.messages import FinalWord, Status
from orchestrator.errors import Conflict, ServiceFailed, Throttled, Unanswered
from orchestrator.jobs.model import Job, JobState, Notice, NoticeState
from orchestrator.jobs.notices import MOST_ITEMS, Notices, cause_of
from orchestrator.retry_policy import NOTICE_S, NOTICE_TRIES, NOTICE_WITHIN_S
from orchestrator.store.kinds import changed
from simulation.clock import MORNING
from simulation.examples import a_job, a_session
from simulation.world import World

JOB = a_job(head_sha="c0ffee")
NAME = "Title/octo/widgets/7/1"
REFUSED = ServiceFailed("github:check-runs", "500")


def notices(world: World) -> Notices:
    """Those of the world's turns."""
    return world.turns.intake.notices


def written(world: World, name: str = NAME) -> Notice:
    """The notice as it is written now."""
    notice = world.records.notice(name)
    assert notice is not None
    return notice


def a_word(status: Status = Status.FAILURE, **changes: object) -> FinalWord:
    """How a life ended."""
    at = datetime.fromtimestamp(MORNING, UTC)
    given: dict[str, object] = {"instance_id": "i-1", "job_id": "1", "exit_code": 1, "duration_seconds": 7, **changes}
    return FinalWord(status=status, started_at=at, completed_at=at, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("word", "cause"),
    [
        (
            a_word(degraded=("out-of-memory: killed make",)),
            "the machine ran out of memory (killed make): ask for more with `ram=`",
        ),
        (
            a_word(degraded=("cache: slow", "out-of-memory: " + "x" * 200)),
            "the machine ran out of memory (" + "x" * 100 + "): ask",
        ),
        (a_word(Status.SUCCESS, degraded=("out-of-memory: killed make",)), ""),
        (a_word(reason="out-of-memory", error="killed make"), "the machine ran out of memory (killed make)"),
        (a_word(reason="listener_killed", error="by 9"), "its runner was killed (by 9), most often for want of memory"),
        (a_word(reason="disk_full", error="0 bytes left"), "the disk was full (0 bytes left): ask for more with `disk=`"),
        (a_word(reason="disk_full", error="y" * 200), "the disk was full (" + "y" * 100 + "): ask"),
        (a_word(reason="job_failed", degraded=("cache: out-of-memory",)), ""),
    ],
)
def test_an_end_that_is_the_machines_size_says_what_to_ask_for_and_no_other_does(word: FinalWord, cause: str) -> None:
    assert cause_of(word).startswith(cause) and bool(cause_of(word)) is bool(cause)


def test_a_notice_is_posted_once_for_each_job_and_title_also_by_another_process() -> None:
    world = World()
    for turns in (world.turns, world.turns, world.replica()):
        turns.intake.notices.post(JOB, "Title", "waits.")
    notices(world).post(JOB, "Another title", "fails.")
    notices(world).post(a_job(job_id="2", name="lint", run_id="8", head_sha="0f"), "Title", "waits.")

    assert world.github.notices == ["`build` waits.", "`build` fails.", "`lint` waits."]
    assert written(world).state is NoticeState.DONE


def test_a_notice_is_posted_on_the_commit_of_its_job_with_the_app_of_its_repository() -> None:
    world, posted = World(), []
    world.calls.script("github.post_notice", before=lambda *told: posted.append(told))

    notices(world).post(JOB, "Title", "waits.")

    assert posted == [(JOB.scope, "c0ffee", "Title", "`build` waits.")]


def test_a_notice_that_somebody_else_writes_down_meanwhile_is_his_to_say() -> None:
    world = World()
    world.calls.script("tables.write", before=lambda *_, **__: world.replica().intake.notices.post(JOB, "Title", "waits."))

    notices(world).post(JOB, "Title", "waits.")

    assert world.github.notices == ["`build` waits."]


def of_one_run(number: int) -> list[Job]:
    """So many jobs of one matrix."""
    return [a_job(job_id=str(at), name=f"build ({at})", head_sha="c0ffee") for at in range(number)]


def test_a_matrix_of_hundreds_has_one_notice_that_lists_its_jobs_and_is_posted_again_once_with_all_of_them() -> None:
    world = World()
    for job in of_one_run(245):
        notices(world).post(job, "Title", "waits.")
    at_once = list(world.github.notices)
    world.ticks(until_s=600.0)

    assert at_once == ["`build (0)` waits."]
    (later,) = world.github.notices[1:]
    assert all(f"`build ({at})`" in later for at in range(245)) and later.endswith(": waits.")


def test_jobs_of_one_run_that_wait_for_different_things_share_a_notice_with_a_paragraph_each() -> None:
    world = World()
    for job, text in zip(of_one_run(3), ("waits.", "fails.", "waits."), strict=True):
        notices(world).post(job, "Title", text)
    world.ticks(until_s=600.0)

    assert world.github.notices[-1] == "`build (0)`, `build (2)`: waits.\n\n`build (1)` fails."


def test_of_more_jobs_than_a_record_holds_the_number_is_said() -> None:
    world = World()
    for job in of_one_run(MOST_ITEMS + 3):
        notices(world).post(changed(job, name="n" * 1_000), "Title", "w" * 10_000)
    world.ticks(until_s=600.0)

    notice = written(world)
    assert (len(notice.items), notice.more) == (MOST_ITEMS, 3) and "3 more jobs of this run" in world.github.notices[-1]
    assert len(msgspec.json.encode(notice)) < 200_000


def test_while_github_refuses_further_jobs_cost_no_further_calls() -> None:
    world = World()
    world.calls.fail("github.post_notice", REFUSED, times=None)
    for job in of_one_run(50):
        notices(world).post(job, "Title", "waits.")

    assert len(world.journal.of("notice.failed")) == 1


def test_a_job_that_others_add_theirs_beside_is_added_all_the_same_or_it_is_said_that_it_is_not() -> None:
    world, jobs = World(), of_one_run(3)
    notices(world).post(jobs[0], "Title", "waits.")
    for _ in range(4):
        world.calls.fail("tables.write", Conflict("written"))
    notices(world).post(jobs[1], "Title", "waits.")
    listed = [one.job_id for one in written(world).items]
    world.calls.fail("tables.write", Conflict("written"), times=None)
    notices(world).post(jobs[2], "Title", "waits.")

    assert listed == ["0", "1"]
    assert [told["error"] for told in world.journal.of("notice.failed")] == ["written to by too many at once"]


def test_a_notice_is_written_down_before_it_is_said() -> None:
    world, known = World(), []
    world.calls.script("github.post_notice", before=lambda *_: known.append(written(world).state))

    notices(world).post(JOB, "Title", "waits.")

    assert known == [NoticeState.WAITING]


def test_what_github_does_not_take_is_due_again_each_time_after_twice_as_long_and_given_up_in_the_end() -> None:
    world, waits = World(), []
    world.calls.fail("github.post_notice", REFUSED, times=None)
    notices(world).post(JOB, "Title", "waits.")
    for _ in range(2 * NOTICE_TRIES):
        if written(world).state is NoticeState.WAITING:
            waits.append(written(world).due - world.clock.at)
            world.clock.at = written(world).due
            world.turns.on_sweep()

    assert waits == [NOTICE_S * 2.0**tried for tried in range(NOTICE_TRIES - 1)]
    assert [fields["given_up"] for fields in world.journal.of("notice.failed")] == [False] * (NOTICE_TRIES - 1) + [True]


def test_being_asked_to_wait_counts_as_no_try_and_is_given_up_after_a_day() -> None:
    world = World()
    world.calls.fail("github.post_notice", Throttled("github:check-runs", "429"), times=None)
    notices(world).post(JOB, "Title", "waits.")
    for after_s in (*[NOTICE_S] * (2 * NOTICE_TRIES), NOTICE_WITHIN_S - 2 * NOTICE_TRIES * NOTICE_S):
        world.clock.at += after_s
        notices(world).attempt(NAME)
    at_the_end_of_the_day = written(world).state

    world.clock.at += NOTICE_S
    notices(world).attempt(NAME)

    assert (at_the_end_of_the_day, written(world).state) == (NoticeState.WAITING, NoticeState.DONE)
    assert written(world).attempts == 0


def test_a_notice_that_failed_is_said_when_it_is_due_not_before_and_not_again() -> None:
    world = World()
    world.calls.fail("github.post_notice", REFUSED)
    notices(world).post(JOB, "Title", "waits.")

    said = []
    for after_s in (NOTICE_S - 1.0, 1.0, NOTICE_S):
        world.clock.at += after_s
        notices(world).attempt(NAME)
        said.append(len(world.github.notices))

    assert said == [0, 1, 1]


def test_an_unknown_notice_that_is_due_is_no_failure() -> None:
    world = World()
    notices(world).attempt("Title/unknown")
    assert world.github.notices == [] and world.journal.events == []


def test_whoever_is_cut_off_before_he_says_it_has_it_said_by_the_next_sweep_after_a_minute() -> None:
    world = World()
    world.calls.lose("tables.write")
    with pytest.raises(Unanswered):
        notices(world).post(JOB, "Title", "waits.")
    said = []
    for after_s in (NOTICE_S - 1.0, 1.0):
        world.clock.at += after_s
        world.replica().on_sweep()
        said.append(list(world.github.notices))

    assert said == [[], ["`build` waits."]]


@pytest.mark.parametrize(("head_sha", "hint"), [("", "named no commit"), ("c0ffee", "no permission to write checks")])
def test_what_can_be_said_on_no_commit_is_said_in_the_log_with_why_and_is_done(head_sha: str, hint: str) -> None:
    world = World()
    world.github.may_post_notices = False

    notices(world).post(a_job(head_sha=head_sha), "Title", "waits.")

    (told,) = world.journal.of("notice.not_permitted")
    assert told["text"] == "`build` waits." and hint in str(told["hint"])
    assert world.calls.made.count("github.post_notice") == bool(head_sha) and written(world).state is NoticeState.DONE


@pytest.mark.parametrize(
    ("job", "session", "posted"),
    [
        ({}, {}, True),
        ({"conclusion": "success"}, {}, False),
        ({}, {"cause": ""}, False),
        ({}, {"bound_job": "2"}, False),
    ],
)
def test_a_job_is_told_of_its_machines_size_only_if_it_failed_there(
    job: dict[str, str], session: dict[str, str], posted: bool
) -> None:
    world = World()
    told = a_job(head_sha="c0ffee", state=JobState.COMPLETED, **{"conclusion": "failure", **job})

    notices(world).post_cause(told, a_session(**{"bound_job": "1", "cause": "the disk was full", **session}))
    notices(world).post_cause(None, a_session(bound_job="1", cause="the disk was full"))

    assert world.github.notices == (["`build` failed, and the disk was full."] if posted else [])
