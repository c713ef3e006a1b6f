"""The session's configuration: waited for, read, and refused where it cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from agent.calls.error_codes import PASSING, Meaning, meaning_of
from agent.calls.polling import Pace
from agent.contract.config import RunnerConfig, read_config
from agent.contract.errors import ContractError
from agent.contract.jit import secrets_within
from agent.errors import (
    ConfigurationDenied,
    ConfigurationExpired,
    ConfigurationMalformed,
    ConfigurationMissing,
    ServiceError,
)
from agent.mailbox import Mailbox, Overdue
from agent.ports import Clock, Journal, Parameters

NOT_YET = PASSING | {Meaning.ABSENT, Meaning.DENIED}
"""A tag-scoped policy denies what is not there yet, and S3 says no more to whoever may not list: so a denial is a "not yet" too.

Source: docs/design.md, "Facts that decide"; "Error responses" of the S3 API reference.
"""
TOKEN_LIFE = timedelta(hours=1)
"""How long a registration token is good for. Source: GitHub REST, "Create a registration token"."""
FIRST_LOOK_S = 15.0
"""Seconds for the first look, and for an answer that comes after the timeout."""


class Configuration:
    """Reads the configuration from its parameter or object."""

    def __init__(self, parameters: Parameters, name: str, timeout_s: float, clock: Clock, journal: Journal) -> None:
        self._parameters, self._name, self._timeout_s = parameters, name, timeout_s
        self._clock, self._journal = clock, journal
        self._last = ""
        self._pace = Pace()

    def now(self) -> RunnerConfig | None:
        """The configuration if it is there already, else None; one call.

        Raises: ConfigurationMalformed, ConfigurationExpired, and the errors of `wait` for what no waiting mends.
        """
        try:
            return self._accepted(self._parameters.read(self._name))
        except ServiceError as error:
            self._looked_in_vain(error, 0.0, is_last=False)
            return None

    def obtain(self, mailbox: Mailbox, meanwhile: Callable[[], None]) -> RunnerConfig:
        """The configuration: looked for once, then waited for in the background, with `meanwhile` begun before the wait.

        Raises: StoppedEarly, ConfigurationMissing, and what `wait` raises.
        """
        try:
            config = mailbox.bounded("first look", self.now, FIRST_LOOK_S)
        except Overdue:
            config = None
        if config is not None:
            return config
        meanwhile()
        mailbox.begin("configuration", self.wait)
        end = mailbox.ended_by("configuration", self._clock.monotonic_s() + self._timeout_s + FIRST_LOOK_S)
        if end is None:
            raise ConfigurationMissing("ssm:GetParameter did not answer")
        if end.error is not None:
            raise end.error
        return end.value  # type: ignore[no-any-return]

    def wait(self) -> RunnerConfig:
        """The configuration, as soon as it can be read; `now` has looked before.

        Raises: ConfigurationMissing or ConfigurationDenied after the timeout; ConfigurationMalformed, ConfigurationExpired.
        """
        begun_s = self._clock.monotonic_s()
        while True:
            wait_s = self._pace.wait_s(self._clock.fraction())
            left_s = begun_s + self._timeout_s - self._clock.monotonic_s()
            self._clock.pause(max(0.0, min(wait_s, left_s)))
            try:
                text = self._parameters.read(self._name)
                break
            except ServiceError as error:
                waited_s = self._clock.monotonic_s() - begun_s
                self._looked_in_vain(error, waited_s, is_last=waited_s >= self._timeout_s)
        return self._accepted(text)

    def _looked_in_vain(self, error: ServiceError, waited_s: float, *, is_last: bool) -> None:
        """Log a code that is new, and set the pace of the next look.

        Raises: ConfigurationMissing, ConfigurationDenied: there is no next look, or it would not help.
        """
        if error.code != self._last:
            self._journal.event("configuration.not_yet", parameter=self._name, code=error.code)
        self._last, meaning = error.code, meaning_of(error.code)
        if is_last or meaning not in NOT_YET:
            raise self._failure(error, waited_s) from error
        self._pace = self._pace.after(meaning)

    def _accepted(self, text: str) -> RunnerConfig:
        try:
            config = read_config(text, f"the configuration in {self._name}")
        except ContractError as error:
            raise ConfigurationMalformed(str(error)) from error
        if (blob := config.blob()) is not None:
            self._journal.hide(*secrets_within(blob.reveal()))
        self._journal.hide(*(secret for secret in (config.jit_token, config.jit_config_gz) if secret))
        if (complaint := expired(config, self._clock.now())) is not None:
            refusal = ConfigurationExpired(f"the configuration in {self._name} is refused: {complaint}")
            refusal.config = config
            raise refusal
        return config

    def _failure(self, error: ServiceError, waited_s: float) -> ConfigurationDenied | ConfigurationMissing:
        meaning = meaning_of(error.code)
        waited = f"for {waited_s:.0f} s" if waited_s >= 1.0 else "at once"
        if meaning is Meaning.DENIED:
            return ConfigurationDenied(
                f"{error.action} was denied {waited}: {error.detail or error.code}."
                " Allow it for the instance's role (in SSM, check that the parameter carries the tag the policy asks for)"
                " and check that the orchestrator writes to where it is read from"
            )
        if meaning is Meaning.ABSENT:
            return ConfigurationMissing(
                f"{self._name} did not appear {waited} ({error.action} answered {error.code}):"
                " is the orchestrator running, and do RUNS_FLEET_CONFIG_SOURCE and RUNS_FLEET_SSM_PARAMETER name what it writes?"
            )
        remedy = _REMEDIES.get(meaning, "Asking again would not help: check the name, the network, the region and the role")
        return ConfigurationMissing(f"{self._name} could not be read {waited}: {error}. {remedy}")


_REMEDIES = {
    Meaning.THROTTLED: "The account's quota of reads is used up: raise it, or set RUNS_FLEET_CONFIG_SOURCE=s3",
    Meaning.UNAVAILABLE: "Check the network, the proxy and the region",
    Meaning.NO_CREDENTIALS: "Check the instance's profile and its role",
    Meaning.CLOCK: "Check the machine's clock and time service, and the credentials",
}


def expired(config: RunnerConfig, now: datetime) -> str | None:
    """Why the configuration is too old to be used; None if it is not. What it does not say is not checked."""
    if config.expires_at is not None and now >= config.expires_at:
        return f"it expired at {config.expires_at.isoformat()} (expires_at), and now it is {now.isoformat(timespec='seconds')}"
    on_token_path = config.jit_config is None and config.jit_config_gz is None
    if on_token_path and config.issued_at is not None and now - config.issued_at > TOKEN_LIFE:
        return f"its registration token was issued at {config.issued_at.isoformat()} (issued_at) and lives one hour"
    return None
