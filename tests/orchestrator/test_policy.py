"""Who may ask for what; and what GitHub told that we never heard."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.errors import ServiceFailed, SettingsInvalid, Unanswered
from orchestrator.jobs.backfill import REPOSITORIES
from orchestrator.jobs.model import JobState
from orchestrator.jobs.policy import bounded, refusal
from orchestrator.setting_values import Policy, Rule, read_policy
from orchestrator.settings import read_settings
from orchestrator.store.naming import Scope
from orchestrator.store.request import MachineRequest
from simulation.clock import MORNING
from simulation.examples import an_event
from simulation.world import World

LARGE = MachineRequest(cpu_min=64, cpu_max=128, ram_min_gib=512.0, disk_gib=2000, families=("p5",), interruptible=False)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rule(), ("cpu=64: at most 32", "ram=512: at most 256 GiB", "disk=2000: at most 500 GiB")),
        (Rule(max_cpus=64, max_ram_gib=512, max_disk_gib=2000), ()),
        (Rule(max_cpus=64, max_ram_gib=512, max_disk_gib=2000, on_demand=False), ("spot=false: only spot",)),
        (Rule(max_cpus=64, max_ram_gib=512, max_disk_gib=2000, families=("m", "c7")), ("family=p5: only m+c7",)),
        (None, ("no rule of the policy allows this repository",)),
    ],
)
def test_what_is_too_much_is_refused_with_what_is_allowed(rule: Rule | None, words: tuple[str, ...]) -> None:
    told = refusal(rule, LARGE, public=False, fork=False)

    assert all(word in told for word in words) and bool(told) is bool(words)


def test_what_a_label_does_not_name_is_never_refused() -> None:
    assert refusal(Rule(families=("m",)), MachineRequest(), public=False, fork=False) == ""


@pytest.mark.parametrize(("public", "fork"), [(True, False), (False, True), (True, True)])
def test_strangers_code_is_refused_unless_it_is_allowed(public: bool, fork: bool) -> None:
    assert "policy would have to allow it" in refusal(Rule(), MachineRequest(), public=public, fork=fork)
    assert refusal(Rule(public=True, forks=True), MachineRequest(), public=public, fork=fork) == ""


def test_what_is_asked_for_exactly_as_much_as_is_allowed_is_not_refused() -> None:
    most, more = MachineRequest(cpu_min=32, ram_min_gib=256.0, disk_gib=500), MachineRequest(cpu_min=33)

    assert [bool(refusal(Rule(), one, public=False, fork=False)) for one in (most, more)] == [False, True]


@pytest.mark.parametrize(
    ("rule", "asked", "held"),
    [
        (None, {"cpu_max": 192}, {"cpu_max": 192}),
        (Rule(max_cpus=8), {"cpu_max": 192}, {"cpu_max": 8, "ram_max_gib": 256.0}),
        (Rule(max_cpus=1), {"cpu_min": 4, "cpu_max": 8}, {"cpu_min": 4, "cpu_max": 4, "ram_max_gib": 256.0}),
        (Rule(max_ram_gib=64), {"ram_max_gib": 16.0}, {"ram_max_gib": 16.0}),
        (Rule(max_ram_gib=64), {"ram_max_gib": 128.0}, {"ram_max_gib": 64.0}),
        (Rule(families=("m7",)), {}, {"ram_max_gib": 256.0, "families": ("m7",)}),
        (Rule(families=("m7",)), {"families": ("m7i",)}, {"ram_max_gib": 256.0, "families": ("m7i",)}),
    ],
)
def test_what_a_request_leaves_open_is_held_to_the_rule_and_what_it_names_is_kept(
    rule: Rule | None, asked: dict[str, Any], held: dict[str, Any]
) -> None:
    assert bounded(rule, MachineRequest(**asked)) == MachineRequest(**held)


def test_the_first_rule_that_fits_decides_and_case_does_not() -> None:
    policy = Policy(rules=(Rule(repositories="Octo/big-*", max_cpus=96), Rule(repositories="octo/*")))

    found = [policy.rule_of(name) for name in ("octo/BIG-one", "octo/small", "other/one")]

    assert [rule and rule.max_cpus for rule in found] == [96, 32, None]


def test_an_operators_policy_is_read_and_a_wrong_one_is_refused_at_the_start() -> None:
    text = json.dumps({"rules": [{"repositories": "octo/*", "max_cpus": 8, "forks": True}]})

    assert read_policy(text).rules == (Rule(repositories="octo/*", max_cpus=8, forks=True),) and read_policy("") == Policy()
    for wrong in ("[]", "{", '{"rules": [{"max_cpu": 8}]}', '{"rules": [{"max_cpus": "many"}]}'):
        with pytest.raises(SettingsInvalid, match="RUNS_FLEET_POLICY: expected JSON"):
            read_settings({"RUNS_FLEET_POLICY": wrong})


def test_a_job_that_no_delivery_told_of_is_found_and_gets_its_machine() -> None:
    world = World()
    world.launched()
    world.github.jobs = {"9": an_event(job_id="9"), "8": an_event(job_id="8", labels=("windows",)), "1": an_event()}

    recovered = world.turns.on_backfill()
    world.reconcile()

    job = world.records.job("9")
    assert (recovered, world.compute.launched) == (1, 2) and job is not None and job.state is JobState.QUEUED
    assert world.records.job("8") is None


def test_what_fails_however_often_it_is_told_is_told_three_times_and_no_more() -> None:
    """Each try is another delivery, and fails anew: a body that we refuse, or a firewall that does."""
    world = World()
    world.github.lost = ["guid~1", "other"]

    for number in range(2, 9):
        world.turns.on_backfill()
        world.clock.at += world.settings.backfill_s
        world.github.lost = [f"guid~{number}", "other"]
    world.turns.on_backfill()

    assert sorted(world.github.redelivered) == ["guid~1", "guid~2", "guid~3", "other"]
    assert world.journal.names.count("delivery.given_up") == 5, "each of those that came after"


def test_failed_deliveries_are_asked_for_again_a_few_at_a_time() -> None:
    world = World()
    world.github.lost = [str(number) for number in reversed(range(230))]

    for rounds in range(1, 6):
        world.turns.on_backfill()
        world.clock.at += world.settings.backfill_s
        assert len(world.github.redelivered) <= 50 * rounds, "each costs what a registration costs"

    assert world.github.redelivered == [str(number) for number in range(230)], "oldest first, each once"


def test_deliveries_that_github_refuses_now_are_asked_for_again_after_all_others() -> None:
    world = World()
    world.github.lost = [str(number) for number in reversed(range(60))]
    world.github.refused = {str(number) for number in range(55)}

    world.turns.on_backfill()
    world.clock.at += world.settings.backfill_s
    world.turns.on_backfill()
    assert world.github.redelivered == [str(number) for number in range(55, 60)], "fifty that fail stand in nobody's way"

    world.github.refused = set()
    for _ in range(2):
        world.clock.at += world.settings.backfill_s
        world.turns.on_backfill()
    assert sorted(map(int, world.github.redelivered)) == list(range(60))


def test_deliveries_that_github_does_not_keep_any_more_are_asked_for_once_and_keep_no_other_from_its_turn() -> None:
    world = World()
    world.github.lost = [str(number) for number in reversed(range(60))]
    world.github.kept_no_more = {str(number) for number in range(55)}

    for _ in range(2):
        world.turns.on_backfill()
        world.clock.at += world.settings.backfill_s
    tried = world.calls.made.count("github.redeliver")
    world.turns.on_backfill()

    assert world.github.redelivered == [str(number) for number in range(55, 60)]
    assert world.journal.names.count("delivery.gone") == 55
    assert world.calls.made.count("github.redeliver") == tried


def test_deliveries_that_failed_within_three_days_are_asked_for_again_and_older_ones_are_not() -> None:
    world, day = World(), 86_400.0
    world.github.lost = ["3", "2", "1"]
    world.github.lost_at = {"3": MORNING - 120.0, "2": MORNING - 2.9 * day, "1": MORNING - 3.1 * day}

    world.turns.on_backfill()

    assert world.github.redelivered == ["2", "3"]


def test_one_part_of_a_round_that_fails_keeps_the_other_from_nothing() -> None:
    world = World()
    world.launched()
    world.github.jobs = {"9": an_event(job_id="9")}

    world.calls.fail("github.failed_deliveries", Unanswered("github:list deliveries"))

    assert world.turns.on_backfill() == 1 and "backfill.failed" in world.journal.names


def test_a_repository_that_fails_keeps_no_other_from_its_turn() -> None:
    world = World()
    for repo in ("aaa", "widgets"):
        world.records.repositories.heard_of(Scope("3", "octo", repo), MORNING)
    world.github.jobs = {"9": an_event(job_id="9")}

    def refuse(scope: Scope) -> None:
        if scope.repo == "aaa":
            raise ServiceFailed("github:list workflow_runs", "404")

    world.calls.script("github.waiting_jobs", times=None, before=refuse)

    assert world.turns.on_backfill() == 1 and "backfill.failed" in world.journal.names


def test_two_replicas_make_one_round() -> None:
    world, rounds = World(), []

    for replica, after_s in ((world.turns, 0.0), (world.replica(), 0.5), (world.turns, 0.3), (world.replica(), 0.2)):
        world.clock.at += after_s * world.settings.backfill_s
        replica.on_backfill()
        rounds.append(world.calls.made.count("github.failed_deliveries"))

    assert rounds == [1, 1, 1, 2], "none within a period, whoever asks; then the next one"


def test_every_repository_has_its_turn_however_many_there_are() -> None:
    world = World()
    for number in range(3 * REPOSITORIES):
        world.records.repositories.heard_of(Scope("3", "octo", f"r{number}"), MORNING)
    seen: set[str] = set()
    world.calls.script("github.waiting_jobs", times=None, before=lambda scope: seen.add(scope.repo))

    for _ in range(3):
        world.turns.on_backfill()
        world.clock.at += world.settings.backfill_s

    assert len(seen) == 3 * REPOSITORIES
