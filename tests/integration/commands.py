"""Words of the `runs-fleet` command, each in a process of its own that is forked from one which has imported what they need.

The process is the command's in all but its start: its environment, arguments, output and exit status.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NoReturn


class Commands:
    """The process that forks. Close it at the end."""

    def __init__(self) -> None:
        words, checkout = [sys.executable, "-m", __name__], Path(__file__).parents[2]
        self._server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=checkout)
        self._scratch = tempfile.TemporaryDirectory()

    def typed(self, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
        """What `runs-fleet words…` does in this environment."""
        told, failed = Path(self._scratch.name) / "stdout", Path(self._scratch.name) / "stderr"
        assert self._server.stdin is not None and self._server.stdout is not None
        wanted = {"words": words, "environment": environment, "stdout": str(told), "stderr": str(failed)}
        self._server.stdin.write(json.dumps(wanted) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        return subprocess.CompletedProcess(["runs-fleet", *words], code, told.read_text("utf-8"), failed.read_text("utf-8"))

    def close(self) -> None:
        """Ends the process."""
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(600)
        self._server.stdout.close()
        self._scratch.cleanup()


def _serve() -> None:
    import boto3
    import rich.table  # noqa: F401 - what words import when they need it
    import typer  # noqa: F401

    import orchestrator.commands.audit
    import orchestrator.commands.explain
    import orchestrator.wiring  # noqa: F401
    from sandbox import aws_models

    aws_models.keep()
    session = boto3.session.Session(region_name="us-east-1")
    for service in ("dynamodb", "ec2", "sqs", "ssm"):
        session.client(service)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _be(**json.loads(line))
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _be(words: list[str], environment: dict[str, str], stdout: str, stderr: str) -> NoReturn:
    """The command in this process, to its end."""
    from orchestrator.commands.cli import main

    for number, path in ((0, os.devnull), (1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["runs-fleet", *words]
    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(str(code or 0)))


if __name__ == "__main__":
    _serve()
