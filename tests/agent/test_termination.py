"""Every way to make the machine go away, each tried in its turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.mailbox import Mailbox
from agent.termination import ASKING, ASKING_WITHIN_S, POWER_OFF_WITHIN_S, Departure, Termination
from simulation.agent_inbox import HANGS, Script, VirtualInbox, VirtualJournal, VirtualWorkers, refused
from simulation.agent_services import INSTANCE, VirtualMachine
from simulation.agent_world import VirtualWorld
from simulation.clock import AgentClock

UNREACHABLE = refused("Unreachable")
DENIED = refused("UnauthorizedOperation", "ec2:TerminateInstances")


@pytest.mark.parametrize("code", ["RequestLimitExceeded", "ServiceUnavailable", "RequestExpired", "AuthFailure"])
def test_what_passes_is_asked_again_for_some_six_seconds_before_the_power_goes_off(tmp_path: Path, code: str) -> None:
    world = VirtualWorld(tmp_path)
    world.machine.termination = Script(refused(code, "ec2:TerminateInstances"))

    world.live()

    first_s, *_, last_s = world.machine.terminations
    assert 5.0 <= last_s - first_s <= 8.0
    assert len(world.machine.terminations) >= 5
    assert 0.0 < world.machine.power_offs[0][0] - last_s < 1.0


def test_a_throttled_account_that_accepts_in_the_end_keeps_the_power_on(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.machine.termination = Script(*[refused("RequestLimitExceeded")] * 4, None)

    world.live()

    assert (len(world.machine.terminations), world.machine.power_offs) == (5, [])


@pytest.mark.parametrize("code", ["UnauthorizedOperation", "InvalidInstanceID.NotFound", "OperationNotPermitted"])
def test_a_permanent_refusal_of_terminate_is_not_repeated_either(tmp_path: Path, code: str) -> None:
    world = VirtualWorld(tmp_path)
    world.machine.termination = Script(refused(code))

    world.live()

    assert (len(world.machine.terminations), len(world.machine.power_offs)) == (1, 1)


def test_a_passing_fault_of_ec2_is_tried_again_until_it_is_accepted(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.machine.termination = Script(refused("ServiceUnavailable"), UNREACHABLE, None)

    world.live()

    assert (len(world.machine.terminations), world.machine.power_offs) == (3, [])


def test_without_a_command_a_machine_that_is_certainly_ec2_switches_itself_off_its_own_way(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, POWER_OFF="")
    world.machine.switch_by_default = ("systemctl", "poweroff")
    world.machine.termination = Script(refused("UnauthorizedOperation"))

    world.live()

    assert [command for _, command in world.machine.power_offs] == [("systemctl", "poweroff")]


def test_without_a_command_no_other_machine_is_switched_off(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, POWER_OFF="")
    world.machine.termination = Script(refused("UnauthorizedOperation"))

    world.live()

    assert world.machine.power_offs == []
    assert len(world.journal.told("power_off.none")) == 1


@pytest.mark.parametrize("fault", [OSError("no such command"), HANGS], ids=["missing", "hung"])
def test_a_power_switch_that_fails_does_not_keep_the_agent(tmp_path: Path, fault: BaseException) -> None:
    world = VirtualWorld(tmp_path)
    world.machine.termination = Script(refused("UnauthorizedOperation"))
    world.machine.switch = Script(fault)

    ended = world.live()

    assert ended.exit_code == 0
    assert ended.age_s < 120.0


class Bench:
    """The ways out of one machine, on a virtual clock."""

    def __init__(self, power_off: tuple[str, ...] | None = ("switch", "off")) -> None:
        self.clock = AgentClock()
        self.inbox = VirtualInbox(self.clock)
        self.journal = VirtualJournal(self.clock)
        self.machine = VirtualMachine(clock=self.clock, inbox=self.inbox)
        mailbox = Mailbox(self.inbox, VirtualWorkers(self.clock, self.inbox), self.clock)
        self.termination = Termination(self.machine, power_off, mailbox, self.clock, self.journal)


def test_what_ec2_accepts_is_enough() -> None:
    bench = Bench()

    assert bench.termination.leave(INSTANCE) == Departure(accepted=True)
    assert (len(bench.machine.terminations), bench.machine.power_offs) == (1, [])
    assert bench.journal.told("termination.accepted") == [{"instance_id": INSTANCE}]


def test_for_certain_the_power_goes_off_though_ec2_accepted() -> None:
    bench = Bench()
    bench.machine.switch = Script(3)

    assert bench.termination.leave(INSTANCE, for_certain=True) == Departure(accepted=True, power_off_code=3)
    assert bench.journal.told("power_off.ran") == [{"command": "switch", "code": 3}]


def test_a_refusal_is_told_and_the_power_goes_off() -> None:
    bench = Bench()
    bench.machine.termination = Script(DENIED)

    assert bench.termination.leave(INSTANCE) == Departure(accepted=False, power_off_code=0, error=str(DENIED))
    assert bench.journal.told("termination.refused") == [{"instance_id": INSTANCE, "error": str(DENIED)}]


def test_an_ec2_that_never_answers_is_waited_for_up_to_a_bound() -> None:
    bench = Bench()
    bench.machine.termination = Script(HANGS)

    departure = bench.termination.leave(INSTANCE)

    assert (departure.accepted, departure.power_off_code) == (False, 0)
    assert bench.machine.power_offs == [(ASKING_WITHIN_S, ("switch", "off"))]


def test_a_fault_that_does_not_pass_in_time_is_given_up_at_its_bound() -> None:
    bench = Bench()
    bench.machine.termination = Script(refused("ServiceUnavailable"))

    departure = bench.termination.leave(INSTANCE)

    assert max(age_s for age_s in bench.machine.terminations) <= ASKING.within_s
    assert "ServiceUnavailable" in departure.error and departure.power_off_code == 0


def test_a_machine_without_a_name_asks_nobody_and_switches_itself_off() -> None:
    bench = Bench()

    departure = bench.termination.leave(None)

    assert (bench.machine.terminations, len(bench.machine.power_offs)) == ([], 1)
    assert departure.error == "this machine does not know its instance id"


def test_the_command_of_the_settings_goes_before_the_machines_own() -> None:
    bench = Bench(("my", "switch"))
    bench.machine.switch_by_default = ("systemctl", "poweroff")

    bench.termination.leave(None)

    assert [command for _, command in bench.machine.power_offs] == [("my", "switch")]


def test_a_fault_nobody_planned_ends_in_the_power_switch_too() -> None:
    bench = Bench()
    bench.machine.termination = Script(ZeroDivisionError())

    departure = bench.termination.leave(INSTANCE)

    assert (departure.error, departure.power_off_code) == ("ZeroDivisionError()", 0)


@pytest.mark.parametrize(("fault", "age_s"), [(FileNotFoundError("no systemctl"), 0.0), (HANGS, POWER_OFF_WITHIN_S)])
def test_a_power_switch_that_fails_is_told_and_raises_nothing(fault: BaseException, age_s: float) -> None:
    bench = Bench()
    bench.machine.switch = Script(fault)

    assert bench.termination.leave(None).power_off_code is None
    assert (len(bench.journal.told("power_off.failed")), bench.clock.age_s) == (1, age_s)
