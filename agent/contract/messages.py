"""What comes out: JSON on the termination queue. Notices while the life lasts, then exactly one final word."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec

from agent.contract import CONTRACT_VERSION
from agent.contract.errors import ContractError, Problem


class Status(StrEnum):
    """How a life ended, as the orchestrator must act on it."""

    SUCCESS = "success"
    FAILURE = "failure"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"


OUT_OF_MEMORY = "out-of-memory"
"""The part of `degraded` that says that the kernel killed processes while the job ran."""


class _Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    instance_id: str
    job_id: str
    """The job the session was launched for, as a string; empty: no configuration was read."""
    message_id: str = ""
    """The same in every copy of one message: delivery is at least once."""
    session_id: str = ""
    attempt: int = 0
    contract_version: int = CONTRACT_VERSION
    traceparent: str = ""


class Started(_Envelope, frozen=True, kw_only=True, omit_defaults=True):
    """Ready: the configuration is read and the runner process runs; no job yet."""

    status: str = msgspec.field(default="started")
    self_termination: str = ""
    """`permitted`, or the error code with which EC2 answered the DryRun of our own termination, or `unknown`."""
    phases_ms: dict[str, int] = {}


class Busy(_Envelope, frozen=True, kw_only=True, omit_defaults=True):
    """A job was taken. The `ran_*` fields come from the job itself: a hint, not proof."""

    status: str = msgspec.field(default="busy")
    ran_run_id: str = ""
    ran_run_attempt: str = ""
    ran_job: str = ""


class Interruption(StrEnum):
    """The values of `Interrupting.reason`. A reader must expect others: an agent may be newer than its orchestrator."""

    SPOT_NOTICE = "spot_notice"
    """EC2 takes a spot instance back. Source: "Spot Instance interruption notices", EC2 user guide."""
    REBALANCE = "rebalance_recommendation"
    """EC2 may take a spot instance back soon. Source: "EC2 instance rebalance recommendations", EC2 user guide."""


class Interrupting(_Envelope, frozen=True, kw_only=True, omit_defaults=True):
    """The machine is about to be taken; `ends_at` is absent where nobody said when."""

    status: str = msgspec.field(default="interrupting")
    reason: str = ""
    ends_at: datetime | None = None


class FinalWord(_Envelope, frozen=True, kw_only=True, omit_defaults=True):
    """How the life ended: the seed's eight fields, and what was added since."""

    status: Status
    exit_code: int
    """0 if and only if the status is `success`."""
    duration_seconds: int
    started_at: datetime
    completed_at: datetime
    error: str = ""
    """Why, in a sentence; never empty unless the status is `success`."""
    reason: str = ""
    """The same as one stable word."""
    job_result: str = ""
    """The runner's own word for its job: `Succeeded`, `Failed`, …"""
    runner_exit_code: int | None = None
    ran_run_id: str = ""
    ran_run_attempt: str = ""
    ran_job: str = ""
    phases_ms: dict[str, int] = {}
    log_outcome: str = ""
    log_lines_shipped: int = 0
    log_lines_lost: int = 0
    diag_outcome: str = ""
    cache_outcome: str = ""
    digest: str = ""
    """Who vouched for the release: `configuration`, `releases-api`, `recorded`, `prebaked`."""
    degraded: tuple[str, ...] = ()
    """What was off or broken without stopping the job, each `part: why`."""


class BootstrapFailed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The boot script could not start an agent; sent by the script, read by the orchestrator."""

    instance_id: str
    error: str
    status: str = msgspec.field(default="bootstrap_failed")


Message = Started | Busy | Interrupting | FinalWord | BootstrapFailed
_NOTICES: dict[str, type[Any]] = {
    "started": Started,
    "busy": Busy,
    "interrupting": Interrupting,
    "bootstrap_failed": BootstrapFailed,
}


def write_message(message: Message) -> str:
    """The body to send: required fields and everything that is not its default, times in UTC with `Z`."""
    fields = msgspec.to_builtins(message, enc_hook=str)
    fields["status"] = str(message.status)
    if not isinstance(message, BootstrapFailed):
        fields["contract_version"] = message.contract_version
    for name in ("started_at", "completed_at", "ends_at"):
        if (at := getattr(message, name, None)) is not None:
            fields[name] = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return msgspec.json.encode(fields).decode()


def read_message(body: str) -> Message:
    """The message in `body`; unknown fields are ignored, `job_id` may be a number.

    Raises: ContractError if it is not JSON, has no status we know, or lacks what its status demands.
    """
    try:
        fields = msgspec.json.decode(body.encode())
        status = fields["status"]
        kind = _NOTICES.get(status, FinalWord)
        for name in ("job_id", "ran_run_id", "ran_run_attempt"):
            if isinstance(fields.get(name), int) and not isinstance(fields[name], bool):
                fields[name] = str(fields[name])
        return msgspec.convert(fields, kind)  # type: ignore[no-any-return]
    except (msgspec.MsgspecError, UnicodeError, KeyError, TypeError, RecursionError) as error:
        raise ContractError("the message", (Problem("", f"expected a message of the contract: {error}"),)) from error
