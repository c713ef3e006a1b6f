"""(d) Logs: is the child held up, how fast do lines leave, how long is one line on its way?"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import children, peers
from benchmarks.figures import Figure, in_turns, percentile
from benchmarks.stage import Stage, agent, final_word, peer, start

ROUNDS = 3
SPOOLED_LINES, SHIPPED_LINES = 500_000, 200_000
QUIET_LINES, QUIET_FOR_S = 50, 7.0
LEAST_LINES_A_SECOND = 50_000
WATCHTOWER = "plain watchtower forwarder"
NULL, CAT = "run.sh > /dev/null", "run.sh | cat > file"

CAUSES = {
    "spool": "each read and each write gives up the interpreter lock, and while the shipper computes it comes back after the"
    " switch interval only; a pipe to cat shares nothing with anybody",
    "ship": "whole blocks are read, cleaned, split and sent as one request of up to 10,000 lines; watchtower makes a LogRecord,"
    " a lock and a queue entry per line. No line may be lost for this aim to be met",
    "delay": "both send once a second, so a line waits half of it in the middle and all of it at worst; the call itself is what"
    " is above that",
}


def measure(stage: Stage) -> list[Figure]:
    """All of (d)."""
    return [
        _spooled(stage, "line by line", lambda place: children.python(place, children.BURST, lines=SPOOLED_LINES)),
        _spooled(stage, "in blocks", lambda place: children.shell(place, children.BLOCKS, lines=SPOOLED_LINES)),
        _shipped(stage),
        *_delayed(stage),
    ]


def _spooled(stage: Stage, how: str, make: Callable[[Path], Path]) -> Figure:
    """Seconds from the child's first line to its last, with the agent reading and without."""
    lost: list[int] = []

    def ours() -> float:
        with stage.fresh() as place:
            make(place / "opt")
            agent(place, stage.environment(place)).finish()
            lost.append(final_word(stage.record()).get("log_lines_lost", 0))
            return _took_s(place)

    def bare(shell: str) -> float:
        with stage.fresh() as place:
            run = make(place / "opt")
            start(["bash", "-c", shell, "bash", str(run)], place, stage.environment(place)).finish()
            return _took_s(place)

    sides = {
        "agent": ours,
        CAT: lambda: bare('"$1" | cat > "$HOME/copy"'),
        NULL: lambda: bare('"$1" > /dev/null'),
    }
    taken = in_turns(ROUNDS, sides)
    rates = {side: [SPOOLED_LINES / value / 1_000 for value in values] for side, values in taken.items()}
    return Figure(
        f"spool-{how.rsplit(maxsplit=1)[-1]}", f"lines into the spool, written {how}", "thousand lines/s", "agent", CAT, rates,
        f"≥ {LEAST_LINES_A_SECOND // 1_000} thousand lines/s", median(rates["agent"]) * 1_000 >= LEAST_LINES_A_SECOND,
        CAUSES["spool"], {"lines": SPOOLED_LINES, "lines_lost": lost},
    )  # fmt: skip


def _shipped(stage: Stage) -> Figure:
    """Lines a second from the first one printed to the last one arrived."""
    notes: dict[str, Any] = {"lines": SHIPPED_LINES, "arrived": {}, "cpu_s": {}}

    def rate(side: str) -> float:
        with stage.fresh() as place:
            run = children.python(place / "opt", children.BURST, lines=SHIPPED_LINES)
            environment = stage.environment(place)
            before = _children_cpu_s()
            life = agent(place, environment) if side == "agent" else peer(peers.forward, place, environment, str(run))
            life.finish()
            record = stage.record()
            batches = [batch for batch in record["batches"] if batch["stamps"]]
            arrived = sum(len(batch["stamps"]) for batch in batches)
            notes["arrived"].setdefault(side, []).append(arrived)
            notes["cpu_s"].setdefault(side, []).append(round(_children_cpu_s() - before, 2))
            return float(arrived / (batches[-1]["at"] - children.moment(place, "flood-at")) / 1_000)

    taken = in_turns(ROUNDS, {"agent": lambda: rate("agent"), WATCHTOWER: lambda: rate(WATCHTOWER)})
    figure = Figure("ship", "lines out", "thousand lines/s", "agent", WATCHTOWER, taken, "≥ 1.0×", None, CAUSES["ship"], notes)
    complete = set(notes["arrived"]["agent"]) == {SHIPPED_LINES}
    return Figure(**{**vars(figure), "aim_met": (figure.ratio() or 0.0) >= 1.0 and complete})


def _delayed(stage: Stage) -> list[Figure]:
    """Milliseconds from print to arrival of a quiet job's lines; both sides at once, since neither keeps a core busy."""
    delays: dict[str, list[float]] = {}
    with stage.fresh() as place:
        homes = {"agent": place / "ours", WATCHTOWER: place / "theirs"}
        lives = []
        for side, home in homes.items():
            home.mkdir()
            run = children.python(
                home / "opt", children.PACED, quiet_s=2.0, flood_s=QUIET_FOR_S, lines=QUIET_LINES, ticks=QUIET_LINES
            )
            environment = stage.environment(home)
            lives.append(agent(home, environment) if side == "agent" else peer(peers.forward, home, environment, str(run)))
        for life in lives:
            life.finish()
        # told apart by stream: the agent's is named after the instance
        for batch in stage.record()["batches"]:
            side = WATCHTOWER if batch["stream"] == "peer" else "agent"
            delays.setdefault(side, []).extend(1_000 * batch["at"] - stamp / 1e6 for stamp in batch["stamps"])
    return [
        Figure(
            f"delay-p{round(part * 100)}", f"delay of a line, p{round(part * 100)}", "ms", "agent", WATCHTOWER,
            {side: [percentile(values, part)] for side, values in delays.items()}, "≤ 3,000 ms",
            percentile(delays["agent"], part) <= 3_000, CAUSES["delay"],
            {"lines": {side: len(values) for side, values in delays.items()}},
        )
        for part in (0.5, 0.99)
    ]  # fmt: skip


def _took_s(place: Path) -> float:
    return children.moment(place, "ended-at") - children.moment(place, "flood-at")


def _children_cpu_s() -> float:
    """CPU of every child waited for so far, theirs included; a poll of a finished Popen has waited for it."""
    times = os.times()
    return times.children_user + times.children_system
