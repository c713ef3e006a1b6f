"""Steps and what became of them, as the worker reports them to the run service."""

from __future__ import annotations

import json
import time
from typing import Any

from sandbox.runner.wire import Refused, exchange

RESULTS = {"Succeeded": 100, "SucceededWithIssues": 101, "Failed": 102, "Canceled": 103, "Skipped": 104, "Abandoned": 105}
"""A job's result -> the worker's exit code."""


class Step:
    """One step and what became of it."""

    def __init__(self, number: int, spec: dict[str, Any], started_at: str = "") -> None:
        self.number, self.spec = number, spec
        self.conclusion, self.started_at, self.completed_at = "", started_at, ""
        self.lines: list[str] = []

    @property
    def name(self) -> str:
        """As GitHub shows it: its name, its action, or the first line it runs."""
        return str(self.spec.get("name") or self.spec.get("uses") or f"Run {str(self.spec.get('run', '')).splitlines()[0][:60]}")


def report(message: dict[str, Any], result: str, steps: list[Step], outputs: dict[str, str]) -> None:
    """Report the end of the job in `message`; without a run service there is nobody to tell."""
    url = message.get("run_service_url")
    if not url:
        return
    body = {
        "jobId": message["job"]["id"],
        "conclusion": {"Succeeded": "success", "Failed": "failure", "Canceled": "cancelled"}[result],
        "outputs": outputs,
        "steps": [
            {"name": s.name, "number": s.number, "conclusion": s.conclusion or "skipped", "started_at": s.started_at,
             "completed_at": s.completed_at, "lines": s.lines}
            for s in steps
        ],
    }  # fmt: skip
    headers = {"Authorization": f"Bearer {message['token']}", "Content-Type": "application/json"}
    for left in (4, 3, 2, 1, 0):
        try:
            exchange("POST", f"{url}/completejob", json.dumps(body).encode(), headers)
            return
        except Refused:
            return
        except OSError:
            time.sleep(min(left, 1))
