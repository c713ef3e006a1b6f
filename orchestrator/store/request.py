"""What a machine must be, parsed once where work enters and handed on from there."""

from __future__ import annotations

import hashlib
from enum import StrEnum

import msgspec

LEAST_CPU = 2
"""vCPUs of the smallest machine that is asked for by default."""
DEFAULT_ARCHITECTURE = "amd64"
"""The architecture where a job names none."""
ARCHITECTURES = {"arm64": "arm64", "aarch64": "arm64", "amd64": "amd64", "x64": "amd64", "x86_64": "amd64"}
"""Every spelling of an architecture that is understood, and the one we use."""


class Fallback(StrEnum):
    """What happens if there is no interruptible capacity."""

    NON_INTERRUPTIBLE = "on-demand"
    """Ask for capacity that is not taken back."""
    WAIT = "wait"
    """Ask for the same again."""
    FAIL = "fail"
    """Give the work up and say so."""


class MachineRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a job asks of a machine. Equal requests get equal machines; every field is part of a launch's identity."""

    cpu_min: int = LEAST_CPU
    cpu_max: int = 2 * LEAST_CPU
    ram_min_gib: float = 0.0
    ram_max_gib: float = 0.0
    """0: no upper bound."""
    families: tuple[str, ...] = ()
    """Prefixes like `m7` or `c`; empty: the architecture's usual ones."""
    generation: int = 0
    """0: any."""
    architecture: str = DEFAULT_ARCHITECTURE
    interruptible: bool = True
    """Whether the machine may be taken back by whoever lends it (`spot=`)."""
    disk_gib: int = 0
    """0: as the image has it."""
    pool: str = ""
    fallback: Fallback = Fallback.NON_INTERRUPTIBLE
    price_limit: float = 0.0
    """US dollars an hour; 0: none."""
    compute: str = ""
    """The strategy that is to start it; empty: the stack's first."""

    @property
    def may_be_non_interruptible(self) -> bool:
        """Whether capacity that is not taken back may serve it, though it asks for interruptible capacity."""
        return self.fallback is Fallback.NON_INTERRUPTIBLE and not self.price_limit

    def non_interruptible(self) -> MachineRequest:
        """The same request for capacity that is not taken back."""
        return msgspec.structs.replace(self, interruptible=False) if self.interruptible else self

    def spec(self) -> str:
        """The launch's identity: a short name, the same exactly where one launch can serve both requests.

        It is made from every field of the request, so that a new field separates launches from the day it is added.
        """
        told = repr([getattr(self, field) for field in self.__struct_fields__])
        kind = "interruptible" if self.interruptible else "lasting"
        return f"{self.architecture}-{self.cpu_min}cpu-{kind}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"
