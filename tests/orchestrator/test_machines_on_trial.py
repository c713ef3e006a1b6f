"""After machines that got no job, or where GitHub did not let us in, one machine shows whether it works again."""

from __future__ import annotations

from collections import Counter

from orchestrator.fleet.work import RegistrationQuota
from orchestrator.retry_policy import FIRST_BACKOFF_S
from orchestrator.store.kinds import is_over
from simulation.examples import SET, an_event, some_settings
from simulation.world import World


def test_after_machines_that_got_no_job_one_is_on_trial_until_a_job_takes_it() -> None:
    world = World(settings=some_settings(max_sessions=100))
    for number in range(20):
        world.turns.on_job_event(an_event(job_id=str(number)))
    world.reconcile()
    while idle := [one for one in world.sessions if not is_over(one)]:
        world.compute.instances[idle[0].instance_id] = "terminated"
        world.hear_the_end("interrupted", session=idle[0], reason="unclaimed")
    label_set = world.records.label_set(SET)
    assert label_set is not None and label_set.backoff_until > world.clock.at and label_set.idle_exits
    first = world.compute.launched
    world.ticks(FIRST_BACKOFF_S + 40.0)
    on_trial = world.compute.launched - first

    trial = world.sessions[-1]
    world.hear("started", session=trial)
    world.told(an_event("in_progress", job_id="3", runner_name=trial.registration_name))

    label_set = world.records.label_set(SET)
    assert label_set is not None and (label_set.idle_exits, label_set.backoff_of) == ({}, "")
    assert (on_trial, world.compute.launched - first) == (1, 20)


def test_where_github_did_not_let_us_in_one_machine_of_a_repository_is_on_trial_however_busy_the_stack_is() -> None:
    world = World(settings=some_settings(max_sessions=100))
    shut = RegistrationQuota(1, "let in", on_trial=True)
    world.github.quotas = lambda scope: shut if scope.repo == "shut" else RegistrationQuota()
    for number in range(20):
        world.turns.on_job_event(an_event(job_id=str(number), labels=(f"runs-fleet={number}",)))
        world.turns.on_job_event(an_event(job_id=f"9{number}", labels=(f"runs-fleet=9{number}",), repo="shut"))
    world.reconcile()
    world.ticks(60.0)

    assert Counter(session.scope.repo for session in world.sessions) == {"widgets": 20, "shut": 1}
