"""The agent's main flow: one machine, one piece of work, one life. Read it from top to bottom.

Find out which instance this is. Wait for the configuration while the work is made ready. Register, start the work, and watch it
until it ends or must end. Then ship what is left, send the final message, and make the machine go away, in every case.
"""

from __future__ import annotations

from functools import partial

from agent.components import Components
from agent.contract.config import RunnerConfig
from agent.errors import (
    AgentError,
    ConfigurationExpired,
    Exit,
    MetadataExposed,
    RegistrationFailed,
    ServiceError,
    SettingsError,
    caught,
)
from agent.executor import SWEEP_S
from agent.mailbox import Overdue, StoppedEarly
from agent.observer import RunObserver
from agent.phases import Phase
from agent.ports import Launch, LogReport
from agent.safety import runtime_limit_s
from agent.supervision import Limits
from agent.work import Prepared, Verdict, verdict_of_early_stop, verdict_of_failure

METADATA_S = 20.0
"""Seconds for switching the metadata service off and seeing it gone."""
SHUTDOWN_S = 120.0
"""Seconds after a job's last possible moment in which something may still have to be signed."""
IDENTITY_S = 15.0
"""Seconds for asking the machine for its instance id."""


class Life:
    """One life. `live` may be called once."""

    def __init__(self, components: Components) -> None:
        self._components = components
        self._clock, self._journal, self._mailbox = components.clock, components.journal, components.mailbox
        self._report = components.shutdown.report
        self._broke = False

    def live(self) -> int:
        """Live, and make the machine go away. Returns the process's exit code (`errors.Exit`)."""
        lived = caught(self._lived)
        failure = lived.error
        if failure is None:
            verdict = lived.value
        elif isinstance(failure, StoppedEarly):
            verdict = verdict_of_early_stop(failure.stop)
        elif isinstance(failure, AgentError):
            verdict = verdict_of_failure(failure.reason, str(failure))
        else:
            verdict = verdict_of_failure("internal", f"the agent failed: {type(failure).__name__}: {failure}")
        is_broken = failure is not None and not isinstance(failure, AgentError | StoppedEarly)
        if self._report.exit_code is None:
            self._components.processes.sweep(SWEEP_S)  # nobody has watched what was started to its end
        if isinstance(failure, AgentError) or is_broken:
            self._journal.event("life.failed", reason=verdict.reason, error=verdict.error)
        delivered = self._shut_down(verdict, for_certain=is_broken)
        if is_broken or self._broke:
            return Exit.INTERNAL
        if isinstance(failure, AgentError):
            return failure.exit_code
        return Exit.LIVED if delivered else Exit.UNDELIVERED

    def _lived(self) -> Verdict:
        components = self._components
        self._journal.phase(Phase.WAKING)
        self._wake()
        self._journal.phase(Phase.PREPARING)
        config = self._configured()
        self._write_last_will(config)
        prepared = self._prepared(config)
        self._journal.phase(Phase.REGISTERING)
        launch = self._registered(config, prepared)
        self._journal.phase(Phase.STARTING)
        components.mailbox.stop_if_asked()
        return self._ran(launch, config, prepared)

    def _wake(self) -> None:
        """Raises: SettingsError, with every complaint at once."""
        settings = self._components.settings
        for warning in settings.warnings:
            self._journal.event("settings.warning", warning=warning)
        complaints = list(settings.complaints)
        self._report.instance_id = settings.instance_id
        if settings.instance_id is None:
            try:
                self._report.instance_id = self._mailbox.bounded("identity", self._components.machine.instance_id, IDENTITY_S)
            except (ServiceError, Overdue) as error:
                complaints.append(
                    f"RUNS_FLEET_INSTANCE_ID is missing: expected an EC2 id, and the metadata service did not tell ({error})"
                )
        if complaints:
            raise SettingsError(tuple(complaints))
        self._components.telemetry.begin_check()
        self._components.machine.watch_notices()

    def _configured(self) -> RunnerConfig:
        """The configuration; one that is refused is kept all the same, because the final message must say whose it was."""
        components, stopwatch = self._components, self._components.stopwatch
        stopwatch.begin("configuration", self._clock.monotonic_s())
        try:
            config = components.configuration.obtain(self._mailbox, components.work.prefetch)
        except ConfigurationExpired as error:
            self._report.config = error.config
            raise
        self._report.config = config
        stopwatch.end("configuration", self._clock.monotonic_s())
        self._mailbox.stop_if_asked()
        return config

    def _write_last_will(self, config: RunnerConfig) -> None:
        """A disk that takes no last will takes no job either; the work is to find that out."""
        last_will, settings = self._components.last_will, self._components.settings
        try:
            last_will.leave(config, self._report.instance_id or "", self._report.started_at, self._clock.new_id())
            if config.max_runtime_minutes is not None:
                last_will.allow(config.max_runtime_minutes, settings.config_timeout_s + settings.grace_s)
        except OSError as error:
            self._report.degraded.append(f"last will: {error}")

    def _prepared(self, config: RunnerConfig) -> Prepared:
        """What the work needs on this machine; the log stream opens beside it."""
        caught(partial(self._components.log_stream.open, config.job_id))
        self._report.prepared = prepared = self._components.work.prepare(config)
        self._report.cache_outcome = prepared.cache_outcome
        self._report.degraded += prepared.degraded
        return prepared

    def _registered(self, config: RunnerConfig, prepared: Prepared) -> Launch:
        components, within_s = self._components, self._components.work.register_within_s
        components.stopwatch.begin("registration", self._clock.monotonic_s())
        self._mailbox.stop_if_asked()
        register = partial(components.work.register, config, prepared, self._report.instance_id or "")
        until_s = self._clock.monotonic_s() + within_s
        self._mailbox.begin("registration", register)
        end = self._mailbox.ended_by("registration", until_s)
        if end is None:
            raise RegistrationFailed(f"the registration did not end within {within_s:g} s")
        if end.error is not None:
            raise end.error
        components.stopwatch.end("registration", self._clock.monotonic_s())
        launch: Launch = end.value
        return launch

    def _ran(self, launch: Launch, config: RunnerConfig, prepared: Prepared) -> Verdict:
        components, settings = self._components, self._components.settings
        limits = Limits(
            runtime_limit_s(settings.max_runtime_minutes, config.max_runtime_minutes),
            settings.grace_s,
            settings.idle_timeout_s,
        )
        components.telemetry.finish_check()
        if settings.strict_metadata:
            self._close_metadata(limits)
        process = components.executor.start(launch)
        self._report.started_at, self._report.started_s = self._clock.now(), self._clock.monotonic_s()
        components.stopwatch.begin("to_exec", components.born_s)
        components.stopwatch.end("to_exec", self._report.started_s)
        components.stopwatch.begin("running", self._report.started_s)
        self._journal.phase(Phase.RUNNING)
        observer = RunObserver(components, self._report, config)
        observer.started(prepared)
        watch = components.executor.attend(process, limits, observer)
        watch = components.executor.explained(watch) if components.work.is_unexplained(watch) else watch
        components.stopwatch.end("running", self._clock.monotonic_s())
        self._report.exit_code = watch.exit_code
        self._report.ran = observer.last_look()
        verdict = components.work.verdict(watch)
        self._journal.event("work.ended", status=verdict.status.value, reason=verdict.reason, code=watch.exit_code)
        return verdict

    def _close_metadata(self, limits: Limits) -> None:
        """Raises: MetadataExposed; a job that must not see the service is not started beside it."""
        needed_s = limits.runtime_s + limits.grace_s + SHUTDOWN_S
        close = partial(self._components.machine.close_metadata, self._report.instance_id or "", needed_s)
        try:
            self._mailbox.bounded("metadata", close, METADATA_S)
        except (ServiceError, Overdue) as error:
            raise MetadataExposed(f"the metadata service was to be switched off (RUNS_FLEET_STRICT_METADATA): {error}") from error
        self._report.degraded.append("notices: the metadata service is switched off, so no spot notice can be seen")

    def _shut_down(self, verdict: Verdict, *, for_certain: bool) -> bool:
        """Every step stands alone: one that breaks must not take the next with it. Returns whether the final word was sent."""
        shutdown = self._components.shutdown
        ended = caught(partial(self._settled, verdict))
        if ended.error is not None:
            for_certain = self._broke = True
            self._journal.event("shutdown.broken", error=f"{type(ended.error).__name__}: {ended.error}")
            if not shutdown.word_delivered:
                shutdown.send_final_word(verdict, LogReport("lost", cause="the shutdown broke"), "failed")
        shutdown.leave(for_certain=for_certain or self._report.broken)
        return shutdown.word_delivered

    def _settled(self, verdict: Verdict) -> None:
        shutdown = self._components.shutdown
        self._journal.phase(Phase.SETTLING)
        logs, diagnostics = shutdown.ship_logs()
        self._journal.phase(Phase.REPORTING)
        shutdown.send_final_word(verdict, logs, diagnostics)
        self._journal.phase(Phase.CLEANING)
        shutdown.clean()
        self._journal.phase(Phase.TERMINATING)
