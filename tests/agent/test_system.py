"""Time, threads, the inbox and the agent's own log, as the machine gives them."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC

import pytest

from agent.adapters.system import (
    AHEAD_CHUNKS,
    QueueInbox,
    SystemClock,
    TextJournal,
    ThreadWorkers,
    goes_to_the_journal,
    hide_environment,
)
from agent.contract.secret import Secret
from agent.phases import Phase
from agent.ports import OutputEnded, Signalled, TaskEnded
from tests.agent.apart import ROOT

SOON = float("inf")


def test_only_what_says_how_far_a_machine_came_is_marked_and_only_for_the_journal() -> None:
    heard = {beacons: io.StringIO() for beacons in (True, False)}
    for beacons, stream in heard.items():
        journal = TextJournal(stream, beacons=beacons)
        journal.phase(Phase.RUNNING)
        journal.event("message.outcome", kind="busy")

    marked, plain = (heard[beacons].getvalue().splitlines() for beacons in (True, False))
    assert [line.startswith("<5>2") for line in marked] == [True, False]
    assert not any(line.startswith("<") for line in plain) and plain[0].endswith("phase.entered phase=running")


def test_standard_error_is_the_journals_only_if_it_is_the_very_one() -> None:
    ours = os.fstat(2)

    assert goes_to_the_journal({"JOURNAL_STREAM": f"{ours.st_dev}:{ours.st_ino}"})
    assert not goes_to_the_journal({"JOURNAL_STREAM": f"{ours.st_dev}:{ours.st_ino + 1}"}) and not goes_to_the_journal({})


def test_events_come_out_in_the_order_in_which_they_were_posted() -> None:
    inbox = QueueInbox()
    posted = [Signalled("SIGTERM"), OutputEnded(), TaskEnded("release")]
    for event in posted:
        inbox.post(event)

    assert [inbox.wait(SOON) for _ in posted] == posted


def test_at_its_moment_a_wait_is_over_however_much_still_waits() -> None:
    inbox = QueueInbox()
    inbox.post(OutputEnded())

    assert inbox.wait(time.monotonic()) is None
    assert inbox.wait(SOON) == OutputEnded()
    assert inbox.wait(time.monotonic() + 0.01) is None


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
def test_every_end_of_a_background_task_is_heard_of(error: BaseException) -> None:
    inbox = QueueInbox()

    def fail() -> None:
        raise error

    ThreadWorkers(inbox).begin("good", lambda: threading.current_thread().name)
    assert inbox.wait(SOON) == TaskEnded("good", value="good")
    ThreadWorkers(inbox).begin("bad", fail)
    assert inbox.wait(SOON) == TaskEnded("bad", error=error)


def test_a_machine_that_has_no_thread_left_does_the_task_here_and_now() -> None:
    script = (
        "import threading\n"
        "from agent.adapters.system import QueueInbox, ThreadWorkers\n"
        "inbox = QueueInbox()\n"
        "threading.stack_size(1 << 46)\n"
        "ThreadWorkers(inbox).begin('task', lambda: threading.current_thread().name)\n"
        "print(inbox.wait(float('inf')).value)\n"
    )

    told = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)

    assert told.stdout == "MainThread\n", told.stderr


def test_chunks_that_are_read_ahead_are_the_same_in_the_same_order() -> None:
    chunks = [str(number).encode() for number in range(500)]

    assert list(ThreadWorkers(QueueInbox()).ahead(iter(chunks))) == chunks


def test_an_error_comes_out_where_it_happened() -> None:
    def broken() -> Iterator[bytes]:
        yield b"one"
        yield b"two"
        raise OSError("cut off")

    received = list[bytes]()
    with pytest.raises(OSError, match="cut off"):
        received.extend(chunk for chunk in ThreadWorkers(QueueInbox()).ahead(broken()) if received.append(chunk))

    assert received == [b"one", b"two"]


def test_nobody_reads_further_ahead_than_the_bound_and_an_abandoned_reader_ends() -> None:
    made, ended, full = list[int](), threading.Event(), threading.Event()

    def endless() -> Iterator[bytes]:
        try:
            for number in itertools.count():
                made.append(number)
                if len(made) == AHEAD_CHUNKS + 2:
                    full.set()
                yield b"x"
        finally:
            ended.set()

    chunks = ThreadWorkers(QueueInbox()).ahead(endless())
    next(chunks)
    assert full.wait(10.0)
    chunks.close()  # type: ignore[attr-defined]

    assert ended.wait(10.0)
    assert len(made) <= AHEAD_CHUNKS + 3


def written(journal_says: object) -> str:
    """The line of an event with one field."""
    stream = io.StringIO()
    TextJournal(stream).event("name", field=journal_says)
    return stream.getvalue().partition("Z ")[2]


@pytest.mark.parametrize(
    ("value", "shown"),
    [("plain", "plain"), (7, "7"), ("two words", "'two words'"), ("", "''"), ('a"b', "'a\"b'"), ("a\nb c=d", "'a\\nb c=d'")],
)
def test_an_event_is_one_line_whatever_its_values_hold(value: object, shown: str) -> None:
    assert written(value) == f"INFO name field={shown}\n"


def test_a_secret_never_appears_and_the_longer_one_goes_first() -> None:
    stream = io.StringIO()
    journal = TextJournal(stream)
    journal.hide(Secret("password1"))
    journal.hide(Secret("password1-and-more"), Secret("short"))

    journal.event("seen", a="password1-and-more", b="password1", c="short")

    assert stream.getvalue().endswith("seen a=*** b=*** c=short\n")
    assert journal.cleaned_bytes(b"<password1-and-more>") == b"<***>"
    assert journal.longest_secret() == len("password1-and-more")


def test_a_secret_is_as_long_as_its_bytes() -> None:
    journal = TextJournal(io.StringIO())
    assert journal.longest_secret() == 1

    journal.hide(Secret("pässwörter"))

    assert journal.longest_secret() == len("pässwörter".encode())


def test_a_log_that_is_gone_does_not_stop_the_agent() -> None:
    stream = io.StringIO()
    journal = TextJournal(stream)
    stream.close()

    journal.event("seen")
    journal.phase(Phase.RUNNING)


def test_the_agents_own_credentials_are_secrets_and_its_key_id_is_none() -> None:
    journal = TextJournal(io.StringIO())
    names = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID")
    hide_environment(journal, {name: f"value-of-{name}" for name in names})

    assert [journal.cleaned(f"value-of-{name}") for name in names] == ["***", "***", "value-of-AWS_ACCESS_KEY_ID"]


def test_the_clock_is_the_machines_own() -> None:
    clock = SystemClock()
    before = clock.monotonic_s()
    clock.pause(-1.0)

    assert before <= clock.monotonic_s() <= time.monotonic()
    assert clock.now().tzinfo is UTC
    assert 0.0 <= clock.fraction() < 1.0
    assert clock.new_id() != clock.new_id()
