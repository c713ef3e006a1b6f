"""How the shells of steps are started. Source: "jobs.<job_id>.steps[*].shell", workflow syntax, GitHub docs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from sandbox.runner.shells import command, is_supported, script_ending


@pytest.mark.parametrize(
    ("shell", "words", "ending"),
    [
        ("", ["bash", "-e", "S"], ".sh"), ("bash", ["bash", "--noprofile", "--norc", "-eo", "pipefail", "S"], ".sh"),
        ("sh", ["sh", "-e", "S"], ".sh"), ("perl -w {0}", ["perl", "-w", "S"], ""),
        ("env X='a b' bash {0} --last", ["env", "X=a b", "bash", "S", "--last"], ""),
    ],
)  # fmt: skip
def test_a_shell_is_started_with_these_words_and_a_file_of_this_ending(shell: str, words: list[str], ending: str) -> None:
    assert (command(shell, "S", os.defpath), script_ending(shell)) == (words, ending)


def test_python_is_the_one_on_the_path_else_python3_else_the_stand_ins_own(tmp_path: Path) -> None:
    found = [command("python", "S", str(tmp_path))[0]]
    for name in ("python3", "python"):
        (tmp_path / name).write_text("#!/bin/sh\n", "utf-8")
        (tmp_path / name).chmod(0o755)
        found.append(command("python", "S", str(tmp_path))[0])

    assert found == [sys.executable, str(tmp_path / "python3"), "python"]
    assert script_ending("python") == ".py"


@pytest.mark.parametrize("shell", ["pwsh", "powershell", "cmd", "zsh", "pwsh -File {0}", "'{0}", "zsh -x"])
def test_other_shells_are_refused_with_those_there_are(shell: str) -> None:
    assert not is_supported(shell)
    with pytest.raises(ValueError, match="supported: bash, sh, python, a command with"):
        command(shell, "S", os.defpath)
