"""How single settings are read: each reader gives its value or says in words what is wrong; and how they are described."""

from __future__ import annotations

import base64
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from orchestrator import setting_readers as read
from orchestrator.environment import Environment
from orchestrator.setting_readers import Known, Read
from orchestrator.setting_values import Alias, Limits, Local
from orchestrator.settings import ServerSettings, described, read_settings
from simulation.examples import PEM, REQUIRED_ENVIRONMENT

LOCAL: Known = {"strategies": ("local",)}
BOTH: Known = {"strategies": ("ec2", "local")}


def found(
    reader: Read, raw: str = "", default: Any = None, known: Known | None = None, *, records_only: bool = False, **others: str
) -> tuple[Any, Environment]:
    """What the reader makes of the variable `X`, and the environment with its problems; `others`: variables by their names."""
    variables = {f"RUNS_FLEET_{name}": value for name, value in {"X": raw, **others}.items()}
    environment = Environment(variables, records_only=records_only)
    return reader(environment, "X", default, known or {}), environment


def read_local(known: Known, **variables: str) -> tuple[Local | None, Environment]:
    """How agents live on this machine, by these variables."""
    environment = Environment(variables)
    told: Any = read.local().metadata["setting"]
    return told.read(environment, told.name, None, known), environment


@pytest.mark.parametrize(
    ("reader", "raw", "value"),
    [
        (read.text, " a b ", "a b"), (read.url, "https://api/v3//", "https://api/v3"), (read.listed, "a, b,", ("a", "b")),
        (read.switch, "false", False), (read.required("x"), "there", "there"), (read.number(1.0, 5.0), "2.5", 2.5),
        (read.one_of("ssm", "s3"), "s3", "s3"), (read.one_of("ssm", "s3"), "", "ssm"), (read.optional_secret, "", None),
    ],
)  # fmt: skip
def test_each_plain_reader_gives_its_value(reader: Read, raw: str, value: Any) -> None:
    given, environment = found(reader, raw)

    assert (given, environment.problems) == (value, [])


def test_a_private_key_is_read_from_base64_and_one_that_is_none_is_a_problem() -> None:
    key, environment = found(read.private_key, base64.b64encode(PEM.encode()).decode())
    none, wrong = found(read.private_key, "hush-hush!")

    assert (key.reveal(), environment.problems, none.reveal(), len(wrong.problems)) == (PEM, [], "", 1)
    assert "hush" not in f"{key!r}{wrong.problems}"


def test_a_reader_takes_the_default_of_its_field_where_nothing_is_said() -> None:
    given = [found(reader, default=default)[0] for reader, default in (
        (read.text, "usual"), (read.url, "https://api/"), (read.switch, True), (read.number(), 7.5), (read.whole(), 7),
    )]  # fmt: skip

    assert given == ["usual", "https://api", True, 7.5, 7]


def test_a_whole_number_is_an_int_and_its_bounds_hold() -> None:
    value, environment = found(read.whole(1.0, 4.0), "4.0", 2)
    assert (value, type(value), environment.problems) == (4, int, [])

    for raw in ("0", "5", "1.5", "many"):
        value, environment = found(read.whole(1.0, 4.0), raw, 2)
        assert value == 2 and len(environment.problems) == 1


def test_secrets_are_sealed_and_one_that_must_be_there_is_named_without_its_value() -> None:
    sealed, environment = found(read.secret("the webhook's secret"), "hush")
    previous, _ = found(read.optional_secret, "hush")
    _, missing = found(read.secret("the webhook's secret"))

    assert sealed.reveal() == previous.reveal() == "hush" and "hush" not in f"{sealed!r}{previous!r}"
    assert (environment.problems, missing.problems) == ([], ["RUNS_FLEET_X is missing: expected the webhook's secret"])


def test_what_s3_needs_is_required_there_and_optional_elsewhere() -> None:
    reader = read.needed_for_s3("the bucket")

    assert found(reader, known={"config_source": "s3"})[1].problems == ["RUNS_FLEET_X is missing: expected the bucket"]
    assert found(reader, "b", known={"config_source": "s3"})[0] == "b"
    elsewhere, environment = found(reader, default="", known={"config_source": "ssm"})
    assert (elsewhere, environment.problems) == ("", [])
    assert found(reader, "b", known={"config_source": "ssm"})[0] == "b"


def test_subnets_are_required_where_instances_of_ec2_are_started() -> None:
    assert found(read.subnets, "a,b", known=BOTH)[0] == ("a", "b")
    assert len(found(read.subnets, known=BOTH)[1].problems) == 1
    assert found(read.subnets, known=LOCAL)[1].problems == []
    assert found(read.subnets, known=BOTH, records_only=True)[1].problems == []


@pytest.mark.parametrize("name", ["a", "9lives", "Runs_Fleet.eu-1", "x" * 36])
def test_a_stacks_name_is_what_tags_and_runner_names_can_hold(name: str) -> None:
    value, environment = found(read.stack_id, name)

    assert (value, environment.problems) == (name, [])


@pytest.mark.parametrize("name", ["-a", "_a", ".a", "a b", "a/b", "ü", "x" * 37])
def test_any_other_name_of_a_stack_is_a_problem(name: str) -> None:
    told = f"RUNS_FLEET_X: expected up to 36 letters, digits, -, _ and ., found {name!r}"

    assert found(read.stack_id, name)[1].problems == [told]


def test_strategies_keep_their_order_and_each_is_named_once() -> None:
    assert found(read.strategies, "local, ec2", ("ec2",))[0] == ("local", "ec2")
    assert found(read.strategies, "", ("ec2",))[0] == ("ec2",)
    value, environment = found(read.strategies, "ec2,local,ec2", ("ec2",))
    assert value == ("ec2", "local")
    assert environment.problems == ["RUNS_FLEET_X: expected each name once, found ec2, local, ec2"]


def test_the_old_name_of_the_strategy_still_works_with_a_warning_but_not_beside_the_new_one() -> None:
    value, alone = found(read.strategies, "", ("ec2",), STRATEGY="local")
    _, both = found(read.strategies, "ec2", ("ec2",), STRATEGY="local")

    assert (value, alone.problems) == (("local",), [])
    assert alone.warnings == ["RUNS_FLEET_STRATEGY=local is read as RUNS_FLEET_X=local: rename it, it will go away"]
    assert both.problems == ["RUNS_FLEET_STRATEGY: expected nothing beside RUNS_FLEET_X, which replaces it"]
    assert read_settings({**REQUIRED_ENVIRONMENT, "RUNS_FLEET_STRATEGY": "ec2"}).warnings != ()


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"STRATEGY": "ec2,local"}, "RUNS_FLEET_STRATEGY: expected one name, found 'ec2,local': use RUNS_FLEET_X for several"),
        ({"X": " , "}, "RUNS_FLEET_X: expected names of strategies, separated by commas, found ','"),
    ],
)
def test_strategies_that_cannot_be_read_are_named_by_the_variable_that_was_set(variables: dict[str, str], problem: str) -> None:
    _, environment = found(read.strategies, variables.pop("X", ""), ("ec2",), **variables)

    assert (environment.problems, environment.warnings) == ([problem], [])


def test_apps_are_read_with_keys_of_both_kinds_and_none_is_none() -> None:
    value, environment = found(read.apps, json.dumps([{"id": 7, "private_key": PEM}]))

    assert [(app.app_id, app.private_key.reveal()) for app in value] == [("7", PEM)]
    assert environment.problems == [] and found(read.apps)[0] == ()


@pytest.mark.parametrize(
    ("raw", "fine"),
    [
        ('[{"match": "a-(.)", "regex": true, "spec": "cpu=${1}"}]', True),
        ('[{"match": "a-(.)", "regex": true, "spec": "cpu=${2}"}]', False),
        ('[{"match": "a", "spec": "cpu=${1}"}]', False),
        ('[{"match": "a(", "spec": "cpu=4"}]', True),
        ('[{"match": "a(", "regex": true}]', False),
    ],
)
def test_an_alias_must_be_an_expression_with_the_groups_that_it_uses(raw: str, fine: bool) -> None:
    value, environment = found(read.aliases, raw)

    assert (len(value), len(environment.problems)) == ((1, 0) if fine else (0, 1))


def test_an_alias_is_read_whole() -> None:
    value, _ = found(read.aliases, '[{"match": "a-(.)", "regex": true, "spec": "cpu=${1}"}, {"match": "b"}]')

    assert value == (Alias("a-(.)", regex=True, spec="cpu=${1}"), Alias("b"))


def test_where_no_strategy_is_local_nothing_of_it_is_read() -> None:
    value, environment = read_local(
        {"strategies": ("ec2",)}, RUNS_FLEET_LOCAL_SLOTS="none", RUNS_FLEET_LOCAL_AGENT_ENVIRONMENT="["
    )

    assert (value, environment.problems) == (None, [])


def test_local_agents_get_the_way_to_aws_and_the_operators_own_and_nothing_else_of_ours() -> None:
    ours = {"AWS_REGION": "eu-west-1", "LANG": "C", "HTTPS_PROXY": "p", "NO_PROXY": "n", "PATH": "/bin"}
    extra = {"RUNS_FLEET_LOCAL_AGENT_ENVIRONMENT": '{"PATH": "/opt", "N": 1}', "RUNS_FLEET_TERMINATION_QUEUE_URL": "t"}
    value, _ = read_local(
        BOTH, **ours, **extra, HOME="/root", RUNS_FLEET_GITHUB_WEBHOOK_SECRET="hush"
    )  # pragma: allowlist secret

    assert value is not None
    assert value.environment == {**ours, "PATH": "/opt", "N": "1", "RUNS_FLEET_TERMINATION_QUEUE_URL": "t"}


def test_a_local_agent_is_a_command_with_words_and_a_runner_has_a_place() -> None:
    value, _ = read_local(
        BOTH, RUNS_FLEET_LOCAL_AGENT="'/opt/my agent' --x", RUNS_FLEET_LOCAL_RUNNER_DIR="/r", RUNS_FLEET_LOCAL_DIR="/d"
    )
    usual, _ = read_local(LOCAL)

    assert value is not None and usual is not None
    assert (value.agent, value.runner, value.directory) == (("/opt/my agent", "--x"), Path("/r"), Path("/d"))
    assert (usual.agent, usual.runner, usual.slots) == (("runs-fleet-agent",), None, 1)


@pytest.mark.parametrize(
    ("name", "raw", "beside_ec2"),
    [("CONFIG_SOURCE", "s3", True), ("RUNNER_ROLE_ID", "AROA", False), ("MAX_USD_PER_HOUR_PER_LABEL_SET", "2", False)],
)
def test_what_processes_cannot_have_is_a_problem_of_a_stack_that_has_nothing_else(name: str, raw: str, beside_ec2: bool) -> None:
    for known, expected in ((LOCAL, True), (BOTH, beside_ec2)):
        _, environment = read_local(known, **{f"RUNS_FLEET_{name}": raw})

        assert [problem.split(":")[0] for problem in environment.problems] == [f"RUNS_FLEET_{name}"] * expected


def test_every_field_that_is_a_setting_is_described_once_and_its_default_is_in_words() -> None:
    names = [one.name for one in described()]
    told = {one.name: one.default for one in described()}

    assert len(set(names)) == len(names) and all(one.text for one in described())
    assert {"MAX_VCPUS_PER_REPOSITORY", "LAUNCHES_PER_MINUTE_PER_LABEL_SET", "LOCAL_AGENT_ENVIRONMENT"} <= set(names)
    shown = ("GITHUB_APP_ID", "SPOT_ENABLED", "MAX_SESSIONS_PER_LABEL_SET", "STRATEGIES", "INSTANCE_TYPES", "EVENTS_QUEUE_URL")
    assert [told[name] for name in shown] == ["required", "true", "500", "ec2", "none", "none"]
    assert [field.name for field in fields(ServerSettings) if not field.metadata] == ["warnings"]


def test_limits_of_a_scope_fall_back_to_what_is_usual_there_one_by_one() -> None:
    field: Any = read.limits("_PER_X", Limits(5, 6, 7.0, 8.0), "each x")
    told = field.metadata["setting"]
    environment = Environment({"RUNS_FLEET_MAX_VCPUS_PER_X": "0", "RUNS_FLEET_MAX_USD_PER_HOUR_PER_X": "1.5"})

    assert told.read(environment, told.name, None, {}) == Limits(5, 0, 1.5, 8.0) and environment.problems == []
    wrong = Environment({"RUNS_FLEET_MAX_SESSIONS_PER_X": "1.5", "RUNS_FLEET_LAUNCHES_PER_MINUTE_PER_X": "-1"})
    told.read(wrong, told.name, None, {})
    assert [one.split(":")[0] for one in wrong.problems] == [
        "RUNS_FLEET_MAX_SESSIONS_PER_X",
        "RUNS_FLEET_LAUNCHES_PER_MINUTE_PER_X",
    ]
