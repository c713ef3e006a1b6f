"""Environment in, exit code out. `python -m agent` and `runs-fleet-agent` are the same."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from agent.adapters.birth import BORN_S
from agent.errors import Exit
from agent.settings import Settings, read_settings

VERSION = "0.1.0"
USAGE = """usage: runs-fleet-agent [--help | --version | selfcheck [--image]]
Without arguments the agent runs one job and then terminates this machine."""
YOUNG_OBJECTS = 50_000
"""A life is short and its objects live to the end: collecting garbage every 700 allocations is a tenth of start-up."""
LAST_RESORT_S = 20.0
SWITCH = ("systemctl", "poweroff")
"""What switches an EC2 instance off where no setting says how; the same as the host's own default."""


def main() -> int:
    """Live one life, unless a word says otherwise; never returns to a caller that could keep the process alive."""
    if len(sys.argv) > 1:
        return _asked(sys.argv[1:])
    gc.set_threshold(YOUNG_OBJECTS, 50, 100)
    if sys.stderr is None:  # closed by whoever started us: the log goes nowhere, the life goes on
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - open until the end
    settings = read_settings(os.environ)
    code = int(Exit.INTERNAL)
    try:
        code = _live(settings)
    except BaseException as error:  # noqa: BLE001 - the last net of all: whatever broke, this machine must not stay
        _broke(settings, error)
    finally:
        _exit(code)


def _asked(words: list[str]) -> int:
    """`selfcheck [--image]`, `--version` and `--help` look and tell; anything else is a mistake. None of them ends a machine."""
    if words in (["--help"], ["-h"]):
        print(USAGE)  # noqa: T201
        return 0
    if words == ["--version"]:
        print(VERSION)  # noqa: T201 - what was asked for
        return 0
    if words[0] == "selfcheck" and set(words[1:]) <= {"--image"}:
        from agent import selfcheck
        from agent.adapters.inspection import look

        if os.geteuid() != 0:
            print("1 musts failed: selfcheck must run as root, it inspects processes and files of other users")  # noqa: T201
            return 1
        findings = selfcheck.judge(look(image="--image" in words, version=VERSION))
        print(selfcheck.render(findings))  # noqa: T201
        return 0 if selfcheck.fit(findings) else 1
    sys.stderr.write(f"unexpected argument: {' '.join(words)}\n{USAGE}\n")
    return int(Exit.SETTINGS)


def _live(settings: Settings) -> int:
    from agent.wiring import assemble, real_world

    return int(assemble(real_world(settings, os.environ, BORN_S)).live())


def _broke(settings: Settings, error: BaseException) -> None:
    """Nothing of ours can be trusted any more: the power switch alone, and only then a word about it."""
    command = settings.power_off or (SWITCH if _is_amazon_ec2() else None)
    told = [f"agent.broken error={type(error).__name__}: {error}"]
    if command:
        try:
            subprocess.run(command, timeout=LAST_RESORT_S, check=False, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.SubprocessError) as failure:
            told.append(f"power_off.failed error={failure}")
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write("\n".join([*told, ""]))


def _exit(code: int) -> NoReturn:
    """Threads that hang in a dead network would keep a normal exit waiting; a full or closed log must not change the code."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)


def _is_amazon_ec2() -> bool:
    """The adapters' question asked without them: they may be what broke."""
    with contextlib.suppress(OSError):
        return Path("/sys/class/dmi/id/sys_vendor").read_text(encoding="utf-8").strip() == "Amazon EC2"
    return False
