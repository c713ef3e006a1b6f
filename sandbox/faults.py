"""The cloud's bad behaviour, which moto lacks: no capacity, half-filled fleets, throttling, lost answers, reclaims and their events.

Everything is off until it is switched on. Chance comes from one seeded generator, so that a storm can be had again.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode

from sandbox.rates import Rates

OVERRIDE = re.compile(r"LaunchTemplateConfigs\.1\.Overrides\.(\d+)\.(.+)")
CAPACITY, MARKET = "TargetCapacitySpecification.TotalTargetCapacity", "TargetCapacitySpecification.DefaultTargetCapacityType"
ICE = "InsufficientInstanceCapacity"
THROTTLED_EC2 = frozenset({"CreateFleet", "DescribeInstances", "TerminateInstances", "DescribeLaunchTemplates"})
THROTTLED_SSM = frozenset({"PutParameter", "DeleteParameter"})
SSM = THROTTLED_SSM | {"GetParameter", "DescribeParameters"}
SLOW = "RequestLimitExceeded"
DENIED, DENIED_EC2 = "AccessDeniedException", "UnauthorizedOperation"
DENIABLE_EC2 = frozenset({"DescribeImages", "DescribeLaunchTemplateVersions", "DescribeLaunchTemplates", "DescribeSubnets"})
"""Calls of EC2, which has a word of its own for it; DynamoDB, SQS and SSM have the other."""


@dataclass(kw_only=True)
class Faults:
    """What may go wrong, and how often. Shares are of 1."""

    full: set[str] = field(default_factory=set)
    """Instance types, subnets, or markets (`spot`, `on-demand`) without capacity."""
    partial: float = 0.0
    """Fleets for more than one that are filled only in part."""
    throttled: float = 0.0
    """Calls of those that AWS throttles first."""
    rates: Rates | None = None
    """The buckets that AWS tells of; None: it can be asked without end."""
    unseen_s: float = 0.0
    """Seconds in which lists and indexes do not show what was just made: instances, parameters, rows of a secondary index."""
    slow: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Least and most seconds that calls of this name take, `*`: every other."""
    lost: float = 0.0
    """CreateFleet calls that take effect and are never answered."""
    denied: set[str] = field(default_factory=set)
    """Calls that nobody has the permission for."""
    chance: random.Random = field(default_factory=lambda: random.Random(11))
    seen: Counter[str] = field(default_factory=Counter)
    """What did go wrong, and how often."""
    clock: Callable[[], float] = time.monotonic
    """By which it is told, in seconds, for how long something has been there."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def happens(self, what: str, share: float) -> bool:
        """Whether it goes wrong this time."""
        with self._lock:
            wrong = share > 0 and self.chance.random() < share
            self.seen[what] += wrong
        return wrong

    def dawdle(self, action: str) -> None:
        """Take the time that such a call takes."""
        if bounds := self.slow.get(action, self.slow.get("*")):
            with self._lock:
                pause_s = self.chance.uniform(*bounds)
            time.sleep(pause_s)

    def refused(self, action: str) -> str:
        """The error that a call gets instead of its answer; empty: none."""
        if action in self.denied:
            return DENIED_EC2 if action in DENIABLE_EC2 else DENIED
        code = "RequestLimitExceeded" if action in THROTTLED_EC2 else "ThrottlingException"
        if action in THROTTLED_EC2 | THROTTLED_SSM and self.happens("calls throttled", self.throttled):
            return code
        if self.rates is not None and not self.rates.allows(action):
            self.counted("calls beyond the published rates")
            return "ThrottlingException" if action in SSM else "RequestLimitExceeded"
        return ""

    def counted(self, what: str, number: int = 1) -> None:
        """Count a call that went wrong."""
        with self._lock:
            self.seen[what] += number

    def of_fleet(self, body: bytes) -> tuple[bytes, str]:
        """What of a CreateFleet request can be fulfilled (empty: nothing), and the errors to be told, as XML."""
        told = dict(parse_qsl(body.decode(), keep_blank_values=True))
        pools: dict[str, dict[str, str]] = {}
        for name in [name for name in told if OVERRIDE.fullmatch(name)]:
            found = OVERRIDE.fullmatch(name)
            assert found
            pools.setdefault(found[1], {})[found[2]] = told.pop(name)
        market = told.get(MARKET, "on-demand")
        closed = {at: pool for at, pool in pools.items() if self.full & {market, pool.get("InstanceType"), pool.get("SubnetId")}}
        wanted = int(told.get(CAPACITY, "1"))
        given = wanted
        if wanted > 1 and self.happens("fleets half filled", self.partial):
            given = self.chance.randint(1, wanted - 1)
        if closed:
            self.counted("pools without capacity", len(closed))
        errors = [_error(pool, market) for pool in closed.values()] or ([_error({}, market)] if given < wanted else [])
        allowed = given if self.rates is None else self.rates.instances(given)
        if allowed < given:
            self.counted("instances beyond the published rates", given - allowed)
            errors, given = [*errors, _error({}, market, SLOW, "Request limit exceeded.")], allowed
        left = [pool for at, pool in sorted(pools.items(), key=lambda item: int(item[0])) if at not in closed]
        if (pools and not left) or not given:
            return b"", "".join(errors)
        told[CAPACITY] = str(given)
        for at, pool in enumerate(left, 1):
            told |= {f"LaunchTemplateConfigs.1.Overrides.{at}.{name}": value for name, value in pool.items()}
        return urlencode(told).encode(), "".join(errors)


def _error(pool: dict[str, str], market: str, code: str = ICE, words: str = "") -> str:
    kind, subnet = pool.get("InstanceType", ""), pool.get("SubnetId", "")
    words = words or f"We currently do not have sufficient {kind} capacity ({market})."
    where = f"<instanceType>{kind}</instanceType><subnetId>{subnet}</subnetId>"
    return (
        f"<item><errorCode>{code}</errorCode><errorMessage>{words}</errorMessage><lifecycle>{market}</lifecycle>"
        f"<launchTemplateAndOverrides><overrides>{where}</overrides></launchTemplateAndOverrides></item>"
    )
