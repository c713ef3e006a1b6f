"""Every way the agent can fail: whose fault it is, whether trying again helps, which exit code it means.

The exit codes follow sysexits.h, so that a unit file or a shell script can tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from agent.contract.config import RunnerConfig

Value = TypeVar("Value")


class Exit(IntEnum):
    """What the process returns."""

    LIVED = 0
    MALFORMED = 65
    UNDELIVERED = 69
    INTERNAL = 70
    NEVER_CAME = 75
    DENIED = 77
    SETTINGS = 78


class AgentError(Exception):
    """A failure with a name. `reason` is its stable word, `exit_code` what the process returns for it."""

    reason = "internal"
    exit_code = Exit.INTERNAL


class SettingsError(AgentError):
    """The operator's environment is wrong or incomplete; `problems` holds all of it."""

    reason = "settings"
    exit_code = Exit.SETTINGS

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("the settings are not usable: " + "; ".join(problems))


class ConfigurationMissing(AgentError):
    """The orchestrator's fault, or the operator's: the parameter never appeared."""

    reason = "configuration_missing"
    exit_code = Exit.NEVER_CAME


class ConfigurationDenied(AgentError):
    """The operator's fault: the role may not read the parameter (or it never appeared under a tag-scoped policy)."""

    reason = "configuration_denied"
    exit_code = Exit.DENIED


class ConfigurationMalformed(AgentError):
    """The orchestrator's fault: what the parameter holds breaks the contract."""

    reason = "configuration_malformed"
    exit_code = Exit.MALFORMED


class ConfigurationExpired(ConfigurationMalformed):
    """Too late: the credential inside would be refused, so nothing is started."""

    reason = "configuration_expired"
    config: RunnerConfig | None = None
    """What was refused: the final word still names its job and session."""


class ReleaseUnavailable(AgentError):
    """The runner's release could not be had from any source; every source tried is named."""

    reason = "download_failed"


class ReleaseRefused(AgentError):
    """The release is not what its publisher made, or would harm the machine: digest, or a member of the archive."""

    reason = "release_refused"
    exit_code = Exit.MALFORMED


class DigestMismatch(ReleaseRefused):
    """The bytes are not the publisher's."""

    reason = "digest_mismatch"


class RegistrationFailed(AgentError):
    """`config.sh` refused or did not end in time."""

    reason = "registration_failed"


class RunnerUnstartable(AgentError):
    """The release is there but its `run.sh` could not be executed."""

    reason = "runner_unstartable"


class MetadataExposed(AgentError):
    """The metadata service was to be switched off for the job and could not be; the job was not started beside it."""

    reason = "metadata_exposed"


class QueueUnusable(AgentError):
    """The termination queue cannot be asked: nobody would hear how the job ended, so it is not started."""

    reason = "queue_unusable"
    exit_code = Exit.UNDELIVERED


class ServiceError(Exception):
    """A remote service answered with an error; `code` is its own word, the only thing decisions look at."""

    def __init__(self, action: str, code: str, detail: str = "") -> None:
        self.action, self.code, self.detail = action, code, detail
        super().__init__(f"{action} answered {code}" + (f": {detail}" if detail else ""))


UNREACHABLE = "Unreachable"
"""The code of calls that got no answer."""


class Unreachable(ServiceError):
    """No answer: refused, hung past its timeout, or cut off. Whether the call took effect is unknown."""

    def __init__(self, action: str, detail: str = "") -> None:
        super().__init__(action, UNREACHABLE, detail)


class NoCredentials(ServiceError):
    """Nothing to sign with yet: an instance's role may take some seconds to appear."""

    def __init__(self, action: str, detail: str = "") -> None:
        super().__init__(action, "NoCredentials", detail)


@dataclass(frozen=True)
class Outcome(Generic[Value]):
    """What came of a call: its value, or the exception it raised."""

    returned: Value | None = None
    error: Exception | None = None

    @property
    def value(self) -> Value:
        """The returned value. Raises: the exception, unchanged, where there is one."""
        if self.error is not None:
            raise self.error
        return self.returned  # type: ignore[return-value]


def caught(task: Callable[[], Value]) -> Outcome[Value]:
    """The outcome of `task`, whatever it raises: the one broad net of the deciding code.

    For steps after which the life must go on in every case: a message, a look, a way to switch the machine off.
    """
    try:
        return Outcome(task())
    except Exception as error:  # noqa: BLE001 - the net: the caller looks at `error`
        return Outcome(error=error)
