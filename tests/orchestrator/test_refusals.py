"""Which jobs are not run here, what GitHub is asked for that, and how a refusal is said."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.adapters.threads import ThreadWorkerPool
from orchestrator.errors import Unanswered
from orchestrator.jobs.github import Run
from orchestrator.setting_values import Policy, Rule
from simulation.examples import a_job, an_event, some_settings
from simulation.world import World

WAIT_S = 600.0
"""For the other threads, at most."""


def refused(world: World, job_id: str = "1") -> str:
    job = world.records.job(job_id)
    assert job is not None
    return job.refused


@pytest.mark.parametrize("label", ["runs-fleet/cpu=many", "runs-fleet/cpu=1000", "runs-fleet/cpu=64"])
def test_a_label_that_is_ours_and_cannot_be_served_is_answered_where_its_author_looks(label: str) -> None:
    world = World()

    world.told(an_event(labels=(label,), head_sha="0f"))

    assert world.compute.launched == 0 and world.github.notices == [
        f"`build` (runs-on: {label}) gets no machine: {refused(world)}."
    ]
    assert "job.refused" in world.journal.names


def test_an_app_that_may_not_write_notes_says_so_in_the_log() -> None:
    world = World()
    world.github.may_post_notices = False

    world.told(an_event(labels=("runs-fleet/cpu=many",), head_sha="0f"))

    assert "notice.not_permitted" in world.journal.names


def test_a_note_that_fails_does_not_bring_the_delivery_back() -> None:
    world = World()

    world.calls.fail("github.post_notice", Unanswered("github:create check run"))

    world.told(an_event(labels=("runs-fleet/cpu=many",), head_sha="0f"))

    assert refused(world) and "notice.failed" in world.journal.names


def test_a_refused_job_is_said_once_however_often_it_is_delivered() -> None:
    world = World()

    for _ in range(3):
        world.told(an_event(labels=("runs-fleet/cpu=many",), head_sha="0f"))

    assert len(world.github.notices) == 1


def test_a_public_repository_and_a_fork_get_no_machine() -> None:
    world = World()
    world.github.attempts |= {"7": 1, "8": 1}
    world.github.forks = {"8"}

    world.told(an_event(job_id="1", public=True))
    world.told(an_event(job_id="2", run_id="8"))
    world.told(an_event(job_id="3"))

    assert "public repositories" in refused(world, "1") and "fork" in refused(world, "2") and refused(world, "3") == ""
    assert world.compute.launched == 1


def test_a_run_is_asked_for_once_whatever_it_has_of_jobs() -> None:
    world = World()
    world.github.attempts["7"] = 1

    for number in range(5):
        world.told(an_event(job_id=str(number)))

    assert world.calls.made.count("github.run") == 1


def test_where_forks_are_allowed_nobody_is_asked() -> None:
    world = World(settings=some_settings(policy=Policy(rules=(Rule(forks=True, public=True),))))

    world.told(an_event(public=True))

    assert world.compute.launched == 1 and "github.run" not in world.calls.made


def test_a_run_that_github_does_not_know_is_trusted_with_nothing() -> None:
    world = World()
    world.github.gone = {"7"}

    world.told(an_event())

    assert "does not know its run 7 (404)" in refused(world) and world.compute.launched == 0


def test_a_job_that_was_refused_is_run_once_the_policy_is_wider() -> None:
    world = World(settings=some_settings(policy=Policy((Rule(max_cpus=2),))))
    told = an_event(labels=("runs-fleet/cpu=4",))
    world.told(told)
    refused, world.settings = world.compute.launched, some_settings()
    world.turns, world.github.jobs["1"] = world.replica(), told

    world.turns.on_backfill()
    world.reconcile()

    assert (refused, world.compute.launched) == (0, 1)


def test_jobs_of_one_run_ask_github_once_where_it_comes_from_whichever_process_they_come_to() -> None:
    world = World()
    for number in range(5):
        world.turns.on_job_event(an_event(job_id=str(number)))
    other = world.replica()

    other.on_job_event(an_event(job_id="9"))

    assert world.calls.made.count("github.run") == 1


def why(world: World, *, public: bool = False, **job: object) -> str:
    """Of a job that is not remembered."""
    return world.turns.intake.refusals.why(a_job(**job), public=public)


def ruled(**rule: Any) -> World:
    """A world with one rule."""
    return World(settings=some_settings(policy=Policy((Rule(**rule),))))


@pytest.mark.parametrize(
    ("rule", "label"),
    [
        (Rule(), "runs-fleet/cpu=many"),
        (Rule(repositories="other/*"), "runs-fleet"),
        (Rule(forks=True, public=True), "runs-fleet"),
    ],
    ids=["labels that are not understood", "no rule", "strangers are welcome"],
)
def test_where_github_can_change_nothing_it_is_not_asked(rule: Rule, label: str) -> None:
    world = World(settings=some_settings(policy=Policy((rule,))))
    world.github.forks = {"7"}

    assert bool(why(world, labels=(label,))) is not rule.forks
    assert "github.run" not in world.calls.made


def test_a_repository_that_github_calls_public_is_public_whatever_the_delivery_said() -> None:
    world = World()
    world.calls.script("github.run", changes=lambda run: replace(run, public=True))

    assert "public repositories" in why(world, public=False)


def test_a_repository_that_the_delivery_called_public_is_public_whatever_github_says_of_the_run() -> None:
    assert "public repositories" in why(World(), public=True)


def test_who_allows_public_repositories_has_not_allowed_forks_nor_the_other_way_round() -> None:
    public, forks = ruled(public=True), ruled(forks=True)
    for world in (public, forks):
        world.github.forks = {"8"}
        world.calls.script("github.run", times=None, changes=lambda run: replace(run, public=True))

    assert (why(public, run_id="7"), "fork" in why(public, run_id="8")) == ("", True)
    assert "public repositories" in why(forks, run_id="8")


@pytest.mark.parametrize(("rule", "strangers"), [({"public": True}, "fork"), ({"forks": True}, "public repositories")])
def test_another_process_reads_where_a_run_comes_from_as_it_was_written(rule: dict[str, bool], strangers: str) -> None:
    world = ruled(**rule)
    for run_id, fork, public in (("7", True, False), ("8", False, True)):
        world.calls.script("github.run", answer=lambda *_, f=fork, p=public: Run(over=False, attempt=1, fork=f, public=p))
        why(world, run_id=run_id)
    world.turns = world.replica()

    assert [strangers in why(world, run_id=run_id) for run_id in ("7", "8")] == [strangers == "fork", strangers != "fork"]
    assert world.calls.made.count("github.run") == 0, "which was scripted, and is not asked by itself"


def test_what_github_does_not_answer_is_asked_again_and_no_job_is_judged_without_it() -> None:
    world = World()
    world.calls.fail("github.run", Unanswered("github:get run"))

    with pytest.raises(Unanswered):
        why(world)

    assert why(world) == "" and world.calls.made.count("github.run") == 1


def test_a_run_that_github_does_not_know_yet_is_asked_for_again() -> None:
    world = World()
    world.github.gone = {"7"}
    early = why(world)

    world.github.gone = set()

    assert early and why(world) == ""


def test_runs_of_one_number_in_two_repositories_are_two_and_in_two_spellings_one() -> None:
    world = World()
    world.github.forks = {"7"}
    refused_there = why(world)
    world.github.forks = set()

    assert "fork" in refused_there and "fork" in why(world, owner="Octo", repo="WIDGETS")
    assert why(world, repo="gadgets") == ""
    assert world.calls.made.count("github.run") == 2


def test_jobs_of_one_run_that_come_at_once_ask_github_once() -> None:
    world, threads = World(), ThreadWorkerPool(2)
    both_came, both_ask = threading.Barrier(2), threading.Barrier(2)
    refusals = replace(world.turns.intake.refusals, workers=threads)

    def wait_for_another(*_: object) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            both_ask.wait(0.2)

    def one() -> None:
        both_came.wait(WAIT_S)
        assert refusals.why(a_job(), public=False) == ""

    world.calls.script("github.run", times=None, before=wait_for_another)
    failures = threads.run_all([one] * 2)
    threads.stop()

    assert failures == [] and world.calls.made.count("github.run") == 1
