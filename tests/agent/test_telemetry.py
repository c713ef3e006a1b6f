"""Messages go out one after the other, at least once, and never in the way of the work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.aws.sqs import SqsQueue
from agent.contract.messages import Busy, Message, Started, read_message
from agent.contract.secret import Secret
from agent.errors import ServiceError
from agent.mailbox import Mailbox, Overdue
from agent.reports.telemetry import FINAL_RETRIES, FINAL_WITHIN_S, IN_FLIGHT_S, Telemetry
from simulation.agent_inbox import HANGS, Script, VirtualInbox, VirtualJournal, VirtualWorkers, refused
from simulation.agent_runner import says
from simulation.agent_services import INSTANCE, VirtualQueue
from simulation.agent_world import VirtualWorld
from simulation.clock import BIRTH_S, AgentClock

UNREACHABLE = refused("Unreachable")
BUSY = Busy(instance_id=INSTANCE, job_id="7001")


class SlowAtFirst(VirtualQueue):
    """A queue whose first message takes that long to go and as long to be confirmed."""

    def __init__(self, clock: AgentClock, *, first_s: float) -> None:
        super().__init__(clock)
        self._first_s = first_s

    def send(self, body: str) -> None:
        self.took_s = self._first_s if self.tries == 0 else 0.05
        super().send(body)


def test_busy_follows_as_soon_as_a_slow_notice_before_it_is_through(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.queue = SlowAtFirst(world.clock, first_s=8.0)

    ended = world.live()

    told_s = next(age_s for age_s, message in ended.sent if isinstance(message, Busy))
    assert 16.0 < told_s < 17.0


def test_a_notice_that_is_being_sent_when_the_runner_leaves_goes_out_before_the_final_word(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.queue = SlowAtFirst(world.clock, first_s=1.8)
    world.processes.plan = says(code=1)

    assert world.live().told == ["started", "failure"]


def test_a_queue_that_is_down_for_a_moment_only_delays_the_word(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.queue.answers = Script(UNREACHABLE, UNREACHABLE, None)

    ended = world.live()

    assert (ended.exit_code, ended.told) == (0, ["started", "busy", "success"])


def test_a_refusal_of_the_queue_that_no_waiting_mends_is_not_repeated(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.queue.answers = Script(refused("AccessDenied"))

    world.live()

    assert world.queue.tries == 3  # started, busy, the final word


def test_a_notice_that_hangs_does_not_hold_back_the_final_word(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.queue.answers = Script(HANGS, None)

    ended = world.live()

    assert (ended.told, ended.exit_code) == (["success"], 0)
    assert world.journal.told("message.dropped") == [{"kinds": "started,busy"}]
    assert ended.age_s < 80.0


class Bench:
    """Telemetry around a queue, on a virtual clock."""

    def __init__(self) -> None:
        self.clock = AgentClock()
        self.inbox = VirtualInbox(self.clock)
        self.journal = VirtualJournal(self.clock)
        self.queue = VirtualQueue(self.clock)
        self.mailbox = Mailbox(self.inbox, VirtualWorkers(self.clock, self.inbox), self.clock)
        self.telemetry = Telemetry(
            queue=lambda: self.queue, probe=self.queue.probe, mailbox=self.mailbox, clock=self.clock, journal=self.journal
        )

    def let_pass(self, seconds: float) -> None:
        """What the deciding thread does meanwhile: whatever arrives, it lets the messages go on."""
        until_s = self.clock.monotonic_s() + seconds
        while self.mailbox.next(until_s) is not None:
            self.telemetry.pump()

    def looking(self, takes_s: float, found: object) -> Callable[[], Any]:
        """A lookup that takes its time; raises what it found if that is an error."""

        def gather() -> object:
            self.clock.pause(takes_s)
            if isinstance(found, BaseException):
                raise found
            return found

        return gather

    def sent(self) -> list[Message]:
        return [read_message(body) for _, body in self.queue.bodies]

    def outcomes(self) -> list[tuple[object, object]]:
        return [(fields["kind"], fields["outcome"]) for fields in self.journal.told("message.outcome")]


def started(self_termination: str = "") -> Started:
    """A notice; what tells it from others is in its one field."""
    return Started(instance_id=INSTANCE, job_id="7001", self_termination=self_termination)


@pytest.fixture
def bench() -> Bench:
    """Nothing was sent yet."""
    return Bench()


def test_a_notice_is_composed_of_what_was_looked_up_for_it(bench: Bench) -> None:
    bench.telemetry.notify("started", started, bench.looking(2.0, "permitted"))
    bench.let_pass(10.0)

    assert bench.sent() == [started("permitted")]
    assert 2.0 < bench.queue.bodies[0][0] < 2.2


def test_a_notice_waits_for_the_one_before_it_though_it_needs_no_lookup(bench: Bench) -> None:
    bench.telemetry.notify("started", started, bench.looking(5.0, "permitted"))
    bench.telemetry.notify("busy", lambda _: BUSY)
    bench.let_pass(10.0)

    assert [type(message) for message in bench.sent()] == [Started, Busy]
    assert bench.outcomes() == [("started", "sent"), ("busy", "sent")]


def unable(_: object) -> Message:
    """A message that cannot be composed."""
    raise ValueError("a field is missing")


@pytest.mark.parametrize("broken", ["lookup", "composing", "sending"])
def test_a_notice_that_fails_takes_no_other_with_it_and_is_told(bench: Bench, broken: str) -> None:
    if broken == "sending":
        bench.queue.answers = Script(refused("AccessDenied", "sqs"), None)
    found = OSError("no answer") if broken == "lookup" else "permitted"
    bench.telemetry.notify("started", unable if broken == "composing" else started, bench.looking(1.0, found))
    bench.telemetry.notify("busy", lambda _: BUSY)
    bench.let_pass(10.0)

    assert [type(message) for message in bench.sent()] == [Busy]
    why = {"lookup": "no answer", "composing": "a field is missing", "sending": "sqs answered AccessDenied"}[broken]
    assert bench.outcomes() == [("started", f"failed: {why}"), ("busy", "sent")]


def test_no_message_holds_a_secret(bench: Bench) -> None:
    bench.journal.hide(Secret("AAAATOKENTOKEN"))
    bench.telemetry.notify("started", lambda _: started("refused for AAAATOKENTOKEN"))
    bench.let_pass(1.0)

    assert bench.sent() == [started("refused for ***")]


def test_a_notice_whose_fault_passes_is_sent_later_and_once(bench: Bench) -> None:
    bench.queue.answers = Script(UNREACHABLE, UNREACHABLE, UNREACHABLE, None)
    bench.telemetry.notify("started", lambda _: started())
    bench.let_pass(60.0)

    assert (len(bench.sent()), bench.queue.tries, bench.outcomes()) == (1, 4, [("started", "sent")])


def test_the_final_word_waits_a_moment_for_what_is_under_way_and_drops_the_rest(bench: Bench) -> None:
    bench.telemetry.notify("started", started, bench.looking(60.0, "permitted"))
    bench.telemetry.notify("busy", lambda _: BUSY)

    bench.telemetry.final_word(started("final"))

    assert bench.sent() == [started("final")]
    assert bench.queue.bodies[0][0] == pytest.approx(IN_FLIGHT_S, abs=0.1)
    assert bench.journal.told("message.dropped") == [{"kinds": "started,busy"}]


def test_what_is_under_way_and_ends_in_its_moment_goes_out_before_the_final_word(bench: Bench) -> None:
    bench.telemetry.notify("started", started, bench.looking(IN_FLIGHT_S - 1.0, "permitted"))
    bench.telemetry.notify("busy", lambda _: BUSY)

    bench.telemetry.final_word(started("final"))

    assert bench.sent() == [started("permitted"), BUSY, started("final")]
    assert bench.journal.told("message.dropped") == []


def test_a_final_word_that_the_queue_refuses_to_the_last_raises_its_refusal(bench: Bench) -> None:
    bench.queue.answers = Script(UNREACHABLE)

    with pytest.raises(ServiceError, match="Unreachable"):
        bench.telemetry.final_word(started())

    assert bench.queue.tries > 3
    assert bench.clock.age_s <= FINAL_RETRIES.within_s + 1.0


def test_a_final_word_that_hangs_is_given_up_at_its_bound(bench: Bench) -> None:
    bench.queue.answers = Script(HANGS)

    with pytest.raises(Overdue):
        bench.telemetry.final_word(started())

    assert bench.clock.monotonic_s() == BIRTH_S + FINAL_WITHIN_S


class Kept:
    """A queue's client that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[dict[str, object]] = []

    def client(self, *_: object, **__: object) -> Kept:
        return self

    def send_message(self, **told: object) -> None:
        self.told.append(told)


@pytest.mark.parametrize(
    ("url", "fifo"),
    [("http://q/1/terminations.fifo", True), ("http://q/1/terminations", False), ("http://q/1/a.fifo.not", False)],
)
def test_fifo_parameters_are_said_to_a_fifo_queue_alone(url: str, fifo: bool) -> None:
    kept = Kept()

    SqsQueue(kept, url, "i-1").send("word")  # type: ignore[arg-type]

    assert (
        {"MessageGroupId", "MessageDeduplicationId"} <= set(kept.told[0])
        if fifo
        else set(kept.told[0]) == {"QueueUrl", "MessageBody"}
    )
