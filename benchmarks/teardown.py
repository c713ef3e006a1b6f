"""(e) The end: from the child's exit to the TerminateInstances call arriving, the final word delivered in between."""

from __future__ import annotations

from statistics import median

from benchmarks import children, peers
from benchmarks.figures import Figure, in_turns
from benchmarks.stage import Stage, agent, peer

ROUNDS, EMPTY_ROUNDS = 7, 5
LIMIT_MS = 300.0
JOB_S = 2.0
SCRIPT = "script: watchtower, then boto3 for SQS and EC2"

CAUSE = (
    "clients and connections are warm from the job's own lines and notices, and TerminateInstances is signed by hand; the script"
    " imports and makes an EC2 client at the end"
)


def measure(stage: Stage) -> list[Figure]:
    """After a job of two seconds; and a whole life around a runner that ends at once, when nothing could be made ready."""
    after_exit: list[float] = []

    def life(side: str, seconds: float) -> tuple[float, float]:
        """Milliseconds to the call: since the process started, since the child ended."""
        with stage.fresh() as place:
            run = children.shell(place / "opt", children.JOB, seconds=seconds)
            environment = stage.environment(place)
            begun = agent(place, environment) if side == "agent" else peer(peers.shutdown, place, environment, str(run))
            begun.finish()
            calls = stage.record()["calls"]
            arrived = next(at for at, action, detail in calls if action == "TerminateInstances" and detail != "dry")
            return 1_000 * (arrived - begun.began_at), 1_000 * (arrived - children.moment(place, "ended-at"))

    def empty(side: str) -> float:
        whole, since_exit = life(side, 0.0)
        if side == "agent":
            after_exit.append(round(since_exit, 1))
        return whole

    ended = in_turns(ROUNDS, {"agent": lambda: life("agent", JOB_S)[1], SCRIPT: lambda: life(SCRIPT, JOB_S)[1]})
    whole = in_turns(EMPTY_ROUNDS, {"agent": lambda: empty("agent"), SCRIPT: lambda: empty(SCRIPT)})
    met = median(ended["agent"]) <= LIMIT_MS
    return [
        Figure("teardown", "child exit to TerminateInstances", "ms", "agent", SCRIPT, ended, f"≤ {LIMIT_MS:.0f} ms", met, CAUSE),
        Figure(
            "empty-life", "process start to TerminateInstances, the runner ending at once", "ms", "agent", SCRIPT, whole, "none",
            None, f"{median(after_exit):.0f} ms of ours lie after the child's end: boto3 is still being imported for the first"
            " messages. The script imports it before it starts the runner", {"child_exit_to_call_ms": after_exit},
        ),
    ]  # fmt: skip
