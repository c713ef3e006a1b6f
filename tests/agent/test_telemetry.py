"""Messages go out one after the other, at least once, and never in the way of the work."""

from __future__ import annotations


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
    assert world.journal.told("notice.dropped") == [{"kinds": "started,busy"}]
    assert ended.age_s < 80.0
