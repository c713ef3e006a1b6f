"""What goes in: the configuration of one session, one JSON document in one SSM parameter."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any

import msgspec

from agent.contract import CONTRACT_VERSION
from agent.contract.errors import ContractError, Problem
from agent.contract.jit import pack, unpack
from agent.contract.secret import Secret

PARAMETER_LIMIT = 4096
"""Characters of a standard-tier SSM parameter. Source: "Parameter Store tiers", Systems Manager user guide."""


class RunnerConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything an instance must know to run one job. Absent means what each line says.

    The first six are the seed's; the rest is additive and optional.
    """

    org: str
    job_id: str
    """The job the session was launched for (another may be run). Sent as string or number, kept as string."""
    repo: str = ""
    """`name` or `owner/name`; absent: the runner belongs to the organisation."""
    jit_token: Secret | None = None
    """A registration token for `config.sh`, valid one hour; needed where there is no JIT config."""
    labels: tuple[str, ...] = ()
    runner_group: str = ""
    """Absent: the default group."""
    jit_config: Secret | None = None
    """The blob of generate-jitconfig, as GitHub returned it; wins over `jit_token`."""
    jit_config_gz: Secret | None = None
    """The same blob in its packed form (`agent.contract.jit`)."""
    run_id: str = ""
    is_org: bool = False
    """Register with the organisation instead of the repository."""
    runner_name: str = ""
    """Absent: derived from the instance id."""
    runner_version: str = ""
    """The release to run; absent: the agent's own order of choice."""
    runner_sha256: str = ""
    """Lower-case hex digest of that release's archive; trusted before any other source."""
    runner_by_default: bool = False
    """Nobody chose `runner_version`, it is GitHub's newest: the image's own, or one that the machine names, goes first."""
    session_id: str = ""
    attempt: int = 0
    stack_id: str = ""
    issued_at: datetime | None = None
    """When the credential was made; a registration token is refused an hour later."""
    expires_at: datetime | None = None
    """After this nothing is started."""
    max_runtime_minutes: float | None = None
    """Absent: the agent's own limit."""
    logs_bucket: str = ""
    logs_prefix: str = ""
    traceparent: str = ""
    contract_version: int = CONTRACT_VERSION

    def blob(self) -> Secret | None:
        """The JIT config byte for byte as GitHub issued it; None on the token path."""
        if self.jit_config:
            return self.jit_config
        return Secret(unpack(self.jit_config_gz.reveal())) if self.jit_config_gz else None


def read_config(text: str, document: str = "the configuration") -> RunnerConfig:
    """The configuration in `text`; fields we do not know are ignored.

    Raises: ContractError naming `document` and every unusable or missing field at once; no value is quoted.
    """
    try:
        fields = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ContractError(
            document, (Problem("", f"expected a JSON object, found malformed JSON ({_position(error)})"),)
        ) from None
    if not isinstance(fields, dict):
        raise ContractError(document, (Problem("", f"expected a JSON object, found {_kind(fields)}"),))
    values, problems = _converted(fields)
    problems += _contradictions(values, {problem.field for problem in problems})
    if problems:
        raise ContractError(document, tuple(problems))
    return RunnerConfig(**values)


def write_config(config: RunnerConfig) -> str:
    """The parameter's value. A JIT config is packed, so that the standard tier (4,096 characters) holds it.

    Raises: ContractError if it would still be longer than a parameter may be, or would not be readable again.
    """
    if config.jit_config:
        packed = Secret(pack(config.jit_config.reveal()))
        config = msgspec.structs.replace(config, jit_config=None, jit_config_gz=packed)
    text = msgspec.json.encode(config, enc_hook=_revealed).decode()
    if len(text) > PARAMETER_LIMIT:
        complaint = f"{len(text)} characters; a standard parameter holds {PARAMETER_LIMIT}"
        raise ContractError("the configuration", (Problem("", complaint),))
    read_config(text)
    return text


@cache
def _fields() -> tuple[msgspec.structs.FieldInfo, ...]:
    """The fields of a configuration, asked for once: msgspec compiles all annotations anew at each asking."""
    return msgspec.structs.fields(RunnerConfig)


def _converted(fields: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for field in _fields():
        raw = fields.get(field.encode_name)
        if raw is None or (raw == "" and field.required):
            if field.required:
                problems.append(Problem(field.name, "missing"))
            continue
        if field.name in ("job_id", "run_id") and isinstance(raw, int) and not isinstance(raw, bool):
            raw = str(raw)
        try:
            values[field.name] = msgspec.convert(raw, field.type, dec_hook=_hidden)
        except msgspec.ValidationError as error:
            problems.append(Problem(field.name, _complaint(error, raw)))
    return values, problems


def _contradictions(values: dict[str, Any], reported: set[str]) -> list[Problem]:
    """What each field alone cannot tell: a life needs one credential, a token needs somewhere to register."""
    credentials = ("jit_config", "jit_config_gz", "jit_token")
    found: list[Problem] = []
    if not any(values.get(name) for name in credentials) and not reported.intersection(credentials):
        found.append(Problem("jit_token", "missing, and neither jit_config nor jit_config_gz is there instead"))
    if values.get("jit_token") and not any(values.get(name) for name in credentials[:2]):
        for name in ("repo", "labels"):
            if not values.get(name) and not (name == "repo" and values.get("is_org")) and name not in reported:
                found.append(Problem(name, "missing, and needed to register with jit_token"))
    if values.get("jit_config_gz") and not values.get("jit_config"):
        try:
            unpack(values["jit_config_gz"].reveal())
        except ContractError as error:
            found += error.problems
    for name in ("issued_at", "expires_at"):
        if values.get(name) is not None and values[name].tzinfo is None:
            found.append(Problem(name, "expected an offset from UTC, as in 2026-01-31T12:00:00Z"))
    limit = values.get("max_runtime_minutes")
    if limit is not None and not 0 < limit <= 14_400:
        found.append(Problem("max_runtime_minutes", "expected more than 0 and at most 14400"))
    return found


def _hidden(kind: type, value: Any) -> Any:
    if kind is Secret:
        if not isinstance(value, str):
            raise ValueError(f"Expected `str`, got `{_kind(value)}`")
        return Secret(value)
    raise NotImplementedError(kind)


def _revealed(value: Any) -> Any:
    if isinstance(value, Secret):
        return value.reveal()
    raise NotImplementedError(type(value))


def _complaint(error: msgspec.ValidationError, raw: object) -> str:
    said = str(error).replace("`", "").replace("Expected", "expected").replace("got", "found")
    return said if "found" in said else f"{said}, found {_kind(raw)}"


def _kind(value: object) -> str:
    return {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number"
    )


def _position(error: Exception) -> str:
    said = str(error)
    return said[said.find("byte") :].rstrip(")") if "byte" in said else "truncated or not JSON"
