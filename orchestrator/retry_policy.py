"""How often, and for how long, a failed call, launch, re-run or notice is repeated.

What is exhausted is said: in the log, by `runs-fleet explain`, and on the commit where somebody's job is concerned.
"""

from __future__ import annotations

from orchestrator.errors import Throttled

RERUNS = 1
"""Times a job is run again whose machine was taken away."""
RERUN_REFUSALS = 5
"""Re-runs in a row that GitHub did not allow though the run was over; then it is given up, and said on the commit."""
RERUN_WITHIN_S = 30 * 86_400.0
"""After this GitHub runs nothing again. Source: GitHub documentation, "Re-running workflows and jobs": 30 days."""
REDELIVERIES = 3
"""Requests to send a delivery again, each after another failure; then the look through the repositories is what finds it."""
NOTICE_TRIES, NOTICE_S, NOTICE_WITHIN_S = 8, 60.0, 86_400.0
"""Tries to post a notice on a commit, seconds between them (doubled each time: some two hours in all), and the end of it.

Being asked to wait is no refusal: for that, a day.
"""
NOTICE_AGAIN_S, NOTICE_RACES = 60.0, 30
"""Seconds after which a notice is posted anew with the jobs that it has come to be about since; and tries to add one to it while
others add theirs: each round one of them succeeds.
"""
REFUSALS = 3
"""Launches in a row for which there was no capacity, before it is said on the commit; they are tried on."""
FIRST_WAIT_S, LONGEST_WAIT_S = 30.0, 600.0
"""Seconds between such launches, doubled each time."""
IDLE_EXITS = 5
"""Sessions of one label set and kind of machine that ended without work, before the next launch waits."""
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 60.0, 4 * 3600.0
"""Seconds of that wait, doubled each time: work that no machine is given for hours is not given one more each half hour."""
LONGEST_OF_NEW_S = 1800.0
"""Of that wait, for work that came after it began: it had no machine yet that it could have left."""
SENT_S = 600.0
"""Seconds for which a launch that is not answered, or throttled, is sent again: its sessions count as supply meanwhile."""
OLD_LAUNCH_S = 1800.0
"""A launch that is still not sent, or only in part, after so long is not asked for any more; another one is made instead."""
RACES = 6
"""Tries of a turn that lost a race to another; then it is left to the queue, or to the next sweep."""
MINTS = 3
"""Tries of a registration whose name is taken: it is our own, from a call whose answer was lost."""
LEARN_TRIES = 3
"""Tries to write down what an answer told of pools, or of what the stack has in use."""
THROTTLED_S = 5.0
"""Seconds until a throttled call comes again, where nobody says until when."""
POOL_FIRST_S, POOL_LONGEST_S = 180.0, 1800.0
"""Seconds for which a pool without capacity is left alone, doubled each time in a row. Source: three minutes in Karpenter."""
POOL_RECLAIMS, POOL_RECLAIMS_WITHIN_S, POOL_RECLAIMED_S = 2, 900.0, 1800.0
"""So many machines taken back within so long leave their pool alone for so long. Source: what other fleets have by default."""
POOL_FORGOTTEN_S = 3600.0
"""After its end a fault of a pool is forgotten: the next one begins anew."""
PAUSE_S, LONGEST_PAUSE_S = 60.0, 900.0
"""Seconds after a refusal for too many calls that names no time, doubled while it lasts. Source: GitHub's own advice."""
ASKED_S, ASKED_RUNS = 60.0, 5
"""How often the origin is asked about work of which a session speaks and it does not, and about how many runs at once."""
DOUBTED_S, LONGEST_DOUBT_S, DOUBTED_RUNS = 300.0, 3600.0, 50
"""How often to ask why nobody took the machines that were there (less often each time it is no news), and of how many runs."""
ASKED_AGAIN_S = 3600.0
"""Seconds until the origin is asked again about work that must be over, if it did not answer."""
OFFERINGS_AGAIN_S = 600.0
"""Seconds after which EC2 is asked again what it offers, if it did not say."""


def due_again(error: Exception, now: float, lease_s: float) -> float:
    """When a session whose turn failed is due (epoch seconds): after a lease, or when the limit is said to be over, if sooner."""
    if not isinstance(error, Throttled):
        return now + lease_s
    return min(now + lease_s, max(now + THROTTLED_S, error.until or 0.0))
