"""Who dies, who is told and who stays when one process of the runner is signalled.

Source of every row: run.sh and run-helper.sh of actions/runner 2.336.0, measured; the listener and the worker: their source.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.runner import listener, worker
from tests.sandbox.runner_driver import Gate, RunnerDriver, alive, gone, job
from tests.waiting import sooner_or_later

PLAIN: dict[str, str] = {}
TRAP = {"RUNNER_MANUALLY_TRAP_SIG": "1"}
BOTH_MODES = pytest.mark.parametrize("mode", [PLAIN, TRAP], ids=["plain", "trap"])
LISTENER, WORKER, HELPER = "bin/Runner.Listener", "bin/Runner.Worker", "run-helper.sh"
ZERO = "Runner listener exit with 0 return code, stop the service, no retry needed."


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[RunnerDriver]:
    made = RunnerDriver(tmp_path)
    yield made
    made.close()


def idle(driver: RunnerDriver, mode: dict[str, str], **start: object) -> None:
    """Connected, and no job comes."""
    driver.configured(fault="never").start(**mode, **start)  # type: ignore[arg-type]
    driver.out.until(".*: Listening for Jobs")


def busy(
    driver: RunnerDriver, mode: dict[str, str], before: str = "", *, later: tuple[dict[str, str], ...] = (), **start: object
) -> Gate:
    """In the middle of a step that waits at the gate that is returned."""
    began, release = driver.gate("began"), driver.gate("release")
    steps = [{"run": f"{before}\necho here > {began.path}\nread -r _ < {release.path}"}, *later]
    driver.configured(job={"id": 1, "name": "build", "steps": steps}).start(**mode, **start)  # type: ignore[arg-type]
    assert began.heard() == "here"
    return release


@BOTH_MODES
def test_sigint_to_the_listener_alone_ends_all_of_it_in_order(driver: RunnerDriver, mode: dict[str, str]) -> None:
    idle(driver, mode)

    os.kill(driver.pid(LISTENER), signal.SIGINT)

    assert driver.ended() == 0
    assert driver.out.all()[-3:] == ["Exiting...", ZERO, "Exiting runner..."]


@BOTH_MODES
def test_sigquit_to_the_listener_is_the_same(driver: RunnerDriver, mode: dict[str, str]) -> None:
    idle(driver, mode)

    os.kill(driver.pid(LISTENER), signal.SIGQUIT)

    assert driver.ended() == 0
    assert driver.out.all()[-3:] == ["Exiting...", ZERO, "Exiting runner..."]


@BOTH_MODES
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, 137)])
def test_other_signals_end_the_listener_without_a_word_and_run_sh_returns_0(
    driver: RunnerDriver, mode: dict[str, str], number: int, code: int
) -> None:
    idle(driver, mode)

    os.kill(driver.pid(LISTENER), number)

    assert driver.ended() == 0
    assert "Exiting..." not in driver.out.all()
    assert driver.out.heard[-2:] == [f"Exiting with unknown error code: {code}", "Exiting runner..."]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_plain_run_sh_dies_of_a_signal_and_leaves_helper_and_listener_unaware(driver: RunnerDriver, number: int) -> None:
    idle(driver, PLAIN)
    helper, listening = driver.pid(HELPER), driver.pid(LISTENER)

    os.kill(driver.shell.pid, number)

    assert driver.ended() == -number
    assert alive(helper) and alive(listening)
    os.kill(listening, signal.SIGINT)
    assert driver.out.until("Exit.*") == "Exiting..."


def test_plain_run_sh_ignores_sigint_and_tells_nobody(driver: RunnerDriver) -> None:
    release = busy(driver, PLAIN)

    os.kill(driver.shell.pid, signal.SIGINT)
    release.open()

    assert driver.ended() == 0
    assert "Exiting..." not in driver.out.all()
    assert any(line.endswith("result: Succeeded") for line in driver.out.heard)


def test_sigterm_to_the_plain_group_kills_both_shells_and_the_listener_winds_down_as_an_orphan(driver: RunnerDriver) -> None:
    idle(driver, PLAIN)
    helper, listening = driver.pid(HELPER), driver.pid(LISTENER)

    os.killpg(driver.shell.pid, signal.SIGTERM)

    assert driver.ended() == -signal.SIGTERM
    assert gone(helper) and gone(listening)
    assert not any(line.startswith("Exit") for line in driver.out.all())


def test_sigint_to_the_plain_group_is_a_clean_end(driver: RunnerDriver) -> None:
    idle(driver, PLAIN)

    os.killpg(driver.shell.pid, signal.SIGINT)

    assert driver.ended() == 0
    assert driver.out.all()[-3:] == ["Exiting...", ZERO, "Exiting runner..."]


@pytest.mark.parametrize(("number", "returned"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_run_sh_in_trap_mode_hands_a_sigint_on_and_returns_when_the_listener_has_ended(
    driver: RunnerDriver, number: int, returned: int
) -> None:
    idle(driver, TRAP)
    listening = driver.pid(LISTENER)

    os.kill(driver.shell.pid, number)

    assert driver.ended() == returned
    assert not alive(listening)
    assert {"Exiting...", "Exiting runner...", ZERO} <= set(driver.out.all())


def test_a_second_sigterm_in_trap_mode_kills_run_sh_and_orphans_the_listener(driver: RunnerDriver) -> None:
    busy(driver, TRAP, before="trap '' INT")
    listening = driver.pid(LISTENER)

    os.kill(driver.shell.pid, signal.SIGTERM)
    driver.out.until(r"Exiting runner\.\.\.")
    os.kill(driver.shell.pid, signal.SIGTERM)

    assert driver.ended() == -signal.SIGTERM
    assert alive(listening)


def test_sigterm_to_the_helpers_group_in_trap_mode_makes_run_sh_return_143_at_once(driver: RunnerDriver) -> None:
    idle(driver, TRAP)
    helper, listening = driver.pid(HELPER), driver.pid(LISTENER)

    os.killpg(os.getpgid(helper), signal.SIGTERM)

    assert driver.ended() == 143
    assert gone(listening)


def test_run_sh_in_trap_mode_dies_of_sighup_and_orphans_the_listener(driver: RunnerDriver) -> None:
    idle(driver, TRAP)
    listening = driver.pid(LISTENER)

    os.kill(driver.shell.pid, signal.SIGHUP)

    assert driver.ended() == -signal.SIGHUP
    assert alive(listening)


def test_with_sigint_ignored_from_the_start_nothing_stops_the_runner(driver: RunnerDriver) -> None:
    release = busy(driver, TRAP, ignored=("INT",))

    os.kill(driver.shell.pid, signal.SIGTERM)
    driver.out.until(r"Exiting runner\.\.\.")
    os.kill(driver.pid(LISTENER), signal.SIGINT)
    release.open()

    assert driver.out.until(".*completed with result: .*").endswith("Succeeded")
    assert driver.ended() == 143
    assert "Exiting..." not in driver.out.all()


@pytest.mark.parametrize(("mode", "groups"), [(PLAIN, 1), (TRAP, 2)], ids=["plain", "trap"])
def test_trap_mode_makes_a_second_process_group_in_the_same_session(
    driver: RunnerDriver, mode: dict[str, str], groups: int
) -> None:
    busy(driver, mode)

    pids = [driver.shell.pid, driver.pid(HELPER), driver.pid(LISTENER), driver.pid(WORKER)]

    assert {os.getsid(pid) for pid in pids} == {driver.shell.pid}
    assert len({os.getpgid(pid) for pid in pids}) == groups
    assert len({os.getpgid(pid) for pid in pids[1:]}) == 1


def test_a_worker_exists_exactly_while_a_job_is_executed(driver: RunnerDriver) -> None:
    release = busy(driver, PLAIN)
    working = driver.pid(WORKER)

    release.open()

    driver.out.until(".*completed with result: Succeeded")
    assert gone(working)


def test_an_idle_runner_has_no_worker(driver: RunnerDriver) -> None:
    idle(driver, PLAIN)

    assert not driver.runs(WORKER)


@BOTH_MODES
def test_a_worker_outlives_its_killed_listener_and_ends_the_job(
    driver: RunnerDriver, mode: dict[str, str], tmp_path: Path
) -> None:
    release = busy(driver, mode, later=({"run": f"touch {tmp_path}/second"},))
    working = driver.pid(WORKER)

    os.kill(driver.pid(LISTENER), signal.SIGKILL)
    assert (driver.ended(), alive(working)) == (0, True)
    release.open()

    assert gone(working)
    assert (tmp_path / "second").exists()
    assert driver.out.all()[-2:] == ["Exiting with unknown error code: 137", "Exiting runner..."]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_the_worker_swallows_what_a_terminal_sends(driver: RunnerDriver, number: int) -> None:
    release = busy(driver, PLAIN)

    os.kill(driver.pid(WORKER), number)
    release.open()

    assert driver.out.until(".*completed with result: .*").endswith("Succeeded")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_worker_that_is_ended_fails_its_job(driver: RunnerDriver, number: int) -> None:
    busy(driver, PLAIN)

    os.kill(driver.pid(WORKER), number)

    assert driver.out.until(".*completed with result: .*").endswith("Failed")


def test_a_busy_listener_told_to_stop_says_canceled_and_skips_every_step_and_hook(driver: RunnerDriver, tmp_path: Path) -> None:
    hook = tmp_path / "hook.sh"
    hook.write_text(f"touch {tmp_path}/hooked\n", encoding="utf-8")
    always = {"if": "always()", "run": f"touch {tmp_path}/always"}
    busy(driver, PLAIN, later=(always,), ACTIONS_RUNNER_HOOK_JOB_COMPLETED=str(hook))

    os.kill(driver.pid(LISTENER), signal.SIGINT)

    driver.out.until(r"Exiting\.\.\.")
    driver.out.until(".*: Job build completed with result: Canceled")
    assert driver.ended() == 0
    assert not (tmp_path / "always").exists() and not (tmp_path / "hooked").exists()


@pytest.mark.parametrize(("number", "last"), [(signal.SIGINT, ZERO), (signal.SIGTERM, "Exiting with unknown error code: 143")])
def test_a_stopped_job_leaves_the_registration_on_disk(driver: RunnerDriver, number: int, last: str) -> None:
    busy(driver, PLAIN)

    os.kill(driver.pid(LISTENER), number)

    assert driver.ended() == 0
    assert driver.out.all()[-2:] == [last, "Exiting runner..."]
    assert (driver.root / ".runner").exists() and (driver.root / ".credentials").exists()


def test_the_running_step_gets_sigint_first_and_only_its_own_process(driver: RunnerDriver, tmp_path: Path) -> None:
    said = tmp_path / "said"
    inner = f"trap 'echo inner >> {said}; exit' INT; read -r _ < {driver.gate('inner').path}"
    outer = f"trap 'echo outer >> {said}; exit 1' INT\n(bash -c \"{inner}\") &"
    busy(driver, PLAIN, before=outer)

    os.kill(driver.pid(LISTENER), signal.SIGINT)

    driver.out.until(".*completed with result: Canceled")
    assert said.read_text("utf-8") == "outer\n"


def test_a_stubborn_step_is_killed_after_its_two_warnings(driver: RunnerDriver, tmp_path: Path) -> None:
    said = tmp_path / "said"
    program = (
        "import signal, sys\n"
        f"note = lambda number, _: open('{said}', 'a').write(signal.Signals(number).name + chr(10))\n"
        "signal.signal(signal.SIGINT, note); signal.signal(signal.SIGTERM, note)\n"
        f"open('{driver.gate('stubborn').path}', 'w').write('here' + chr(10))\n"
        "while True: signal.pause()\n"
    )
    (tmp_path / "stubborn.py").write_text(program, encoding="utf-8")
    driver.hasten().configured(job=job(f"exec {sys.executable} -SE {tmp_path}/stubborn.py")).start()
    assert driver.gates["stubborn"].heard() == "here"

    os.kill(driver.pid(LISTENER), signal.SIGINT)

    driver.out.until(r"Exiting\.\.\.")
    driver.out.until(".*completed with result: Canceled")
    assert said.read_text("utf-8") == "SIGINT\nSIGTERM\n"


def test_the_stages_are_as_long_as_the_real_runners() -> None:
    assert (worker.INTERRUPT_S, worker.TERMINATE_S, worker.OUTPUT_HELD_S) == (7.5, 2.5, 5.0)
    assert (listener.UNLOAD_S, listener.CONFLICT_S) == (30.0, 240.0)


def test_a_listener_interrupted_while_configuring_says_exiting_and_returns_1(driver: RunnerDriver) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{silent.getsockname()[1]}/o/r"
    driver.start("--unattended", "--url", url, "--token", "t", program="config.sh")
    driver.out.until("# Authentication")
    accepted, _ = silent.accept()

    os.kill(driver.shell.pid, signal.SIGINT)

    assert driver.ended() == 1
    assert driver.out.all()[-1] == "Exiting..."
    accepted.close()
    silent.close()


@pytest.mark.parametrize(("setup_s", "result"), [(30.0, "Canceled"), (0.0, "Failed")])
def test_a_shutdown_while_the_job_is_set_up_leaves_it_cancelled_and_one_in_a_step_leaves_it_failed(
    driver: RunnerDriver, tmp_path: Path, setup_s: float, result: str
) -> None:
    began = tmp_path / "began"
    steps = [{"run": f"touch {began}; while :; do sleep 0.05; done"}]
    driver.hasten().configured(job={"id": 1, "name": "build", "steps": steps, "setup-seconds": setup_s}).start(**PLAIN)
    driver.out.until(".*Running job: build")
    assert sooner_or_later(lambda: driver.runs(WORKER) and (setup_s > 0.0 or began.exists()))

    os.kill(driver.pid(LISTENER), signal.SIGINT)
    driver.ended()

    (log,) = (driver.root / "_diag").glob("Worker_*.log")
    assert f"Job result after all job steps finish: {result}" in log.read_text("utf-8")
    assert began.exists() is (setup_s == 0.0)
