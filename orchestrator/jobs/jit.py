"""The registration of a session as a just-in-time runner of GitHub, and the configuration that carries it."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime

from agent.contract.config import RunnerConfig, write_config
from agent.contract.errors import ContractError
from orchestrator.errors import ServiceFailed, Throttled, Unlaunchable
from orchestrator.fleet.work import Registered
from orchestrator.jobs.github import GitHub, Minted
from orchestrator.jobs.runner_releases import NamedRelease, RunnerReleases
from orchestrator.ports import Clock
from orchestrator.retry_policy import MINTS
from orchestrator.settings import ServerSettings
from orchestrator.store.model import Session
from orchestrator.store.naming import Scope, place_of, registration_name
from orchestrator.store.states import SessionState

FINAL = frozenset({"401", "403", "404", "422"})
"""Refusals of a registration that the same call would meet again; too many calls have a kind of their own (Throttled).

Source: GitHub REST, "Create configuration for a just-in-time runner for a repository".
"""
MEND = "install the App there with the permission `administration: write`, and look at the repository's runner settings"
TRIAL_LABELS = ("runs-fleet-trial",)
"""Of a registration that only finds out whether registering is allowed: no job asks for it."""


@dataclass
class JitRegistrations:
    """Registrations of sessions; on ports that are handed in. Every method raises ServiceFailed."""

    settings: ServerSettings
    github: GitHub
    releases: RunnerReleases
    clock: Clock

    def register(self, session: Session) -> Registered:
        """Register a session's runner. The configuration is built with the session's attempt as it is written then."""
        try:
            minted = self._minted(session)
        except ServiceFailed as error:
            if error.code in FINAL and not isinstance(error, Throttled):
                raise Unlaunchable(f"GitHub refuses registrations in {session.repository} ({error}): {MEND}") from error
            raise
        issued_at = datetime.fromtimestamp(self.clock.now(), UTC)
        release = self.releases.named(session.scope, session.spec.partition("-")[0])
        return Registered(minted.runner_id, lambda now: self._configuration(now, minted, issued_at, release))

    def is_allowed(self, scope: Scope) -> bool:
        """Whether a runner may be registered there again, tried with one that nobody uses and that is removed at once."""
        name = registration_name(self.settings.stack_id, f"s-trial-{hashlib.sha256(place_of(scope).encode()).hexdigest()[:8]}")
        try:
            minted = self.github.mint(scope, name, TRIAL_LABELS)
            left = minted.runner_id if minted is not None else self.github.find(scope, name)  # of a trial that was cut off
            if left is not None:
                self.github.remove(scope, left)
        except ServiceFailed:
            return False
        return True

    def find(self, session: Session) -> int:
        """The id of a session's runner; 0: GitHub has none of its name."""
        return self.github.find(session.scope, session.registration_name) or 0

    def withdraw(self, session: Session) -> bool:
        """Remove an idle runner, if GitHub agrees that it is idle."""
        runner_id = self.github.find(session.scope, session.registration_name)
        if runner_id is None:
            return session.state is not SessionState.READY  # a ready one had its job, or GitHub removed it: it says so itself
        return self.github.remove(session.scope, runner_id)

    def is_working(self, session: Session) -> bool:
        """Whether GitHub says so: what we did not hear for long, because we were away, may lie in our queues."""
        try:
            runner_id = self.github.find(session.scope, session.registration_name)
            return runner_id is not None and not self.github.remove(session.scope, runner_id)
        except ServiceFailed as error:
            if error.code != "404" and session.state is not SessionState.LAUNCHED:
                raise
            return False  # never configured, or the App is not there any more

    def is_unregistered(self, session: Session) -> bool:
        """Whether GitHub has no runner of it any more; one that is idle is removed."""
        try:
            runner_id = self.github.find(session.scope, session.registration_name)
            return runner_id is None or self.github.remove(session.scope, runner_id)
        except ServiceFailed as error:
            if error.code != "404":
                raise
            return True  # the repository is gone, or the App: there is nothing left to remove

    def _minted(self, session: Session) -> Minted:
        """A runner whose name is taken is our own, from a call whose answer was lost: it is removed and registered again."""
        for _ in range(MINTS):
            minted = self.github.mint(session.scope, session.registration_name, session.labels)
            if minted is not None:
                return minted
            other = self.github.find(session.scope, session.registration_name)
            if other is not None:
                self.github.remove(session.scope, other)
        raise ServiceFailed("github:generate-jitconfig", "NameTaken", session.registration_name)

    def _configuration(self, session: Session, minted: Minted, issued_at: datetime, release: NamedRelease) -> str:
        """The text of the parameter that the agent reads. Raises: Unlaunchable: it can never be written.

        Labels are left out: GitHub has them with the registration, and whoever writes a workflow chooses how long they are.
        """
        settings, scope = self.settings, session.scope
        config = RunnerConfig(
            org=scope.owner, repo=scope.repo, job_id=session.launched_for, run_id=session.run_id,
            jit_config=type(minted.blob)(without_update(minted.blob.reveal())), runner_name=session.registration_name,
            session_id=session.session_id, attempt=session.attempt, stack_id=settings.stack_id, issued_at=issued_at,
            runner_version=release.version, runner_sha256=release.sha256, runner_by_default=release.by_default,
            max_runtime_minutes=settings.max_runtime_minutes,
        )  # fmt: skip
        try:
            return write_config(config)
        except ContractError as error:
            raise Unlaunchable(str(error)) from error


def without_update(blob: str) -> str:
    """The JIT config with `DisableUpdate` set: a runner that lives for one job must not spend it on updating itself.

    A blob of another shape is returned as it is. Source: actions/runner, `.runner` settings.
    """
    try:
        files = json.loads(base64.b64decode(blob, validate=True))
        runner = json.loads(base64.b64decode(files[".runner"], validate=True).decode("utf-8-sig"))
        runner["DisableUpdate"] = "True"
        files[".runner"] = base64.b64encode(json.dumps(runner).encode()).decode()
        return base64.b64encode(json.dumps(files).encode()).decode()
    except (ValueError, KeyError, TypeError):
        return blob
