"""The stop ladder and the limits, as tables and as properties of any sequence of events."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.messages import Status
from agent.runner import verdict
from agent.runner.announcements import JOB_RESULTS
from agent.supervision import (
    KILL_S,
    LINGER_S,
    RESTARTS,
    TERM_S,
    Action,
    Announcement,
    Complained,
    Complaint,
    JobCompleted,
    JobRunning,
    Limits,
    Listening,
    Restarting,
    Rung,
    Stop,
    StopRequested,
    Watch,
    asked,
    exited,
    heard,
    passed,
)

LIMITS = Limits(runtime_s=1_000.0, grace_s=90.0, idle_s=240.0)
LADDER = [Action.INTERRUPT, Action.TERMINATE, Action.KILL, Action.GIVE_UP]


def fresh() -> Watch:
    """A runner that was just started, at the moment 0."""
    return Watch(limits=LIMITS, started_s=0.0)


def after(*announced: Announcement, at_s: float = 10.0) -> Watch:
    """A runner that announced these."""
    watch = fresh()
    for announcement in announced:
        watch, _ = heard(watch, announcement, at_s)
    return watch


def climbed(watch: Watch) -> list[tuple[float, Action]]:
    """What is done to a runner that never answers, and when."""
    found: list[tuple[float, Action]] = []
    while not watch.over:
        now_s = watch.wakes_at_s()
        watch, actions = passed(watch, now_s)
        found += [(now_s, action) for action in actions]
    return found


def test_a_runner_that_never_answers_is_asked_told_killed_and_given_up() -> None:
    watch, actions = asked(fresh(), StopRequested(Stop.SIGNAL), 100.0)

    assert actions == (Action.INTERRUPT,)
    assert climbed(watch) == [
        (190.0, Action.TERMINATE),
        (190.0 + TERM_S, Action.KILL),
        (190.0 + TERM_S + KILL_S, Action.GIVE_UP),
    ]


@pytest.mark.parametrize(
    ("within_s", "told_s"),
    [(None, 190.0), (900.0, 190.0), (90.0, 190.0), (30.0, 130.0), (0.0, 100.0), (-20.0, 100.0)],
)
def test_a_request_may_shorten_the_usual_grace_but_never_lengthen_it(within_s: float | None, told_s: float) -> None:
    watch, _ = asked(fresh(), StopRequested(Stop.SPOT_NOTICE, within_s), 100.0)

    assert climbed(watch)[0] == (told_s, Action.TERMINATE)


@pytest.mark.parametrize(
    ("second", "told_s"),
    [
        (StopRequested(Stop.SPOT_NOTICE, 900.0), 190.0),
        (StopRequested(Stop.SIGNAL, 5.0), 115.0),
        (StopRequested(Stop.SPOT_NOTICE, -1.0), 110.0),
    ],
)
def test_a_second_request_may_shorten_the_grace_that_runs_but_asks_nobody_again(second: StopRequested, told_s: float) -> None:
    watch, _ = asked(fresh(), StopRequested(Stop.SIGNAL), 100.0)

    watch, actions = asked(watch, second, 110.0)

    assert (actions, watch.stop) == ((), Stop.SIGNAL)
    assert climbed(watch)[0] == (told_s, Action.TERMINATE)


@pytest.mark.parametrize("rung", [Rung.TOLD, Rung.KILLED, Rung.GONE])
def test_once_told_no_further_request_changes_anything(rung: Rung) -> None:
    watch = replace(fresh(), stop=Stop.SIGNAL, rung=rung, next_rung_s=105.0)

    assert asked(watch, StopRequested(Stop.SPOT_NOTICE, 0.0), 101.0) == (watch, ())


@pytest.mark.parametrize(
    ("watch", "limit_s", "stop"),
    [
        (fresh(), 240.0, Stop.UNCLAIMED),
        (after(Listening()), 240.0, Stop.UNCLAIMED),
        (after(Listening(), JobRunning("build")), 1_000.0, Stop.MAX_RUNTIME),
        (after(JobRunning("build"), JobCompleted("Succeeded"), at_s=500.0), 500.0 + LINGER_S, Stop.LINGERED),
        (after(JobRunning("build"), JobCompleted("Succeeded"), at_s=990.0), 1_000.0, Stop.MAX_RUNTIME),
        (replace(fresh(), limits=Limits(100.0, 90.0, 240.0)), 100.0, Stop.MAX_RUNTIME),
    ],
)
def test_each_limit_stops_the_runner_at_its_moment_and_not_before(watch: Watch, limit_s: float, stop: Stop) -> None:
    assert watch.wakes_at_s() == limit_s
    assert passed(watch, limit_s - 0.001) == (watch, ())

    stopped, actions = passed(watch, limit_s)

    assert (stopped.stop, actions) == (stop, (Action.INTERRUPT,))


def test_a_job_that_was_taken_in_time_has_no_idle_limit() -> None:
    watch = after(JobRunning("build"), at_s=239.0)

    assert passed(watch, 999.0) == (watch, ())


@pytest.mark.parametrize("restarts", range(1, RESTARTS + 1))
def test_a_listener_may_be_restarted_a_few_times_before_it_has_a_job(restarts: int) -> None:
    watch = after(*[Restarting()] * restarts)

    assert (watch.stop, watch.restarts) == (None, restarts)


def test_one_restart_too_many_kills_at_once() -> None:
    _, actions = heard(after(*[Restarting()] * RESTARTS), Restarting(), 20.0)

    assert actions == (Action.KILL,)


def test_an_update_is_allowed_one_restart_more() -> None:
    watch = after(Complained(Complaint.UPDATING, "Runner update in progress"), *[Restarting()] * (RESTARTS + 1))

    assert watch.stop is None


@pytest.mark.parametrize("spent", [JobRunning("build"), JobCompleted("Succeeded")])
def test_any_restart_after_a_job_was_seen_is_one_too_many(spent: Announcement) -> None:
    watch, actions = heard(after(spent), Restarting(), 20.0)

    assert (watch.stop, actions) == (Stop.RESTART_LOOP, (Action.KILL,))


def test_a_restart_while_the_grace_runs_cuts_nothing_short() -> None:
    watch, _ = asked(after(JobRunning("build")), StopRequested(Stop.SIGNAL), 100.0)

    watch, actions = heard(watch, Restarting(), 101.0)

    assert (watch.stop, watch.next_rung_s, actions) == (Stop.SIGNAL, 190.0, ())


def test_a_complaint_that_is_repeated_is_kept_once() -> None:
    said = Complained(Complaint.CLOCK_SKEW, "The local machine's clock may be out of sync")

    assert after(said, said, said).complaints == (said,)


def test_a_runner_that_exited_is_over_whatever_its_code() -> None:
    assert all(exited(fresh(), code).over for code in (0, 7, -9))


requests = st.builds(StopRequested, st.sampled_from(Stop), st.none() | st.floats(-50, 500))
announced = st.one_of(
    st.just(Listening()),
    st.builds(JobRunning, st.sampled_from(["build", ""])),
    st.builds(JobCompleted, st.sampled_from(sorted(JOB_RESULTS.values()))),
    st.just(Restarting()),
    st.builds(Complained, st.sampled_from(Complaint), st.just("said so")),
)
exits = st.sampled_from([0, 1, 2, 5, 7, 100, 102, 130, 137, 143, -9, -15])
histories = st.lists(st.tuples(st.floats(0, 300), announced | requests | st.none() | exits), max_size=40)


def lived(history: list[tuple[float, object]]) -> list[tuple[float, Watch, tuple[Action, ...]]]:
    """Every state of a watch under a history of (seconds since the one before, event), turn by turn as the executor does."""
    watch, now_s = fresh(), 0.0
    states: list[tuple[float, Watch, tuple[Action, ...]]] = [(now_s, watch, ())]
    for gap_s, event in history:
        now_s += gap_s
        while not watch.over and watch.wakes_at_s() <= now_s:
            at_s = max(watch.wakes_at_s(), states[-1][0])
            watch, actions = passed(watch, at_s)
            states.append((at_s, watch, actions))
        if watch.over:
            break
        more: tuple[Action, ...] = ()
        if isinstance(event, StopRequested):
            watch, more = asked(watch, event, now_s)
        elif isinstance(event, int):
            watch = exited(watch, event)
        elif event is not None:
            watch, more = heard(watch, event, now_s)  # type: ignore[arg-type]
        states.append((now_s, watch, more))
    return states


@given(histories)
def test_the_ladder_is_only_ever_climbed_each_rung_once(history: list[tuple[float, object]]) -> None:
    actions = [action for _, _, taken in lived(history) for action in taken]

    assert actions == sorted(set(actions), key=LADDER.index)


@given(histories)
def test_whoever_asked_first_names_the_reason_for_good(history: list[tuple[float, object]]) -> None:
    reasons = [watch.stop for _, watch, _ in lived(history) if watch.stop is not None]

    assert len(set(reasons)) <= 1


@given(histories)
def test_a_grace_that_runs_is_never_lengthened_and_never_longer_than_the_usual_one(history: list[tuple[float, object]]) -> None:
    states = [(at_s, watch) for at_s, watch, _ in lived(history) if watch.rung is Rung.ASKED]
    ends_s = [watch.next_rung_s for _, watch in states]

    assert ends_s == sorted(ends_s, reverse=True)
    assert not states or ends_s[0] <= states[0][0] + LIMITS.grace_s


@given(histories)
def test_every_history_ends_no_later_than_the_runtime_and_the_whole_ladder(
    history: list[tuple[float, object]],
) -> None:
    at_s, watch, _ = lived(history)[-1]
    end_s = at_s
    while not watch.over:
        end_s = max(end_s, watch.wakes_at_s())
        watch, _ = passed(watch, end_s)

    assert end_s <= LIMITS.runtime_s + LIMITS.grace_s + TERM_S + KILL_S + 1e-6


@given(histories, announced)
def test_what_is_over_stays_over_and_nothing_more_is_done_by_the_time(
    history: list[tuple[float, object]], late: Announcement
) -> None:
    watch = exited(lived(history)[-1][1], 0)

    later, _ = heard(watch, late, 1e6)

    assert later.over
    assert passed(later, 1e9) == (later, ())


@given(histories)
def test_any_history_has_a_verdict_that_is_zero_only_for_success_and_says_why_otherwise(
    history: list[tuple[float, object]],
) -> None:
    for _, watch, _ in lived(history):
        found = verdict.of(watch)

        assert (found.exit_code == 0) == (found.status is Status.SUCCESS)
        assert bool(found.error) == bool(found.reason) == (found.status is not Status.SUCCESS)


@given(histories)
def test_no_history_is_green_unless_the_listeners_exit_code_says_so(history: list[tuple[float, object]]) -> None:
    watch = lived(history)[-1][1]
    green = {code for code, name in JOB_RESULTS.items() if name in verdict.GREEN}

    if verdict.of(watch).status is Status.SUCCESS:
        assert watch.exit_code in green


@given(histories, st.integers(0, 40), st.sampled_from(["Failed", "Canceled", "Abandoned"]))
def test_a_listener_that_reports_a_red_job_is_never_green(history: list[tuple[float, object]], place: int, red: str) -> None:
    watch = lived([*history[:place], (0.0, JobCompleted(red)), *history[place:]])[-1][1]

    if watch.job_result == red or watch.exit_code == 102:
        assert verdict.of(watch).status is not Status.SUCCESS


@given(histories, st.integers(0, 40))
def test_a_red_line_is_never_dropped_before_a_stop(history: list[tuple[float, object]], place: int) -> None:
    states = lived([*history[:place], (0.0, JobCompleted("Failed")), *history[place:]])
    heard_it = [watch for _, watch, _ in states if watch.job_result not in (None, *verdict.GREEN)]

    assert heard_it or states[-1][1].over or any(watch.stop for _, watch, _ in states)
