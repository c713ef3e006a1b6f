"""Who may ask for what, and how a refusal is said; and what GitHub told that we never heard."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from orchestrator.errors import ServiceFailed, SettingsInvalid, Unanswered
from orchestrator.labels import Ask
from orchestrator.policy import Policy, Rule, read_policy, refusal
from orchestrator.recovery import REPOSITORIES
from orchestrator.services import Scope
from orchestrator.settings import read_settings
from orchestrator.states import JobState
from orchestrator.webhook import JobEvent
from tests.orchestrator.memory import MORNING, World, an_event, some_settings
from tests.orchestrator.test_settings import REQUIRED

LARGE = Ask(cpu_min=64, cpu_max=128, ram_min_gib=512.0, disk_gib=2000, families=("p5",), spot=False)


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
    assert refusal(Rule(families=("m",)), Ask(), public=False, fork=False) == ""


@pytest.mark.parametrize(("public", "fork"), [(True, False), (False, True), (True, True)])
def test_strangers_code_is_refused_unless_it_is_allowed(public: bool, fork: bool) -> None:
    assert "policy would have to allow it" in refusal(Rule(), Ask(), public=public, fork=fork)
    assert refusal(Rule(public=True, forks=True), Ask(), public=public, fork=fork) == ""


def test_the_first_rule_that_fits_decides_and_case_does_not() -> None:
    policy = Policy(rules=(Rule(repositories="Octo/big-*", max_cpus=96), Rule(repositories="octo/*")))

    found = [policy.rule_of("octo", "BIG-one"), policy.rule_of("octo", "small"), policy.rule_of("other", "one")]

    assert [rule and rule.max_cpus for rule in found] == [96, 32, None]


def test_an_operators_policy_is_read_and_a_wrong_one_is_refused_at_the_start() -> None:
    text = json.dumps({"rules": [{"repositories": "octo/*", "max_cpus": 8, "forks": True}]})

    assert read_policy(text).rules == (Rule(repositories="octo/*", max_cpus=8, forks=True),) and read_policy("") == Policy()
    for wrong in ("[]", "{", '{"rules": [{"max_cpu": 8}]}', '{"rules": [{"max_cpus": "many"}]}'):
        with pytest.raises(SettingsInvalid, match="RUNS_FLEET_POLICY: expected JSON"):
            read_settings({**REQUIRED, "RUNS_FLEET_POLICY": wrong})


def refused(world: World, job_id: str = "1") -> str:
    job = world.records.job(job_id)
    assert job is not None
    return job.refused


@pytest.mark.parametrize("label", ["runs-fleet/cpu=many", "runs-fleet/cpu=1000", "runs-fleet/cpu=64"])
def test_a_label_that_is_ours_and_cannot_be_served_is_answered_where_its_author_looks(label: str) -> None:
    world = World()

    world.told(an_event(labels=(label,), head_sha="0f"))

    assert world.compute.launched == 0 and world.github.notes == [
        f"`build` (runs-on: {label}) gets no machine: {refused(world)}."
    ]
    assert "job.refused" in world.journal.names


def test_an_app_that_may_not_write_notes_says_so_in_the_log() -> None:
    world = World()
    world.github.may_note = False

    world.told(an_event(labels=("runs-fleet/cpu=many",), head_sha="0f"))

    assert "job.noted_silently" in world.journal.names


def test_a_note_that_fails_does_not_bring_the_delivery_back() -> None:
    world = World()

    def broken(*_: object) -> bool:
        raise Unanswered("github:create check run")

    world.github.note = broken  # type: ignore[method-assign,assignment]
    world.told(an_event(labels=("runs-fleet/cpu=many",), head_sha="0f"))

    assert refused(world) and "job.note_failed" in world.journal.names


def test_a_refused_job_is_said_once_however_often_it_is_delivered() -> None:
    world = World()

    for _ in range(3):
        world.told(an_event(labels=("runs-fleet/cpu=many",), head_sha="0f"))

    assert len(world.github.notes) == 1


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


def test_a_job_that_no_delivery_told_of_is_found_and_gets_its_machine() -> None:
    world = World()
    world.launched()
    world.github.jobs = {"9": an_event(job_id="9"), "8": an_event(job_id="8", labels=("windows",)), "1": an_event()}

    recovered = world.turns.on_recovery()
    world.settle()

    job = world.records.job("9")
    assert (recovered, world.compute.launched) == (1, 2) and job is not None and job.state is JobState.QUEUED
    assert world.records.job("8") is None


def test_what_fails_however_often_it_is_told_is_told_three_times_and_no_more() -> None:
    """Each try is another delivery, and fails anew: a body that we refuse, or a firewall that does."""
    world = World()
    world.github.lost = ["guid~1", "other"]

    for number in range(2, 9):
        world.turns.on_recovery()
        world.clock.at += world.settings.recovery_s
        world.github.lost = [f"guid~{number}", "other"]
    world.turns.on_recovery()

    assert sorted(world.github.redelivered) == ["guid~1", "guid~2", "guid~3", "other"]
    assert world.journal.names.count("delivery.given_up") == 5, "each of those that came after"


def test_failed_deliveries_are_asked_for_again_a_few_at_a_time() -> None:
    world = World()
    world.github.lost = [str(number) for number in reversed(range(230))]

    for rounds in range(1, 6):
        world.turns.on_recovery()
        world.clock.at += world.settings.recovery_s
        assert len(world.github.redelivered) <= 50 * rounds, "each costs what a registration costs"

    assert world.github.redelivered == [str(number) for number in range(230)], "oldest first, each once"


def test_deliveries_that_github_refuses_now_are_asked_for_again_after_all_others() -> None:
    world = World()
    world.github.lost = [str(number) for number in reversed(range(60))]
    world.github.refused = {str(number) for number in range(55)}

    world.turns.on_recovery()
    world.clock.at += world.settings.recovery_s
    world.turns.on_recovery()
    assert world.github.redelivered == [str(number) for number in range(55, 60)], "fifty that fail stand in nobody's way"

    world.github.refused = set()
    for _ in range(2):
        world.clock.at += world.settings.recovery_s
        world.turns.on_recovery()
    assert sorted(map(int, world.github.redelivered)) == list(range(60))


def test_deliveries_that_github_does_not_keep_any_more_are_asked_for_once_and_keep_no_other_from_its_turn() -> None:
    world = World()
    world.github.lost = [str(number) for number in reversed(range(60))]
    world.github.kept_no_more = {str(number) for number in range(55)}

    for _ in range(2):
        world.turns.on_recovery()
        world.clock.at += world.settings.recovery_s
    tried = world.calls.made.count("github.redeliver")
    world.turns.on_recovery()

    assert world.github.redelivered == [str(number) for number in range(55, 60)]
    assert world.journal.names.count("delivery.gone") == 55
    assert world.calls.made.count("github.redeliver") == tried


def test_deliveries_that_failed_within_three_days_are_asked_for_again_and_older_ones_are_not() -> None:
    world, day = World(), 86_400.0
    world.github.lost = ["3", "2", "1"]
    world.github.lost_at = {"3": MORNING - 120.0, "2": MORNING - 2.9 * day, "1": MORNING - 3.1 * day}

    world.turns.on_recovery()

    assert world.github.redelivered == ["2", "3"]


def test_one_part_of_a_round_that_fails_keeps_the_other_from_nothing() -> None:
    world = World()
    world.launched()
    world.github.jobs = {"9": an_event(job_id="9")}

    def broken(since: float) -> list[str]:
        raise Unanswered("github:list deliveries")

    world.github.failed_deliveries = broken  # type: ignore[method-assign]

    assert world.turns.on_recovery() == 1 and "recovery.failed" in world.journal.names


def test_a_repository_that_fails_keeps_no_other_from_its_turn() -> None:
    world = World()
    for repo in ("aaa", "widgets"):
        world.records.seen(Scope("3", "octo", repo), MORNING)
    world.github.jobs = {"9": an_event(job_id="9")}
    listed = world.github.waiting_jobs

    def broken(scope: Scope) -> Iterator[JobEvent]:
        if scope.repo == "aaa":
            raise ServiceFailed("github:list workflow_runs", "404")
        return listed(scope)

    world.github.waiting_jobs = broken  # type: ignore[method-assign]

    assert world.turns.on_recovery() == 1 and "recovery.failed" in world.journal.names


def test_a_run_that_github_does_not_know_is_trusted_with_nothing() -> None:
    world = World()
    world.github.gone = {"7"}

    world.told(an_event())

    assert "public repositories" in refused(world) and world.compute.launched == 0


def test_what_a_label_leaves_open_is_held_to_the_rule() -> None:
    settings = some_settings(policy=Policy(rules=(Rule(max_cpus=4, max_ram_gib=16),)))

    ask = settings.ask_of("octo", "widgets", ("runs-fleet/cpu=4+192/family=m7i",))

    assert (ask.cpu_min, ask.cpu_max, ask.ram_max_gib) == (4, 4, 16)


def test_two_replicas_make_one_round() -> None:
    world, rounds = World(), []

    for replica, after_s in ((world.turns, 0.0), (world.replica(), 0.5), (world.turns, 0.3), (world.replica(), 0.2)):
        world.clock.at += after_s * world.settings.recovery_s
        replica.on_recovery()
        rounds.append(world.calls.made.count("github.failed_deliveries"))

    assert rounds == [1, 1, 1, 2], "none within a period, whoever asks; then the next one"


def test_every_repository_has_its_turn_however_many_there_are() -> None:
    world = World()
    for number in range(3 * REPOSITORIES):
        world.records.seen(Scope("3", "octo", f"r{number}"), MORNING)
    seen: set[str] = set()
    listed = world.github.waiting_jobs

    def noted(scope: object) -> object:
        seen.add(scope.repo)  # type: ignore[attr-defined]
        return listed(scope)  # type: ignore[arg-type]

    world.github.waiting_jobs = noted  # type: ignore[method-assign,assignment]
    for _ in range(3):
        world.turns.on_recovery()
        world.clock.at += world.settings.recovery_s

    assert len(seen) == 3 * REPOSITORIES


def test_families_of_a_rule_bound_a_label_that_names_none() -> None:
    world = World(settings=some_settings(policy=Policy((Rule(families=("m7i",)),))))

    world.told(an_event())

    assert set(world.compute.kinds.values()) <= {"m7i.large", "m7i-flex.large", "m7i.xlarge", "m7i-flex.xlarge"}


def test_a_job_that_was_refused_is_run_once_the_policy_is_wider() -> None:
    world = World(settings=some_settings(policy=Policy((Rule(max_cpus=2),))))
    told = an_event(labels=("runs-fleet/cpu=4",))
    world.told(told)
    refused, world.settings = world.compute.launched, some_settings()
    world.turns, world.github.jobs["1"] = world.replica(), told

    world.turns.on_recovery()
    world.settle()

    assert (refused, world.compute.launched) == (0, 1)


def test_jobs_of_one_run_ask_github_once_where_it_comes_from_whichever_process_they_come_to() -> None:
    world = World()
    for number in range(5):
        world.turns.on_job_event(an_event(job_id=str(number)))
    other = world.replica()

    other.on_job_event(an_event(job_id="9"))

    assert world.calls.made.count("github.run") == 1
