"""Real children of the real process adapter: how they are started, heard, stopped, and ended with all they started."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent.adapters.machine import PosixMeters, is_amazon_ec2
from agent.adapters.output import SEGMENT_BYTES, DiskSpool
from agent.adapters.posix import PosixProcesses
from agent.adapters.system import QueueInbox
from agent.logs import Lines
from agent.ports import Launch

ROOT = Path(__file__).parents[2]
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may give files and processes to another user")


def scenario(name: str, before: str = "") -> dict[str, Any]:
    """What came of a scenario that ran in a process of its own; `before` is bash, run in that process first."""
    command = ["bash", "-c", f'{before}; exec "$@"', "bash"] if before else []
    child = subprocess.Popen(
        [*command, sys.executable, "-m", "tests.agent.posix_scenarios", name],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = child.communicate(timeout=8)
    finally:
        with contextlib.suppress(psutil.Error):
            for process in [*psutil.Process(child.pid).children(recursive=True), psutil.Process(child.pid)]:
                process.kill()
    assert child.returncode == 0, err.decode()
    assert err == b""
    return dict(json.loads(out))


def test_a_stubborn_child_is_asked_then_told_then_killed() -> None:
    found = scenario("stubborn")

    assert found == {"code": -9, "signals": ["SIGINT", "SIGTERM", "SIGKILL"], "there": False}


def test_a_forking_child_is_swept_with_everything_it_started() -> None:
    found = scenario("forking")

    assert found["killed"] >= 26
    assert (found["code"], found["there"]) == (-9, [])


def test_a_silent_child_ends_with_its_own_code_and_no_line() -> None:
    assert scenario("silent") == {"code": 3, "heard": 0, "lines": []}


def test_a_child_that_dies_early_leaves_its_last_words_even_without_a_line_end() -> None:
    assert scenario("killed_early") == {"code": -9, "lines": ["last words", "and a half"]}


def test_of_a_flood_no_line_is_lost_or_out_of_order_and_nobody_has_to_ship_for_it_to_end() -> None:
    assert scenario("flooding") == {"code": 0, "ordered": True, "count": 100_000}


def test_a_flood_beyond_the_cap_holds_nobody_up_keeps_the_oldest_and_counts_the_rest() -> None:
    found = scenario("flooding_beyond_the_cap")

    assert (found["code"], found["oldest"], found["all"]) == (0, True, 100_000)
    assert found["dropped"] > 50_000


def test_a_flood_beyond_the_cap_leaves_no_half_lines() -> None:
    assert scenario("flooding_beyond_the_cap")["torn"] == []


def test_an_announcement_is_heard_also_when_it_comes_in_two_pieces() -> None:
    assert scenario("announcing") == {"heard": ["Listening"]}


def test_what_cannot_be_executed_is_an_os_error_and_leaves_nothing_open() -> None:
    assert scenario("unstartable") == {"errors": ["FileNotFoundError", "FileNotFoundError"], "left_open": 0}


def test_a_descendant_that_cleared_its_environment_called_setsid_and_forked_twice_is_killed() -> None:
    found = scenario("hidden_after_a_stop")

    assert found["variables"] <= 1  # the C locale's own, set by Python itself
    assert (found["own_session"], found["there"]) == (True, False)


def test_such_a_descendant_is_killed_also_after_a_green_end() -> None:
    assert scenario("hidden_after_a_green_end") == {"code": 0, "there": False, "told": True}


def test_a_grandchild_that_holds_the_output_open_is_killed_and_holds_nobody_up() -> None:
    assert scenario("output_held_open") == {"code": 0, "there": False, "held": False, "lines": ["green"]}


def test_a_descendant_whose_first_thread_has_ended_is_killed_too() -> None:
    assert scenario("hidden_behind_a_thread") == {"threads_left": 0}


def test_sigint_reaches_the_listener_alone_and_no_shell_above_or_step_below() -> None:
    found = scenario("interrupted_listener")

    assert found == {"reached": True, "code": 0, "told": ["listener", "helper after", "run.sh after"]}


def test_sigterm_reaches_the_listener_alone_likewise() -> None:
    found = scenario("terminated_listener")

    assert found == {"reached": True, "code": 0, "told": ["listener", "helper after", "run.sh after"]}


def test_without_a_listener_what_was_started_is_signalled_and_afterwards_nobody_is_there() -> None:
    assert scenario("no_listener") == {"first": True, "code": 9, "later": [False, False], "swept": 0}


def test_a_child_has_its_own_session_no_stdin_and_only_what_was_given() -> None:
    found = scenario("a_clean_child")

    assert (found["stdin"], found["leads"], found["descriptors"]) == ("/dev/null", True, [0, 1, 2])
    assert sorted(found["environment"]) == ["ONLY=this", "PATH=/usr/bin:/bin"]
    assert (found["cwd"], found["oom"]) == (found["directory"], "500")


@pytest.mark.parametrize("before", ["", "trap '' INT TERM HUP QUIT PIPE"], ids=["usual", "ignored by our parent"])
def test_signals_are_at_their_default_in_the_child_whatever_our_parent_ignored(before: str) -> None:
    assert scenario("signals_of_a_child", before) == {"code": 0, "ignored": [], "blocked": 0}


def test_the_exit_code_is_learnt_also_when_our_parent_ignored_the_death_of_children() -> None:
    assert scenario("silent", "trap '' CHLD")["code"] == 3


def test_adopted_processes_that_end_do_not_stay_as_zombies() -> None:
    assert scenario("zombies") == {"children": []}


def test_a_bounded_run_gives_the_code_and_the_end_of_the_output() -> None:
    found = scenario("run_to_the_end")

    assert found == {"code": 4, "tail_bytes": 16_384, "end": ["10000", "last"]}


def test_a_run_beyond_its_bound_is_killed_with_its_children() -> None:
    assert scenario("run_beyond_its_bound") == {"code": None, "tail": "begun\n", "there": [False, False]}


def test_a_run_beyond_its_bound_is_killed_with_every_group_of_its_session() -> None:
    assert scenario("run_beyond_its_bound_with_groups") == {"there": False}


def test_a_run_closes_nothing_that_was_opened_beside_it() -> None:
    assert scenario("run_beside_other_work") == {"code": 0, "closed_under_us": 0}


def test_a_run_whose_output_is_inherited_ends_and_reads_nothing_of_ours() -> None:
    assert scenario("run_with_an_heir_of_its_output") == {"code": 0, "tail": "here\n", "stolen": 0}


def spool(tmp_path: Path, **limits: int) -> DiskSpool:
    return DiskSpool(tmp_path / "spool", **{"floor_bytes": 0, **limits})


def everything(spooled: DiskSpool) -> bytes:
    """All that is left, in order."""
    found = b""
    while records := spooled.take(1 << 20):
        found += b"".join(record.content for record in records)
    return found


def test_beyond_the_cap_the_newest_lines_are_dropped_and_counted(tmp_path: Path) -> None:
    spooled = spool(tmp_path, cap_bytes=10)

    spooled.write(b"one\ntwo\n")
    spooled.write(b"three\nfour\n")

    assert (everything(spooled), spooled.lines_dropped()) == (b"one\ntwo\n", 2)


def test_what_was_taken_makes_room_again(tmp_path: Path) -> None:
    spooled = spool(tmp_path, cap_bytes=10)
    spooled.write(b"12345678\n")
    spooled.take(1 << 20)

    spooled.write(b"90\n")

    assert (everything(spooled), spooled.lines_dropped()) == (b"90\n", 0)


def test_below_the_disks_floor_everything_is_dropped_and_counted(tmp_path: Path) -> None:
    spooled = spool(tmp_path, floor_bytes=1 << 62)

    spooled.write(b"one\ntwo\n")
    spooled.note(b"{}")

    assert (everything(spooled), spooled.lines_dropped()) == (b"", 3)


def test_what_comes_after_the_seal_is_counted_as_dropped(tmp_path: Path) -> None:
    spooled = spool(tmp_path)
    spooled.seal()

    spooled.write(b"late\n")

    assert (everything(spooled), spooled.lines_dropped(), spooled.wait(60.0)) == (b"", 1, False)


def test_an_unended_line_that_is_dropped_is_counted_too(tmp_path: Path) -> None:
    spooled = spool(tmp_path, cap_bytes=4)
    spooled.write(b"one\n")

    spooled.write(b"last words")

    assert spooled.lines_dropped() == 1


def test_order_is_kept_across_segments_and_shipped_segments_are_removed(tmp_path: Path) -> None:
    spooled = spool(tmp_path)
    chunks = [f"{number:07}\n".encode() * 8192 for number in range(3 * SEGMENT_BYTES // 65_536)]
    for chunk in chunks:
        spooled.write(chunk)
    before = len(list((tmp_path / "spool").iterdir()))

    taken = everything(spooled)

    assert before >= 3
    assert taken == b"".join(chunks)
    assert len(list((tmp_path / "spool").iterdir())) == 1


def test_what_is_taken_is_about_as_much_as_was_asked_for(tmp_path: Path) -> None:
    spooled = spool(tmp_path)
    for _ in range(100):
        spooled.write(b"x" * 999 + b"\n")

    assert len(spooled.take(10_000)) == 10


def test_a_spool_that_fills_wakes_its_reader_before_the_interval_is_over(tmp_path: Path) -> None:
    spooled = spool(tmp_path)
    spooled.write(b"x" * 600_000)

    assert spooled.wait(1e6)


def test_a_spool_whose_directory_was_removed_goes_on_and_counts(tmp_path: Path) -> None:
    spooled = spool(tmp_path)
    (tmp_path / "spool").rmdir()

    spooled.write(b"one\ntwo\n")

    assert spooled.lines_dropped() == 2


@pytest.mark.parametrize("torn_at", [5, 2_000], ids=["in the header", "in the content"])
def test_a_record_that_a_full_disk_tore_is_counted_and_harms_no_other(tmp_path: Path, torn_at: int) -> None:
    program = (
        "import resource, signal, sys\nfrom pathlib import Path\nfrom agent.adapters.output import DiskSpool\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"spooled = DiskSpool(Path({str(tmp_path)!r}) / 'spool', floor_bytes=0)\n"
        "spooled.write(b'first\\n')\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (13 + 6 + {torn_at}, resource.RLIM_INFINITY))\n"
        "spooled.write(b'torn line\\n' * 400)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "spooled.write(b'last\\n')\n"
        "content = b''.join(record.content for record in spooled.take(1 << 20))\n"
        "print(content.count(b'\\n') + spooled.lines_dropped(), content[:6], content[-5:])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=20, check=False)

    assert done.stdout.decode().strip() == "402 b'first\\n' b'last\\n'", done.stderr.decode()


def test_a_note_of_ours_never_tears_a_line_of_the_child(tmp_path: Path) -> None:
    spooled = spool(tmp_path)
    spooled.write(b"half of ")
    spooled.note(b'{"event":"noticed"}')
    spooled.write(b"a line\n")

    lines = [text for _, text in Lines(lambda content: content, lambda: 1).events(spooled.take(1 << 20))]

    assert lines == ['{"event":"noticed"}', "half of a line"]


def test_nobody_else_may_read_the_spool(tmp_path: Path) -> None:
    spool(tmp_path).write(b"secret\n")

    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "spool", *(tmp_path / "spool").iterdir())]

    assert modes == [0o700, 0o600]


@as_root
def test_files_are_given_away_link_by_link_and_not_through_links(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.touch()
    inside.mkdir()
    (inside / "file").touch()
    (inside / "link").symlink_to(outside)

    PosixProcesses(QueueInbox(), lambda readable, inbox: None).own(inside, "nobody")

    assert outside.stat().st_uid == 0
    assert {path.lstat().st_uid for path in (inside, inside / "file", inside / "link")} == {inside.stat().st_uid} != {0}


@as_root
def test_a_child_may_run_as_another_user() -> None:
    launch = Launch(("id", "-un"), Path("/"), {"PATH": os.environ["PATH"]}, user="nobody")
    program = (
        "from agent.adapters.posix import PosixProcesses\nfrom agent.adapters.system import QueueInbox\n"
        "from agent.ports import Launch\nfrom pathlib import Path, PosixPath\n"
        f"print(PosixProcesses(QueueInbox(), lambda *_: None).run({launch!r}, 10.0).tail, end='')\n"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=20, check=True)

    assert done.stdout == b"nobody\n"


def test_a_user_who_does_not_exist_is_named_with_the_setting() -> None:
    processes = PosixProcesses(QueueInbox(), lambda readable, inbox: None)

    with pytest.raises(LookupError, match="RUNS_FLEET_RUNNER_USER names 'no-such-user'"):
        processes.user_home("no-such-user")


def test_meters_of_a_path_that_is_not_there_yet_are_those_of_its_nearest_parent(tmp_path: Path) -> None:
    reading = PosixMeters().read(tmp_path / "not" / "yet")

    assert reading.disk_free_bytes and reading.memory_available_bytes and reading.oom_kills is not None


@pytest.mark.parametrize(
    ("text", "kills"), [("pgfault 7\noom_kill 3\noom_kill_x 9\n", 3), ("pgfault 7\n", None), ("oom_kill ?", None)]
)
def test_the_kernels_count_of_kills_for_want_of_memory_is_read(tmp_path: Path, text: str, kills: int | None) -> None:
    vmstat = tmp_path / "vmstat"
    vmstat.write_text(text)

    assert PosixMeters(vmstat).read(tmp_path).oom_kills == kills
    assert PosixMeters(tmp_path / "absent").read(tmp_path).oom_kills is None


@pytest.mark.parametrize(
    ("vendor", "hypervisor", "certain"),
    [
        ("Amazon EC2\n", "", True),
        ("", "ec2e1916-9099-7caf-fd21-012345abcdef\n", True),
        ("QEMU\n", "4c4c\n", False),
        ("Xen\n", "", False),
    ],
)
def test_a_machine_is_amazons_only_if_it_says_so_itself(tmp_path: Path, vendor: str, hypervisor: str, certain: bool) -> None:
    (tmp_path / "sys_vendor").write_text(vendor, encoding="utf-8")
    (tmp_path / "uuid").write_text(hypervisor, encoding="utf-8")

    assert is_amazon_ec2(tmp_path, tmp_path / "uuid") is certain
