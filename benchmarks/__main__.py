"""`python -m benchmarks [NAME…]`: measure, then write results.json and docs/benchmarks.md (only when everything was measured)."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from benchmarks import baked, cold, logs, page, supervision, teardown
from benchmarks.figures import Figure
from benchmarks.stage import TREE, staged

PARTS = {"cold": cold, "baked": baked, "supervision": supervision, "logs": logs, "teardown": teardown}


def main(wanted: list[str]) -> None:
    """The parts named in `wanted`, or all."""
    if unknown := set(wanted) - set(PARTS):
        raise SystemExit(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    began = time.monotonic()
    figures: dict[str, list[Figure]] = {}
    breakdown: dict[str, Any] = {}
    with staged() as stage:
        for name, part in PARTS.items():
            if wanted and name not in wanted:
                continue
            print(f"{name} …", flush=True)
            found = part.measure(stage)
            if isinstance(found, tuple):
                found, breakdown = found
            figures[name] = found
            for figure in found:
                print("  " + figure.line(), flush=True)
    machine = {**page.machine(), "took_s": round(time.monotonic() - began)}
    if wanted:
        return
    results = {"machine": machine, "start": breakdown, "figures": [figure.raw() for part in figures.values() for figure in part]}
    (TREE / "benchmarks" / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (TREE / "docs" / "benchmarks.md").write_text(page.written(machine, figures, breakdown), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
