"""Agents as processes of this machine: what stands on the disk, who begins them, and how they end. The processes are real."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from orchestrator.adapters.processes import PENDING_S, PRINTED, LocalProcesses
from orchestrator.compute.port import InstanceState
from orchestrator.errors import ServiceFailed
from tests.waiting import PATIENCE_S, sooner_or_later

PATH = {"PATH": os.environ["PATH"]}
WAITS = ("sleep", "300")
"""An agent that goes when it is asked."""
STUBBORN = ("/bin/sh", "-c", "trap '' TERM; sleep 300 & echo deaf; while :; do sleep 0.1; done")
"""One that does not, nor does its child."""


class Machine:
    """A directory of agents, and the orchestrators that came to it one after the other."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def comes(self, *command: str, polite_s: float = 5.0, runner: Path | None = None, **environment: str) -> LocalProcesses:
        """An orchestrator that knows nothing but what is on the disk."""
        return LocalProcesses(self.root, command or WAITS, {**PATH, **environment}, runner, polite_s)

    def place(self, identity: str) -> Path:
        """An agent's directory."""
        return self.root / "instances" / identity

    def leader(self, identity: str) -> int:
        """The number of an agent's process; its group has the same."""
        begun = self.place(identity) / "begun"
        assert sooner_or_later(lambda: begun.exists() and begun.read_text().endswith("\n")), "it never began"
        return int(begun.read_text())


def becomes(instances: LocalProcesses, identity: str, state: InstanceState) -> bool:
    """Whether an agent comes to that state."""
    return sooner_or_later(lambda: instances.state(identity) is state)


def is_deserted(place: Path) -> bool:
    """Whether no process is in that directory any more."""
    for cwd in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if cwd.readlink() == place:
                return False
    return True


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """No process of it is left afterwards."""
    machine = Machine(tmp_path / "machine")
    yield machine
    living = (InstanceState.RUNNING, InstanceState.SHUTTING_DOWN)  # the number of any other may be somebody else's by now
    for begun in machine.root.glob("instances/*/begun"):
        with suppress(OSError, ValueError):
            if machine.comes().state(begun.parent.name) in living:
                os.killpg(int(begun.read_text()), signal.SIGKILL)


def test_an_agent_runs_in_a_directory_and_a_session_of_its_own_and_carries_its_tags(machine: Machine) -> None:
    instances = machine.comes()
    instances.begin("i-1", {"runs-fleet:stack": "tests"})
    leader = machine.leader("i-1")

    assert becomes(instances, "i-1", InstanceState.RUNNING)
    assert (instances.known(), instances.tags("i-1")) == (["i-1"], {"runs-fleet:stack": "tests"})
    assert Path(f"/proc/{leader}/cwd").readlink() == machine.place("i-1")
    assert os.getsid(leader) == leader != os.getsid(0)
    assert abs(instances.began_at("i-1") - time.time()) < 3600.0


def test_an_agent_gets_the_environment_it_is_given_and_who_it_is_and_nothing_of_ours(machine: Machine) -> None:
    instances = machine.comes("env", MINE="yes", HOME="/somewhere/else")
    instances.begin("i-1", {})
    assert becomes(instances, "i-1", InstanceState.TERMINATED)

    told = dict(line.split("=", 1) for line in instances.console("i-1").splitlines())
    place = str(machine.place("i-1"))
    own = {"INSTANCE_ID": "i-1", "RUNNER_DIR": f"{place}/runner", "WORK_DIR": f"{place}/work", "STATE_DIR": f"{place}/state"}
    wanted = {f"RUNS_FLEET_{name}": value for name, value in {**own, "POWER_OFF": "true"}.items()}
    by_the_shell = {"PWD", "OLDPWD", "SHLVL", "_"}
    assert {name: value for name, value in told.items() if name not in by_the_shell} == {
        **PATH, "MINE": "yes", "HOME": f"{place}/home", **wanted,
    }  # fmt: skip
    assert all(Path(told[name]).is_dir() for name in ("HOME", "RUNS_FLEET_WORK_DIR", "RUNS_FLEET_STATE_DIR"))


def test_each_agent_gets_a_copy_of_the_runner_of_its_own(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "release" / "bin").mkdir(parents=True)
    (tmp_path / "release" / "bin" / "listener").write_text("run")
    instances = machine.comes("/bin/sh", "-c", 'echo mine > "$RUNS_FLEET_RUNNER_DIR/bin/listener"', runner=tmp_path / "release")
    instances.begin("i-1", {})

    assert becomes(instances, "i-1", InstanceState.TERMINATED)
    assert (machine.place("i-1") / "runner" / "bin" / "listener").read_text() == "mine\n"
    assert (tmp_path / "release" / "bin" / "listener").read_text() == "run"


def test_a_runner_that_cannot_be_copied_is_a_failure_of_the_service_and_begins_nothing(machine: Machine) -> None:
    instances = machine.comes(runner=machine.root / "not-there")

    with pytest.raises(ServiceFailed, match="local:start answered CalledProcessError"), instances.exclusive():
        instances.begin("i-1", {})

    assert instances.state("i-1") is InstanceState.PENDING and not (machine.place("i-1") / "begun").exists()


def test_an_agent_is_begun_once_by_however_many_orchestrators(machine: Machine) -> None:
    count = ("/bin/sh", "-c", "echo begun; sleep 300")
    first, second = machine.comes(*count), machine.comes(*count)
    both = threading.Barrier(2)

    def begin(instances: LocalProcesses) -> None:
        both.wait(PATIENCE_S)
        instances.begin("i-1", {})

    threads = [threading.Thread(target=begin, args=(one,)) for one in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sooner_or_later(lambda: first.console("i-1") != "")
    machine.comes(*count).begin("i-1", {"late": "tags"})

    assert first.console("i-1") == "begun\n" and first.tags("i-1") == {}


def test_of_two_that_begin_an_agent_at_once_the_second_finds_that_it_was_begun_though_it_ended_meanwhile(
    machine: Machine,
) -> None:
    instances = machine.comes("/bin/sh", "-c", "echo ran")
    machine.place("i-1").mkdir()
    with (machine.place("i-1") / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # neither gets further than here
        instances.begin("i-1", {})
        machine.comes("/bin/sh", "-c", "echo ran").begin("i-1", {})

    assert sooner_or_later(lambda: is_deserted(machine.place("i-1")))
    assert instances.console("i-1") == "ran\n"


def test_an_agent_that_ended_is_not_begun_again(machine: Machine) -> None:
    instances = machine.comes("echo", "once")
    instances.begin("i-1", {})
    assert becomes(instances, "i-1", InstanceState.TERMINATED)

    machine.comes("echo", "twice").begin("i-1", {})

    assert (instances.state("i-1"), instances.console("i-1")) == (InstanceState.TERMINATED, "once\n")


def test_an_orchestrator_that_comes_later_finds_the_agents_of_the_one_before(machine: Machine) -> None:
    before = machine.comes()
    for identity in ("i-2", "i-1"):
        before.begin(identity, {"of": identity})
        machine.leader(identity)
    os.killpg(machine.leader("i-2"), signal.SIGKILL)

    later = machine.comes()

    assert later.known() == ["i-1", "i-2"] and later.tags("i-2") == {"of": "i-2"}
    assert becomes(later, "i-2", InstanceState.TERMINATED) and later.state("i-1") is InstanceState.RUNNING


def test_an_agent_lives_until_the_last_of_its_processes_is_gone(machine: Machine) -> None:
    instances = machine.comes("/bin/sh", "-c", "sleep 300 & echo $!")
    instances.begin("i-1", {})
    assert sooner_or_later(lambda: instances.console("i-1").endswith("\n"))
    child = int(instances.console("i-1"))

    assert sooner_or_later(lambda: not Path(f"/proc/{machine.leader('i-1')}/exe").exists())
    assert instances.state("i-1") is InstanceState.RUNNING
    os.kill(child, signal.SIGKILL)
    assert becomes(instances, "i-1", InstanceState.TERMINATED)


def test_an_agent_that_is_asked_to_go_may_take_its_time_to_say_good_bye(machine: Machine) -> None:
    polite = "trap 'echo bye; exit' TERM; echo up; while :; do sleep 0.05; done"
    instances = machine.comes("/bin/sh", "-c", polite, polite_s=PATIENCE_S)
    instances.begin("i-1", {})
    assert sooner_or_later(lambda: instances.console("i-1") == "up\n")

    instances.stop("i-1")

    assert becomes(instances, "i-1", InstanceState.TERMINATED) and instances.console("i-1") == "up\nbye\n"


def test_an_agent_that_does_not_go_is_on_its_way_out_until_it_is_killed_with_all_its_processes(machine: Machine) -> None:
    instances = machine.comes(*STUBBORN, polite_s=1.0)
    instances.begin("i-1", {})
    assert sooner_or_later(lambda: instances.console("i-1") == "deaf\n")

    instances.stop("i-1")
    asked = instances.state("i-1")

    assert asked is InstanceState.SHUTTING_DOWN
    assert becomes(instances, "i-1", InstanceState.TERMINATED)
    assert sooner_or_later(lambda: is_deserted(machine.place("i-1")))


def test_only_the_agent_that_is_stopped_goes(machine: Machine) -> None:
    instances = machine.comes()
    for identity in ("i-1", "i-2"):
        instances.begin(identity, {})
        machine.leader(identity)

    instances.stop("i-1")

    assert becomes(instances, "i-1", InstanceState.TERMINATED) and instances.state("i-2") is InstanceState.RUNNING


def test_an_agent_that_was_stopped_before_it_began_never_runs(machine: Machine) -> None:
    instances = machine.comes("echo", "ran")
    machine.place("i-1").mkdir()
    instances.stop("i-1")
    instances.begin("i-1", {})

    machine.leader("i-1")
    assert becomes(instances, "i-1", InstanceState.TERMINATED) and instances.console("i-1") == ""


def not_begun(machine: Machine, age_s: float) -> None:
    """As if somebody was cut off between the tags and the process, so long ago."""
    machine.place("i-1").mkdir()
    tags = machine.place("i-1") / "tags.json"
    tags.write_text(json.dumps({"of": "i-1"}))
    os.utime(tags, (time.time() - age_s,) * 2)


@pytest.mark.parametrize(("age_s", "state"), [(PENDING_S / 2, InstanceState.PENDING), (PENDING_S + 1, InstanceState.TERMINATED)])
def test_an_agent_that_has_not_begun_is_waited_for_and_then_never_will(
    machine: Machine, age_s: float, state: InstanceState
) -> None:
    instances = machine.comes()
    not_begun(machine, age_s)

    assert instances.state("i-1") is state


def test_an_agent_that_is_stopped_while_it_is_waited_for_is_gone(machine: Machine) -> None:
    instances = machine.comes()
    not_begun(machine, 0.0)
    instances.stop("i-1")

    assert instances.state("i-1") is InstanceState.TERMINATED


def test_of_an_unknown_agent_there_are_no_tags_no_console_and_no_life(machine: Machine) -> None:
    instances = machine.comes()

    assert (instances.tags("i-9"), instances.console("i-9"), instances.began_at("i-9")) == ({}, "", 0.0)
    assert instances.state("i-9") is InstanceState.TERMINATED and instances.known() == []


def test_tags_that_cannot_be_read_are_those_of_no_agent(machine: Machine) -> None:
    instances = machine.comes()
    not_begun(machine, 0.0)
    (machine.place("i-1") / "tags.json").write_text('{"of": ')

    assert instances.tags("i-1") == {}


def test_of_a_long_console_the_end_is_looked_at_whatever_bytes_are_in_it(machine: Machine) -> None:
    instances = machine.comes()
    machine.place("i-1").mkdir()
    (machine.place("i-1") / "console.log").write_bytes(b"begin" + b"x" * PRINTED + b"\xff end")

    printed = instances.console("i-1")

    assert len(printed) == PRINTED and printed.endswith("x\ufffd end")


def test_what_an_agent_says_on_either_stream_is_on_its_console(machine: Machine) -> None:
    instances = machine.comes("/bin/sh", "-c", "echo out; echo err >&2")
    instances.begin("i-1", {})

    assert becomes(instances, "i-1", InstanceState.TERMINATED) and instances.console("i-1") == "out\nerr\n"


def test_whoever_kills_after_a_while_kills_nobody_once_the_directory_is_gone(machine: Machine) -> None:
    """Its number may be another's by then."""
    deaf = ("/bin/sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.05; done")
    instances = machine.comes(*deaf, polite_s=3.0)
    instances.begin("i-1", {})
    leader = machine.leader("i-1")
    assert sooner_or_later(lambda: instances.console("i-1") == "deaf\n")

    instances.stop("i-1")
    place = machine.place("i-1")
    shutil.rmtree(place.rename(place.with_name("gone")))  # in one step: the killer may be writing there

    def killers() -> list[psutil.Process]:
        alive = [one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE]
        return [one for one in alive if "seq" in str(one.cmdline())]

    assert sooner_or_later(lambda: killers() == [])
    assert psutil.Process(leader).status() != psutil.STATUS_ZOMBIE
    os.killpg(leader, signal.SIGKILL)
