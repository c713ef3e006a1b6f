"""Values of settings: which labels an alias means and what it asks for, which rule decides, and what a policy may say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.secret import Secret
from orchestrator.setting_values import Alias, App, Limits, Local, Policy, Rule, read_policy


@pytest.mark.parametrize("label", ["big.linux", "BIG.Linux"])
def test_a_literal_alias_means_its_label_without_case_and_no_other(label: str) -> None:
    alias = Alias("Big.Linux", spec="cpu=8")

    assert alias.spec_of(label) == "cpu=8"
    assert [alias.spec_of(other) for other in ("big-linux", "big.linux-2", "my-big.linux", "")] == [None] * 4


@pytest.mark.parametrize("label", ["ubuntu-22.04", "UBUNTU-latest"])
def test_an_expression_must_fit_the_whole_label(label: str) -> None:
    alias = Alias("ubuntu-[a-z0-9.]+", regex=True, spec="cpu=4")

    assert alias.spec_of(label) == "cpu=4"
    assert [alias.spec_of(other) for other in (f"my-{label}", f"{label}-arm!", f"{label}\n")] == [None] * 3


def test_an_alias_that_asks_for_nothing_is_told_from_one_that_does_not_fit() -> None:
    for alias in (Alias("plain"), Alias("pl.*", regex=True)):
        assert alias.spec_of("plain") == "" and alias.spec_of("other") is None


def test_what_the_expression_found_is_put_into_what_is_asked_for() -> None:
    alias = Alias(r"(\w+)-(\d+)(?:-ram(\d+))?", regex=True, spec="family=${1}/cpu=${2}/ram=${3}")

    assert alias.spec_of("c7-16-ram64") == "family=c7/cpu=16/ram=64"
    assert alias.spec_of("c7-16") == "family=c7/cpu=16/ram=", "a group that took no part is empty"


@pytest.mark.parametrize("spec", [r"cpu=\1", "cpu=$1", "cpu=${x}"])
def test_nothing_but_a_numbered_group_is_replaced(spec: str) -> None:
    assert Alias(r"(\d+)", regex=True, spec=spec).spec_of("8") == spec
    assert Alias("8", spec="cpu=${1}").spec_of("8") == "cpu=${1}", "a literal alias has no groups"


def test_the_first_rule_that_fits_decides_even_if_a_later_one_fits_better() -> None:
    policy = Policy(rules=(Rule(repositories="octo/*", max_cpus=1), Rule(repositories="octo/widgets", max_cpus=2)))

    found = policy.rule_of("octo/widgets")

    assert found is not None and found.max_cpus == 1


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("*", "octo/widgets", True), ("octo/w?dgets", "octo/widgets", True), ("OCTO/*", "octo/Widgets", True),
        ("octo/wid", "octo/widgets", False), ("cto/*", "octo/widgets", False), ("octo/w?dgets", "octo/wdgets", False),
    ],
)  # fmt: skip
def test_a_pattern_fits_the_whole_name_without_case(pattern: str, name: str, fits: bool) -> None:
    assert (Policy(rules=(Rule(repositories=pattern),)).rule_of(name) is not None) is fits


def test_without_a_rule_nothing_is_allowed() -> None:
    assert Policy(rules=()).rule_of("octo/widgets") is None
    assert read_policy('{"rules": []}').rule_of("octo/widgets") is None


def test_without_a_policy_every_repository_has_the_default_rule_and_strangers_have_none() -> None:
    rule = read_policy("").rule_of("any/thing")

    assert rule == Rule() and rule is not None
    assert (rule.public, rule.forks, rule.on_demand) == (False, False, True)
    assert (rule.max_cpus, rule.max_ram_gib, rule.max_disk_gib, rule.families) == (32, 256.0, 500, ())


def test_a_policy_is_read_as_it_is_written_and_what_it_leaves_out_is_the_default() -> None:
    told = {"repositories": "octo/*", "max_cpus": 8, "families": ["c7", "m"], "forks": True}

    policy = read_policy(json.dumps({"rules": [told, {}]}))

    assert policy.rules == (Rule(repositories="octo/*", max_cpus=8, families=("c7", "m"), forks=True), Rule())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "malformed"), ("[]", "Expected `object`"), ('{"rule": []}', "unknown field `rule`"),
        ('{"rules": [{"max_cpu": 8}]}', "unknown field `max_cpu`"), ('{"rules": [{"max_cpus": "8"}]}', r"rules\[0\].max_cpus"),
        ('{"rules": [{"families": "c7"}]}', r"rules\[0\].families"), ('{"rules": [{"public": 1}]}', r"rules\[0\].public"),
    ],
)  # fmt: skip
def test_a_policy_of_another_shape_is_refused_and_the_place_is_named(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_policy(text)


@given(st.text(max_size=40))
def test_no_text_makes_anything_but_a_policy_or_a_value_error(text: str) -> None:
    try:
        assert isinstance(read_policy(text), Policy)
    except ValueError:
        pass


def test_no_value_shows_a_key_or_what_a_local_agent_gets() -> None:
    local = Local(Path("/d"), 1, ("agent",), None, {"AWS_SECRET_ACCESS_KEY": "hush"})

    assert "hush" not in f"{App('1', Secret('hush'))!r} {local!r}"


def test_limits_are_none_unless_they_are_named() -> None:
    assert Limits() == Limits(sessions=0, vcpus=0, usd_per_hour=0.0, launches_per_minute=0.0)
