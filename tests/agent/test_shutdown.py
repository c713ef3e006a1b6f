"""The end of a life, step by step: whatever fails there is told and passed by."""

from __future__ import annotations

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
