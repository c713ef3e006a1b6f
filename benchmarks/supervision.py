"""(c) What watching costs: CPU share and memory while the child idles, and while it prints 5,000 lines a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import psutil

from benchmarks import children, peers
from benchmarks.figures import Figure
from benchmarks.stage import Stage, Started, agent, peer

ROUNDS = 3
QUIET_S, FLOOD_S, LINES_A_SECOND, TICKS = 5.5, 4.0, 5_000, 100
SETTLED_S = 2.0
"""Seconds after the runner's start in which clients are made and first messages sent: start-up, not supervision."""
EDGE_S = 0.3
"""Left out at both ends of a window."""
IDLE_LIMIT, FLOOD_LIMIT, RSS_LIMIT_MIB = 1.0, 15.0, 64.0
WATCHTOWER = "plain watchtower forwarder"
COPY = "Python copying bytes to a file"

CAUSES = {
    "idle": "one wake-up a second of the shipper, one look at the metadata service every five seconds (dead here), one at disk"
    " and memory every thirty; the others only wait for a pipe, so there is no ratio",
    "flood": "small reads are let gather for 10 ms, so that 5,000 lines cost 100 wake-ups; lines are split and encoded by the"
    " block. watchtower wakes for every line",
}


def measure(stage: Stage) -> list[Figure]:
    """Agent, watchtower and a bare copy, in turns, over the same child."""
    sides: dict[str, Callable[[Path, dict[str, str], str], Started]] = {
        "agent": lambda place, environment, _: agent(place, environment),
        WATCHTOWER: lambda place, environment, run: peer(peers.forward, place, environment, run),
        COPY: lambda place, environment, run: peer(peers.copy, place, environment, run),
    }
    idle: dict[str, list[float]] = {side: [] for side in sides}
    flood: dict[str, list[float]] = {side: [] for side in sides}
    memory: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(ROUNDS):
        for side, begin in sides.items():
            if side == COPY and turn:
                continue  # the floor, for orientation: once is enough
            with stage.fresh() as place:
                run = children.python(
                    place / "opt", children.PACED, quiet_s=QUIET_S, flood_s=FLOOD_S, lines=LINES_A_SECOND, ticks=TICKS
                )
                life = begin(place, stage.environment(place), str(run))
                idle_share, flood_share, resident = _watched(life)
                life.finish()
                idle[side].append(idle_share)
                flood[side].append(flood_share)
                memory[side].append(resident)
    taken = _clients(stage)
    with_ec2 = {"rss_mib_logs_and_sqs": taken["logs", "sqs"], "rss_mib_logs_sqs_and_ec2": taken["logs", "sqs", "ec2"]}
    return [
        Figure(
            "supervision-idle", "CPU while the child idles", "% of a core", "agent", WATCHTOWER, idle, f"≤ {IDLE_LIMIT:.0f} %",
            median(idle["agent"]) <= IDLE_LIMIT, CAUSES["idle"],
        ),
        Figure(
            "supervision-flood", "CPU at 5,000 lines/s", "% of a core", "agent", WATCHTOWER, flood, f"≤ {FLOOD_LIMIT:.0f} %",
            median(flood["agent"]) <= FLOOD_LIMIT, CAUSES["flood"],
        ),
        Figure(
            "supervision-rss", "RSS at 5,000 lines/s", "MiB", "agent", WATCHTOWER, memory, f"≤ {RSS_LIMIT_MIB:.0f} MiB",
            max(memory["agent"]) <= RSS_LIMIT_MIB, _memory_cause(with_ec2), with_ec2,
        ),
    ]  # fmt: skip


def _watched(life: Started) -> tuple[float, float, float]:
    """CPU share in the quiet window and in the flood, in per cent of a core, and RSS in MiB at the flood's end."""
    pid = life.process.pid
    begun_at = _await(life.place / "exec-at")
    flood_at = begun_at + QUIET_S
    idle = _share(pid, begun_at + SETTLED_S, flood_at - EDGE_S)
    flood = _share(pid, flood_at + EDGE_S, flood_at + FLOOD_S - EDGE_S)
    return idle, flood, psutil.Process(pid).memory_info().rss / 2**20


def _share(pid: int, from_at: float, to_at: float) -> float:
    time.sleep(max(0.0, from_at - time.time()))
    before_ns, began_ns = _run_ns(pid), time.monotonic_ns()
    time.sleep(max(0.0, to_at - time.time()))
    after_ns, ended_ns = _run_ns(pid), time.monotonic_ns()
    return 100 * (after_ns - before_ns) / (ended_ns - began_ns)


def _run_ns(pid: int) -> int:
    """Nanoseconds all threads of the process have run: ticks of 10 ms, as in /proc/PID/stat, cannot show an idle one."""
    return sum(int(path.read_text(encoding="ascii").split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def _await(path: Path) -> float:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if path.exists() and (text := path.read_text(encoding="ascii")):
            return float(text)
        time.sleep(0.01)
    raise TimeoutError(f"{path} never appeared")


def _clients(stage: Stage) -> dict[tuple[str, ...], float]:
    """Resident MiB of bare boto3 processes with these clients."""
    taken: dict[tuple[str, ...], float] = {}
    for services in (("logs", "sqs"), ("logs", "sqs", "ec2")):
        with stage.fresh() as place:
            peer(peers.clients, place, stage.environment(place), *services).finish()
            taken[services] = round(float((place / "rss").read_text(encoding="ascii")) / 1024, 1)
    return taken


def _memory_cause(found: dict[str, float]) -> str:
    grown = found["rss_mib_logs_sqs_and_ec2"] - found["rss_mib_logs_and_sqs"]
    return (
        f"mostly libraries: boto3 with clients for Logs and SQS alone is {found['rss_mib_logs_and_sqs']:.0f} MiB."
        f" There is no EC2 client: TerminateInstances is signed by hand. One would add {grown:.0f} MiB"
    )
