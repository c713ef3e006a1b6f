"""Runner.Listener: registers, waits for a job, starts a worker for it, and leaves with an exit code that says little."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox.runner.configure import configure, options
from sandbox.runner.files import diagnostics
from sandbox.runner.report import RESULTS
from sandbox.runner.terminal import Leave, interrupted, is_true, load_environment, say, settings, stamp, stamped
from sandbox.runner.wire import Refused, Service

UNLOAD_S = 30.0
"""Seconds SIGTERM leaves for winding down. Source: actions/runner `ExitOnUnloadTimeout`."""
CONFLICT_S = 240.0
"""Seconds a session conflict is retried. Source: actions/runner `MessageListener`."""
FILES = (".runner", ".credentials", ".credentials_rsaparams")


class Stopped(Exception):
    """A signal ended the wait for a job."""


class Listener:
    """One `run`. A scenario file (`standin.json`) in the root stands for the service, or adds faults to it."""

    def __init__(self, root: Path, version: str) -> None:
        self._root, self._version = root, version
        self._signal = ""
        self._waiting = False
        self._worker: subprocess.Popen[bytes] | None = None
        self._words = -1
        scenario = root / "standin.json"
        self._scenario: dict[str, Any] = json.loads(scenario.read_text("utf-8")) if scenario.exists() else {}
        self._log = diagnostics(root, "Runner")

    def run(self, blob: str | None) -> int:
        """Returns the exit code of actions/runner for the same course of events."""
        if blob is not None and not self._configured(blob):
            return 1
        if not (self._root / ".runner").exists():
            say("An error occurred: Not configured. Run config.(sh/cmd) to configure the runner.", sys.stderr)
            return 1
        self._listen_for_signals()
        runner, credentials, key = (settings(self._root / name) for name in FILES)
        service = Service(runner, credentials, key) if runner.get("ServerUrlV2") and "job" not in self._scenario else None
        try:
            return self._lived(service)
        except Stopped:
            return self._left(service)
        except Refused as error:
            return self._refused(error)
        except OSError as error:
            self._log(f"unexpected: {error}")
            return 2

    def _lived(self, service: Service | None) -> int:
        fault = self._scenario.get("fault", "")
        self._fail_early(fault)
        session = self._session(service)
        say()
        say("√ Connected to GitHub")
        say()
        say(f"Current runner version: '{self._version}'")
        stamped("Listening for Jobs")
        if fault == "reconnect":
            say(f"{stamp()}: Runner connect error: The HTTP request timed out. Retrying until reconnected.", sys.stderr)
            stamped("Runner reconnected.")
        message = self._next_job(service, session, fault)
        if message is None:
            return 0
        result = self._worked(service, message, fault or str(message["job"].get("fault", "")))
        if service is not None:
            with contextlib.suppress(Refused, OSError):
                service.call("DELETE", f"session?sessionId={session}")
        if self._signal or result is None:
            return 143 if self._signal == "SIGTERM" else 0
        for name in (".credentials", ".runner"):
            (self._root / name).unlink(missing_ok=True)
            say(f"√ Removed {name}")
        (self._root / ".credentials_rsaparams").unlink(missing_ok=True)
        return RESULTS[result] if is_true("ACTIONS_RUNNER_RETURN_JOB_RESULT_FOR_HOSTED") else 0

    def _fail_early(self, fault: str) -> None:
        """Faults that strike before the runner listens."""
        if fault == "version_too_old":
            raise Refused(403, "RunnerVersionTooOld", "Runner version v2.0.0 is deprecated and cannot receive messages.")
        if fault == "deleted":
            raise Refused(400, "invalid_client", "registration")
        if fault == "session_conflict":
            raise Refused(409, "TaskAgentSessionConflictException", "conflict")
        if fault == "retryable":
            raise OSError("ten poll failures")
        if fault == "update":
            for line in ("Runner update in progress, do not shutdown runner.", "Downloading 9.9.9 runner"):
                say(line)
            (self._root / "update.finished").touch()
            (self._root / "standin.json").write_text(json.dumps({**self._scenario, "fault": ""}), "utf-8")
            raise Leave(4)
        code = self._scenario.get("listener_exit")
        if code is not None:
            raise Leave(int(code))

    def _session(self, service: Service | None) -> str:
        if service is None:
            return "scenario"
        body = {"ownerName": f"{os.uname().nodename} (PID: {os.getpid()})", "agent": {"id": service.runner["AgentId"], "name": service.runner["AgentName"], "version": self._version, "osDescription": "Linux"}}  # fmt: skip
        give_up_s = time.monotonic() + float(self._scenario.get("conflict_seconds", CONFLICT_S))
        while True:
            try:
                _, answer = service.call("POST", "session", body)
                return str(answer["sessionId"])
            except Refused as error:
                if error.status != 409 or time.monotonic() > give_up_s:
                    raise
                say("A session for this runner already exists.", sys.stderr)
                self._wait(lambda: time.sleep(min(30.0, CONFLICT_S / 8)))

    def _next_job(self, service: Service | None, session: str, fault: str) -> dict[str, Any] | None:
        if fault in ("never", "lost_assignment") or (service is None and not self._scenario.get("job")):
            self._wait(lambda: time.sleep(1e6))
        if fault == "removed":
            say("The runner no longer exists on the server. Cleaning up local configuration.", sys.stderr)
            return None
        if service is None:
            self._wait(lambda: time.sleep(float(self._scenario.get("idle_seconds", 0))))
            return {"job": self._scenario["job"], "runner_name": "standin", "run_service_url": "", "token": ""}
        query = f"message?sessionId={session}&status=Online&runnerVersion={self._version}&os=linux&disableUpdate=true"
        while True:
            try:
                status, answer = self._wait(lambda: service.call("GET", query))
            except Refused as error:
                if error.kind == "RunnerNotFound":
                    say("The runner no longer exists on the server. Cleaning up local configuration.", sys.stderr)
                    return None
                raise
            if status == 200 and answer and answer.get("messageType") == "RunnerJobRequest":
                request = json.loads(answer["body"])
                with contextlib.suppress(Refused):
                    _, job = service.call(
                        "POST", f"{request['run_service_url']}/acquirejob", {"jobMessageId": request["runner_request_id"]}
                    )
                    return dict(job)

    def _worked(self, service: Service | None, message: dict[str, Any], fault: str) -> str | None:
        name = str(message["job"].get("name", "job"))
        if fault == "hang_after_acknowledge":
            self._wait(lambda: time.sleep(1e6))
        stamped(f"Running job: {name}")
        if fault == "lost":
            return None
        readable, self._words = os.pipe()
        environment = {**os.environ}
        self._worker = subprocess.Popen(
            [str(self._root / "bin" / "Runner.Worker"), "spawnclient", str(readable), str(self._words)],
            stdin=subprocess.PIPE, pass_fds=[readable], env=environment,
        )  # fmt: skip
        os.close(readable)
        assert self._worker.stdin is not None
        self._worker.stdin.write(json.dumps(message).encode() + b"\n")
        self._worker.stdin.close()
        code = self._awaited(service, message)
        if self._signal == "SIGTERM" and code is None:
            raise Leave(143)
        result = "Canceled" if self._signal else next((word for word, number in RESULTS.items() if number == code), "Failed")
        stamped(f"Job {name} completed with result: {result}")
        return result

    def _awaited(self, service: Service | None, message: dict[str, Any]) -> int | None:
        """The worker's exit code; SIGINT waits for it without limit, SIGTERM 30 s (then None)."""
        assert self._worker is not None
        told, unload_s, look_s = False, 0.0, 0.0
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._worker.wait(0.02)
            now_s = time.monotonic()
            if self._signal and not told:
                os.write(self._words, b"shutdown\n")
                told, unload_s = True, now_s + UNLOAD_S
            if self._signal == "SIGTERM" and now_s > unload_s:
                return None
            if service is not None and now_s > look_s and not told:
                look_s = now_s + 0.5
                told = self._renewed(service, message)

    def _renewed(self, service: Service, message: dict[str, Any]) -> bool:
        """Keep the job's lock; the service's answer also carries a cancellation. Whether the worker was told to stop."""
        try:
            _, answer = service.call("POST", f"{message['run_service_url']}/renewjob", {"jobId": message["job"]["id"]}, 5.0)
        except (Refused, OSError):
            return False
        if answer and answer.get("cancelled"):
            os.write(self._words, b"cancel\n")
            return True
        return False

    def _wait(self, action: Callable[[], Any]) -> Any:
        """Do something interruptible: a signal that arrives meanwhile ends it at once."""
        if self._signal:
            raise Stopped
        self._waiting = True
        try:
            return action()
        finally:
            self._waiting = False

    def _left(self, service: Service | None) -> int:
        if service is not None:
            with contextlib.suppress(Refused, OSError):
                service.call("DELETE", "session", None, 2.0)
        return 143 if self._signal == "SIGTERM" else 0

    def _refused(self, error: Refused) -> int:
        if error.kind == "RunnerVersionTooOld":
            say(f"An error occurred: {error}", sys.stderr)
            return 7 if is_true("ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE") else 1
        if error.status == 409:
            say("Stop retry on SessionConflictException after retried for 240 seconds.", sys.stderr)
            say(f"Failed to create session. {error}", sys.stderr)
            return 5
        if error.kind == "invalid_client" or error.status in (400, 401, 404):
            say("Failed to create a session. The runner registration has been deleted from the server, please re-configure. Runner registrations are automatically deleted for runners that have not connected to the service recently.", sys.stderr)  # fmt: skip
            return 1
        say(f"An error occurred: {error}", sys.stderr)
        return 1

    def _configured(self, blob: str) -> bool:
        try:
            files = json.loads(base64.b64decode(blob, validate=True))
            for name, content in files.items():
                (self._root / Path(name).name).write_bytes(base64.b64decode(content, validate=True))
        except (ValueError, AttributeError, TypeError) as error:
            say(f"An error occurred: {error}", sys.stderr)
            return False
        return True

    def _listen_for_signals(self) -> None:
        """An ignored SIGINT stays ignored, as .NET keeps it."""

        def handle(number: int, _frame: object) -> None:
            first, self._signal = not self._signal, self._signal or signal.Signals(number).name
            if first and number != signal.SIGTERM:
                say("Exiting...")
            if self._waiting:
                raise Stopped

        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handle)


def main(root: Path, version: str) -> int:
    """`Runner.Listener configure|remove|run|warmup|--version`."""
    words = sys.argv[1:]
    load_environment(root)
    if words[:1] == ["--version"]:
        say(version)
        return 0
    if words[:1] == ["warmup"]:
        return 0
    if words[:1] == ["configure"]:
        signal.signal(signal.SIGINT, interrupted)
        return configure(root, words[1:])
    if words[:1] == ["remove"]:
        for name in FILES:
            (root / name).unlink(missing_ok=True)
        return 0
    given = options(words[1:])
    if "version" in given:
        say(version)
        return 0
    return Listener(root, version).run(given.get("jitconfig"))
