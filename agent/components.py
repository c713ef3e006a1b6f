"""What a life is made of: `wiring.py` builds it on the real world, the simulation on a virtual one."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.configuration import Configuration
from agent.executor import Executor
from agent.mailbox import Mailbox
from agent.phases import Stopwatch
from agent.ports import Clock, Journal, LogStream, Machine, Meters, Processes
from agent.reports.last_will import LastWill
from agent.reports.telemetry import Telemetry
from agent.safety import Thresholds
from agent.settings import Settings
from agent.shutdown import Shutdown
from agent.work import Work


@dataclass(kw_only=True)
class Components:
    """The parts of one life. The ports come from `agent/ports.py`; the rest decides and is the same in every world."""

    settings: Settings
    clock: Clock
    mailbox: Mailbox
    journal: Journal
    processes: Processes
    machine: Machine
    meters: Meters
    stopwatch: Stopwatch
    log_stream: LogStream
    telemetry: Telemetry
    configuration: Configuration
    work: Work
    executor: Executor
    shutdown: Shutdown
    last_will: LastWill
    thresholds: Thresholds = field(default_factory=Thresholds)
    born_s: float = 0.0
    """When the process started, on the monotonic clock: start-up is part of what a user waits for."""
