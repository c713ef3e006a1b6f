"""A JIT config small enough for a standard SSM parameter, and back to the same bytes."""

from __future__ import annotations

import base64
import gzip
import json
import random
import traceback
import tracemalloc
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.config import PARAMETER_LIMIT, RunnerConfig, read_config, write_config
from agent.contract.errors import ContractError
from agent.contract.jit import UNPACKED_LIMIT_BYTES, pack, secrets_within, unpack
from agent.contract.secret import Secret

KEY_BYTES = {"d": 256, "dp": 128, "dq": 128, "exponent": 3, "inverseQ": 128, "modulus": 256, "p": 128, "q": 128}
"""The numbers of an RSA key of 2,048 bits: 1,152 bytes of chance beside the exponent."""


def encoded(content: bytes | str) -> str:
    return base64.b64encode(content.encode() if isinstance(content, str) else content).decode()


def a_blob(seed: int = 1) -> str:
    """A blob as generate-jitconfig returns it: base64 of JSON of base64 of three files, one of them an RSA key."""
    chance = random.Random(seed)
    runner = {
        "AgentId": "123456",
        "AgentName": "runs-fleet-i-0123456789abcdef0",
        "DisableUpdate": "true",
        "Ephemeral": "true",
        "GitHubUrl": "https://github.com/acme-corporation/widgets-and-gadgets",
        "PoolId": "1",
        "PoolName": "Default",
        "ServerUrl": "https://pipelinesghubeus1.actions.githubusercontent.com/" + "aB3" * 16 + "/",
        "ServerUrlV2": "https://broker.actions.githubusercontent.com/",
        "UseV2Flow": "True",
        "WorkFolder": "_work",
    }
    credentials = {
        "Data": {
            "ClientId": "01234567-89ab-cdef-0123-456789abcdef",
            "AuthorizationUrl": "https://vstoken.actions.githubusercontent.com/_apis/oauth2/token/01234567-89ab-cdef-0123-456789abcdef",
            "requireFipsCryptography": "True",
        },
        "Scheme": "OAuth",
    }
    key = {name: encoded(chance.randbytes(size)) for name, size in KEY_BYTES.items()}
    files = {".runner": runner, ".credentials": credentials, ".credentials_rsaparams": key}
    return encoded(json.dumps({name: encoded(json.dumps(content)) for name, content in files.items()}))


def packed_of(value: object) -> str:
    """Base64 of gzip of JSON: the outer form of what `pack` writes, whatever is inside."""
    return encoded(gzip.compress(json.dumps(value).encode()))


def refused(packed: str) -> ContractError:
    with pytest.raises(ContractError) as refusal:
        unpack(packed)
    return refusal.value


@pytest.mark.parametrize("seed", range(5))
def test_r6_a_blob_with_a_real_key_makes_a_whole_parameter_that_fits_the_standard_tier(seed: int) -> None:
    blob = a_blob(seed)
    config = RunnerConfig(
        org="acme-corporation",
        job_id="47331908423",
        repo="acme-corporation/widgets-and-gadgets",
        labels=("runs-fleet=15739284610", "runner=2cpu-linux-arm64", "pool=default", "spot=false"),
        runner_group="Default",
        jit_config=Secret(blob),
        run_id="15739284610",
        runner_name="runs-fleet-i-0123456789abcdef0",
        runner_version="2.336.0",
        runner_sha256="0123456789abcdef" * 4,
        session_id="01234567-89ab-cdef-0123-456789abcdef",
        attempt=3,
        stack_id="production",
        issued_at=datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC),
        expires_at=datetime(2026, 1, 31, 12, 30, 0, tzinfo=UTC),
        max_runtime_minutes=360.0,
        logs_bucket="acme-corporation-runs-fleet-logs",
        logs_prefix="runner-logs/production",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )

    text = write_config(config)

    assert len(blob) > 3_500 and len(text) <= PARAMETER_LIMIT
    assert read_config(text).blob() == Secret(blob)


def test_r6_the_packed_form_is_far_smaller_than_the_blob() -> None:
    assert len(pack(a_blob())) < 0.75 * len(a_blob())


def test_packing_twice_gives_the_same_text() -> None:
    assert pack(a_blob()) == pack(a_blob())


nested = st.recursive(
    st.text(st.characters(exclude_categories=["Cs"])) | st.integers() | st.none() | st.binary().map(encoded),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc.", max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_unchanged(text: str) -> None:
    assert unpack(pack(encoded(text))) == encoded(text)


@given(nested, st.sampled_from([(",", ":"), (", ", ": ")]), st.booleans())
def test_any_json_comes_back_unchanged_however_it_is_written(value: object, separators: tuple[str, str], ascii: bool) -> None:
    blob = encoded(json.dumps(value, separators=separators, ensure_ascii=ascii))

    assert unpack(pack(blob)) == blob


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=12), max_size=4))
def test_any_base64_within_base64_comes_back_unchanged(inner: list[str]) -> None:
    blob = encoded(json.dumps({f"file-{number}": encoded(text) for number, text in enumerate(inner)}))

    assert unpack(pack(blob)) == blob


UNREPEATABLE = {
    "without padding": "QUJDREVGR0hJSktMTU5PUA",
    "not canonical": "QUJDREVGR0hJSktMTU5PUB==",
    "too much padding": "QUJDREVGR0hJSktMTU5PUFFR====",
    "not text": "/////////////////////w==",
    "the other alphabet": "-_-_-_-_-_-_-_-_",
}


@pytest.mark.parametrize("value", UNREPEATABLE.values(), ids=UNREPEATABLE.keys())
def test_inner_values_that_could_not_be_made_again_are_left_as_they_are(value: str) -> None:
    blob = encoded(json.dumps({"file": value}, separators=(",", ":")))

    assert unpack(pack(blob)) == blob


@pytest.mark.parametrize(
    "blob",
    ["not base64!", "QUJD\nREVG", "QUJDREU", "QUJDRB==", encoded(b"\xff\xfe"), "QÜJD"],
    ids=["no base64", "a line break", "no padding", "not canonical", "no text", "no ASCII"],
)
def test_what_is_no_blob_is_not_packed(blob: str) -> None:
    with pytest.raises(ContractError, match="jit_config"):
        pack(blob)


GOOD = pack(a_blob())
RAW = base64.b64decode(GOOD)


FOREIGN = {
    "nothing": "",
    "no base64": "not base64!",
    "cut in the check sum": encoded(RAW[:-3]),
    "cut early": GOOD[:200],
    "no gzip": encoded(b"no gzip"),
    "no check sum": encoded(RAW[:-8]),
    "a wrong check sum": encoded(RAW[:-8] + bytes(8)),
    "more after the end": encoded(RAW + b"more"),
    "no json": encoded(gzip.compress(b"no json")),
    "deep json": encoded(gzip.compress(b"[" * 50_000)),
    "no text": encoded(gzip.compress(b"\xff")),
    "an object": packed_of({"a": "object"}),
    "a string": packed_of("text"),
    "a number": packed_of(7),
    "null": packed_of(None),
    "a list with a number": packed_of(["a", 7]),
    "a list in a list": packed_of([["a"]]),
    "half a character": packed_of(["\ud800"]),
}


@pytest.mark.parametrize("packed", FOREIGN.values(), ids=FOREIGN.keys())
def test_what_pack_did_not_write_is_refused(packed: str) -> None:
    assert refused(packed).problems[0].field == "jit_config_gz"


def test_what_swells_beyond_the_limit_is_refused_before_it_fills_the_memory() -> None:
    bomb = encoded(gzip.compress(b'["' + b"a" * (100 << 20) + b'"]', 6))
    tracemalloc.start()

    said = str(refused(bomb))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert str(UNPACKED_LIMIT_BYTES) in said
    assert peak < 8 * UNPACKED_LIMIT_BYTES


def test_a_bomb_in_a_parameter_is_a_fault_of_its_field() -> None:
    bomb = encoded(gzip.compress(bytes(2 << 20), 9))

    with pytest.raises(ContractError, match="jit_config_gz: unpacks to more than"):
        read_config(json.dumps({"org": "acme", "job_id": 1, "jit_config_gz": bomb}))


@pytest.mark.parametrize(
    "packed",
    ["hush-hush-hush!", packed_of({"hush-hush-hush": 1}), packed_of([7, "hush-hush-hush"])],
    ids=["text", "object", "list"],
)
def test_no_part_of_it_is_in_the_refusal(packed: str) -> None:
    try:
        read_config(json.dumps({"org": "acme", "job_id": 1, "jit_config_gz": packed, "labels": 7}))
    except ContractError as error:
        said = "".join(traceback.format_exception(error)) + repr(error)

    assert "hush" not in said and packed not in said


def test_every_private_part_of_a_blob_is_known_as_a_secret_of_its_own() -> None:
    files = json.loads(base64.b64decode(a_blob()))
    key = json.loads(base64.b64decode(files[".credentials_rsaparams"]))

    found = {secret.reveal() for secret in secrets_within(a_blob())}

    assert {a_blob(), *files.values()} <= found
    assert {key[name] for name in ("d", "p", "q", "dp", "dq", "inverseQ")} <= found
    assert not {key["exponent"], key["modulus"]} & found


@pytest.mark.parametrize("blob", ["nonsense", encoded("no json"), encoded("[1]"), encoded('{"a": 7}'), encoded('{"a": "%%"}')])
def test_a_blob_of_another_shape_is_a_secret_as_a_whole(blob: str) -> None:
    assert secrets_within(blob)[0] == Secret(blob)
