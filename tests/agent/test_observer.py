"""What is told while the work runs: that it started, which job it is, what endangers it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from agent.contract.messages import Busy, Interrupting, Interruption, Started, Status
from agent.observer import JOB_NOTE_S
from agent.ports import NoticeCame
from agent.supervision import NoticeKind
from simulation.agent_inbox import Script
from simulation.agent_runner import RunnerPlan, busy_for_ever, job, says
from simulation.agent_services import GIGABYTE, measured
from simulation.agent_world import Ended, VirtualWorld
from simulation.clock import BIRTHDAY

MEGABYTE = 1 << 20


def test_busy_is_told_when_the_job_is_taken_and_not_when_it_is_over(tmp_path: Path) -> None:
    ended = VirtualWorld(tmp_path).live()

    told_s = next(age_s for age_s, message in ended.sent if isinstance(message, Busy))
    assert 5.0 < told_s < 6.0


def test_busy_and_the_final_word_tell_which_job_was_really_run(tmp_path: Path) -> None:
    ended = VirtualWorld(tmp_path).live()

    busy = next(message for _, message in ended.sent if isinstance(message, Busy))
    for message in (busy, ended.word):
        assert (message.ran_run_id, message.ran_run_attempt, message.ran_job) == ("42", "1", "acme/widgets:build")


def test_a_life_whose_runner_never_took_a_job_says_nothing_of_being_busy(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = says("2026-01-31 12:00:00Z: Listening for Jobs", code=0)

    assert "busy" not in world.live().told


def test_started_tells_that_the_machine_may_end_itself(tmp_path: Path) -> None:
    ended = VirtualWorld(tmp_path).live()

    started = ended.sent[0][1]
    assert isinstance(started, Started)
    assert (started.self_termination, "to_exec" in started.phases_ms) == ("permitted", True)


def test_a_machine_that_may_not_end_itself_says_so_at_the_start_and_at_the_end(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.machine.permission = Script("UnauthorizedOperation")

    ended = world.live()

    assert ended.sent[0][1].self_termination == "UnauthorizedOperation"  # type: ignore[union-attr]
    assert any("UnauthorizedOperation" in complaint for complaint in ended.word.degraded)


def test_a_spot_notice_is_told_while_the_runner_still_winds_down(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.machine.notices = [(30.0, NoticeCame(NoticeKind.SPOT, BIRTHDAY + timedelta(seconds=150)))]
    world.processes.plan = busy_for_ever(winds_down_s=20.0)

    ended = world.live()

    (said_s, told) = next((age_s, message) for age_s, message in ended.sent if isinstance(message, Interrupting))
    assert (told.reason, told.ends_at) == ("spot_notice", BIRTHDAY + timedelta(seconds=150))
    assert said_s < 31.0
    assert ended.told == ["started", "busy", "interrupting", "interrupted"]


def test_a_rebalance_recommendation_is_passed_on_and_stops_nothing(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.machine.notices = [(30.0, NoticeCame(NoticeKind.REBALANCE))]

    ended = world.live()

    assert ended.told == ["started", "busy", "interrupting", "success"]


def test_a_metadata_service_that_will_not_tell_of_notices_is_reported_and_survived(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.machine.notices = [(20.0, NoticeCame(NoticeKind.SILENT, detail="no spot notices can be seen"))]

    word = world.live().word

    assert word.status is Status.SUCCESS
    assert "notices: no spot notices can be seen" in word.degraded


def test_a_full_disk_stops_the_job_as_a_failure_with_that_reason(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.meters.readings.append((40.0, measured(60 * MEGABYTE, GIGABYTE)))
    world.processes.plan = busy_for_ever()

    ended = world.live()

    assert (ended.word.status, ended.word.reason) == (Status.FAILURE, "disk_full")
    assert ended.age_s < 75.0


def test_every_volume_that_the_job_writes_to_is_measured(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)

    world.live()

    runner = world.runner_dir
    assert set(world.meters.places) >= {world.work_dir, runner, runner / "_work", runner / "_diag", *world.shared_places}


def test_the_final_message_names_the_volume_that_was_full(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.meters.readings.append((40.0, measured(60 * MEGABYTE, GIGABYTE, path="/opt/actions-runner/_work")))
    world.processes.plan = busy_for_ever()

    assert "disk full: /opt/actions-runner/_work" in world.live().word.degraded


def test_a_disk_that_is_full_from_the_start_stops_the_runner_at_once(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.meters.readings = [(0.0, measured(0, GIGABYTE))]
    world.processes.plan = RunnerPlan()

    assert world.live().word.duration_seconds <= 3


def test_low_disk_and_memory_are_warned_of_every_thirty_seconds_and_stop_nothing(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.meters.readings = [(0.0, measured(499 * MEGABYTE, 199 * MEGABYTE))]
    world.processes.plan = job(lasts_s=120.0)

    word = world.live().word

    assert word.status is Status.SUCCESS
    assert len(world.journal.told("safety.disk_low")) == len(world.journal.told("safety.memory_low")) == 5


def test_a_job_beside_which_the_kernel_killed_for_want_of_memory_says_so(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    before, after = (measured(20 * GIGABYTE, 4 * GIGABYTE, kills) for kills in (2, 5))
    world.meters.readings = [(0.0, before), (60.0, after)]
    world.processes.plan = job(lasts_s=120.0)

    assert world.live().word.degraded[-1] == "out-of-memory: the kernel killed 3 processes"


def test_what_the_kernel_killed_before_is_not_this_jobs(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.meters.readings = [(0.0, measured(20 * GIGABYTE, 4 * GIGABYTE, 2))]
    world.processes.plan = job(lasts_s=120.0)

    assert not any("out-of-memory" in part for part in world.live().word.degraded)


def busy_message(ended: Ended) -> tuple[float, Busy]:
    """The one message that a job was taken, with the age at which it was sent."""
    ((age_s, message),) = [(age_s, message) for age_s, message in ended.sent if isinstance(message, Busy)]
    return age_s, message


def test_the_stream_tells_of_start_job_and_stop_in_their_order(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, MAX_RUNTIME="1")
    world.processes.plan = busy_for_ever()

    world.live()

    assert world.log_stream.events == ["work.started", "job.taken", "work.stopping"]


def test_a_job_whose_hook_never_names_it_is_told_nameless_after_a_while(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = job(lasts_s=300.0, job_note="")

    age_s, busy = busy_message(world.live())

    assert 5.0 + JOB_NOTE_S < age_s < 5.0 + JOB_NOTE_S + 1.0
    assert (busy.ran_run_id, busy.ran_run_attempt, busy.ran_job) == ("", "", "")


def test_a_second_job_line_is_not_told_again(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    running = "2026-01-31 12:00:00Z: Running job: "
    world.processes.plan = says(f"{running}build", f"{running}forged", code=0)

    world.live()

    assert world.log_stream.events.count("job.taken") == 1


def test_a_full_disk_is_told_at_each_look_and_asks_for_the_stop_once(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, GRACE_SECONDS="80")
    world.meters.readings.append((40.0, measured(60 * MEGABYTE, GIGABYTE)))
    world.processes.plan = busy_for_ever(winds_down_s=70.0)

    ended = world.live()

    assert len(world.journal.told("safety.disk_critical")) == 3
    assert [name for _, name in world.runner.signals] == ["SIGINT", "SIGKILL"]
    assert ended.word.reason == "disk_full"


def test_a_machine_that_cannot_be_measured_endangers_nothing(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.meters.readings = [(0.0, measured(None, None))]

    word = world.live().word

    assert word.status is Status.SUCCESS
    assert not any("out-of-memory" in part for part in word.degraded)


def test_a_rebalance_recommendation_is_told_under_its_own_reason_and_without_a_moment(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.machine.notices = [(30.0, NoticeCame(NoticeKind.REBALANCE))]

    (told,) = [message for _, message in world.live().sent if isinstance(message, Interrupting)]

    assert (told.reason, told.ends_at) == (Interruption.REBALANCE, None)
    assert [fields["kind"] for fields in world.journal.told("notice.received")] == ["rebalance"]
