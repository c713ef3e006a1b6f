"""The agent's command line, and its last net: after any failure the machine is switched off."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agent.cli import USAGE

CHECKOUT = Path(__file__).resolve().parents[2]
PLANTED = """
import sys, types
def live():
{life}
wiring = types.ModuleType("agent.wiring")
wiring.real_world = lambda *_: None
wiring.assemble = lambda _: types.SimpleNamespace(live=live)
sys.modules["agent.wiring"] = wiring
"""
"""A `sitecustomize` that puts a planted life in the place of the real one."""
NO_WIRING = 'import sys\nsys.modules["agent.wiring"] = None\n'
"""A `sitecustomize` under which the agent cannot import its own components."""
VENDOR = """
import pathlib
read = pathlib.Path.read_text
told = pathlib.Path("{vendor}")
pathlib.Path.read_text = lambda self, *a, **k: read(told if "sys_vendor" in str(self) else self, *a, **k)
"""
"""A `sitecustomize` under which the machine's maker is what stands in a file of the test's."""
NOT_ROOT = "import os\nos.geteuid = lambda: 1000\n"
SWITCH = "sh -c 'echo switched >&2; touch {mark}'"
"""The power switch of these tests leaves a mark, and a line in the log."""


class Command:
    """One agent process; `off` is the mark that its power switch leaves."""

    def __init__(self, root: Path) -> None:
        self.root, self.off = root, root / "off"
        self.power_off = SWITCH.format(mark=self.off)

    def plant(self, sitecustomize: str) -> None:
        """Let the interpreter execute this before the agent."""
        (self.root / "sitecustomize.py").write_text(sitecustomize, "utf-8")

    def plant_life(self, *lines: str) -> None:
        """Let the life consist of these lines."""
        self.plant(PLANTED.format(life="\n".join(f"    {line}" for line in lines)))

    def end(self, *words: str, redirected: str = "", path: str = "/usr/bin") -> subprocess.CompletedProcess[str]:
        """What the process returned and wrote."""
        return subprocess.run(
            ["sh", "-c", f'exec "$@" {redirected}', "sh", sys.executable, "-m", "agent", *words], cwd=self.root,
            env={
                "PATH": f"{path}:/usr/bin:/bin", "PYTHONPATH": f"{self.root}:{CHECKOUT}", "RUNS_FLEET_POWER_OFF": self.power_off,
            },
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_prints_the_usage_and_is_no_mistake(command: Command, word: str) -> None:
    told = command.end(word)

    assert (told.returncode, told.stdout, told.stderr) == (0, f"{USAGE}\n", "")


def test_the_usage_names_every_argument_and_fits_eighty_columns() -> None:
    assert all(word in USAGE for word in ("runs-fleet-agent", "--help", "--version", "selfcheck", "--image"))
    assert "terminates this machine" in USAGE
    assert max(map(len, USAGE.splitlines())) <= 80


@pytest.mark.parametrize("words", [("start",), ("--help", "me"), ("--version", "--help"), ("--image",), ("",)])
def test_an_unexpected_argument_is_named_beside_the_usage(command: Command, words: tuple[str, ...]) -> None:
    told = command.end(*words)

    assert (told.returncode, told.stdout) == (78, "")
    assert told.stderr == f"unexpected argument: {' '.join(words)}\n{USAGE}\n"


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("start",), ("selfcheck", "start")])
def test_no_argument_begins_a_life_or_ends_the_machine(command: Command, words: tuple[str, ...]) -> None:
    command.plant_life("open('lived', 'w').close()", "raise RuntimeError")

    command.end(*words)

    assert [path.name for path in command.root.iterdir() if path.name in ("lived", "off")] == []


def test_a_selfcheck_by_another_user_than_root_fails_and_says_what_it_needs(command: Command) -> None:
    command.plant(NOT_ROOT)

    told = command.end("selfcheck", "--image")

    assert told.returncode == 1
    assert told.stdout.startswith("1 musts failed: ") and "root" in told.stdout


@pytest.mark.parametrize("code", [0, 69, 78])
def test_the_exit_code_of_a_life_is_the_exit_code_of_the_process(command: Command, code: int) -> None:
    command.plant_life(f"return {code}")

    told = command.end()

    assert (told.returncode, told.stderr, command.off.exists()) == (code, "", False)


def test_a_thread_that_hangs_keeps_no_ended_life_waiting(command: Command) -> None:
    command.plant_life("import threading", "threading.Thread(target=threading.Event().wait).start()", "return 69")

    assert command.end().returncode == 69


def test_an_agent_whose_components_cannot_be_imported_switches_the_machine_off(command: Command) -> None:
    command.plant(NO_WIRING)

    told = command.end()

    assert (told.returncode, command.off.exists()) == (70, True)
    assert "agent.broken error=ModuleNotFoundError: " in told.stderr


@pytest.mark.parametrize("error", ["SystemExit(0)", "KeyboardInterrupt()", "MemoryError()", "GeneratorExit()"])
def test_whatever_a_life_raises_the_machine_is_switched_off(command: Command, error: str) -> None:
    command.plant_life(f"raise {error}")

    told = command.end()

    assert (told.returncode, command.off.exists()) == (70, True)
    assert f"agent.broken error={error.partition('(')[0]}: " in told.stderr


def test_the_machine_is_switched_off_before_anything_is_written(command: Command) -> None:
    command.plant_life("raise RuntimeError('planted')")

    assert command.end().stderr == "switched\nagent.broken error=RuntimeError: planted\n"


def test_a_power_switch_that_cannot_be_executed_is_named_and_changes_no_exit_code(command: Command) -> None:
    command.plant_life("raise RuntimeError('planted')")
    command.power_off = "/not/there"

    told = command.end()

    assert told.returncode == 70
    assert [line.split()[0] for line in told.stderr.splitlines()] == ["agent.broken", "power_off.failed"]
    assert "/not/there" in told.stderr


def test_a_power_switch_does_not_read_the_standard_input_of_the_agent(command: Command) -> None:
    command.plant_life("raise RuntimeError")
    command.power_off = f"sh -c 'cat > {command.off}'"

    command.end(redirected="<<END\nnot for the switch\nEND")

    assert command.off.read_text("utf-8") == ""


@pytest.mark.parametrize("redirected", ["2>&-", "2>/dev/full"])
def test_a_log_that_cannot_be_written_keeps_no_broken_agent_from_switching_off(command: Command, redirected: str) -> None:
    command.plant_life("raise RuntimeError")
    command.power_off = f"touch {command.off}"

    told = command.end(redirected=redirected)

    assert (told.returncode, command.off.exists()) == (70, True)


@pytest.mark.parametrize(("vendor", "off"), [("Amazon EC2\n", True), ("QEMU\n", False)])
def test_without_a_power_switch_of_its_own_a_broken_agent_on_ec2_uses_the_systems(
    command: Command, vendor: str, off: bool
) -> None:
    command.power_off = ""
    (command.root / "vendor").write_text(vendor, "utf-8")
    switch = command.root / "systemctl"
    switch.write_text(f'#!/bin/sh\n[ "$*" = poweroff ] && touch {command.off}\n', "utf-8")
    switch.chmod(0o755)
    command.plant(NO_WIRING + VENDOR.format(vendor=command.root / "vendor"))

    command.end(path=str(command.root))

    assert command.off.exists() is off
