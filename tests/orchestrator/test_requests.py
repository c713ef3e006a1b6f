"""What jobs ask of machines, by their labels, the operator's aliases and policy, and why some get none."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.adapters.processes import LocalProcesses
from orchestrator.compute.dispatch import Strategies
from orchestrator.compute.local import LocalStrategy
from orchestrator.jobs.requests import JobRequests, LabelAliases
from orchestrator.setting_values import Alias, Policy, Rule
from orchestrator.store.request import MachineRequest
from simulation.examples import an_event, some_settings
from simulation.world import World

ALIASES = LabelAliases((Alias("ubuntu-latest", spec="cpu=4"), Alias(r"ubuntu-.*", regex=True, spec="cpu=8")))


def requests_of(*rules: Rule) -> JobRequests:
    """By these rules, on a stack whose one strategy is `ec2`; None given: everything moderate is allowed."""
    return JobRequests(ALIASES, Policy(rules or (Rule(),)), World().turns.strategies)


def why(requests: JobRequests, *labels: str, repository: str = "octo/widgets") -> str:
    """Why these labels get no machine."""
    return requests.refusal(repository, labels, public=False, fork=False)


def test_what_a_label_leaves_open_is_held_to_the_rule() -> None:
    world = World(settings=some_settings(policy=Policy(rules=(Rule(max_cpus=4, max_ram_gib=16),))))

    ask = world.turns.requests.request_of("octo/widgets", ("runs-fleet/cpu=4+192/family=m7i",))

    assert (ask.cpu_min, ask.cpu_max, ask.ram_max_gib) == (4, 4, 16)


def test_families_of_a_rule_bound_a_label_that_names_none() -> None:
    world = World(settings=some_settings(policy=Policy((Rule(families=("m7i",)),))))

    world.told(an_event())

    assert set(world.compute.kinds.values()) <= {"m7i.large", "m7i-flex.large", "m7i.xlarge", "m7i-flex.xlarge"}


@pytest.mark.parametrize(
    ("label", "ours"),
    [
        ("runs-fleet", True),
        ("Runs-Fleet=7/cpu=4", True),
        ("UBUNTU-latest", True),
        ("ubuntu-24.04", True),
        ("ubuntu", False),
        ("", False),
    ],
)
def test_ours_is_what_carries_the_marker_or_an_alias_of_it(label: str, ours: bool) -> None:
    assert ALIASES.are_ours(("self-hosted", label)) is ours
    assert LabelAliases(()).are_ours((label,)) is label.lower().startswith("runs-fleet")


def test_the_first_alias_that_fits_says_what_a_label_asks_for() -> None:
    specs = [ALIASES.spec_of(label) for label in ("ubuntu-latest", "ubuntu-22.04", "windows-latest")]

    assert specs == ["cpu=4", "cpu=8", None]
    assert requests_of().parsed(("ubuntu-22.04",)).request == MachineRequest(cpu_min=8, cpu_max=16)


def test_an_alias_with_an_empty_spec_is_an_alias_all_the_same() -> None:
    plain = LabelAliases((Alias("big"), Alias("big", spec="cpu=32")))

    assert (plain.spec_of("big"), plain.are_ours(("big",))) == ("", True)


def test_labels_as_they_are_written_know_no_policy() -> None:
    asked = requests_of(Rule(max_cpus=2, families=("m7i",))).parsed(("runs-fleet/cpu=4",))

    assert asked.request == MachineRequest(cpu_min=4, cpu_max=8)


def test_each_repository_is_held_to_its_own_rule_whatever_the_case_of_its_name() -> None:
    requests = requests_of(Rule(repositories="octo/small", max_cpus=2), Rule(repositories="octo/*", max_cpus=3))

    most = [requests.request_of(name, ("runs-fleet",)).cpu_max for name in ("Octo/SMALL", "octo/widgets", "other/small")]

    assert most == [2, 3, 4]


def test_labels_that_are_not_understood_are_complained_about_before_the_policy_is_asked() -> None:
    told = why(requests_of(Rule(max_cpus=1)), "runs-fleet/cpu=many/gen=x")

    assert "cpu=many" in told and "; gen=x" in told and "are allowed" not in told


def test_what_the_policy_forbids_is_told_before_what_no_strategy_has() -> None:
    requests, label = requests_of(Rule(repositories="octo/widgets", max_cpus=2), Rule()), "runs-fleet/cpu=3/compute=moon"

    assert why(requests, label) == "cpu=3: at most 2 are allowed"
    assert why(requests, label, repository="octo/gadgets") == "compute=moon is not offered here: expected one of ec2"


def test_a_repository_without_a_rule_is_refused_and_one_with_a_rule_is_not() -> None:
    requests = requests_of(Rule(repositories="octo/*"))

    assert why(requests, "runs-fleet") == ""
    assert why(requests, "runs-fleet", repository="other/widgets") == "no rule of the policy allows this repository"


def test_strategies_are_asked_about_what_the_rule_leaves_of_a_request() -> None:
    requests = requests_of(Rule(repositories="octo/widgets", families=("m7i",)), Rule())

    assert why(requests, "runs-fleet/arch=arm64").startswith("no instance type of arm64"), "none of that family has one"
    assert why(requests, "runs-fleet/arch=arm64", repository="octo/gadgets") == ""


@pytest.mark.parametrize(("public", "fork", "word"), [(True, False, "(`public`)"), (False, True, "(`forks`)")])
def test_strangers_code_is_refused_as_the_policy_says(public: bool, fork: bool, word: str) -> None:
    told = requests_of().refusal("octo/widgets", ("runs-fleet",), public=public, fork=fork)

    assert (
        word in told
        and requests_of(Rule(public=True, forks=True)).refusal("o/w", ("runs-fleet",), public=public, fork=fork) == ""
    )


def test_an_objection_is_to_labels_that_are_not_ours_or_are_refused_whatever_their_code() -> None:
    requests = requests_of()

    assert requests.objection("octo/widgets", ("windows-latest",)).startswith("no label is ours")
    assert "at most 32" in requests.objection("octo/widgets", ("runs-fleet/cpu=64",))
    assert [requests.objection("octo/widgets", (label,)) for label in ("runs-fleet", "ubuntu-latest")] == ["", ""]


def two_strategies(*rules: Rule) -> JobRequests:
    """By these rules, on a stack that offers `ec2` and `local`, in this order."""
    local = LocalStrategy(LocalProcesses(Path("/nonexistent"), (), {}), architecture="amd64", stack_id="tests", slots=1)
    return JobRequests(ALIASES, Policy(rules or (Rule(),)), Strategies([*World().turns.strategies, local]))


def test_a_rule_says_which_strategies_its_labels_may_name_and_its_first_serves_those_that_name_none() -> None:
    requests = two_strategies(Rule(repositories="octo/trusted", strategies=("local", "ec2")), Rule(strategies=("ec2",)))
    name_local, name_none = ("runs-fleet/compute=local",), ("runs-fleet",)

    assert why(requests, *name_local) == "compute=local: only ec2 are allowed"
    assert why(requests, *name_local, repository="octo/trusted") == why(requests, *name_none) == ""
    assert requests.request_of("octo/trusted", name_none).compute == "local"
    assert requests.request_of("octo/widgets", name_none).compute == ""


def test_without_such_a_rule_a_label_may_name_whatever_the_stack_offers() -> None:
    requests = two_strategies()

    assert why(requests, "runs-fleet/compute=local") == ""
    assert requests.request_of("octo/widgets", ("runs-fleet/compute=local",)).compute == "local"


def test_who_names_the_first_strategy_shares_launches_with_who_names_none() -> None:
    requests = two_strategies()
    named, unnamed = (requests.request_of("octo/widgets", (label,)) for label in ("runs-fleet/compute=ec2", "runs-fleet"))

    assert named == unnamed and named.spec() == unnamed.spec()
