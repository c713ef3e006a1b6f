"""What arrives is sorted in one place, and no wait is longer than it said."""

from __future__ import annotations

from datetime import timedelta

import pytest

from agent.mailbox import Mailbox, Overdue, StoppedEarly
from agent.ports import NoticeCame, OutputEnded, Signalled
from agent.supervision import NOTICE_RESERVE_S, SECOND_ASK_S, NoticeKind, Stop, StopRequested
from simulation.agent_inbox import HANGS, VirtualInbox, VirtualWorkers
from simulation.clock import BIRTH_S, BIRTHDAY, AgentClock


class Bench:
    """A mailbox on a virtual clock; `task` makes background tasks that take their time."""

    def __init__(self) -> None:
        self.clock = AgentClock()
        self.inbox = VirtualInbox(self.clock)
        self.mailbox = Mailbox(self.inbox, VirtualWorkers(self.clock, self.inbox), self.clock)

    def task(self, takes_s: float, ends: object = None) -> object:
        """Lets time pass; then raises what ends it, or returns it."""
        self.clock.pause(takes_s)
        if isinstance(ends, BaseException):
            raise ends
        return ends


@pytest.fixture
def bench() -> Bench:
    """A mailbox in which nothing has arrived yet."""
    return Bench()


def test_the_end_of_a_background_task_is_kept_and_told_once(bench: Bench) -> None:
    bench.mailbox.begin("answer", lambda: bench.task(3.0, 42))
    bench.mailbox.begin("other", lambda: bench.task(1.0, OSError("no")))
    while bench.mailbox.next(BIRTH_S + 10.0) is not None:
        pass

    told = [bench.mailbox.ended("answer") for _ in range(2)]

    assert told[0] is not None and (told[0].value, told[0].error) == (42, None)
    assert told[1] is None
    other = bench.mailbox.ended("other")
    assert other is not None and isinstance(other.error, OSError)


def test_the_first_signal_asks_for_the_usual_grace_and_each_later_one_for_less(bench: Bench) -> None:
    for _ in range(3):
        bench.inbox.post(Signalled("SIGTERM"))
        bench.mailbox.next(BIRTH_S)

    asked, *again = bench.mailbox.stops
    assert asked == StopRequested(Stop.SIGNAL, None)
    assert again == [StopRequested(Stop.SIGNAL, SECOND_ASK_S)] * 2


def test_a_spot_notice_asks_for_what_is_left_after_the_farewell(bench: Bench) -> None:
    notice = NoticeCame(NoticeKind.SPOT, BIRTHDAY + timedelta(seconds=120))
    bench.inbox.schedule(BIRTH_S + 20.0, notice)

    assert bench.mailbox.next(BIRTH_S + 60.0) == notice
    assert bench.mailbox.stops == [StopRequested(Stop.SPOT_NOTICE, 100.0 - NOTICE_RESERVE_S)]
    assert bench.mailbox.notices == [notice]


def test_a_spot_notice_that_names_no_moment_leaves_the_usual_grace(bench: Bench) -> None:
    bench.inbox.post(NoticeCame(NoticeKind.SPOT))
    bench.mailbox.next(BIRTH_S)

    assert bench.mailbox.stops == [StopRequested(Stop.SPOT_NOTICE, None)]


@pytest.mark.parametrize("kind", [NoticeKind.REBALANCE, NoticeKind.SILENT])
def test_a_notice_that_ends_no_machine_is_kept_and_stops_nothing(bench: Bench, kind: NoticeKind) -> None:
    bench.inbox.post(NoticeCame(kind))
    bench.mailbox.next(BIRTH_S)

    assert ([notice.kind for notice in bench.mailbox.notices], bench.mailbox.stops) == ([kind], [])


def test_whoever_asked_first_names_the_reason_to_stop_early(bench: Bench) -> None:
    bench.mailbox.stop_if_asked()
    for event in (NoticeCame(NoticeKind.SPOT), Signalled("SIGTERM")):
        bench.inbox.post(event)
        bench.mailbox.next(BIRTH_S)

    with pytest.raises(StoppedEarly) as stopped:
        bench.mailbox.stop_if_asked()
    assert stopped.value.stop is Stop.SPOT_NOTICE


def test_a_bounded_task_gives_what_it_returns_and_everything_else_is_sorted_meanwhile(bench: Bench) -> None:
    bench.inbox.schedule(BIRTH_S + 1.0, Signalled("SIGTERM"))
    bench.inbox.schedule(BIRTH_S + 2.0, OutputEnded())

    value = bench.mailbox.bounded("look", lambda: bench.task(3.0, "found"), 10.0)

    assert (value, bench.clock.age_s) == ("found", 3.0)
    assert [request.stop for request in bench.mailbox.stops] == [Stop.SIGNAL]


def test_a_bounded_task_raises_what_it_raised(bench: Bench) -> None:
    failure = LookupError("no such user")

    with pytest.raises(LookupError) as raised:
        bench.mailbox.bounded("look", lambda: bench.task(3.0, failure), 10.0)
    assert raised.value is failure


@pytest.mark.parametrize("ends", ["too late", HANGS], ids=["late", "never"])
def test_a_bounded_task_that_does_not_end_in_time_is_left_to_itself_at_its_bound(bench: Bench, ends: object) -> None:
    with pytest.raises(Overdue, match=r"look did not end within 2\.5 s"):
        bench.mailbox.bounded("look", lambda: bench.task(60.0, ends), 2.5)

    assert bench.clock.age_s == 2.5


def test_events_that_keep_coming_do_not_stretch_a_bound(bench: Bench) -> None:
    for tenths in range(100):
        bench.inbox.schedule(BIRTH_S + tenths / 10, OutputEnded())

    with pytest.raises(Overdue):
        bench.mailbox.bounded("look", lambda: bench.task(60.0), 5.0)

    assert bench.clock.age_s == 5.0


def test_a_stop_ends_the_wait_for_a_preparation_at_once(bench: Bench) -> None:
    bench.mailbox.begin("release", lambda: bench.task(60.0))
    bench.inbox.schedule(BIRTH_S + 5.0, Signalled("SIGTERM"))

    with pytest.raises(StoppedEarly):
        bench.mailbox.ended_by("release", BIRTH_S + 420.0)

    assert bench.clock.age_s == 5.0


def test_a_preparation_that_is_there_already_is_taken_though_a_stop_is_asked_for(bench: Bench) -> None:
    bench.mailbox.begin("release", lambda: bench.task(1.0, "here"))
    bench.mailbox.next(BIRTH_S + 2.0)
    bench.mailbox.stops.append(StopRequested(Stop.SIGNAL))

    end = bench.mailbox.ended_by("release", BIRTH_S + 420.0)

    assert end is not None and end.value == "here"


def test_a_preparation_that_does_not_end_by_its_moment_is_none(bench: Bench) -> None:
    bench.mailbox.begin("release", lambda: bench.task(60.0))

    assert bench.mailbox.ended_by("release", BIRTH_S + 30.0) is None
    assert bench.clock.age_s == 30.0
