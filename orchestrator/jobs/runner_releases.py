"""Which release of the runner the machines are told to run, and its digest: GitHub is asked once an hour for the whole fleet.

So no machine has to ask it, nor to believe what other machines laid into the bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.errors import ServiceFailed
from orchestrator.jobs.github import GitHub, RunnerRelease
from orchestrator.ports import Clock, Journal
from orchestrator.settings import ServerSettings
from orchestrator.store.naming import Scope

RENEW_S, AGAIN_S = 3600.0, 300.0
"""Seconds until GitHub is asked again: after an answer, and after none."""


@dataclass(frozen=True)
class NamedRelease:
    """What a configuration says of the runner. Empty: it says nothing, and the machine decides."""

    version: str = ""
    sha256: str = ""
    by_default: bool = False
    """Nobody chose the version: a release in the machine's image goes before it."""


@dataclass
class RunnerReleases:
    """The release that the settings name, else GitHub's newest."""

    settings: ServerSettings
    github: GitHub
    clock: Clock
    journal: Journal
    _told: RunnerRelease | None = None
    _due: float = 0.0

    def named(self, scope: Scope, architecture: str) -> NamedRelease:
        """For a machine of that architecture (`amd64`, `arm64`). `scope`: a repository in which the App may ask.

        Never raises: where GitHub did not tell, its last word counts, and without one nothing is named.
        """
        chosen, digests = self.settings.runner_version, self.settings.runner_sha256
        if chosen and (known := digests.of(architecture)):
            return NamedRelease(chosen, known)
        told = self._latest(scope)
        if told is None:
            return NamedRelease(chosen)
        return NamedRelease(told.version, told.digests.get(architecture, ""), by_default=not chosen)

    def _latest(self, scope: Scope) -> RunnerRelease | None:
        """One asks, the others go by the last word meanwhile. Before the first word, whoever needs one asks."""
        if self.clock.now() >= self._due:
            if self._told is not None:
                self._due = self.clock.now() + AGAIN_S
            self._ask(scope)
        return self._told

    def _ask(self, scope: Scope) -> None:
        chosen = self.settings.runner_version
        try:
            found, why = self.github.release(scope, chosen), "GitHub has no such release"
        except ServiceFailed as error:
            found, why = None, str(error)
        if found is None:
            self._due = self.clock.now() + AGAIN_S
            known = self._told.version if self._told is not None else chosen
            self.journal.event("release.unknown", asked=chosen or "latest", named=known or "none", why=why)
            return
        if found != self._told:
            self.journal.event("release.named", version=found.version, **_shown(found.digests))
        self._told, self._due = found, self.clock.now() + RENEW_S


def _shown(digests: Mapping[str, str]) -> dict[str, str]:
    return {architecture: digest[:12] for architecture, digest in digests.items()}
