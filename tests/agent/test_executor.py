"""One runner watched to its end: what is decided is carried out, and nothing of it outlives the watch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.contract.messages import Status
from agent.errors import RunnerUnstartable
from agent.executor import DRAIN_S, EXPLAINED_S, Executor, ask
from agent.mailbox import Mailbox
from agent.ports import Event, Heard, Launch, OutputEnded, RunnerExited, Signalled
from agent.supervision import JobCompleted, Limits, Stop, StopRequested, Watch
from simulation.agent_inbox import Script, VirtualInbox, VirtualJournal, VirtualWorkers
from simulation.agent_runner import RunnerPlan, VirtualProcesses, busy_for_ever, job, says
from simulation.agent_world import VirtualWorld
from simulation.clock import BIRTH_S, AgentClock
from tests.agent.apart import scenario

LIMITS = Limits(runtime_s=21_600.0, grace_s=90.0, idle_s=600.0)
LAUNCH = Launch(("/opt/actions-runner/bin/Runner.Listener", "run"), Path("/opt/actions-runner"), {})


def test_a_stubborn_child_is_asked_then_told_then_killed() -> None:
    found = scenario("stubborn")

    assert found == {"code": -9, "signals": ["SIGINT", "SIGTERM", "SIGKILL"], "there": False}


def test_such_a_descendant_is_killed_also_after_a_green_end() -> None:
    assert scenario("hidden_after_a_green_end") == {"code": 0, "there": False, "told": True}


def test_a_grandchild_that_holds_the_output_open_is_killed_and_holds_nobody_up() -> None:
    assert scenario("output_held_open") == {"code": 0, "there": False, "held": False, "lines": ["green"]}


def test_what_a_job_left_running_is_killed_also_after_a_green_end(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = job(leaves_behind=2)

    ended = world.live()

    assert ended.word.status is Status.SUCCESS
    assert world.journal.told("work.leftovers_killed") == [{"processes": 2}]


def test_output_that_ends_after_the_runner_is_still_listened_to(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = job(lasts_s=60.0, holds_output_open=True)
    world.at(67.5, OutputEnded())

    world.live()

    assert world.journal.told("work.output_held_open") == []


def test_a_runner_that_cannot_be_started_is_a_failure_with_that_name(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.starting = Script(OSError("exec format error"))

    ended = world.live()

    assert (ended.word.status, ended.word.reason) == (Status.FAILURE, "runner_unstartable")
    assert "exec format error" in ended.word.error


def test_a_process_that_even_sigkill_cannot_end_does_not_keep_the_machine(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = busy_for_ever(winds_down_s=None, killable=False)
    world.at(100.0, Signalled("SIGTERM"))

    ended = world.live()

    assert ended.word.status is Status.INTERRUPTED
    assert len(world.machine.terminations) == 1
    assert ended.age_s < 215.0


@dataclass
class Noting:
    """An Observer that notes what it is told, and looks again after `every_s`."""

    every_s: float = 1e9
    looks: list[float] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    decisions: list[tuple[Watch, Watch]] = field(default_factory=list)

    def checked(self, now_s: float) -> float:
        self.looks.append(now_s - BIRTH_S)
        return now_s + self.every_s

    def happened(self, event: Event) -> None:
        self.events.append(event)

    def decided(self, before: Watch, after: Watch) -> None:
        self.decisions.append((before, after))


class Bench:
    """An executor around a runner that follows `plan`."""

    def __init__(self, work_dir: Path, plan: RunnerPlan) -> None:
        (work_dir / "job").mkdir()
        self.clock = AgentClock()
        self.inbox = VirtualInbox(self.clock)
        self.journal = VirtualJournal(self.clock)
        self.mailbox = Mailbox(self.inbox, VirtualWorkers(self.clock, self.inbox), self.clock)
        self.processes = VirtualProcesses(clock=self.clock, inbox=self.inbox, work_dir=work_dir, plan=plan)
        self.executor = Executor(self.processes, self.mailbox, self.clock, self.journal)

    def attend(self, observer: Noting | None = None) -> Watch:
        return self.executor.attend(self.executor.start(LAUNCH), LIMITS, observer or Noting())


def test_what_cannot_be_executed_is_named_with_its_command(tmp_path: Path) -> None:
    bench = Bench(tmp_path, RunnerPlan())
    bench.processes.starting = Script(PermissionError("not executable"))

    with pytest.raises(RunnerUnstartable, match=r"/opt/actions-runner/bin/Runner\.Listener cannot be executed: not executable"):
        bench.executor.start(LAUNCH)


def test_the_observer_looks_when_it_said_it_would_and_hears_every_event(tmp_path: Path) -> None:
    observer = Noting(every_s=30.0)

    Bench(tmp_path, job(lasts_s=60.0)).attend(observer)

    assert observer.looks == [0.0, 30.0, 60.0]
    assert [type(event).__name__ for event in observer.events] == ["Heard", "Heard", "Heard", "RunnerExited"]


def test_every_change_of_what_is_known_is_told_with_what_was_known_before(tmp_path: Path) -> None:
    observer = Noting()

    watch = Bench(tmp_path, job("Failed")).attend(observer)

    assert [after for _, after in observer.decisions][:-1] == [before for before, _ in observer.decisions][1:]
    assert [after.job for _, after in observer.decisions][:2] == [None, "build"]
    assert (watch.job_result, watch.exit_code) == ("Failed", 102)


def test_a_stop_that_is_asked_for_interrupts_at_once_and_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, busy_for_ever(winds_down_s=20.0))
    ask(bench.mailbox, StopRequested(Stop.DISK))

    watch = bench.attend()

    assert (watch.stop, bench.clock.age_s) == (Stop.DISK, 20.0)
    assert bench.journal.told("work.signalled") == [
        {"signal": "SIGINT", "stop": Stop.DISK.value, "grace_s": 90.0, "reached": True}
    ]


def test_a_stop_that_waits_is_carried_out_before_the_next_event_is_awaited(tmp_path: Path) -> None:
    bench = Bench(tmp_path, busy_for_ever())
    bench.inbox.schedule(BIRTH_S + 100.0, Signalled("SIGTERM"))

    bench.attend()

    assert bench.processes.runner is not None
    assert bench.processes.runner.signals[0] == (100.0, "SIGINT")


def test_output_that_is_held_open_is_waited_for_a_moment_and_told(tmp_path: Path) -> None:
    bench = Bench(tmp_path, RunnerPlan(exits=(10.0, 0), holds_output_open=True))

    bench.attend()

    assert bench.clock.age_s == 10.0 + DRAIN_S
    assert bench.journal.told("work.output_held_open") == [{"waited_s": DRAIN_S}]


def test_the_last_words_of_a_runner_count_though_they_come_after_its_end(tmp_path: Path) -> None:
    bench = Bench(tmp_path, RunnerPlan(exits=(10.0, 0), holds_output_open=True))
    bench.inbox.schedule(BIRTH_S + 11.0, Heard(JobCompleted("Succeeded")))
    bench.inbox.schedule(BIRTH_S + 11.5, OutputEnded())

    watch = bench.attend()

    assert (watch.job_result, bench.clock.age_s) == ("Succeeded", 11.5)


def test_the_exit_code_of_a_runner_that_had_to_be_given_up_is_taken_when_it_comes_after_all(tmp_path: Path) -> None:
    bench = Bench(tmp_path, busy_for_ever(winds_down_s=None, killable=False))
    bench.inbox.schedule(BIRTH_S + 1.0, Signalled("SIGTERM"))
    late_s = 1.0 + 90.0 + 5.0 + 5.0 + 1.0
    bench.inbox.schedule(BIRTH_S + late_s, RunnerExited(-9))
    bench.inbox.schedule(BIRTH_S + late_s, OutputEnded())

    watch = bench.attend()

    assert len(bench.journal.told("work.unkillable")) == 1
    assert (watch.exit_code, bench.clock.age_s) == (-9, late_s)


@pytest.mark.parametrize(("late_s", "stop"), [(0.5, Stop.SIGNAL), (EXPLAINED_S + 0.5, None)])
def test_a_runner_that_went_without_a_word_is_explained_by_a_stop_within_a_moment(
    tmp_path: Path, late_s: float, stop: Stop | None
) -> None:
    bench = Bench(tmp_path, says(code=143))
    watch = bench.attend()
    bench.inbox.schedule(bench.clock.monotonic_s() + late_s, Signalled("SIGTERM"))

    assert bench.executor.explained(watch).stop is stop
