"""Every way to make the machine go away, each tried in its turn."""

from __future__ import annotations


def test_a_throttled_terminate_call_is_not_repeated_and_the_power_goes_off_at_once(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.machine.termination = Script(refused("RequestLimitExceeded", "ec2:TerminateInstances"))

    world.live()

    (asked_s,) = world.machine.terminations
    assert world.machine.power_offs[0][0] - asked_s < 1.0


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
