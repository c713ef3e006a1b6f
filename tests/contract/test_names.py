"""Names that both sides derive from the same few facts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.names import (
    RUNNER_NAME_LIMIT,
    diagnostics_key,
    log_stream_name,
    parameter_name,
    release_asset,
    release_key,
    runner_name,
)
from agent.contract.secret import Secret

INSTANCE = "i-0123456789abcdef0"


def test_the_parameter_lies_where_the_seed_puts_it() -> None:
    assert parameter_name(INSTANCE) == "/runs-fleet/runners/i-0123456789abcdef0/config"


def test_rq6_the_log_stream_is_the_seed_s() -> None:
    assert log_stream_name(INSTANCE, "67890") == "i-0123456789abcdef0/67890"


def test_a_life_without_a_job_has_a_log_stream_too() -> None:
    assert log_stream_name(INSTANCE, "") == "i-0123456789abcdef0/unknown-job"


@given(st.text(), st.text())
def test_a_log_stream_s_name_never_holds_what_the_service_forbids(instance_id: str, job_id: str) -> None:
    assert not set(":*") & set(log_stream_name(instance_id, job_id))


def test_rq4_the_copy_lies_where_the_seed_puts_it() -> None:
    assert release_key("2.336.0", "arm64") == "runners/2.336.0/arm64/actions-runner-2.336.0.tar.gz"


@pytest.mark.parametrize("word", ["x64", "arm64"])
def test_a1_the_asset_is_called_as_its_publisher_calls_it(word: str) -> None:
    assert release_asset("2.336.0", word) == f"actions-runner-linux-{word}-2.336.0.tar.gz"


def test_a_diagnostic_log_is_found_by_run_job_instance_and_file() -> None:
    assert diagnostics_key("", "1", "2", INSTANCE, "Worker_1.log") == f"runner-logs/1/2/{INSTANCE}/Worker_1.log.gz"
    assert diagnostics_key("/mine/", "", "", INSTANCE, "a.log") == f"mine/unknown-run/unknown-job/{INSTANCE}/a.log.gz"


@pytest.mark.parametrize("length", [43, 44, 45, 100])
def test_a13_and_r4_a_long_prefix_is_shortened_and_the_instance_id_never(length: int) -> None:
    name = runner_name("p" * length, INSTANCE)

    assert len(name) == min(length + 1 + len(INSTANCE), RUNNER_NAME_LIMIT)
    assert name.endswith("p-" + INSTANCE)


@given(st.text(max_size=100), st.from_regex(r"\Ai-([0-9a-f]{8}|[0-9a-f]{17})\Z"))
def test_a13_a_name_never_exceeds_what_github_takes_and_always_ends_with_the_instance(prefix: str, instance_id: str) -> None:
    name = runner_name(prefix, instance_id)

    assert len(name) <= RUNNER_NAME_LIMIT and name.endswith(instance_id)


def test_a13_an_absurd_instance_id_is_cut_rather_than_refused_by_github() -> None:
    assert len(runner_name("runs-fleet", "i-" + "0" * 100)) == RUNNER_NAME_LIMIT


def test_r3_two_instances_never_share_a_name() -> None:
    assert runner_name("p" * 100, "i-0123456789abcdef0") != runner_name("p" * 100, "i-0123456789abcdef1")


@given(st.text(min_size=1))
def test_a_secret_shows_itself_only_when_asked(value: str) -> None:
    secret = Secret(value)

    assert (repr(secret), str(secret), f"{secret}", f"{[secret]}") == ("***", "***", "***", "[***]")
    assert secret.reveal() == value and secret == Secret(value) and bool(secret)


def test_an_empty_secret_is_none_at_all() -> None:
    assert not Secret("")


def test_a_prefix_that_is_too_long_keeps_its_beginning() -> None:
    name = runner_name("runs-fleet-production-" + "x" * 100, INSTANCE)

    assert name.startswith("runs-fleet-production-x") and len(name) == RUNNER_NAME_LIMIT
