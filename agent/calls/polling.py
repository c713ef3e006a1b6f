"""How soon to look again for a configuration that is not there yet.

A job waits for it, so it is looked for often. All instances of an account share one quota of reads (40 a second by default;
source: "Systems Manager endpoints and quotas"), and an instance cannot know how many others wait. So the answers decide: an
instance that was throttled looks rarely from then on, at a moment of its own, and returns to the quick pace slowly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.calls.error_codes import Meaning

QUICK_S = 0.55
"""Twenty machines at this pace stay below the quota."""
SLOW_S = 7.0
"""What a first refusal makes of the pace."""
SHARED_S, CALM_LOOKS = 5.6, 20
"""Two hundred machines at this pace stay below the quota. Who was refused is no quicker, before so many looks in a row were
answered: each that tries to be is refused again, and costs the others a read.
"""
SLOWER = 1.4
"""What each further refusal multiplies the pace by, up to SLOWEST_S."""
SLOWEST_S = 9.0
RECOVERY = 0.93
"""What each look that was answered multiplies it by, down to SHARED_S or QUICK_S: quicker, and a throttled fleet swings."""
FIRST_BREAK_S, LONGEST_BREAK_S = 0.25, 5.0
"""Where the service does not answer properly, waits double from the first to the longest."""
JITTER, JITTER_OF_THROTTLED = 0.2, 0.4
"""A wait is longer or shorter by up to this part of itself; machines that were refused together must not come back together."""


@dataclass(frozen=True)
class Pace:
    """How often one machine looks now."""

    every_s: float = QUICK_S
    break_s: float = 0.0
    """The last wait after an answer that was none; 0: the last answer was one."""
    calm: int = CALM_LOOKS
    """Looks in a row that were answered, since one was refused."""

    def after(self, meaning: Meaning) -> Pace:
        """The pace after a look that found nothing for this reason."""
        match meaning:
            case Meaning.THROTTLED:
                return Pace(min(SLOWEST_S, max(SLOW_S, self.every_s * SLOWER)), calm=0)
            case Meaning.UNAVAILABLE | Meaning.NO_CREDENTIALS | Meaning.CLOCK:
                return replace(self, break_s=min(LONGEST_BREAK_S, max(FIRST_BREAK_S, 2 * self.break_s)))
            case _:
                calm = min(CALM_LOOKS, self.calm + 1)
                return Pace(max(QUICK_S if calm == CALM_LOOKS else SHARED_S, self.every_s * RECOVERY), calm=calm)

    def wait_s(self, fraction: float) -> float:
        """Seconds until the next look; `fraction` is a random number in [0, 1)."""
        jitter = JITTER if self.every_s == QUICK_S else JITTER_OF_THROTTLED
        return (self.break_s or self.every_s) * (1 - jitter + 2 * jitter * fraction)
