"""How the stand-in GitHub's records look on the wire: the fields and types of GitHub's published API description."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sandbox.github.deliveries import Delivery
from sandbox.github.records import CheckRecord, JobRecord, RunnerRecord, RunRecord
from sandbox.github.state import GitHubState
from sandbox.runner.release import Archive

PERMISSIONS = {"administration": "write", "actions": "write", "checks": "write", "metadata": "read"}
"""What the App was granted: to register runners, to read jobs, to run reclaimed ones again, and to write on a commit's page."""


def moment(at: float | None) -> str | None:
    """The moment in RFC 3339, or null."""
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def runner(record: RunnerRecord) -> dict[str, Any]:
    """A runner object; one that never connected is offline and of unknown system."""
    return {
        "id": record.id,
        "runner_group_id": record.group_id,
        "name": record.name,
        "os": "linux" if record.version else "unknown",
        "status": "online" if record.session else "offline",
        "busy": record.busy,
        "ephemeral": record.ephemeral,
        "labels": [{"id": at, "name": label, "type": "custom"} for at, label in enumerate(record.labels, 1)],
    }


def job(state: GitHubState, run: RunRecord, record: JobRecord, base: str) -> dict[str, Any]:
    """A job object, as the API and the webhook have it."""
    url = f"{base}/repos/{state.owner}/{state.repo}"
    return {
        "id": record.id,
        "run_id": run.id,
        "run_url": f"{url}/actions/runs/{run.id}",
        "run_attempt": record.attempt,
        "node_id": f"CR_{record.id}",
        "head_sha": "0" * 40,
        "head_branch": "main",
        "url": f"{url}/actions/jobs/{record.id}",
        "html_url": f"{base}/{state.owner}/{state.repo}/actions/runs/{run.id}/job/{record.id}",
        "status": "queued" if record.status == "pending" else record.status,
        "conclusion": record.conclusion,
        "created_at": moment(record.queued_at or record.completed_at or 0.0),
        "started_at": moment(record.started_at or record.queued_at or record.completed_at or 0.0),
        "completed_at": moment(record.completed_at),
        "name": record.plan.name,
        "steps": [
            {
                "name": step["name"],
                "status": "completed",
                "conclusion": step["conclusion"],
                "number": step["number"],
                "started_at": step["started_at"] or None,
                "completed_at": step["completed_at"] or None,
            }
            for step in record.steps
        ],
        "check_run_url": f"{url}/check-runs/{record.id}",
        "labels": list(record.labels),
        "runner_id": record.runner_id,
        "runner_name": record.runner_name or None,
        "runner_group_id": 1 if record.runner_id else None,
        "runner_group_name": "Default" if record.runner_id else None,
        "workflow_name": run.workflow.name,
    }


def user(login: str, base: str) -> dict[str, Any]:
    """The user, in the short form."""
    api = f"{base}/users/{login}"
    links = ("followers", "following", "gists", "starred", "subscriptions", "organizations", "repos", "events", "received_events")
    return {
        "login": login, "id": 1, "node_id": "U_1", "avatar_url": f"{base}/avatar", "gravatar_id": "", "url": api,
        "html_url": f"{base}/{login}", "type": "User", "site_admin": False, **{f"{name}_url": f"{api}/{name}" for name in links},
    }  # fmt: skip


def app(app_id: str, base: str, permissions: dict[str, str], events: list[str], installations: int) -> dict[str, Any]:
    """The App, as it sees itself."""
    now = "2026-07-20T00:00:00Z"
    return {
        "id": int(app_id), "slug": "runs-fleet", "node_id": "A_1", "owner": user("octo", base), "name": "runs-fleet",
        "description": None, "external_url": base, "html_url": f"{base}/apps/runs-fleet", "created_at": now, "updated_at": now,
        "permissions": permissions, "events": events, "installations_count": installations,
    }  # fmt: skip


def installation(owner: str, base: str, permissions: dict[str, str], events: list[str]) -> dict[str, Any]:
    """The App's one installation, on `owner`."""
    now = "2026-07-20T00:00:00Z"
    return {
        "id": 1, "account": user(owner, base), "app_id": 1, "app_slug": "runs-fleet", "target_id": 1, "target_type": "User",
        "access_tokens_url": f"{base}/app/installations/1/access_tokens", "repositories_url": f"{base}/installation/repositories",
        "html_url": f"{base}/settings/installations/1", "repository_selection": "selected", "permissions": permissions,
        "events": events, "single_file_name": None, "suspended_by": None, "suspended_at": None,
        "created_at": now, "updated_at": now,
    }  # fmt: skip


REPOSITORY_URLS = [
    "archive",
    "assignees",
    "blobs",
    "branches",
    "collaborators",
    "comments",
    "commits",
    "compare",
    "contents",
    "contributors",
    "deployments",
    "downloads",
    "events",
    "forks",
    "git_commits",
    "git_refs",
    "git_tags",
    "hooks",
    "issue_comment",
    "issue_events",
    "issues",
    "keys",
    "labels",
    "languages",
    "merges",
    "milestones",
    "notifications",
    "pulls",
    "releases",
    "stargazers",
    "statuses",
    "subscribers",
    "subscription",
    "tags",
    "teams",
    "trees",
]


def repository(state: GitHubState, base: str) -> dict[str, Any]:
    """The repository, in the short form."""
    url = f"{base}/repos/{state.owner}/{state.repo}"
    return {
        "id": 1, "node_id": "R_1", "name": state.repo, "full_name": f"{state.owner}/{state.repo}", "private": True, "fork": False,
        "owner": user(state.owner, base), "html_url": f"{base}/{state.owner}/{state.repo}", "description": None, "url": url,
        **{f"{name}_url": f"{url}/{name}" for name in REPOSITORY_URLS},
    }  # fmt: skip


def run(state: GitHubState, record: RunRecord, base: str) -> dict[str, Any]:
    """The workflow run of the REST API."""
    url = f"{base}/repos/{state.owner}/{state.repo}/actions/runs/{record.id}"
    begun = moment(min((job.queued_at for job in (*record.past, *record.jobs) if job.queued_at), default=0.0))
    return {
        "id": record.id, "node_id": f"WFR_{record.id}", "name": record.workflow.name, "head_branch": "main", "head_sha": "0" * 40,
        "path": ".github/workflows/sandbox.yml", "display_title": record.workflow.name, "run_number": record.number,
        "run_attempt": record.attempt, "event": "push", "status": record.status, "conclusion": record.conclusion, "workflow_id": 1,
        "url": url, "html_url": f"{base}/{state.owner}/{state.repo}/actions/runs/{record.id}", "pull_requests": [],
        "created_at": begun, "updated_at": begun, "run_started_at": begun, "head_commit": None,
        "repository": repository(state, base), "head_repository": repository(state, base),
        **{f"{name}_url": f"{url}/{name}" for name in ("jobs", "logs", "check_suite", "artifacts", "cancel", "rerun", "workflow")},
    }  # fmt: skip


def check_run(state: GitHubState, record: CheckRecord, base: str) -> dict[str, Any]:
    """A check run, as the answer to its creation has it."""
    url = f"{base}/repos/{state.owner}/{state.repo}/check-runs/{record.id}"
    return {
        "id": record.id, "node_id": f"CR_{record.id}", "head_sha": record.head_sha, "name": record.name, "external_id": "",
        "url": url, "html_url": f"{base}/{state.owner}/{state.repo}/runs/{record.id}", "details_url": None,
        "status": record.status, "conclusion": record.conclusion, "started_at": moment(record.at),
        "completed_at": moment(record.at) if record.status == "completed" else None, "check_suite": {"id": 1}, "app": None,
        "pull_requests": [],
        "output": {
            "title": record.title, "summary": record.summary, "text": None, "annotations_count": 0,
            "annotations_url": f"{url}/annotations",
        },
    }  # fmt: skip


def delivery_item(record: Delivery) -> dict[str, Any]:
    """A webhook delivery, as the App's API lists it."""
    fine = 200 <= record.status_code < 300
    return {
        "id": record.id, "guid": record.guid, "delivered_at": moment(record.at), "redelivery": record.redelivery,
        "duration": round(record.took_s, 2), "status": "OK" if fine else f"Invalid HTTP Response: {record.status_code}",
        "status_code": record.status_code, "event": "workflow_job", "action": record.action, "installation_id": 1,
        "repository_id": 1, "throttled_at": None,
    }  # fmt: skip


def whole_delivery(record: Delivery) -> dict[str, Any]:
    """A webhook delivery with its request and the answer to it. Source: "Get a delivery for an app webhook", GitHub REST."""
    return {
        **delivery_item(record), "url": "",
        "request": {"headers": {}, "payload": json.loads(record.body)}, "response": {"headers": {}, "payload": record.answer},
    }  # fmt: skip


def delivery(state: GitHubState, action: str, run: RunRecord, record: JobRecord, base: str) -> dict[str, Any]:
    """The body of a `workflow_job` webhook."""
    owner = user(state.owner, base)
    return {
        "action": action,
        "workflow_job": {
            **job(state, run, record, base),
            "status": {"queued": "queued", "in_progress": "in_progress"}.get(action, "completed"),
        },
        "repository": {"id": 1, "name": state.repo, "full_name": f"{state.owner}/{state.repo}", "private": True, "owner": owner},
        "sender": owner,
        "installation": {"id": 1, "node_id": "I_1"},
    }


def rate_limits(overview: dict[str, dict[str, int]]) -> dict[str, Any]:
    """The answer to GET /rate_limit."""
    search = {"limit": 30, "used": 0, "remaining": 30, "reset": overview["core"]["reset"]}
    return {"resources": {**overview, "search": search}, "rate": overview["core"]}


def release(archive: Archive, architecture: str, base: str) -> dict[str, Any]:
    """A release object of actions/runner with one asset, its digest and the body's markers."""
    version, name = archive.version, f"actions-runner-linux-{architecture}-{archive.version}.tar.gz"
    api, now = f"{base}/repos/actions/runner/releases", "2026-07-20T00:00:00Z"
    marked = f"<!-- BEGIN SHA linux-{architecture} -->{archive.sha256}<!-- END SHA linux-{architecture} -->"
    return {
        "url": f"{api}/1", "html_url": f"{base}/actions/runner/releases/tag/v{version}", "assets_url": f"{api}/1/assets",
        "upload_url": f"{api}/1/assets{{?name,label}}", "tarball_url": f"{api}/tarball", "zipball_url": f"{api}/zipball",
        "id": 1, "node_id": "RE_1", "tag_name": f"v{version}", "target_commitish": "main", "name": f"v{version}",
        "body": f"## SHA-256 Checksums\r\n- {name} {marked}\r\n", "draft": False, "prerelease": False,
        "created_at": now, "published_at": now, "author": user("github-actions", base),
        "assets": [
            {
                "url": f"{api}/assets/1", "browser_download_url": f"{base}/actions/runner/releases/download/v{version}/{name}",
                "id": 1, "node_id": "RA_1", "name": name, "label": "", "state": "uploaded", "content_type": "application/octet-stream",
                "size": len(archive.content), "digest": f"sha256:{archive.sha256}", "download_count": 0, "created_at": now,
                "updated_at": now, "uploader": user("github-actions", base),
            }
        ],
    }  # fmt: skip
