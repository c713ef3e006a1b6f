"""Runner.Worker: exists exactly while a job is executed, runs its steps with bash, reports, and exits with 100 + result."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from sandbox.runner import expressions
from sandbox.runner.files import diagnostics, now, pairs, pids
from sandbox.runner.functions import ExpressionError, number
from sandbox.runner.report import RESULTS, Step, report
from sandbox.runner.shells import command, script_ending
from sandbox.runner.surroundings import Surroundings

INTERRUPT_S, TERMINATE_S = 7.5, 2.5
"""Seconds a cancelled step gets after SIGINT and after SIGTERM. Source: actions/runner `ProcessInvoker`."""
OUTPUT_HELD_S = 5.0
"""Seconds a step is waited for whose shell has ended but whose output is still open. Source: likewise."""


class Worker:
    """Executes one job message."""

    def __init__(self, root: Path, message: dict[str, Any], control: int) -> None:
        self._root, self._message, self._control = root, message, control
        self._job = message["job"]
        self._around = Surroundings(root, message)
        self._workspace, self._temp = self._around.workspace, self._around.temp
        self._cancelled = ""
        self._failed = self._is_set_up = False
        self._path: list[str] = []
        self._tracking = f"github_{uuid.uuid4()}"
        self._started_s = time.monotonic()
        self._log = diagnostics(root, "Worker")

    def run(self) -> int:
        """Returns the process's exit code."""
        for directory in (self._workspace, self._temp):
            directory.mkdir(parents=True, exist_ok=True)
        before = set(pids())
        steps = [Step(number, spec) for number, spec in enumerate(self._job.get("steps", []), start=1)]
        self._set_up()
        if self._cancelled != "shutdown" and self._hook("ACTIONS_RUNNER_HOOK_JOB_STARTED", "Set up runner", steps):
            for step in list(steps):
                if not step.conclusion:
                    self._turn(step)
        if self._cancelled != "shutdown":
            self._hook("ACTIONS_RUNNER_HOOK_JOB_COMPLETED", "Complete runner", steps)
        result = self._result()
        self._log(f"Job result after all job steps finish: {result}")
        self._end_orphans(before)
        outputs: dict[str, str] = {}
        try:
            outputs = self._outputs()
        except ExpressionError as error:
            result = "Failed"
            for step in steps[-1:]:
                step.lines.append(f"##[error]{error}")
        report(self._message, result, steps, outputs)
        self._log("Job completed.")
        return RESULTS[result]

    def _set_up(self) -> None:
        """The step "Set up job": a shutdown that falls into it leaves the job cancelled, and no step or hook of it runs.

        Source: actions/runner, `JobRunner`; it takes seconds where actions are downloaded.
        """
        until_s = time.monotonic() + float(self._job.get("setup-seconds") or 0.0)
        self._hear()
        while not self._cancelled and (left_s := until_s - time.monotonic()) > 0:
            time.sleep(min(left_s, 0.05))
            self._hear()
        self._is_set_up = self._cancelled != "shutdown"

    def _result(self) -> str:
        if self._cancelled == "shutdown":
            return "Failed" if self._is_set_up else "Canceled"
        return "Canceled" if self._cancelled else "Failed" if self._failed else "Succeeded"

    def _turn(self, step: Step) -> None:
        self._hear()
        step.started_at = now()
        try:
            step.conclusion = self._executed(step) if self._due(step) else "skipped"
        except ExpressionError as error:
            step.lines.append(f"##[error]{error}")
            step.conclusion = "failure"
        step.completed_at = now()
        outcome = step.conclusion
        if step.conclusion == "failure" and self._is_tolerated(step):
            step.conclusion = "success"
        self._failed |= step.conclusion == "failure"
        if identity := step.spec.get("id"):
            self._around.steps.setdefault(identity, {"outputs": {}}).update(outcome=outcome, conclusion=step.conclusion)
        self._log(f"Step result: {step.conclusion}")

    def _is_tolerated(self, step: Step) -> bool:
        wanted = step.spec.get("continue-on-error", False)
        try:
            return wanted is True or expressions.evaluated(str(wanted), self._contexts(step)) is True
        except ExpressionError as error:
            step.lines.append(f"##[error]{error}")
            return False

    def _due(self, step: Step) -> bool:
        """After a shutdown every remaining step is skipped unseen; after a cancel its condition decides."""
        if self._cancelled == "shutdown":
            return False
        status = {
            "success": not self._failed and not self._cancelled,
            "failure": self._failed,
            "cancelled": bool(self._cancelled),
        }
        if "uses" in step.spec:
            step.lines.append(f"(skipped in the sandbox: uses: {step.spec['uses']})")
            return False
        return expressions.condition(str(step.spec.get("if", "success()")), self._contexts(step), status)

    def _executed(self, step: Step) -> str:
        contexts = self._contexts(step)
        files = self._files()
        environment = self._step_environment(step, contexts, files)
        shell = expressions.render(str(step.spec.get("shell", "")), contexts)
        script = self._temp / f"{uuid.uuid4()}{script_ending(shell)}"
        script.write_text(expressions.render(str(step.spec["run"]), contexts), encoding="utf-8")
        directory = self._workspace / expressions.render(str(step.spec.get("working-directory", ".")), contexts)
        try:
            words = command(shell, str(script), environment.get("PATH", os.defpath))
        except ValueError as error:
            step.lines.append(f"##[error]{error}")
            return "failure"
        code = self._shell(step, words, directory, environment)
        self._collect(step, files)
        if code is None:
            return "cancelled" if self._cancelled else "failure"
        if code:
            step.lines.append(f"##[error]Process completed with exit code {code}.")
        return "failure" if code else "success"

    def _files(self) -> dict[str, Path]:
        files = {name: self._temp / f"{name.lower()}_{uuid.uuid4().hex}" for name in ("ENV", "OUTPUT", "PATH", "STEP_SUMMARY")}
        for path in files.values():
            path.touch()
        return files

    def _shell(self, step: Step, words: list[str], directory: Path, environment: dict[str, str]) -> int | None:
        try:
            child = subprocess.Popen(
                words,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            step.lines.append(f"##[error]An error occurred trying to start process: {error}")
            return 1
        with contextlib.suppress(OSError):
            Path(f"/proc/{child.pid}/oom_score_adj").write_text("500", encoding="ascii")
        limit = number(expressions.evaluated(str(step.spec.get("timeout-minutes", "")), self._contexts(step)))
        return self._attended(step, child, time.monotonic() + limit * 60 if limit > 0 else None)

    def _attended(self, step: Step, child: subprocess.Popen[bytes], ends_s: float | None) -> int | None:
        assert child.stdout is not None
        job_ends_s = self._started_s + 60 * float(self._job.get("timeout-minutes") or 360)
        os.set_blocking(child.stdout.fileno(), False)
        pending, open_, gone_s = b"", True, 0.0
        while open_:
            output = child.stdout.fileno()
            ready, _, _ = select.select([output, self._control] if self._control >= 0 else [output], [], [], 0.1)
            if output in ready:
                chunk = child.stdout.read(65_536) or b""
                open_ = bool(chunk)
                *lines, pending = (pending + chunk).split(b"\n")
                step.lines += [line.decode("utf-8", "replace") for line in lines]
            if self._control in ready:
                self._hear()
            now_s = time.monotonic()
            if child.poll() is not None:
                gone_s = gone_s or now_s
                open_ = open_ and now_s - gone_s < OUTPUT_HELD_S
            elif self._cancelled:
                self._interrupted(step, child)
                return None
            elif (ends_s is not None and now_s > ends_s) or now_s > job_ends_s:
                step.lines.append("##[error]The action has timed out.")
                self._cancelled = self._cancelled or ("timeout" if now_s > job_ends_s else "")
                self._interrupted(step, child)
                return 1
        if pending:
            step.lines.append(pending.decode("utf-8", "replace"))
        return child.wait()

    def _interrupted(self, step: Step, child: subprocess.Popen[bytes]) -> None:
        for stage, within_s in ((signal.SIGINT, INTERRUPT_S), (signal.SIGTERM, TERMINATE_S), (signal.SIGKILL, 5.0)):
            child.send_signal(stage)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(within_s)
                break
        step.lines.append("##[error]The operation was canceled.")

    def _step_environment(self, step: Step, contexts: dict[str, Any], files: dict[str, Path]) -> dict[str, str]:
        environment = {**self._around.environment(), "RUNNER_TRACKING_ID": self._tracking, **contexts["env"]}
        environment.update({f"GITHUB_{name}": str(path) for name, path in files.items()})
        if self._path:
            environment["PATH"] = ":".join([*reversed(self._path), environment.get("PATH", "")])
        return environment

    def _contexts(self, step: Step | None = None) -> dict[str, Any]:
        status = "cancelled" if self._cancelled else "failure" if self._failed else "success"
        return self._around.contexts(step.spec.get("env", {}) if step else {}, status)

    def _collect(self, step: Step, files: dict[str, Path]) -> None:
        self._around.env.update(pairs(files["ENV"]))
        outputs = dict(pairs(files["OUTPUT"]))
        if identity := step.spec.get("id"):
            self._around.steps.setdefault(identity, {"outputs": {}})["outputs"] = outputs
        self._path += [line for line in files["PATH"].read_text("utf-8").splitlines() if line]
        summary = files["STEP_SUMMARY"].read_text("utf-8")
        if summary:
            step.lines += ["##[group]Summary", *summary.splitlines(), "##[endgroup]"]

    def _outputs(self) -> dict[str, str]:
        contexts = self._contexts()
        return {str(name): expressions.render(str(text), contexts) for name, text in self._job.get("outputs", {}).items()}

    def _hook(self, variable: str, title: str, steps: list[Step]) -> bool:
        """A hook that is missing or fails, fails the job. Source: "Running scripts before or after a job", GitHub docs."""
        path = os.environ.get(variable)
        if not path:
            return True
        step = Step(len(steps) + 1, {"name": title}, started_at=now())
        files = self._files()
        done = subprocess.run(
            ["bash", "-e", path], cwd=self._workspace, env=self._step_environment(step, self._contexts(step), files), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        step.lines += done.stdout.decode("utf-8", "replace").splitlines()
        self._collect(step, files)
        step.conclusion, step.completed_at = "failure" if done.returncode else "success", now()
        steps.append(step)
        self._failed |= bool(done.returncode)
        return True

    def _hear(self) -> None:
        """The listener's word over the pipe: `shutdown` or `cancel`; a closed pipe says nothing, as in the real worker."""
        if self._control < 0 or not select.select([self._control], [], [], 0)[0]:
            return
        word = os.read(self._control, 64).decode("ascii", "replace").strip()
        if not word:
            self._control = -1
        elif not self._cancelled:
            self._cancelled = word.split()[0]
            self._log("Cancellation/Shutdown message received.")

    def stop(self) -> None:
        """SIGTERM to the worker itself is the same shutdown."""
        self._cancelled = self._cancelled or "shutdown"

    def _end_orphans(self, before: set[int]) -> None:
        self._log("Cleaning up orphan processes")
        mark = f"RUNNER_TRACKING_ID={self._tracking}".encode()
        for pid in set(pids()) - before - {os.getpid()}:
            with contextlib.suppress(OSError):
                if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    self._log(f"Terminate orphan process: pid ({pid})")
                    os.kill(pid, signal.SIGKILL)


def main(root: Path) -> int:
    """`Runner.Worker spawnclient`: the job message comes on standard input, words for it on descriptor 3."""
    message = json.loads(sys.stdin.buffer.readline())
    worker = Worker(root, message, int(sys.argv[2]))
    for caught in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(caught) is not signal.SIG_IGN:
            signal.signal(caught, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    return worker.run()
