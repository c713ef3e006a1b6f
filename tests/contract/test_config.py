"""The configuration of one session: readable for as long as anyone writes it, and refused with every fault at once."""

from __future__ import annotations

import json
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.config import PARAMETER_LIMIT, RunnerConfig, read_config, write_config
from agent.contract.errors import ContractError
from agent.contract.jit import unpack
from agent.contract.secret import Secret

GOLDEN = Path(__file__).parent / "golden"
BLOB = "eyIucnVubmVyIjoiZXlKQloyVnVkRWxrSWpvaU1TSjkifQ=="
"""Base64 of {".runner":"eyJBZ2VudElkIjoiMSJ9"}."""
PACKED = "H4sIAAAAAAACA4tWqo5R0isqzctLLYpRsopRUtJRAAk5pqfmlXimgIUMY5RqQcIgKhYAjSL7NzEAAAA="
MINIMAL: dict[str, Any] = {
    "org": "acme",
    "repo": "widgets",
    "job_id": "7",
    "jit_token": "a-registration-token",  # pragma: allowlist secret
    "labels": ["x64"],
}
COMMON: dict[str, Any] = {
    "org": "acme",
    "job_id": "47331",
    "repo": "acme/widgets",
    "labels": ("runs-fleet=9001", "x64"),
    "runner_group": "Default",
    "run_id": "9001",
    "is_org": True,
    "runner_name": "runs-fleet-i-0123456789abcdef0",
    "runner_version": "2.336.0",
    "runner_sha256": "0123456789abcdef" * 4,
    "session_id": "session-1",
    "attempt": 2,
    "stack_id": "production",
    "issued_at": datetime(2026, 1, 31, 12, tzinfo=UTC),
    "expires_at": datetime(2026, 1, 31, 12, 30, tzinfo=UTC),
    "max_runtime_minutes": 90.5,
    "logs_bucket": "acme-logs",
    "logs_prefix": "runner-logs",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}
"""Every field but the credential."""
VERSION_1 = {
    "config-token": RunnerConfig(**COMMON, jit_token=Secret("a-registration-token")),
    "config-jit-gz": RunnerConfig(**COMMON, jit_config_gz=Secret(PACKED)),
    "config-least": RunnerConfig(org="acme", job_id="47331", jit_config_gz=Secret(PACKED)),
}


def golden(name: str) -> str:
    return (GOLDEN / f"{name}.json").read_text("utf-8").rstrip("\n")


def faults(document: dict[str, Any] | str) -> dict[str, str]:
    """What is said about each field of a document that is refused."""
    with pytest.raises(ContractError) as refused:
        read_config(document if isinstance(document, str) else json.dumps(document))
    return {problem.field: problem.complaint for problem in refused.value.problems}


def test_the_seed_s_own_document_is_readable() -> None:
    config = read_config(golden("seed/config"))

    assert config == RunnerConfig(
        org="Shavakan",
        repo="my-repo",
        jit_token=Secret("JITC_..."),
        labels=("runs-fleet=12345", "runner=2cpu-linux-arm64"),
        runner_group="Default",
        job_id="67890",
    )


@pytest.mark.parametrize("name", VERSION_1)
def test_what_version_1_wrote_is_what_we_write_byte_for_byte(name: str) -> None:
    assert write_config(VERSION_1[name]) == golden(f"v1/{name}")


@pytest.mark.parametrize("name", VERSION_1)
def test_what_version_1_wrote_is_readable(name: str) -> None:
    assert read_config(golden(f"v1/{name}")) == VERSION_1[name]


def test_version_1_s_document_with_an_unpacked_blob_is_readable() -> None:
    config = read_config(golden("v1/config-jit"))

    assert config == RunnerConfig(**COMMON, jit_config=Secret(BLOB))
    assert config.blob() == Secret(BLOB)


def test_a_blob_is_written_packed_and_everything_else_as_ever() -> None:
    written = json.loads(write_config(RunnerConfig(**COMMON, jit_config=Secret(BLOB))))

    assert unpack(written.pop("jit_config_gz")) == BLOB
    assert written == {name: value for name, value in json.loads(golden("v1/config-jit-gz")).items() if name != "jit_config_gz"}


def test_the_packed_blob_comes_out_as_github_issued_it() -> None:
    assert read_config(golden("v1/config-jit-gz")).blob() == Secret(BLOB)


def test_on_the_token_path_there_is_no_blob() -> None:
    assert read_config(golden("v1/config-token")).blob() is None


def test_an_unpacked_blob_goes_before_a_packed_one_and_before_a_token() -> None:
    config = read_config(json.dumps(MINIMAL | {"jit_config": BLOB, "jit_config_gz": "not even packed"}))

    assert config.blob() == Secret(BLOB)


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "org": words.map("o{}".format),
    "job_id": words.map("j{}".format),
    "repo": words.map("r{}".format),
    "jit_token": st.text("abc_.", min_size=1, max_size=40).map(Secret),
    "labels": st.lists(words, min_size=1, max_size=4).map(tuple),
    "runner_group": words,
    "run_id": words,
    "is_org": st.booleans(),
    "runner_name": words,
    "runner_version": words,
    "runner_sha256": words,
    "runner_by_default": st.booleans(),
    "session_id": words,
    "attempt": st.integers(0, 1_000),
    "stack_id": words,
    "issued_at": st.none() | moments,
    "expires_at": st.none() | moments,
    "max_runtime_minutes": st.none() | st.floats(0.1, 14_400),
    "logs_bucket": words,
    "logs_prefix": words,
    "traceparent": words,
}
configs = st.builds(RunnerConfig, **FIELDS)


@given(configs)
def test_r5_every_field_survives_being_written_and_read(config: RunnerConfig) -> None:
    assert read_config(write_config(config)) == config


def test_r5_the_property_above_forgets_no_field() -> None:
    others = {"jit_config", "jit_config_gz", "contract_version"}

    assert set(FIELDS) | others == set(RunnerConfig.__struct_fields__)


@pytest.mark.parametrize("job_id", [47331, "47331"])
def test_a_job_id_may_be_a_number_or_a_string_and_is_kept_as_a_string(job_id: object) -> None:
    config = read_config(json.dumps(MINIMAL | {"job_id": job_id, "run_id": job_id}))

    assert (config.job_id, config.run_id) == ("47331", "47331")


def test_a_job_id_beyond_what_a_float_can_hold_keeps_every_digit() -> None:
    assert read_config(json.dumps(MINIMAL | {"job_id": 2**63 + 1})).job_id == "9223372036854775809"


def test_a2_the_job_and_the_run_are_two_numbers() -> None:
    config = read_config(json.dumps(MINIMAL | {"job_id": 1, "run_id": 2}))

    assert (config.job_id, config.run_id) == ("1", "2")


@pytest.mark.parametrize("unknown", [{"new": 1}, {"new": {"deep": [1, None]}}, {"contract_version": 2, "new": "x"}])
def test_fields_of_a_later_writer_are_ignored(unknown: dict[str, Any]) -> None:
    assert read_config(json.dumps(MINIMAL | unknown)).org == "acme"


def test_null_is_the_same_as_absent() -> None:
    assert read_config(json.dumps(MINIMAL | {"runner_group": None, "issued_at": None})) == read_config(json.dumps(MINIMAL))


def test_all_faults_of_one_document_are_named_at_once_each_by_its_field() -> None:
    found = faults(
        {
            "repo": 7,
            "labels": "x64",
            "jit_token": ["a-registration-token"],
            "job_id": True,
            "attempt": "two",
            "is_org": "yes",
            "issued_at": "yesterday",
            "expires_at": "2026-01-31T12:00:00",
            "max_runtime_minutes": 0,
        }
    )

    assert set(found) == {
        "org", "repo", "labels", "jit_token", "job_id", "attempt", "is_org", "issued_at", "expires_at", "max_runtime_minutes"
    }  # fmt: skip
    assert found["org"] == "missing"
    assert found["repo"] == "expected str, found int"


def test_the_refusal_s_text_names_the_document_and_every_field() -> None:
    with pytest.raises(ContractError, match=r"^the configuration in /a/b is not usable: .*org: missing.*job_id: missing"):
        read_config('{"jit_token": "a", "repo": "r", "labels": ["x64"]}', "the configuration in /a/b")


@pytest.mark.parametrize("field", MINIMAL)
@pytest.mark.parametrize("emptied", [False, True])
def test_what_a_life_needs_is_missed_when_it_is_absent_and_when_it_is_empty(field: str, emptied: bool) -> None:
    document = {name: value for name, value in MINIMAL.items() if name != field}
    if emptied:
        document[field] = type(MINIMAL[field])()

    assert list(faults(document)) == [field]


def test_an_organisation_s_runner_needs_no_repository() -> None:
    assert read_config(json.dumps({**MINIMAL, "repo": "", "is_org": True})).repo == ""


def test_a_blob_needs_neither_repository_nor_labels() -> None:
    assert read_config(json.dumps({"org": "acme", "job_id": 7, "jit_config": BLOB})).blob() == Secret(BLOB)


@pytest.mark.parametrize("text", ["", "{", '{"org": ', "nonsense", '{"org": "\ud800"}', '{"a": 1} trailing', "\x00", "[" * 4_000])
def test_what_is_not_json_is_refused_as_such(text: str) -> None:
    assert "malformed JSON" in faults(text)[""]


@pytest.mark.parametrize(
    ("text", "kind"), [("[]", "a list"), ('"x"', "a string"), ("7", "a number"), ("null", "null"), ("true", "a boolean")]
)
def test_json_that_is_no_object_is_refused_by_its_kind(text: str, kind: str) -> None:
    assert faults(text) == {"": f"expected a JSON object, found {kind}"}


@pytest.mark.parametrize("minutes", [0, -1, 14_401, 1e300])
def test_a_limit_nobody_can_mean_is_refused(minutes: float) -> None:
    assert list(faults(MINIMAL | {"max_runtime_minutes": minutes})) == ["max_runtime_minutes"]


def test_a_packed_blob_that_does_not_unpack_is_refused_at_the_door() -> None:
    assert list(faults({"org": "acme", "job_id": 7, "jit_config_gz": "AAAA"})) == ["jit_config_gz"]


@pytest.mark.parametrize("field", ["jit_token", "jit_config", "jit_config_gz"])
@pytest.mark.parametrize(
    "fault", [{"org": 1}, {"job_id": None}, {"labels": 5}, {"issued_at": "x"}, {"expires_at": "2026-01-31T12:00:00"}]
)
def test_no_secret_appears_in_what_is_said_of_a_faulty_document(field: str, fault: dict[str, Any]) -> None:
    secret = "hush-hush-hush"  # pragma: allowlist secret
    with pytest.raises(ContractError) as refused:
        read_config(json.dumps(MINIMAL | fault | {field: secret}))

    said = "".join(traceback.format_exception(refused.value)) + repr(refused.value) + repr(refused.value.problems)
    assert secret not in said


def test_no_secret_appears_in_what_is_said_of_broken_json() -> None:
    with pytest.raises(ContractError) as refused:
        read_config(f'{{"jit_token": "{MINIMAL["jit_token"]}", ')

    assert MINIMAL["jit_token"] not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("name", VERSION_1)
def test_a_configuration_s_repr_shows_no_secret(name: str) -> None:
    config = VERSION_1[name]
    secret = config.jit_token or config.jit_config_gz

    assert secret is not None and secret.reveal() not in repr(config) + str(config) + f"{config}"
    assert "***" in repr(config)


def test_what_does_not_fit_a_standard_parameter_is_not_written() -> None:
    config = RunnerConfig(**COMMON, jit_token=Secret("t" * PARAMETER_LIMIT))

    with pytest.raises(ContractError, match="4096"):
        write_config(config)


def test_what_could_not_be_read_again_is_not_written() -> None:
    with pytest.raises(ContractError, match="jit_token"):
        write_config(RunnerConfig(org="acme", job_id="7"))


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        VERSION_1["config-least"].org = "other"  # type: ignore[misc]


def test_the_type_itself_refuses_to_write_a_secret_by_accident() -> None:
    with pytest.raises(TypeError):
        msgspec.json.encode(VERSION_1["config-token"])
