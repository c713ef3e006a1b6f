"""How often, and for how long, anything is tried again: every such number, and nowhere else.

What is exhausted is said: in the log, by `runs-fleet explain`, and on the commit where somebody's job is concerned.
"""

from __future__ import annotations

from orchestrator.errors import Throttled

RERUNS = 1
"""A job whose machine was taken away."""
RERUN_REFUSALS = 5
"""Re-runs in a row that GitHub did not allow though the run was over; then it is given up, and said on the commit."""
REDELIVERIES = 3
"""Of what GitHub could not tell us, each after another failure; then the look through the repositories is what finds it."""
NOTES, NOTE_S, NOTED_WITHIN_S = 8, 60.0, 86_400.0
"""Saying something on a commit that GitHub did not take, after so long, doubled each time: some two hours in all. Being asked to
wait is no refusal: for that, a day.
"""
RERUN_WITHIN_S = 30 * 86_400.0
"""After this GitHub runs nothing again. Source: GitHub documentation, "Re-running workflows and jobs": 30 days."""
REFUSALS = 3
"""Launches in a row for which EC2 had nothing, before it is said on the commit; they are tried on."""
FIRST_WAIT_S, LONGEST_WAIT_S = 30.0, 600.0
"""Between them, doubled each time."""
BARREN = 5
"""Sessions of one label set, kind of machine and image that ended without a job, before the next launch waits."""
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 60.0, 1800.0
"""How long, doubled each time."""
SENT_S = 600.0
"""A launch that EC2 does not answer, or asks to come later with: its sessions count as supply meanwhile."""
RACES = 6
"""A turn that lost a race to another; then it is left to the queue, or to the next sweep."""
MINTS = 3
"""A registration whose name is taken: it is our own, from a mint whose answer was lost."""
LEARNED = 3
"""Writing down what an answer told of pools."""
THROTTLED_S = 5.0
"""What was too much by then and there, where nobody says until when."""


def due_again(error: Exception, now: float, lease_s: float) -> float:
    """When a session whose turn failed is due: after a lease, or when there is said to be room again, if that is sooner."""
    if not isinstance(error, Throttled):
        return now + lease_s
    return min(now + lease_s, max(now + THROTTLED_S, error.until or 0.0))
