"""Run the work's process until it exits or supervision stops it."""

from __future__ import annotations

from typing import Protocol

from agent import supervision
from agent.errors import RunnerUnstartable
from agent.mailbox import Mailbox
from agent.ports import Clock, Event, Heard, Journal, Launch, OutputEnded, Processes, Runner, RunnerExited
from agent.supervision import Action, Limits, StopRequested, Watch

SWEEP_S = 5.0
"""Seconds for killing what the runner left behind; a process in the kernel's hands may outlast it."""
EXPLAINED_S = 1.0
"""Who switches a machine off signals all of its processes at once: the runner's end may be heard before our own signal."""
DRAIN_S = 3.0
"""Seconds to wait for the end of the output once everything that could write to it was killed."""


class Observer(Protocol):
    """Whoever has to know while the runner lives."""

    def checked(self, now_s: float) -> float:
        """Look at the machine now; returns when to look next. May ask for a stop through the mailbox."""

    def happened(self, event: Event) -> None:
        """The next event that arrived, or None."""

    def decided(self, before: Watch, after: Watch) -> None:
        """What is known of the runner has changed."""


class Executor:
    """Starts the runner, carries out what supervision decides, and leaves nothing of it alive."""

    def __init__(self, processes: Processes, mailbox: Mailbox, clock: Clock, journal: Journal) -> None:
        self._processes, self._mailbox, self._clock, self._journal = processes, mailbox, clock, journal
        self._output_ended = False

    def start(self, launch: Launch) -> Runner:
        """Start the runner's process. Raises: RunnerUnstartable."""
        try:
            return self._processes.start(launch)
        except OSError as error:
            raise RunnerUnstartable(f"{launch.command[0]} cannot be executed: {error}") from error

    def attend(self, runner: Runner, limits: Limits, observer: Observer) -> Watch:
        """Watch over the runner to its end; afterwards nothing that descends from it is alive."""
        watch = Watch(limits=limits, started_s=self._clock.monotonic_s())
        look_s = observer.checked(watch.started_s)
        while not watch.over:
            event = self._mailbox.next(watch.started_s if self._mailbox.stops else min(watch.wakes_at_s(), look_s))
            now_s = self._clock.monotonic_s()
            if event is not None:
                observer.happened(event)
            if now_s >= look_s:
                look_s = observer.checked(now_s)
            after, actions = self._considered(watch, event, now_s)
            for action in actions:
                self._carry_out(action, runner, after)
            if after is not watch:
                observer.decided(watch, after)
            watch = after
        return self._left_behind(runner, watch)

    def _considered(self, watch: Watch, event: Event | None, now_s: float) -> tuple[Watch, list[Action]]:
        actions: list[Action] = []
        if isinstance(event, Heard):
            watch, more = supervision.heard(watch, event.announcement, now_s)
            actions += more
        elif isinstance(event, RunnerExited):
            watch = supervision.exited(watch, event.code)
        elif isinstance(event, OutputEnded):
            self._output_ended = True
        while self._mailbox.stops:
            watch, more = supervision.asked(watch, self._mailbox.stops.pop(0), now_s)
            actions += more
        watch, more = supervision.passed(watch, now_s)
        return watch, actions + list(more)

    def _carry_out(self, action: Action, runner: Runner, watch: Watch) -> None:
        fields = {
            "signal": action.value,
            "stop": watch.stop.value if watch.stop else "",
            "grace_s": round(watch.limits.grace_s, 3),
        }
        if action is Action.INTERRUPT:
            self._journal.event("work.signalled", **fields, reached=runner.interrupt())
        elif action is Action.TERMINATE:
            self._journal.event("work.signalled", **fields, reached=runner.terminate())
        elif action is Action.KILL:
            self._journal.event("work.killed", **fields, processes=runner.sweep(SWEEP_S))
        else:
            self._journal.event("work.unkillable", **fields)

    def _left_behind(self, runner: Runner, watch: Watch) -> Watch:
        """Whatever the job left running is killed, then the last of its output is read."""
        left = runner.sweep(SWEEP_S)
        if left:
            self._journal.event("work.leftovers_killed", processes=left)
        until_s = self._clock.monotonic_s() + DRAIN_S
        while not self._output_ended:
            event = self._mailbox.next(until_s)
            if event is None:
                self._journal.event("work.output_held_open", waited_s=DRAIN_S)
                break
            self._output_ended = isinstance(event, OutputEnded)
            if isinstance(event, Heard):
                watch, _ = supervision.heard(watch, event.announcement, self._clock.monotonic_s())
            elif isinstance(event, RunnerExited) and watch.exit_code is None:
                watch = supervision.exited(watch, event.code)
        return watch

    def explained(self, watch: Watch) -> Watch:
        """The watch over a runner that went without a word, with the reason if one is heard within a moment."""
        until_s = self._clock.monotonic_s() + EXPLAINED_S
        while not self._mailbox.stops and self._mailbox.next(until_s) is not None:
            pass
        return supervision.explained(watch, self._mailbox.stops.pop(0)) if self._mailbox.stops else watch


def ask(mailbox: Mailbox, request: StopRequested) -> None:
    """Have the runner stopped at the next turn of `attend`."""
    mailbox.stops.append(request)
