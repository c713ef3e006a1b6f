"""How the stand-in GitHub may behave besides the usual: each was seen of the real one, and each is off until it is switched on."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class GitHubBehaviour:
    """Switches; they may be changed while it serves."""

    setup_s: float = 0.0
    """Seconds of "Set up job" before the first step; a runner that is shut down meanwhile leaves its job `cancelled`.

    Source: actions/runner, `JobRunner`: the shutdown token during the job's initialisation.
    """
    refuses_registrations: bool = False
    """403 for every registration in this repository, for good: the App lost `administration: write` there."""
    unknown_runs: set[int] = field(default_factory=set)
    """Runs that are answered with 404 though their jobs are told of."""
