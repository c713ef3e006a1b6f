"""Every way to make this machine go away, in order."""

from __future__ import annotations

from dataclasses import dataclass

from agent.calls.retries import RetryPolicy, is_passing, retry
from agent.errors import caught
from agent.mailbox import Mailbox
from agent.ports import Clock, Journal, Machine

ASKING = RetryPolicy(within_s=8.0, first_s=0.3, longest_s=2.0)
"""Some six seconds, also of a throttled account: a fleet ends in bursts, and power-off ends an instance only where its launch
template says so (instance-initiated shutdown = terminate); elsewhere it stops the instance, whose disk is paid for."""
ASKING_WITHIN_S = 11.0
"""Seconds for asking EC2, a hung last try included; after that the power is switched off."""
POWER_OFF_WITHIN_S = 30.0
"""Seconds for the command to come back; it has done its part by running."""


@dataclass(frozen=True)
class Departure:
    """How the machine was sent away: `accepted` by EC2, and what the power-off command answered (None: not run)."""

    accepted: bool
    power_off_code: int | None = None
    error: str = ""


class Termination:
    """Leaves by the first way that works; by all of them where something already went wrong."""

    def __init__(
        self, machine: Machine, power_off: tuple[str, ...] | None, mailbox: Mailbox, clock: Clock, journal: Journal
    ) -> None:
        self._machine, self._power_off = machine, power_off
        self._mailbox, self._clock, self._journal = mailbox, clock, journal

    def leave(self, instance_id: str | None, *, for_certain: bool = False) -> Departure:
        """Terminate the instance; power off if that was not accepted, or in any case where `for_certain`.

        Never raises: there is nobody left to tell.
        """
        error = self._asked(instance_id)
        if error:
            self._journal.event("termination.refused", instance_id=instance_id or "unknown", error=error)
        else:
            self._journal.event("termination.accepted", instance_id=instance_id)
        if not error and not for_certain:
            return Departure(accepted=True)
        return Departure(accepted=not error, power_off_code=self._powered_off(), error=error)

    def _asked(self, instance_id: str | None) -> str:
        if not instance_id:
            return "this machine does not know its instance id"
        asked = caught(lambda: self._mailbox.bounded("termination", lambda: self._ask(instance_id), ASKING_WITHIN_S))
        return "" if asked.error is None else str(asked.error) or repr(asked.error)

    def _ask(self, instance_id: str) -> None:
        retry(lambda: self._machine.terminate(instance_id), is_passing, ASKING, self._clock)

    def _powered_off(self) -> int | None:
        command = self._power_off or self._machine.power_off_by_default()
        if not command:
            self._journal.event("power_off.none", hint="set RUNS_FLEET_POWER_OFF to the command that switches this machine off")
            return None
        self._journal.event("power_off.running", command=command[0])
        ran = caught(lambda: self._mailbox.bounded("power off", lambda: self._machine.power_off(command), POWER_OFF_WITHIN_S))
        if ran.error is not None:  # the outermost net in cli.py tries once more
            self._journal.event("power_off.failed", command=command[0], error=str(ran.error) or repr(ran.error))
            return None
        self._journal.event("power_off.ran", command=command[0], code=ran.value)
        return ran.value
