"""The server's environment: every fault at once, and no secret in any of them."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import SettingsInvalid
from orchestrator.serve import bounds
from orchestrator.setting_values import Alias, Digests, Limits
from orchestrator.settings import read_settings
from orchestrator.wiring import insist_on_keys, orchestrator
from simulation.examples import PEM, REQUIRED_ENVIRONMENT
from tests.orchestrator.githubs import foreign_key

WRONG = {
    "RUNS_FLEET_GITHUB_APP_PRIVATE_KEY": "hush-hush!",
    "RUNS_FLEET_MAX_RUNTIME_MINUTES": "soon",
    "RUNS_FLEET_RUNNER_GROUP_ID": "-3",
    "RUNS_FLEET_PORT": "nan",
    "RUNS_FLEET_TICK_SECONDS": "0",
    "RUNS_FLEET_LABEL_ALIASES": '[{"match": "(", "regex": true}]',
}


def problems_of(environment: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(SettingsInvalid) as refusal:
        read_settings(environment)
    return refusal.value.problems


def test_the_required_settings_are_enough() -> None:
    settings = read_settings(REQUIRED_ENVIRONMENT)

    assert settings.app_private_key.reveal() == PEM
    assert settings.subnet_ids == ("subnet-1", "subnet-2")
    assert (settings.github_api_url, settings.spot, settings.tick_s) == ("https://api.github.com", True, 60.0)


def test_every_missing_setting_is_named_at_once() -> None:
    assert [problem.split()[0] for problem in problems_of({})] == list(REQUIRED_ENVIRONMENT)


@pytest.mark.parametrize("name", REQUIRED_ENVIRONMENT)
def test_an_empty_setting_is_a_missing_one(name: str) -> None:
    (problem,) = problems_of({**REQUIRED_ENVIRONMENT, name: "  "})

    assert problem.startswith(f"{name} is missing: expected ")


def test_every_wrong_setting_is_named_at_once() -> None:
    environment = {**REQUIRED_ENVIRONMENT, **WRONG, "RUNS_FLEET_PORT": "eighty"}

    assert {problem.split(":")[0] for problem in problems_of(environment)} == set(WRONG)


@pytest.mark.parametrize("value", ["inf", "nan", "-inf", "1e999", "-1", "0x10", "1e9"])
@pytest.mark.parametrize("name", ["RUNNER_GROUP_ID", "PORT", "TICK_SECONDS", "MAX_RUNTIME_MINUTES"])
def test_a_number_that_is_none_is_a_problem_with_a_name(name: str, value: str) -> None:
    (problem,) = problems_of({**REQUIRED_ENVIRONMENT, f"RUNS_FLEET_{name}": value})

    assert problem.startswith(f"RUNS_FLEET_{name}: expected")


@pytest.mark.parametrize(
    ("name", "value"),
    [("MAX_RUNTIME_MINUTES", "14401"), ("PORT", "65536"), ("RUNNER_GROUP_ID", "0.5"), ("SPOT_ENABLED", "perhaps")],
)
def test_a_value_that_nothing_later_on_would_accept_is_a_problem_here(name: str, value: str) -> None:
    (problem,) = problems_of({**REQUIRED_ENVIRONMENT, f"RUNS_FLEET_{name}": value})

    assert problem.startswith(f"RUNS_FLEET_{name}: expected")


@pytest.mark.parametrize("value", ["[1]", "7", "nonsense", '[{"regex": true}]', '["ubuntu"]', '[{"match": "[", "regex": true}]'])
def test_aliases_of_another_shape_are_a_problem_with_an_example(value: str) -> None:
    (problem,) = problems_of({**REQUIRED_ENVIRONMENT, "RUNS_FLEET_LABEL_ALIASES": value})

    assert problem.startswith("RUNS_FLEET_LABEL_ALIASES: expected JSON like [{")


def test_aliases_are_literal_unless_they_say_otherwise() -> None:
    settings = read_settings(
        {**REQUIRED_ENVIRONMENT, "RUNS_FLEET_LABEL_ALIASES": '[{"match": "a"}, {"match": "b.", "regex": true}]'}
    )

    assert settings.aliases == (Alias("a"), Alias("b.", regex=True))


@pytest.mark.parametrize("value", ["latest", "2.336", "2.336.0-rc", "../2.336.0", "2.336.0/.."])
def test_a_runner_version_that_is_none_is_a_problem(value: str) -> None:
    (problem,) = problems_of({**REQUIRED_ENVIRONMENT, "RUNS_FLEET_RUNNER_VERSION": value})

    assert problem.startswith("RUNS_FLEET_RUNNER_VERSION: expected a release of actions/runner such as 2.336.0")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("AB" * 32, Digests(amd64="ab" * 32)),
        (f"arm64={'cd' * 32}", Digests(arm64="cd" * 32)),
        (f"amd64={'ab' * 32}, arm64={'cd' * 32}", Digests("ab" * 32, "cd" * 32)),
    ],
)
def test_each_architecture_s_archive_has_a_digest_of_its_own(value: str, found: Digests) -> None:
    settings = read_settings({**REQUIRED_ENVIRONMENT, "RUNS_FLEET_RUNNER_VERSION": "v2.336.0", "RUNS_FLEET_RUNNER_SHA256": value})

    assert (settings.runner_version, settings.runner_sha256) == ("2.336.0", found)


@pytest.mark.parametrize("value", ["ab", "xy" * 32, f"mips={'ab' * 32}", f"amd64={'ab' * 32},{'ab' * 32}", "amd64="])
def test_a_digest_that_is_none_is_a_problem(value: str) -> None:
    problems = problems_of({**REQUIRED_ENVIRONMENT, "RUNS_FLEET_RUNNER_VERSION": "2.336.0", "RUNS_FLEET_RUNNER_SHA256": value})

    assert [one.partition(" found")[0] for one in problems] == [
        "RUNS_FLEET_RUNNER_SHA256: expected 64 hex digits, or amd64=… and arm64=… of them,"
    ]


def test_a_digest_without_a_version_is_a_problem() -> None:
    (problem,) = problems_of({**REQUIRED_ENVIRONMENT, "RUNS_FLEET_RUNNER_SHA256": "ab" * 32})

    assert problem == "RUNS_FLEET_RUNNER_SHA256: expected RUNS_FLEET_RUNNER_VERSION beside it, found none: of which release?"


def test_the_private_key_may_also_be_the_file_itself() -> None:
    settings = read_settings({**REQUIRED_ENVIRONMENT, "RUNS_FLEET_GITHUB_APP_PRIVATE_KEY": PEM})

    assert settings.app_private_key.reveal() == PEM


@pytest.mark.parametrize("key", ["hush-hush!", base64.b64encode(b"hush-hush").decode(), base64.b64encode(b"\xff\xfe").decode()])
def test_no_secret_is_quoted_in_a_problem(key: str) -> None:
    environment = {
        **REQUIRED_ENVIRONMENT,
        "RUNS_FLEET_GITHUB_APP_PRIVATE_KEY": key,
        "RUNS_FLEET_GITHUB_WEBHOOK_SECRET": "hush-hush",
        "RUNS_FLEET_PORT": "x",
    }

    said = "\n".join(problems_of(environment))

    assert "PRIVATE_KEY" in said and "hush" not in said and key not in said


def test_no_secret_is_in_what_the_settings_show_of_themselves() -> None:
    shown = repr(read_settings(REQUIRED_ENVIRONMENT))

    assert "hush" not in shown and "BEGIN" not in shown


names = st.sampled_from([*REQUIRED_ENVIRONMENT, *WRONG, "RUNS_FLEET_SPOT_ENABLED", "RUNS_FLEET_INSTANCE_TYPES"])


@given(st.dictionaries(names, st.text(max_size=30)))
def test_no_environment_makes_anything_but_settings_or_a_list_of_problems(changes: dict[str, str]) -> None:
    try:
        read_settings({**REQUIRED_ENVIRONMENT, **changes})
    except SettingsInvalid as error:
        assert error.problems and all(problem.startswith("RUNS_FLEET_") for problem in error.problems)


def test_configurations_in_s3_need_a_bucket_and_the_machines_role() -> None:
    wanted = ["RUNS_FLEET_CONFIG_BUCKET", "RUNS_FLEET_RUNNER_ROLE_ID"]
    named = {"RUNS_FLEET_CONFIG_SOURCE": "s3", wanted[0]: "config", wanted[1]: "AROAOURS"}

    assert [problem.split()[0] for problem in problems_of({**REQUIRED_ENVIRONMENT, "RUNS_FLEET_CONFIG_SOURCE": "s3"})] == wanted
    assert problems_of({**REQUIRED_ENVIRONMENT, "RUNS_FLEET_CONFIG_SOURCE": "disk"})[0].startswith(
        "RUNS_FLEET_CONFIG_SOURCE: expected ssm or"
    )
    settings = read_settings({**REQUIRED_ENVIRONMENT, **named})
    assert (settings.config_source, settings.config_bucket, settings.runner_role_id) == ("s3", "config", "AROAOURS")


def test_more_apps_make_a_faster_pace_as_far_as_ssm_can_follow() -> None:
    more = json.dumps([{"id": "7", "private_key": base64.b64encode(PEM.encode()).decode()}, {"id": 8, "private_key": PEM}])
    settings = read_settings({**REQUIRED_ENVIRONMENT, "RUNS_FLEET_GITHUB_APPS": more})
    by_s3 = {"RUNS_FLEET_CONFIG_SOURCE": "s3", "RUNS_FLEET_CONFIG_BUCKET": "b", "RUNS_FLEET_RUNNER_ROLE_ID": "AROA"}

    assert [(app.app_id, app.private_key.reveal()) for app in settings.more_apps] == [("7", PEM), ("8", PEM)]
    assert settings.launches_per_minute == 170.0
    assert read_settings({**REQUIRED_ENVIRONMENT, **by_s3, "RUNS_FLEET_GITHUB_APPS": more}).launches_per_minute == 510.0
    assert read_settings({**REQUIRED_ENVIRONMENT, "RUNS_FLEET_LAUNCHES_PER_MINUTE": "20"}).launches_per_minute == 20.0


@pytest.mark.parametrize(
    "raw", ["hush-hush", '[{"id": "7"}]', '[{"id": "7", "private_key": "hush-hush!"}]', '{"id": "7"}', "[7]"]
)
def test_wrong_apps_are_named_without_their_keys(raw: str) -> None:
    (problem,) = problems_of({**REQUIRED_ENVIRONMENT, "RUNS_FLEET_GITHUB_APPS": raw})

    assert problem.startswith("RUNS_FLEET_GITHUB_APPS: expected JSON like") and "hush" not in problem


def test_instances_may_be_processes_of_this_machine() -> None:
    wanted = {
        "RUNS_FLEET_STRATEGY": "local", "RUNS_FLEET_SUBNET_IDS": "", "RUNS_FLEET_LOCAL_SLOTS": "3", "PATH": "/bin",
        "RUNS_FLEET_LOCAL_AGENT": "python -m agent", "AWS_REGION": "eu-west-1",
        "RUNS_FLEET_LOCAL_AGENT_ENVIRONMENT": '{"RUNS_FLEET_LOG_GROUP": "/g"}',
    }  # fmt: skip
    local = read_settings({**REQUIRED_ENVIRONMENT, **wanted}).local

    assert local is not None and (local.slots, local.agent, local.runner) == (3, ("python", "-m", "agent"), None)
    assert local.environment == {
        "PATH": "/bin", "AWS_REGION": "eu-west-1", "RUNS_FLEET_LOG_GROUP": "/g",
        "RUNS_FLEET_TERMINATION_QUEUE_URL": REQUIRED_ENVIRONMENT["RUNS_FLEET_TERMINATION_QUEUE_URL"],
    }, "and no secret of ours"  # fmt: skip
    assert read_settings(REQUIRED_ENVIRONMENT).local is None


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("LOCAL_SLOTS", "0"), ("LOCAL_AGENT_ENVIRONMENT", "[]"), ("RUNNER_ROLE_ID", "AROA"),
        ("CONFIG_SOURCE", "s3"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_on_this_machine_is_named(name: str, raw: str) -> None:
    environment = {**REQUIRED_ENVIRONMENT, "RUNS_FLEET_STRATEGY": "local", f"RUNS_FLEET_{name}": raw}

    assert any(problem.startswith(f"RUNS_FLEET_{name}: expected") for problem in problems_of(environment))


@pytest.mark.parametrize("name", ["STRATEGY", "STRATEGIES"])
def test_a_strategy_that_there_is_not_is_named_when_the_orchestrator_is_put_together(name: str) -> None:
    settings = read_settings({**REQUIRED_ENVIRONMENT, f"RUNS_FLEET_{name}": "fargate"})

    with pytest.raises(SettingsInvalid) as refused:
        orchestrator(settings)

    assert refused.value.problems == ("RUNS_FLEET_STRATEGIES: expected some of ec2, local, found fargate",)


@pytest.mark.parametrize("scope", ["REPOSITORY", "LABEL_SET"])
def test_each_limit_of_the_stack_is_there_for_a_repository_and_a_label_set_too(scope: str) -> None:
    words = {"MAX_SESSIONS": "7", "MAX_VCPUS": "64", "MAX_USD_PER_HOUR": "2.5", "LAUNCHES_PER_MINUTE": "30"}
    settings = read_settings(
        {**REQUIRED_ENVIRONMENT, **{f"RUNS_FLEET_{name}_PER_{scope}": value for name, value in words.items()}}
    )

    found = settings.per_repository if scope == "REPOSITORY" else settings.per_label_set
    assert found == Limits(sessions=7, vcpus=64, usd_per_hour=2.5, launches_per_minute=30.0)
    (problem,) = problems_of({**REQUIRED_ENVIRONMENT, f"RUNS_FLEET_MAX_VCPUS_PER_{scope}": "many"})
    assert problem.startswith(f"RUNS_FLEET_MAX_VCPUS_PER_{scope}: expected a whole number")


def test_without_a_word_the_stack_is_one_that_a_small_account_survives() -> None:
    settings = read_settings(REQUIRED_ENVIRONMENT)

    assert (settings.max_sessions, settings.max_cpus) == (100, 512)
    assert (settings.per_repository, settings.per_label_set) == (Limits(sessions=50), Limits(sessions=500))
    assert bounds(settings) == {
        "machines": 100, "vcpus": 512, "usd_per_hour": "25.80", "by": "0.0504 USD a vCPU and hour", "machines_per_repository": 50,
        "launches_per_minute": "170",
    }  # fmt: skip
    assert (settings.ec2_at_once, settings.ec2_per_second) == (1000.0, 2.0)


@pytest.mark.parametrize(
    ("told", "share"),
    [
        ({"MAX_SESSIONS": "7"}, 4),
        ({"MAX_SESSIONS": "1"}, 1),
        ({"MAX_SESSIONS_PER_REPOSITORY": "0"}, 0),
        ({"MAX_SESSIONS_PER_REPOSITORY": "9"}, 9),
    ],
)
def test_a_repositorys_share_is_half_of_the_machines_unless_an_operator_says_otherwise(told: dict[str, str], share: int) -> None:
    settings = read_settings({**REQUIRED_ENVIRONMENT, **{f"RUNS_FLEET_{name}": value for name, value in told.items()}})

    assert settings.per_repository.sessions == share


@pytest.mark.parametrize(
    ("told", "usd", "by"),
    [
        ({"MAX_USD_PER_HOUR": "5"}, "5.00", "RUNS_FLEET_MAX_USD_PER_HOUR"),
        ({"MAX_USD_PER_HOUR": "500"}, "25.80", "0.0504 USD a vCPU and hour"),
        ({"MAX_VCPUS": "0"}, "no limit", None),
    ],
)
def test_what_the_stack_may_cost_is_told_at_its_start(told: dict[str, str], usd: str, by: str | None) -> None:
    found = bounds(read_settings({**REQUIRED_ENVIRONMENT, **{f"RUNS_FLEET_{name}": value for name, value in told.items()}}))

    assert (found["usd_per_hour"], found.get("by")) == (usd, by)


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ({"LAUNCHES_PER_MINUTE": "500"}, "cannot be configured by 3 writes a second"),
        ({"CONFIG_WRITES_PER_SECOND": "1", "LAUNCHES_PER_MINUTE": "170"}, "expected at most 57"),
        ({"STACK_ID": "x" * 37}, "up to 36 letters"),
        ({"LABEL_ALIASES": '[{"match": "a-(.*)", "regex": true, "spec": "cpu=${2}"}]'}, "has 1 groups"),
    ],
)
def test_what_could_not_work_is_refused_at_the_start(told: dict[str, str], problem: str) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        read_settings({**REQUIRED_ENVIRONMENT, **{f"RUNS_FLEET_{name}": value for name, value in told.items()}})

    assert any(problem in one for one in refused.value.problems)


def test_the_usual_pace_is_what_apps_and_configurations_allow() -> None:
    def pace(**told: str) -> float:
        return read_settings(
            {**REQUIRED_ENVIRONMENT, **{f"RUNS_FLEET_{name}": value for name, value in told.items()}}
        ).launches_per_minute

    assert (pace(), round(pace(CONFIG_WRITES_PER_SECOND="1")), pace(CONFIG_WRITES_PER_SECOND="10")) == (170.0, 57, 170.0)


def test_who_only_looks_needs_no_secret() -> None:
    settings = read_settings({"RUNS_FLEET_STACK_ID": "tests"}, records_only=True)

    assert (settings.stack_id, settings.jobs_table) == ("tests", "runs-fleet-jobs")


def test_before_anything_rests_on_it_each_apps_key_signs_once() -> None:
    more = json.dumps([{"id": "7", "private_key": PEM}])
    key = {"RUNS_FLEET_GITHUB_APP_PRIVATE_KEY": foreign_key().reveal()}

    insist_on_keys(read_settings({**REQUIRED_ENVIRONMENT, **key}))
    with pytest.raises(SettingsInvalid) as refused:
        insist_on_keys(read_settings({**REQUIRED_ENVIRONMENT, "RUNS_FLEET_GITHUB_APPS": more}))

    first, second = refused.value.problems
    assert first.startswith("RUNS_FLEET_GITHUB_APP_PRIVATE_KEY: expected")
    assert second.startswith("RUNS_FLEET_GITHUB_APPS: expected")
    assert "hush" not in first + second


@pytest.mark.parametrize(("shards", "wrong"), [("1", False), ("256", False), ("0", True), ("257", True)])
def test_the_bounds_of_the_index_shards(shards: str, wrong: bool) -> None:
    environment = {**REQUIRED_ENVIRONMENT, "RUNS_FLEET_INDEX_SHARDS": shards}

    if wrong:
        with pytest.raises(SettingsInvalid, match="INDEX_SHARDS"):
            read_settings(environment)
    else:
        assert read_settings(environment).index_shards == int(shards)
