"""The shells of `run:` steps: how each is started. Source: "jobs.<job_id>.steps[*].shell", workflow syntax, GitHub docs."""

from __future__ import annotations

import shlex
import shutil
import sys

SUPPORTED = "bash, sh, python, a command with {0} for the script"
TEMPLATES = {
    "": ("bash -e {0}", ".sh"),
    "bash": ("bash --noprofile --norc -eo pipefail {0}", ".sh"),
    "sh": ("sh -e {0}", ".sh"),
    "python": ("python {0}", ".py"),
}
"""Name -> command line, and the ending of the script's file. The empty name: a step that names none."""
SCRIPT = "{0}"
_ELSEWHERE = frozenset({"pwsh", "powershell", "cmd"})
"""Shells that GitHub knows and our machines do not have."""


def is_supported(shell: str) -> bool:
    """Whether a step with this shell can be run."""
    return shell in TEMPLATES or (SCRIPT in shell and _program(shell) not in _ELSEWHERE)


def script_ending(shell: str) -> str:
    """The ending of the file that holds the step's script."""
    return TEMPLATES[shell][1] if shell in TEMPLATES else ""


def command(shell: str, script: str, path: str) -> list[str]:
    """The words that run a script. `path`: where programs are looked for.

    Raises: ValueError with what is supported.
    """
    if not is_supported(shell):
        raise ValueError(f"shell {shell!r} is not supported (supported: {SUPPORTED})")
    template = TEMPLATES[shell][0] if shell in TEMPLATES else shell
    program, *rest = [word.replace(SCRIPT, script) for word in shlex.split(template)]
    if shell == "python" and shutil.which(program, path=path) is None:
        program = shutil.which("python3", path=path) or sys.executable
    return [program, *rest]


def _program(shell: str) -> str:
    try:
        words = shlex.split(shell)
    except ValueError:
        return "cmd"
    return words[0].rpartition("/")[2] if words else "cmd"
