"""The environment: every default, every complaint, all at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import Exit, SettingsError
from agent.settings import Settings, read_settings

QUEUE = "https://sqs.eu-central-1.amazonaws.com/123456789012/termination"
REQUIRED = {"RUNS_FLEET_INSTANCE_ID": "i-0123456789abcdef0", "RUNS_FLEET_TERMINATION_QUEUE_URL": QUEUE}
DEFAULTS = Settings(
    instance_id="i-0123456789abcdef0",
    termination_queue_url=QUEUE,
    ssm_parameter=None,
    log_group=None,
    config_bucket=None,
    max_runtime_minutes=360.0,
    s3_cache_endpoint=None,
    runner_dir=Path("/opt/actions-runner"),
    runner_version=None,
    newest_in_bucket=False,
    log_limit_bytes=100_000_000,
    github_api_url="https://api.github.com",
    github_url="https://github.com",
    runner_mirror_url=None,
    work_dir=Path("/opt/runs-fleet/work"),
    runner_user=None,
    grace_s=90.0,
    config_timeout_s=300.0,
    idle_timeout_s=240.0,
    logs_bucket=None,
    power_off=None,
)
EVERY_NAME = (
    "INSTANCE_ID", "TERMINATION_QUEUE_URL", "SSM_PARAMETER", "LOG_GROUP", "CONFIG_BUCKET", "MAX_RUNTIME", "S3_CACHE_ENDPOINT",
    "RUNNER_DIR", "RUNNER_VERSION", "GITHUB_API_URL", "GITHUB_URL", "RUNNER_MIRROR_URL", "WORK_DIR", "RUNNER_USER",
    "GRACE_SECONDS", "CONFIG_TIMEOUT_SECONDS", "IDLE_TIMEOUT_SECONDS", "LOGS_BUCKET", "POWER_OFF",
)  # fmt: skip


def settings_with(**variables: str) -> Settings:
    return read_settings({**REQUIRED, **{f"RUNS_FLEET_{name}": value for name, value in variables.items()}})


def test_every_default_is_the_documented_one() -> None:
    assert read_settings(REQUIRED) == DEFAULTS


@pytest.mark.parametrize(
    ("name", "raw", "field", "value"),
    [
        ("INSTANCE_ID", " i-1 ", "instance_id", "i-1"),
        ("SSM_PARAMETER", "/a/b", "ssm_parameter", "/a/b"),
        ("LOG_GROUP", "/runs-fleet", "log_group", "/runs-fleet"),
        ("CONFIG_BUCKET", "config", "config_bucket", "config"),
        ("MAX_RUNTIME", "0.5", "max_runtime_minutes", 0.5),
        ("MAX_RUNTIME", "14400", "max_runtime_minutes", 14_400.0),
        ("S3_CACHE_ENDPOINT", "http://10.0.0.1:8080/", "s3_cache_endpoint", "http://10.0.0.1:8080"),
        ("RUNNER_DIR", "/srv/runner", "runner_dir", Path("/srv/runner")),
        ("RUNNER_VERSION", "2.336.0", "runner_version", "2.336.0"),
        ("RUNNER_VERSION", "v2.336.0", "runner_version", "2.336.0"),
        ("GITHUB_API_URL", "https://ghe.test/api/v3/", "github_api_url", "https://ghe.test/api/v3"),
        ("GITHUB_URL", "https://ghe.test", "github_url", "https://ghe.test"),
        ("RUNNER_MIRROR_URL", "http://mirror.test/runner", "runner_mirror_url", "http://mirror.test/runner"),
        ("WORK_DIR", "/mnt/work", "work_dir", Path("/mnt/work")),
        ("RUNNER_USER", "runner", "runner_user", "runner"),
        ("GRACE_SECONDS", "0", "grace_s", 0.0),
        ("GRACE_SECONDS", "12.5", "grace_s", 12.5),
        ("CONFIG_TIMEOUT_SECONDS", "600", "config_timeout_s", 600.0),
        ("IDLE_TIMEOUT_SECONDS", "30", "idle_timeout_s", 30.0),
        ("LOGS_BUCKET", "logs", "logs_bucket", "logs"),
        ("POWER_OFF", "sh -c 'sync; poweroff'", "power_off", ("sh", "-c", "sync; poweroff")),
    ],
)
def test_rq10_every_variable_is_honoured_under_its_name(name: str, raw: str, field: str, value: Any) -> None:
    settings = settings_with(**{name: raw})

    assert (getattr(settings, field), settings.complaints) == (value, ())


@pytest.mark.parametrize("empty", ["", "  ", "\t\n"])
@pytest.mark.parametrize("name", [name for name in EVERY_NAME if name not in ("INSTANCE_ID", "TERMINATION_QUEUE_URL")])
def test_an_empty_string_is_missing(name: str, empty: str) -> None:
    assert settings_with(**{name: empty}) == DEFAULTS


def test_an_empty_instance_id_is_to_be_asked_of_the_metadata_service() -> None:
    settings = settings_with(INSTANCE_ID="")

    assert (settings.instance_id, settings.complaints) == (None, ())


@pytest.mark.parametrize("environment", [{}, {"RUNS_FLEET_TERMINATION_QUEUE_URL": ""}])
def test_a_missing_queue_is_a_complaint_that_names_it(environment: dict[str, str]) -> None:
    (complaint,) = read_settings(environment).complaints

    assert "RUNS_FLEET_TERMINATION_QUEUE_URL is missing" in complaint


@pytest.mark.parametrize(
    ("name", "raw", "expected"),
    [
        *(("MAX_RUNTIME", raw, "number of minutes above 0") for raw in ("0", "-1", "nan", "inf", "14401", "six", "1h", "0x10")),
        *(("GRACE_SECONDS", raw, "number of seconds of at least 0") for raw in ("-1", "-0.5", "nan", "3601", "soon")),
        *(("CONFIG_TIMEOUT_SECONDS", raw, "number of seconds above 0") for raw in ("0", "-1", "86401", "x")),
        *(("IDLE_TIMEOUT_SECONDS", raw, "number of seconds above 0") for raw in ("0", "-1", "864001", "x")),
        *(("TERMINATION_QUEUE_URL", raw, "http or https URL") for raw in ("queue", "ftp://x/y", "https://", "//host/x", "http://[")),
        *(("S3_CACHE_ENDPOINT", raw, "http or https URL") for raw in ("localhost:80", "s3://bucket")),
        *(("GITHUB_API_URL", raw, "http or https URL") for raw in ("api.github.com",)),
        *(("GITHUB_URL", raw, "http or https URL") for raw in ("github.com",)),
        *(("RUNNER_MIRROR_URL", raw, "http or https URL") for raw in ("mirror",)),
        *(("RUNNER_DIR", raw, "absolute path") for raw in ("runner", "./runner", "~/runner")),
        *(("WORK_DIR", raw, "absolute path") for raw in ("work",)),
        *(("SSM_PARAMETER", raw, "beginning with /") for raw in ("a/b",)),
        *(("CONFIG_SOURCE", raw, "ssm or s3") for raw in ("S3", "disk", "ssm,s3")),
        *(("RUNNER_VERSION", raw, "version such as") for raw in ("latest", "2.336", "2.336.0.1", "2..0", "2.336.0-rc")),
        *(("POWER_OFF", raw, "as a shell would split") for raw in ("sh -c 'poweroff",)),
    ],
)  # fmt: skip
def test_a_wrong_value_is_a_complaint_with_the_name_what_was_expected_and_what_came(name: str, raw: str, expected: str) -> None:
    (complaint,) = settings_with(**{name: raw}).complaints

    assert f"RUNS_FLEET_{name}" in complaint
    assert expected in complaint
    assert repr(raw) in complaint


def test_a_wrong_value_leaves_the_default_so_that_the_machine_can_still_be_told_of_and_switched_off() -> None:
    settings = settings_with(MAX_RUNTIME="soon", WORK_DIR="work", POWER_OFF="poweroff now")

    assert (settings.max_runtime_minutes, settings.work_dir) == (360.0, Path("/opt/runs-fleet/work"))
    assert (settings.instance_id, settings.power_off) == ("i-0123456789abcdef0", ("poweroff", "now"))


def test_everything_that_is_wrong_is_complained_of_at_once() -> None:
    wrong = {
        "MAX_RUNTIME": "soon",
        "GRACE_SECONDS": "-1",
        "RUNNER_DIR": "opt",
        "RUNNER_VERSION": "x",
        "TERMINATION_QUEUE_URL": "",
    }

    with pytest.raises(SettingsError) as caught:
        settings_with(**wrong).insist()

    assert len(caught.value.problems) == 5
    assert all(f"RUNS_FLEET_{name}" in str(caught.value) for name in wrong)
    assert caught.value.exit_code == Exit.SETTINGS == 78


def test_good_settings_are_not_insisted_against() -> None:
    read_settings(REQUIRED).insist()


def test_the_parameter_is_derived_from_the_instance_unless_it_is_named() -> None:
    assert read_settings(REQUIRED).parameter("i-7") == "/runs-fleet/runners/i-7/config"
    assert settings_with(SSM_PARAMETER="/my/own").parameter("i-7") == "/my/own"
    assert settings_with(CONFIG_SOURCE="s3", CONFIG_BUCKET="config").parameter("i-7") == "config"


def test_configurations_in_s3_need_a_bucket_and_no_parameter() -> None:
    (missing,) = settings_with(CONFIG_SOURCE="s3").complaints
    (too_much,) = settings_with(CONFIG_SOURCE="s3", CONFIG_BUCKET="config", SSM_PARAMETER="/my/own").complaints

    assert missing.startswith("RUNS_FLEET_CONFIG_BUCKET is missing")
    assert too_much.startswith("RUNS_FLEET_SSM_PARAMETER: expected nothing with RUNS_FLEET_CONFIG_SOURCE=s3")


def test_variables_of_other_names_are_not_ours_to_judge() -> None:
    assert read_settings({**REQUIRED, "MAX_RUNTIME": "soon"}) == DEFAULTS


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("RUNS_FLEET_GRACE_SECOND", "did you mean RUNS_FLEET_GRACE_SECONDS?"),
        ("RUNS_FLEET_JOBSUDO", "did you mean RUNS_FLEET_JOB_SUDO?"),
        ("RUNS_FLEET_ELSE", "docs/operations.md lists those there are"),
    ],
)
def test_a_variable_with_our_prefix_that_nothing_reads_is_warned_of_with_the_nearest_there_is(name: str, hint: str) -> None:
    settings = read_settings({**REQUIRED, name: "x"})

    assert settings.warnings == (f"{name} is not a setting of the agent, and does nothing: {hint}",)
    assert settings.complaints == ()


def test_what_the_boot_script_reads_is_not_warned_of() -> None:
    script = (Path(__file__).resolve().parents[2] / "userdata" / "runs-fleet.sh").read_text("utf-8")
    names = set(re.findall(r"RUNS_FLEET_[A-Z0-9_]*[A-Z0-9]", script))

    assert len(names) > 10
    assert read_settings(dict.fromkeys(names, "x")).warnings == ()


@given(st.dictionaries(st.sampled_from([f"RUNS_FLEET_{name}" for name in EVERY_NAME]), st.text(max_size=40), max_size=19))
def test_no_environment_whatever_makes_reading_it_fail(environment: dict[str, str]) -> None:
    settings = read_settings(environment)

    assert settings.max_runtime_minutes > 0
    assert settings.grace_s >= 0
    assert settings.work_dir.is_absolute()
