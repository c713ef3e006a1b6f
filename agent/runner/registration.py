"""A JIT config or a registration token becomes the way the runner is started.

No self-update: on the token path `--disableupdate` is stored at registration; a JIT config comes with `DisableUpdate` already
inside (the orchestrator writes it), because the agent hands the blob on byte for byte. A listener that updates all the same is
recognised by its announcement and reported.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path

from agent.calls.retries import RetryPolicy
from agent.contract.config import RunnerConfig
from agent.contract.names import RUNNER_NAME_LIMIT, runner_name
from agent.errors import RegistrationFailed, RunnerUnstartable
from agent.ports import Clock, Journal, Launch, Processes
from agent.runner.wrapper import listener, written
from agent.settings import Settings

CONFIG_S = 60.0
"""Seconds one `config.sh` may take; it makes four small requests."""
WITHIN_S = 150.0
"""Seconds for registering, tries included."""
TRIES = RetryPolicy(within_s=WITHIN_S - CONFIG_S, first_s=2.0, longest_s=10.0, tries=3)
FINAL_WORDS = (
    "already configured",
    "A runner exists with the same name",
    "Could not find any self-hosted runner group",
    "Must not run with sudo",
    "Dependencies is missing",
    "Http response code: NotFound",
    "Http response code: Unauthorized",
    "Http response code: Forbidden",
)
"""What `config.sh` says when trying again cannot help. Source: actions/runner `ConfigurationManager`, `config.sh`."""
ALWAYS = {
    "RUNNER_ALLOW_RUNASROOT": "1",
    "ACTIONS_RUNNER_RETURN_JOB_RESULT_FOR_HOSTED": "1",
    "ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE": "1",
    "GITHUB_ACTIONS_RUNNER_EXTRA_USER_AGENT": "runs-fleet/1",
}
"""Root is the operator's choice; the two RETURN switches make exit codes mean something."""
PASSED_ON = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "RUNNER_TOOL_CACHE",
    "RUNNER_TOOLSDIRECTORY",
    "AGENT_TOOLSDIRECTORY",
    "RUNNER_WAIT_FOR_DOCKER_IN_SECONDS",
    "RUNNER_UPDATE_CA_CERTS",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT",
    "ACTIONS_RUNNER_HOOK_JOB_COMPLETED",
    "ACTIONS_RUNNER_ACTION_ARCHIVE_CACHE",
    "ACTIONS_RUNNER_SYMLINK_CACHED_ACTIONS",
    "ACTIONS_RUNNER_REQUIRE_JOB_CONTAINER",
    "GITHUB_ACTIONS_RUNNER_HTTP_TIMEOUT",
    "GITHUB_ACTIONS_RUNNER_HTTP_RETRY",
    "GITHUB_ACTIONS_RUNNER_CHANNEL_TIMEOUT",
)
"""Everything of the agent's environment a job may see. A name that is not here is not handed on."""
JIT_CONFIG = "ACTIONS_RUNNER_INPUT_JITCONFIG"
STARTED_HOOK = "ACTIONS_RUNNER_HOOK_JOB_STARTED"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HOOK = """#!/bin/bash
# Written by the agent: tells it which job this machine really runs. Never fails the job.
{{
    printf '%s\\n' "$GITHUB_RUN_ID" "$GITHUB_RUN_ATTEMPT" "$GITHUB_REPOSITORY" "$GITHUB_JOB" > {note}.new && mv {note}.new {note}
}} 2>/dev/null
{then}
"""
_THEN = {
    ".sh": 'shell=$(command -v bash || command -v sh); exec "$shell" -e {path}',
    ".ps1": 'shell=$(command -v pwsh || command -v powershell); exec "$shell" -command {dotted}',
    ".js": "exec {node} {path}",
}
"""How a hook of the operator's is run, by its extension: as the runner itself would, so that neither mode nor first line counts.

Source: actions/runner, `ScriptHandlerHelpers` and `ScriptHandler` ("Running scripts before or after a job", GitHub docs).
"""
_NO_SCRIPT = "echo {told}; exit 1"


class Registration:
    """Prepares the runner's directory, environment and command."""

    def __init__(
        self, settings: Settings, environment: Mapping[str, str], processes: Processes, clock: Clock, journal: Journal
    ) -> None:
        self._settings, self._environment = settings, environment
        self._processes, self._clock, self._journal = processes, clock, journal
        self.job_note = settings.work_dir / "job" / "started"
        """Where the started hook tells which job was taken; written by the job's user, so never trusted."""

    def prepare(self, config: RunnerConfig, instance_id: str, directory: Path) -> Launch:
        """How to start the runner, registered if that was needed.

        Raises: RegistrationFailed, RunnerUnstartable.
        """
        try:
            environment = self._job_environment(config, directory)
            self._processes.own(directory, self._settings.runner_user)
            wrapper = written(self._settings.work_dir / "hooks")
        except (OSError, LookupError) as error:
            raise RunnerUnstartable(f"the runner in {directory} cannot be made ready: {error}") from error
        if (blob := config.blob()) is not None:
            environment[JIT_CONFIG] = blob.reveal()
        else:
            self._configure(config, instance_id, directory, environment)
        return Launch(listener(directory), directory, environment, self._settings.runner_user, wrapper=(str(wrapper),))

    def _configure(self, config: RunnerConfig, instance_id: str, directory: Path, environment: Mapping[str, str]) -> None:
        token = config.jit_token.reveal() if config.jit_token else ""
        launch = Launch(
            self._command(config, instance_id, directory),
            directory,
            {**environment, "ACTIONS_RUNNER_INPUT_TOKEN": token},
            self._settings.runner_user,
        )
        begun_s = self._clock.monotonic_s()
        for attempt in range(1, TRIES.tries + 1):
            try:
                finished = self._processes.run(launch, CONFIG_S)
            except OSError as error:
                raise RegistrationFailed(f"{launch.command[0]} cannot be executed: {error}") from error
            if finished.code == 0:
                return
            said = self._journal.cleaned(finished.tail).strip().splitlines()[-3:]
            cause = f"did not end within {CONFIG_S:g} s" if finished.code is None else f"ended with {finished.code}"
            self._journal.event("registration.refused", attempt=attempt, cause=cause, said=" | ".join(said))
            wait_s = TRIES.wait_s(attempt, self._clock.fraction())
            final = any(words in finished.tail for words in FINAL_WORDS)
            if final or TRIES.exhausted(attempt, self._clock.monotonic_s() - begun_s, wait_s):
                raise RegistrationFailed(f"config.sh {cause} after {attempt} tries: {' | '.join(said) or 'it said nothing'}")
            self._clock.pause(wait_s)

    def _command(self, config: RunnerConfig, instance_id: str, directory: Path) -> tuple[str, ...]:
        owner = config.org if config.is_org or not config.repo else ""
        path = owner or (config.repo if "/" in config.repo else f"{config.org}/{config.repo}")
        words = [str(directory / "config.sh"), "--unattended", "--ephemeral", "--disableupdate", "--replace"]
        words += ["--url", f"{self._settings.github_url}/{path}"]
        words += [
            "--name",
            _name(config, instance_id),
            "--labels",
            ",".join(config.labels),
        ]
        if config.runner_group:
            words += ["--runnergroup", config.runner_group]
        return tuple(words)

    def _job_environment(self, config: RunnerConfig, directory: Path) -> dict[str, str]:
        environment = {name: self._environment[name] for name in PASSED_ON if name in self._environment}
        environment.setdefault("PATH", DEFAULT_PATH)
        environment["HOME"] = str(self._processes.user_home(self._settings.runner_user))
        environment.update(ALWAYS)
        environment["RUNS_FLEET_ATTEMPT"] = str(config.attempt)
        if self._settings.s3_cache_endpoint:
            environment["RUNS_FLEET_S3_CACHE_ENDPOINT"] = self._settings.s3_cache_endpoint
            environment["ACTIONS_CACHE_URL"] = self._settings.s3_cache_endpoint
        set_by_us = (*ALWAYS, STARTED_HOOK, JIT_CONFIG, "HOME", "RUNS_FLEET_ATTEMPT")
        baked = self._taken_from_dot_env(directory, set_by_us)
        environment[STARTED_HOOK] = str(self._hook(baked.get(STARTED_HOOK) or self._environment.get(STARTED_HOOK), directory))
        return environment

    def _hook(self, other: str | None, directory: Path) -> Path:
        """The started hook; the one at `other`, which the image or the operator brought along, runs after ours."""
        hook = self._settings.work_dir / "hooks" / "job-started.sh"
        hook.parent.mkdir(parents=True, exist_ok=True)
        self.job_note.parent.mkdir(parents=True, exist_ok=True)
        self.job_note.unlink(missing_ok=True)
        self._processes.own(self.job_note.parent, self._settings.runner_user)
        then = _run_as_the_runner_would(other, directory) if other else "exit 0"
        hook.write_text(_HOOK.format(note=shlex.quote(str(self.job_note)), then=then), encoding="utf-8")
        hook.chmod(0o755)
        return hook

    def _taken_from_dot_env(self, directory: Path, ours: Collection[str]) -> dict[str, str]:
        """What the release's `.env` says about names that we set; those lines are taken out, because the listener lets them win.

        Source: actions/runner, `Program.LoadAndSetEnv`.
        """
        path = directory / ".env"
        if not path.is_file():
            return {}
        lines = path.read_text(encoding="utf-8").splitlines()
        found = {name: value for name, there, value in (line.partition("=") for line in lines) if there and name in ours}
        if found:
            kept = [line for line in lines if line.partition("=")[0] not in found]
            path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
            self._journal.event("runner.dot_env_overruled", names=",".join(sorted(found)), path=path)
        return found


def _run_as_the_runner_would(hook: str, directory: Path) -> str:
    """Shell that becomes the hook."""
    then = _THEN.get(Path(hook).suffix)
    if then is None:
        told = f"{hook} is not a valid path to a script. Make sure it ends in '.sh', '.ps1' or '.js'."
        return _NO_SCRIPT.format(told=shlex.quote(told))
    nodes = sorted(directory.glob("externals/node[0-9]*/bin/node"), key=lambda node: int(re.sub(r"\D", "", node.parts[-3]) or 0))
    node = str(nodes[-1]) if nodes else "node"
    return then.format(path=shlex.quote(hook), dotted=shlex.quote(f". '{hook}'"), node=shlex.quote(node))


def _name(config: RunnerConfig, instance_id: str) -> str:
    """The configured name if GitHub can take it, else one that ends in the instance id."""
    wanted = config.runner_name or "runs-fleet"
    return wanted if config.runner_name and len(wanted) <= RUNNER_NAME_LIMIT else runner_name(wanted, instance_id)
