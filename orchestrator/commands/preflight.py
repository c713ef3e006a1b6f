"""Whether a job would get a machine now, asked before `runs-fleet launch` promises any."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.compute.dispatch import Strategies
from orchestrator.jobs.github import GitHub
from orchestrator.jobs.requests import JobRequests
from orchestrator.settings import ServerSettings
from orchestrator.store.naming import Scope


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Who is asked."""

    settings: ServerSettings
    requests: JobRequests
    strategies: Strategies
    github: GitHub


def why_not(asked: Asked, owner: str, repo: str, label: str) -> str:
    """Why a job with this label would get no machine now, for people; empty: it would, as far as can be seen.

    Whether the App is installed can only be asked with its key: without one in the settings nobody is asked.
    Raises: ServiceFailed.
    """
    repository = f"{owner}/{repo}"
    if objection := asked.requests.objection(repository, (label,)):
        return objection
    request = asked.requests.request_of(repository, (label,))
    strategy = asked.strategies.of(request.compute)
    if obstacle := strategy.obstacle(request):
        return obstacle
    if not asked.settings.app_id or not asked.settings.app_private_key.reveal():
        return ""
    quota = asked.github.registrations(Scope("", owner, repo))
    return f"it would wait for {quota.why}" if quota.left == 0 else ""
