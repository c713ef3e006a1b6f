"""The job in a unit of its own: what systemd is asked for, and who is signalled and killed. Real processes, no systemd."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from agent.adapters.leftovers import Owner
from agent.adapters.posix import PosixProcesses
from agent.adapters.system import QueueInbox
from agent.adapters.systemd import LAUNCH, MOST_TASKS, RESERVED_BYTES, JobUnits, Unit, UnitRunner, machine_memory_bytes
from agent.ports import Finished, Launch

GIGABYTE = 1 << 30
USER = "nobody"
NOBODY_S = 59_873
"""A user id that nobody on this machine has."""
OWNER = Owner(NOBODY_S, ("job.service",))
JOB = Launch(("./run.sh", "--once"), Path("/opt/actions-runner"), {"A": "1", "B": "two words\nand a line"}, user=USER)
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may start processes of another user")


@dataclass
class Held:
    """The Runner (ports) that systemd-run is."""

    swept: list[float] = field(default_factory=list)

    def interrupt(self) -> bool:
        raise AssertionError("a signal to systemd-run reaches no job")

    def terminate(self) -> bool:
        raise AssertionError("a signal to systemd-run reaches no job")

    def sweep(self, within_s: float) -> int:
        self.swept.append(within_s)
        return 1


class Noting(PosixProcesses):
    """Keeps what is to be started; `systemctl show` answers `main_pid`, whatever else answers `code`."""

    def __init__(self, *, main_pid: str = "0", code: int | None = 0) -> None:
        super().__init__(QueueInbox(), lambda readable, inbox: None)
        self.main_pid, self.code, self.held = main_pid, code, Held()
        self.ran: list[Launch] = []
        self.started: list[Launch] = []

    def run(self, launch: Launch, within_s: float) -> Finished:
        self.ran.append(launch)
        return Finished(0, f"{self.main_pid}\n") if launch.command[:2] == ("systemctl", "show") else Finished(self.code, "")

    def start(self, launch: Launch) -> Held:  # type: ignore[override]
        self.started.append(launch)
        return self.held


class Absent(Noting):
    """A machine without systemctl."""

    def run(self, launch: Launch, within_s: float) -> Finished:
        raise FileNotFoundError("systemctl")


def properties(launch: Launch) -> dict[str, str]:
    words = (word.removeprefix("--property=") for word in launch.command if word.startswith("--property="))
    return dict(word.split("=", 1) for word in words)


def test_the_runner_is_started_in_a_unit_as_its_user_and_only_the_unit_has_its_environment() -> None:
    children = Noting()

    JobUnits(children, "runs-fleet-job", 8 * GIGABYTE).start(JOB)

    (launch,) = children.started
    assert launch.command[0] == "systemd-run"
    assert {"--pipe", "--wait", "--collect", "--unit=runs-fleet-job", f"--uid={USER}"} <= set(launch.command)
    assert launch.command[launch.command.index("--") :] == ("--", LAUNCH, "./run.sh", "--once")
    assert launch.stdin == b"A=1\0B=two words\nand a line\0"
    assert (launch.user, launch.directory, set(launch.environment)) == (None, Path("/"), {"PATH"})
    assert not any("two words" in word for word in launch.command)


def test_a_job_gets_all_the_memory_but_what_the_agent_needs() -> None:
    children = Noting()
    for memory in (8 * GIGABYTE, 400 << 20):
        JobUnits(children, "job", memory).start(JOB)

    large, small = (properties(launch) for launch in children.started)
    assert int(large["MemoryMax"]) == 8 * GIGABYTE - RESERVED_BYTES
    assert int(small["MemoryMax"]) == 200 << 20


def test_a_job_dies_before_the_agent_and_with_everything_in_its_unit() -> None:
    children = Noting()
    JobUnits(children, "job", GIGABYTE).start(JOB)

    told = properties(children.started[0])
    assert told["WorkingDirectory"] == "/opt/actions-runner"
    assert (told["KillMode"], told["KillSignal"], told["OOMPolicy"]) == ("control-group", "SIGKILL", "continue")
    assert int(told["OOMScoreAdjust"]) > 0
    assert 0 < int(told["TasksMax"]) <= MOST_TASKS


def test_what_has_no_user_of_its_own_is_a_child_of_ours_as_ever(tmp_path: Path) -> None:
    children = Noting()
    ours = Launch(("true",), tmp_path, {})
    units = JobUnits(children, "job", GIGABYTE)

    units.run(ours, 5.0)
    units.start(ours)

    assert (children.ran, children.started) == ([ours], [ours])


@pytest.mark.parametrize(("code", "kills"), [(0, []), (3, []), (None, ["runs-fleet-job-setup.service"])])
def test_a_setup_whose_time_is_up_is_killed_whole(code: int | None, kills: list[str]) -> None:
    children = Noting(code=code)

    finished = JobUnits(children, "runs-fleet-job", GIGABYTE).run(JOB, 60.0)

    assert finished.code == code
    assert "--unit=runs-fleet-job-setup" in children.ran[0].command
    assert [launch.command[-1] for launch in children.ran if "kill" in launch.command] == kills
    assert all("--kill-whom=all" in launch.command for launch in children.ran[1:])


@pytest.mark.parametrize(("told", "pid"), [("4242", 4242), ("0", 0), ("", 0), ("[not set]", 0)])
def test_the_main_process_is_what_systemd_says(told: str, pid: int) -> None:
    assert Unit(Noting(main_pid=told), "job").main_pid() == pid


def test_on_a_machine_without_systemctl_there_is_no_main_process_and_nobody_to_signal() -> None:
    unit = Unit(Absent(), "job")
    unit.kill()

    assert unit.main_pid() == 0
    assert not UnitRunner(Held(), unit, OWNER).interrupt()


@contextmanager
def runner_of(directory: Path, script: str) -> Iterator[subprocess.Popen[str]]:
    """A real tree: a shell, below it a program of the listener's name that says what it is sent."""
    listener = directory / "Runner.Listener"
    trap = 'for name in INT TERM; do trap "echo listener $name; exit 0" $name; done\n'
    listener.write_text(f"#!/bin/bash\n{trap}echo here\nread -r _ <> {directory}/never\n", encoding="utf-8")
    listener.chmod(0o755)
    os.mkfifo(directory / "never")
    words = ["bash", "-c", "trap 'echo shell' INT TERM; " + script]
    with subprocess.Popen(words, cwd=directory, stdout=subprocess.PIPE, text=True, start_new_session=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "here\n"
        try:
            yield child
        finally:
            child.kill()


@pytest.mark.parametrize("name", ["INT", "TERM"])
def test_a_signal_reaches_the_listener_alone(tmp_path: Path, name: str) -> None:
    with runner_of(tmp_path, "./Runner.Listener; echo after") as child:
        runner = UnitRunner(Held(), Unit(Noting(main_pid=str(child.pid)), "job"), OWNER)

        reached = runner.interrupt() if name == "INT" else runner.terminate()

        assert child.stdout is not None
        assert (reached, child.stdout.read()) == (True, f"listener {name}\nafter\n")


def test_without_a_listener_the_units_main_process_is_signalled(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never")
    script = "trap 'echo told; exit 0' INT; echo here; read -r _ <> never"
    with subprocess.Popen(["bash", "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "here\n"

        assert UnitRunner(Held(), Unit(Noting(main_pid=str(child.pid)), "job"), OWNER).interrupt()
        assert child.stdout.read() == "told\n"


def test_a_unit_that_is_over_is_signalled_no_more() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()

    assert not UnitRunner(Held(), Unit(Noting(main_pid=str(gone.pid)), "job"), OWNER).terminate()


def test_with_a_wrapper_the_unit_is_roots_and_the_command_is_its_users() -> None:
    children = Noting()
    entry = pwd.getpwnam(USER)

    JobUnits(children, "runs-fleet-job", GIGABYTE).start(replace(JOB, wrapper=("/opt/runs-fleet/work/hooks/listen",)))

    words = children.started[0].command
    assert not [word for word in words if word.startswith("--uid")]
    assert words[words.index("--") + 1 :] == (
        LAUNCH, "/opt/runs-fleet/work/hooks/listen", "/usr/bin/setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}",
        "--init-groups", "--", "./run.sh", "--once",
    )  # fmt: skip
    assert not children.started[0].wrapper


@as_root
def test_whatever_the_jobs_user_has_anywhere_is_killed_and_nobody_else() -> None:
    children = Noting()
    theirs = [subprocess.Popen(["sleep", "600"], user=NOBODY_S, start_new_session=True) for _ in range(3)]
    ours = subprocess.Popen(["sleep", "600"])
    try:
        killed = UnitRunner(children.held, Unit(children, "job"), OWNER).sweep(20.0)

        assert killed == 3 + 1
        assert [process.wait(600) for process in theirs] == [-9, -9, -9]
        assert ours.poll() is None
        assert children.ran[0].command[:2] == ("systemctl", "kill")
    finally:
        ours.kill()
        ours.wait()


def test_a_job_that_runs_as_root_has_no_user_whose_processes_could_be_told_from_the_machines() -> None:
    children = Noting()

    assert UnitRunner(children.held, Unit(children, "job"), Owner(0, ("job.service",))).sweep(5.0) == 1
    assert children.ran == []


def test_a_machine_has_no_more_memory_than_its_kernel_says() -> None:
    assert 0 < machine_memory_bytes() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class Interrupted(Noting):
    """Everything is swept in the middle of a setup."""

    def __init__(self) -> None:
        super().__init__()
        self.units = JobUnits(self, "runs-fleet-job", GIGABYTE)

    def run(self, launch: Launch, within_s: float) -> Finished:
        first = not self.ran
        finished = super().run(launch, within_s)
        if first:
            self.units.sweep(0.1)
        return finished


def test_a_setup_in_the_middle_of_which_everything_is_swept_is_killed_whole() -> None:
    children = Interrupted()

    children.units.run(JOB, 60.0)

    killed = [launch for launch in children.ran if "kill" in launch.command]
    assert [launch.command[-1] for launch in killed] == ["runs-fleet-job-setup.service"]
    assert all(launch.after_sweep for launch in killed)
