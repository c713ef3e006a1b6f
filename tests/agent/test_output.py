"""The runner's output on its way to the spool: nothing is torn, nothing is lost without being counted, nobody is held up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.adapters.output import MOST_OF_A_TOPIC, SEGMENT_BYTES, DiskSpool, Output
from agent.adapters.system import QueueInbox
from agent.ports import Event, Heard, OutputEnded
from agent.reports.log_stream import Lines
from agent.runner import announcements
from agent.supervision import JobCompleted, JobRunning, Listening
from tests.agent.apart import ROOT

STAMP = b"2026-01-31 12:00:00Z: "


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
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=600, check=False)

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


class Disappearing(DiskSpool):
    """A spool whose files somebody took away."""

    def write(self, chunk: bytes) -> None:
        raise OSError("stale file handle")


def attended(written: bytes, spooled: DiskSpool | None) -> list[Event]:
    """What is heard of a child that wrote this and ended; at most a pipe full."""
    readable, writable = os.pipe()
    os.write(writable, written)
    os.close(writable)
    inbox, events = QueueInbox(), list[Event]()
    Output(spooled, announcements).attach(readable, inbox)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(readable)
    while not isinstance((event := inbox.wait(float("inf"))), OutputEnded):
        assert event is not None
        events.append(event)
    return events


def test_what_a_child_wrote_is_spooled_as_it_came_and_listened_to(tmp_path: Path) -> None:
    spooled = spool(tmp_path)
    written = b"noise\n" + STAMP + b"Listening for Jobs\n\xff\n" + STAMP + b"Running job: build\nlast"

    heard = attended(written, spooled)

    assert heard == [Heard(Listening()), Heard(JobRunning("build"))]
    assert everything(spooled) == written


def test_an_announcement_without_a_line_end_is_heard_when_the_output_ends(tmp_path: Path) -> None:
    assert attended(STAMP + b"Listening for Jobs", None) == [Heard(Listening())]


def test_a_line_is_no_announcement_because_of_what_stands_in_its_middle() -> None:
    assert attended(b"x" * 5_000 + STAMP + b"Listening for Jobs\n", None) == []


def test_a_flood_of_announcements_is_spooled_whole_and_heard_only_while_it_says_something_new(tmp_path: Path) -> None:
    spooled = spool(tmp_path)
    line = STAMP + b"Running job: x\n"

    heard = attended(line * 1_200, spooled)

    assert len(heard) == MOST_OF_A_TOPIC
    assert everything(spooled).count(line) == 1_200


def test_no_flood_hides_how_the_job_really_ended(tmp_path: Path) -> None:
    flood = (
        b"".join(
            STAMP + line + b"\n"
            for line in (
                b"Running job: x",
                b"Job x completed with result: Succeeded",
                b"Listening for Jobs",
                b"Job x completed with result: Skipped",
            )
        )
        + b"Restarting runner...\nThe runner no longer exists on the server.\n"
    )

    heard = attended(flood * 100 + STAMP + b"Job x completed with result: Failed\n", spool(tmp_path))

    assert heard[-1] == Heard(JobCompleted("Failed"))
    assert len(heard) <= 6 * MOST_OF_A_TOPIC + 1


def test_what_a_job_writes_beyond_its_limit_is_counted_and_said_once(tmp_path: Path) -> None:
    spooled = spool(tmp_path, limit_bytes=1_000_000)

    for _ in range(30):
        spooled.write((b"x" * 99 + b"\n") * 1_000)
    spooled.note(b"ours, later")
    spooled.seal()

    kept = everything(spooled)
    assert kept.count(b"x" * 99) == 10_000
    assert kept.count(b"logs.limit_reached") == 1 and kept.endswith(b"ours, later")
    assert (spooled.lines_accepted(), spooled.lines_dropped()) == (10_002, 20_000)
    assert spooled.over_limit() == "the job's output passed the limit of 1 MB"


def test_within_the_limit_nothing_is_said_of_it(tmp_path: Path) -> None:
    spooled = spool(tmp_path, limit_bytes=1_000)
    spooled.write(b"x" * 999 + b"\n")

    assert (spooled.over_limit(), spooled.lines_dropped()) == ("", 0)


def test_a_spool_that_fails_holds_up_neither_the_child_nor_the_announcements(tmp_path: Path) -> None:
    spooled = Disappearing(tmp_path / "spool", floor_bytes=0)

    heard = attended(b"one\n" + STAMP + b"Listening for Jobs\n", spooled)

    assert (heard, spooled.lines_dropped()) == ([Heard(Listening())], 2)


def test_lines_that_were_written_are_counted_one_without_its_end_included(tmp_path: Path) -> None:
    spooled = spool(tmp_path)
    spooled.write(b"one\ntw")
    before = spooled.lines_accepted()
    spooled.write(b"o\n")
    spooled.note(b"{}")

    assert (before, spooled.lines_accepted()) == (2, 3)


def test_a_line_that_was_begun_is_ended_though_there_is_no_room_for_the_next(tmp_path: Path) -> None:
    spooled = spool(tmp_path, cap_bytes=8)
    spooled.write(b"half of ")

    spooled.write(b"a line\nnext\nand")

    assert (everything(spooled), spooled.lines_dropped()) == (b"half of a line\n", 2)


def test_a_full_spool_takes_nothing_before_half_of_it_is_shipped(tmp_path: Path) -> None:
    spooled = spool(tmp_path, cap_bytes=20)
    for line in (b"123456789\n", b"abcdefghi\n", b"dropped\n"):
        spooled.write(line)
    spooled.take(1)
    spooled.write(b"ABC\n")

    assert (everything(spooled), spooled.lines_dropped()) == (b"abcdefghi\n", 2)


def test_a_segment_that_was_shipped_is_closed_so_that_the_disk_gets_its_room_back(tmp_path: Path) -> None:
    spooled = spool(tmp_path)
    line = b"x" * (1 << 16) + b"\n"
    for _ in range(5 * SEGMENT_BYTES // len(line)):
        spooled.write(line)
    everything(spooled)

    held = [link for link in map(target, Path("/proc/self/fd").iterdir()) if str(tmp_path) in link]
    assert len(held) <= 1, "the one that is written to"


def target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:  # closed meanwhile
        return ""
