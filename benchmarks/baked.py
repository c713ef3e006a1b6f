"""(b) A machine with a release and its configuration waiting: process start to runner exec, and where each millisecond goes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median
from typing import Any

from benchmarks import peers, release
from benchmarks.figures import Figure, in_turns
from benchmarks.stage import TREE, Stage, Started, agent, final_word, peer, start

ROUNDS = 11
LIMIT_S = 0.5
SHOWN_MODULES = 14
_IMPORT = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \|( *)(\S+)")
_PHASE = re.compile(r"^(\S+Z) phase\.entered phase=(\w+)", re.M)
STEPS = {
    "waking": "interpreter, imports, wiring: process start to the first phase",
    "preparing": "who we are: settings, signals, notices' thread",
    "registering": "configuration and release: one signed GetParameter (connect, sign, wait, parse), a look at the directory",
    "starting": "registration: unpacking the JIT config, the job's environment, the started hook on disk",
    "running": "fork and exec of run.sh",
}
"""The phase that begins -> what was done since the one before began."""


def measure(stage: Stage) -> tuple[list[Figure], dict[str, Any]]:
    """The figures, and the breakdown (imports and steps) for the page."""
    steps: dict[str, list[float]] = {}
    spans: list[dict[str, int]] = []

    def ours() -> float:
        with stage.fresh() as place:
            release.baked(place / "opt")
            life = agent(place, stage.environment(place))
            life.finish()
            for name, taken_ms in _steps(life).items():
                steps.setdefault(name, []).append(taken_ms)
            spans.append(final_word(stage.record())["phases_ms"])
            return 1_000 * (life.exec_at() - life.began_at)

    def other(run: Callable[[str], list[str] | None]) -> Callable[[], float]:
        def sample() -> float:
            with stage.fresh() as place:
                script, environment = str(release.baked(place / "opt") / "run.sh"), stage.environment(place)
                command = run(script)
                life = start(command, place, environment) if command else peer(peers.boto3_start, place, environment, script)
                life.finish()
                return 1_000 * (life.exec_at() - life.began_at)

        return sample

    bare = [sys.executable, "-c", "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"]
    sides = {
        "agent": ours,
        "boto3 script: GetParameter, then exec": other(lambda _: None),
        "bare Python: exec alone": other(lambda script: [*bare, script]),
    }
    taken = in_turns(ROUNDS, sides)
    return [_figure(taken)], {
        "steps_ms": {name: round(median(values), 1) for name, values in steps.items()},
        "phases_ms": spans[-1],
        "imports": imports(stage),
    }


def imports(stage: Stage) -> dict[str, Any]:
    """What a life imports before the runner is started, the dearest first; with -X importtime, which itself costs some."""
    with stage.fresh() as place:
        command = [sys.executable, "-X", "importtime", "-c", "import agent.cli, agent.wiring"]
        told = subprocess.run(command, cwd=TREE, env=stage.environment(place), capture_output=True, text=True, check=True)
    found = [(name, int(own), int(all_of_it)) for own, all_of_it, _, name in _IMPORT.findall(told.stderr)]
    dearest = sorted(found, key=lambda line: line[1], reverse=True)[:SHOWN_MODULES]
    site = next((all_of_it for name, _, all_of_it in found if name == "site"), 0)
    return {
        "modules": len(found),
        "total_ms": round(sum(own for _, own, _ in found) / 1_000, 1),
        "site_ms": round(site / 1_000, 1),
        "agent_ms": round(sum(own for name, own, _ in found if name.split(".")[0] == "agent") / 1_000, 1),
        "dearest": [
            {"module": name, "own_ms": own / 1_000, "with_what_it_imports_ms": all_ / 1_000} for name, own, all_ in dearest
        ],
    }


def _steps(life: Started) -> dict[str, float]:
    """Milliseconds of each step, from the agent's own log (which has whole milliseconds) and the runner's own mark."""
    moments = {name: datetime.fromisoformat(at.replace("Z", "+00:00")) for at, name in _PHASE.findall(life.errors())}
    taken: dict[str, float] = {}
    before = datetime.fromtimestamp(life.began_at, UTC)
    for name, what in STEPS.items():
        taken[what] = max(0.0, 1_000 * (moments[name] - before).total_seconds())
        before = moments[name]
    return taken


def _figure(taken: dict[str, list[float]]) -> Figure:
    return Figure(
        name="baked-start",
        what="pre-baked start, configuration present",
        unit="ms",
        ours="agent",
        against="boto3 script: GetParameter, then exec",
        sides=taken,
        aim=f"≤ {1_000 * LIMIT_S:.0f} ms",
        aim_met=median(taken["agent"]) <= 1_000 * LIMIT_S,
        cause="one hand-signed GetParameter by the standard library instead of boto3's import and client; what is left is mostly"
        " our own imports (below), then the call itself",
    )
