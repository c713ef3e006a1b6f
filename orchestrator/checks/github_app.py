"""Whether a GitHub App is what the orchestrator needs: its key, its permissions, its event, its installations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.readiness import Fault

NEEDED = {"administration": "write", "actions": "write", "metadata": "read"}
"""As docs/permissions.md says. Source: "Permissions required for GitHub Apps"."""
EVENT = "workflow_job"
STRENGTH = {"": 0, "read": 1, "write": 2, "admin": 3}


@dataclass(frozen=True, kw_only=True)
class AppFacts:
    """What GitHub says of an App."""

    about: Mapping[str, Any]
    """`GET /app`."""
    hook: Mapping[str, Any] | None
    """`GET /app/hook/config`; None: its webhook is not ours to hear."""
    installations: Sequence[Mapping[str, Any]]
    """`GET /app/installations`."""


def unknown_app(setting: str, status: str, api_url: str, words: str = "") -> Fault:
    """GitHub refused the App itself: 401, its key or id is not accepted; 403, it is blocked, or this address is; 404, unknown."""
    if status == "401":
        found = "GitHub does not accept the App's signature"
        expected = "the id and the private key of one App, and a clock that is right"
        remedy = "compare the App's id with the App's settings; else create a new private key there, and set both"
    elif status == "403":
        found, expected = f"GitHub does not let the App in: {words}", "an App that is not blocked, and an address that is allowed"
        remedy = "look at the App's settings, and at the list of allowed IP addresses of its owner"
    else:
        found = f"{api_url} answers {status} when asked for the App"
        expected = "the address of the GitHub API that the App was made at, and the App's id"
        remedy = "compare RUNS_FLEET_GITHUB_API_URL and the App's id with the App's settings"
    return Fault(setting=setting, found=found, expected=expected, remedy=remedy)


def faults_of_app(setting: str, facts: AppFacts) -> Iterator[Fault]:
    """Everything that keeps jobs of the App's repositories from their runners."""
    slug = str(facts.about.get("slug") or facts.about.get("name") or "the App")
    settings = f"{facts.about.get('html_url') or ''!s}, permissions and events".removeprefix(", ")
    for name, has, needs in _missing(facts.about):
        yield Fault(
            setting=setting, found=f"{slug} has {name}: {has or 'no access'}", expected=f"{name}: {needs}",
            remedy=f"change it in the App's settings ({settings}), and accept the change where it is installed",
        )  # fmt: skip
    if facts.hook is not None:
        if EVENT not in facts.about.get("events", ()):
            remedy = f"subscribe to Workflow jobs in the App's settings ({settings})"
            yield Fault(setting=setting, found=f"{slug} is not told of {EVENT}", expected="that event", remedy=remedy)
        if not facts.hook.get("url"):
            remedy = "activate the webhook in the App's settings: https://<your address>/webhook, with its secret"
            yield Fault(setting=setting, found=f"{slug} has no webhook", expected="its URL", remedy=remedy)
    if not facts.installations:
        remedy = f"install it: {facts.about.get('html_url') or 'the App'}/installations/new"
        yield Fault(setting=setting, found=f"{slug} is installed nowhere", expected="an installation", remedy=remedy)
    faults = [list(_faults_of_installation(setting, slug, one)) for one in facts.installations]
    works_somewhere = any(not found for found in faults)
    for fault in (fault for found in faults for fault in found):
        yield replace(fault, is_partial=works_somewhere)


def _faults_of_installation(setting: str, slug: str, one: Mapping[str, Any]) -> Iterator[Fault]:
    account, where = str((one.get("account") or {}).get("login") or one.get("id")), str(one.get("html_url") or "its settings")
    if one.get("suspended_at"):
        told = f"{slug} is suspended at {account}"
        yield Fault(setting=setting, found=told, expected="an installation that works", remedy=f"unsuspend it: {where}")
        return
    for name, has, needs in _missing(one):
        told = f"{slug} was given {name}: {has or 'no access'} at {account}"
        yield Fault(setting=setting, found=told, expected=f"{name}: {needs}", remedy=f"accept the App's permissions: {where}")


def _missing(told: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Permission, what it is, what it must be."""
    has = told.get("permissions") or {}
    for name, needed in NEEDED.items():
        if STRENGTH.get(str(has.get(name, "")), 0) < STRENGTH[needed]:
            yield name, str(has.get(name, "")), needed
