"""(a) A machine without a release: agent process start to runner exec, beside two shell scripts that only fetch and unpack."""

from __future__ import annotations

import shutil
import sys

from benchmarks import release
from benchmarks.endpoint import BUCKET
from benchmarks.figures import Figure, in_turns
from benchmarks.stage import Stage, agent, start

ROUNDS = 3
SCRIPT = 'set -eo pipefail; mkdir "$HOME/runner"; curl -sSfL "$1" | {unpack} -C "$HOME/runner"; exec "$HOME/runner/run.sh"'
IGZIP = "igzip" if shutil.which("igzip") else f"{sys.executable} -m isal.igzip"
"""ISA-L's own program (Debian: isal); where it is not installed, the same library behind Python."""
SCRIPTS = {"curl | tar xz": "tar xz", "curl | igzip | tar": f"{IGZIP} -dc | tar x"}


def measure(stage: Stage) -> list[Figure]:
    """From a local S3 and from a local releases API, against each script."""
    peaks: list[int] = []

    def ours(**settings: str) -> float:
        with stage.fresh() as place:
            life = agent(place, stage.environment(place, **settings))
            life.finish()
            peaks.append(life.peak_kib)
            return life.exec_at() - life.began_at

    def script(unpack: str) -> float:
        with stage.fresh() as place:
            address = f"{stage.url}/asset/{stage.archive.name}"
            command = ["bash", "-c", SCRIPT.format(unpack=unpack), "bash", address]
            life = start(command, place, stage.environment(place))
            life.finish()
            return life.exec_at() - life.began_at

    taken = in_turns(
        ROUNDS,
        {
            "agent from S3": lambda: ours(RUNS_FLEET_CONFIG_BUCKET=BUCKET),
            "agent from HTTP": ours,
            **{name: (lambda unpack=unpack: script(unpack)) for name, unpack in SCRIPTS.items()},  # type: ignore[misc]
        },
    )
    notes = {"archive_bytes": stage.archive.stat().st_size, "files": release.SCRIPTS[0] + release.LIBRARIES[0] + 5}
    notes["agent_peak_mib"] = round(max(peaks) / 1024)
    return [_figure(taken, source, against, notes) for source in ("S3", "HTTP") for against in SCRIPTS]


def _figure(taken: dict[str, list[float]], source: str, against: str, notes: dict[str, int]) -> Figure:
    ours, limit = f"agent from {source}", 0.5 if "igzip" not in against else 1.1
    figure = Figure(
        name=f"cold-start-{source.lower()}-{'igzip' if 'igzip' in against else 'gzip'}",
        what=f"cold start from {source}",
        unit="s",
        ours=ours,
        against=against,
        sides={side: taken[side] for side in (ours, against)},
        aim=f"≤ {limit}×",
        aim_met=None,
        cause=CAUSES[against],
        notes=notes,
    )
    return Figure(**{**vars(figure), "aim_met": (figure.ratio() or 0.0) <= limit})


CAUSES = {
    "curl | tar xz": "gzip's inflate is the script's wall; isal inflates in a third of the time. Ours adds the imports (boto3 for"
    " S3, requests for HTTP), three small calls, SHA-256, and one Python turn per member",
    "curl | igzip | tar": "the same inflate on both sides, but there in a process of its own beside tar; here reading, digest,"
    " inflate and unpacking share one interpreter lock, and imports come first",
}
