"""The end of a life, step by step: whatever fails there is told and passed by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.contract.config import RunnerConfig, read_config
from agent.contract.messages import FinalWord, Status, read_message
from agent.contract.secret import Secret
from agent.mailbox import Mailbox
from agent.phases import Stopwatch
from agent.ports import LogReport, Queue
from agent.reports.last_will import LastWill
from agent.reports.telemetry import Telemetry
from agent.shutdown import ERROR_CHARACTERS, FLUSH_S, LifeReport, Shutdown
from agent.termination import Termination
from agent.work import Prepared, Verdict
from simulation.agent_inbox import HANGS, Script, VirtualInbox, VirtualJournal, VirtualWorkers, refused
from simulation.agent_runner import job
from simulation.agent_services import INSTANCE, VirtualLogStream, VirtualMachine, VirtualQueue
from simulation.agent_world import VirtualWorld, config_text, release_archive, unbake
from simulation.clock import AgentClock

VERDICT = Verdict(Status.FAILURE, "job_failed", "the job failed", "Failed")
SHIPPED = LogReport("shipped", 12, 0)


LOST = LogReport("lost", 0, 812, "PutLogEvents answered AccessDeniedException")


def test_with_logs_queue_and_ec2_all_hung_the_power_is_off_within_a_minute_of_the_childs_end(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, LOGS_BUCKET="logs")
    world.processes.plan = job(lasts_s=60.0)
    world.log_stream.reports = Script(HANGS)
    world.objects.answers = Script(HANGS)
    (world.runner_dir / "_diag").mkdir()
    (world.runner_dir / "_diag" / "Runner_1.log").write_text("line\n", encoding="utf-8")
    world.queue.answers = Script(HANGS)
    world.machine.permission = Script(HANGS)
    world.machine.termination = Script(HANGS)

    ended = world.live()

    child_ended_s = 66.0
    ((off_s, command),) = world.machine.power_offs
    assert command == ("switch", "off")
    assert off_s - child_ended_s < 60.0
    assert (ended.exit_code, ended.sent) == (69, ())


def test_the_same_holds_when_the_output_is_held_open_and_the_upload_hangs_too(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = job(lasts_s=60.0, holds_output_open=True, leaves_behind=3)
    world.log_stream.reports = Script(HANGS)
    world.queue.answers = Script(HANGS)
    world.machine.termination = Script(HANGS)

    world.live()

    assert world.machine.power_offs[0][0] - 66.0 < 60.0
    assert world.journal.told("work.leftovers_killed") == [{"processes": 3}]
    assert len(world.journal.told("work.output_held_open")) == 1


def test_a11_logs_that_were_refused_all_along_are_told_in_the_final_word(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, LOG_GROUP="/runs-fleet")
    world.log_stream.reports = Script(LOST)

    word = world.live().word

    assert (word.log_outcome, word.log_lines_shipped, word.log_lines_lost) == ("lost", 0, 812)
    assert any("AccessDeniedException" in complaint for complaint in word.degraded)
    assert word.status is Status.SUCCESS


def test_the_last_lines_are_shipped_before_the_final_word_counts_them(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.log_stream.took_s = 7.0

    ended = world.live()

    assert world.log_stream.finished[0] < ended.words[0][0]
    assert ended.word.log_lines_shipped == 12


def test_an_upload_that_hangs_is_abandoned_and_said_so(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, CONFIG_BUCKET="config")
    unbake(world.runner_dir)
    world.web.publish(release_archive())

    class NeverStoring(type(world.objects)):  # type: ignore[misc]
        def put_file_if_absent(self, key: str, path: Path, metadata: object) -> bool:
            raise HANGS

    world.objects = NeverStoring(world.clock)

    ended = world.live()

    assert (ended.word.cache_outcome, ended.word.status) == ("abandoned", Status.SUCCESS)
    assert ended.age_s < 90.0


def test_what_registration_and_the_job_left_is_gone_when_the_machine_is(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    (world.runner_dir / ".credentials").write_text("secret", encoding="utf-8")
    (world.runner_dir / "_work" / "repo").mkdir(parents=True)

    world.live()

    assert sorted(path.name for path in world.runner_dir.iterdir()) == ["bin", "run.sh"]


@dataclass
class Leaving:
    """Work (`agent/work.py`) as far as its end goes: what it keeps takes its time, what it cleans fails by script."""

    clock: AgentClock
    kept: Script[str] = field(default_factory=lambda: Script("uploaded"))
    keeps_s: float = 1.0
    left: Script[list[str]] = field(default_factory=lambda: Script(list[str]()))

    def keep(self, config: RunnerConfig, prepared: Prepared, instance_id: str) -> str:
        self.clock.pause(self.keeps_s)
        return self.kept.next()

    def clean(self, prepared: Prepared) -> list[str]:
        return self.left.next()


class Bench:
    """A life at its end, on a virtual clock; `began` says how far it had come."""

    def __init__(self, state_dir: Path, *, began: bool = True, queue: Callable[[], Queue] | None = None) -> None:
        self.clock = AgentClock()
        self.inbox = VirtualInbox(self.clock)
        self.journal = VirtualJournal(self.clock)
        self.mailbox = Mailbox(self.inbox, VirtualWorkers(self.clock, self.inbox), self.clock)
        self.queue, self.log_stream, self.work = VirtualQueue(self.clock), VirtualLogStream(self.clock), Leaving(self.clock)
        self.machine = VirtualMachine(clock=self.clock, inbox=self.inbox)
        self.report = LifeReport(started_at=self.clock.now(), started_s=self.clock.monotonic_s(), instance_id=INSTANCE)
        if began:
            self.report.config = read_config(config_text(), "here")
            self.report.prepared = Prepared(state_dir, "prebaked")
        self.shutdown = Shutdown(
            report=self.report, log_stream=self.log_stream, mailbox=self.mailbox, clock=self.clock, journal=self.journal,
            telemetry=Telemetry(
                queue=queue or (lambda: self.queue),
                probe=self.queue.probe,
                mailbox=self.mailbox,
                clock=self.clock,
                journal=self.journal,
            ),
            termination=Termination(self.machine, ("switch", "off"), self.mailbox, self.clock, self.journal),
            stopwatch=Stopwatch(), work=self.work, last_will=LastWill(state_dir),
        )  # fmt: skip

    def word(self) -> FinalWord:
        ((_, body),) = self.queue.bodies
        word = read_message(body)
        assert isinstance(word, FinalWord)
        return word


def test_a_life_that_got_nowhere_has_nothing_to_keep_and_no_job_to_name(tmp_path: Path) -> None:
    bench = Bench(tmp_path, began=False)

    bench.shutdown.send_final_word(VERDICT, *bench.shutdown.ship_logs())
    bench.shutdown.clean()

    word = bench.word()
    assert (word.diag_outcome, word.job_id, word.session_id, word.digest) == ("disabled", "", "", "")


def test_logs_and_diagnostics_are_shipped_side_by_side(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.log_stream.took_s, bench.work.keeps_s = 7.0, 6.0

    assert bench.shutdown.ship_logs() == (SHIPPED, "uploaded")
    assert bench.clock.age_s == 7.0


@pytest.mark.parametrize("fault", [OSError("disk"), refused("AccessDenied"), HANGS], ids=["ours", "refused", "hung"])
def test_diagnostics_that_cannot_be_kept_are_told_as_failed_within_the_bound(tmp_path: Path, fault: BaseException) -> None:
    bench = Bench(tmp_path)
    bench.work.kept = Script(fault)

    assert bench.shutdown.ship_logs() == (SHIPPED, "failed")
    assert bench.clock.age_s <= FLUSH_S
    assert bench.journal.told("shutdown.abandoned" if fault is HANGS else "shutdown.failed")[0]["step"] == "diagnostics"


@pytest.mark.parametrize(
    ("takes_s", "fault", "outcome"),
    [(4.0, None, "uploaded"), (400.0, None, "abandoned"), (4.0, OSError("gone"), "abandoned")],
)
def test_an_upload_under_way_may_use_the_time_in_which_the_logs_are_shipped(
    tmp_path: Path, takes_s: float, fault: OSError | None, outcome: str
) -> None:
    bench = Bench(tmp_path)
    bench.report.cache_outcome = "uploading"

    def upload() -> str:
        bench.clock.pause(takes_s)
        return Script[str](fault or "uploaded").next()

    bench.mailbox.begin("cache upload", upload)
    bench.shutdown.ship_logs()

    assert bench.report.cache_outcome == outcome
    assert bench.clock.age_s <= FLUSH_S


@pytest.mark.parametrize("outcome", ["partial", "lost", "shipped", "disabled"])
def test_only_lines_that_were_lost_degrade_a_life(tmp_path: Path, outcome: str) -> None:
    bench = Bench(tmp_path)
    bench.log_stream.reports = Script(LogReport(outcome, 1, 2, "throttled"))

    bench.shutdown.ship_logs()

    assert bench.report.degraded == (["logs: throttled"] if outcome in ("partial", "lost") else [])


def test_a_stream_that_breaks_or_hangs_is_a_lost_one_with_its_cause(tmp_path: Path) -> None:
    for fault in (HANGS, RuntimeError("broken")):
        bench = Bench(tmp_path)
        bench.log_stream.reports = Script(fault)

        logs, _ = bench.shutdown.ship_logs()

        assert (logs.outcome, logs.cause) == ("lost", "the last lines could not be shipped in time")
        assert bench.clock.age_s <= FLUSH_S + 0.5


def test_the_final_word_holds_what_is_known_and_its_error_is_short_and_without_secrets(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.journal.hide(Secret("AAAATOKENTOKEN"))
    bench.report.exit_code, bench.report.cache_outcome = 0, "hit"
    bench.report.degraded += ["notices: silent"]
    bench.clock.pause(90.4)

    bench.shutdown.send_final_word(Verdict(Status.FAILURE, "x", "AAAATOKENTOKEN" + "e" * 9_000), SHIPPED, "uploaded")

    word = bench.word()
    assert (word.duration_seconds, word.runner_exit_code, word.cache_outcome, word.degraded) == (
        90,
        0,
        "hit",
        ("notices: silent",),
    )
    assert word.error == "***" + "e" * (ERROR_CHARACTERS - 3)
    assert bench.shutdown.word_delivered


def test_the_last_will_is_this_very_word_until_it_is_out(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.queue.answers = Script(refused("AccessDenied"))

    bench.shutdown.send_final_word(VERDICT, SHIPPED, "uploaded")

    left = read_message((tmp_path / "last-will-died").read_text("utf-8"))
    assert isinstance(left, FinalWord)
    assert (left.status, left.reason, (tmp_path / "final-word-sent").exists()) == (Status.FAILURE, "job_failed", False)
    assert (bench.shutdown.word_delivered, bench.report.broken) == (False, False)


def test_a_word_that_is_out_is_said_no_second_time_by_whoever_outlives_us(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    bench.shutdown.send_final_word(VERDICT, SHIPPED, "uploaded")

    assert (tmp_path / "final-word-sent").exists()


def test_a_disk_that_takes_no_last_will_keeps_no_word_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "absent")

    bench.shutdown.send_final_word(VERDICT, SHIPPED, "uploaded")

    assert bench.word().reason == "job_failed"
    assert [fields["step"] for fields in bench.journal.told("shutdown.failed")] == ["last will", "last will"]


def test_a_fault_of_ours_in_the_final_word_is_remembered_for_the_way_out(tmp_path: Path) -> None:
    def unimportable() -> Queue:
        raise ImportError("no module named boto3")

    bench = Bench(tmp_path, queue=unimportable)

    bench.shutdown.send_final_word(VERDICT, SHIPPED, "uploaded")

    assert (bench.report.broken, bench.shutdown.word_delivered) == (True, False)
    assert bench.journal.told("final_word.undelivered") == [{"status": "failure", "error": "no module named boto3"}]


def test_what_cannot_be_removed_is_told_five_times_at_most(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.work.left = Script([f"file {number}" for number in range(9)])

    bench.shutdown.clean()

    assert [fields["what"] for fields in bench.journal.told("cleanup.incomplete")] == [f"file {number}" for number in range(5)]


@pytest.mark.parametrize("for_certain", [True, False])
def test_the_machine_is_left_by_its_own_id_last_of_all(tmp_path: Path, for_certain: bool) -> None:
    bench = Bench(tmp_path)

    bench.shutdown.leave(for_certain=for_certain)

    assert (len(bench.machine.terminations), len(bench.machine.power_offs)) == (1, int(for_certain))
