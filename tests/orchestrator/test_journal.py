"""The log of the orchestrator: one line for each event, whatever is in its fields; and fresh ids."""

from __future__ import annotations

import io
import json
import re
import threading
from datetime import UTC, datetime

import pytest

from orchestrator.adapters.journal import SystemIds, TextJournal

PATIENCE_S = 600.0
"""Seconds after which something counts as never happening; nothing here takes longer when it works."""


def lines(*events: tuple[str, dict[str, object]]) -> list[str]:
    """What the log says of these events."""
    stream = io.StringIO()
    journal = TextJournal(stream)
    for name, fields in events:
        journal.event(name, **fields)
    return stream.getvalue().splitlines()


def test_an_event_is_its_moment_its_name_and_its_fields_in_order() -> None:
    before = datetime.now(UTC)
    (line,) = lines(("launch.sent", {"launch_id": "l-1", "instances": 2, "error": None}))
    stamp, _, rest = line.partition(" ")

    assert rest == "INFO launch.sent launch_id=l-1 instances=2 error=None"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp)
    assert abs((datetime.fromisoformat(stamp) - before).total_seconds()) < 3600.0


@pytest.mark.parametrize("text", ["two\nlines", "two\rlines", "two\u2028lines", "a\x1b[31mcolour", "nul\0", "\ud800"])
def test_whatever_others_chose_stays_on_one_line_and_can_be_read_back(text: str) -> None:
    (line,) = lines(("job.updated", {"title": text, "id": "1"}))

    assert f" title={text!r} id=1" in line and line.isprintable()


def test_printable_text_is_written_as_it_is_and_in_quotes_where_it_holds_blanks() -> None:
    (line,) = lines(("job.updated", {"title": "größer\\'so'", "why": "no machine", "of": ""}))

    assert line.endswith(" title=größer\\'so' why='no machine' of=''")


def test_without_a_stream_of_its_own_it_writes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    TextJournal().event("job.updated", job_id="1")

    told = capsys.readouterr()
    assert told.err.endswith(" job.updated job_id=1\n") and told.out == ""


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device"), ValueError("I/O on closed file")])
def test_s11_a_log_that_cannot_be_written_stops_no_work(error: Exception) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise error

    TextJournal(Broken()).event("job.updated", job_id="1")


def test_a_log_that_cannot_be_flushed_stops_no_work_and_writes_again_when_it_can() -> None:
    class Full(io.StringIO):
        flushes = 0

        def flush(self) -> None:
            self.flushes += 1
            if self.flushes == 1:
                raise OSError(28, "No space left on device")

    stream = Full()
    journal = TextJournal(stream)
    journal.event("first")
    journal.event("second")

    assert stream.flushes == 2 and stream.getvalue().endswith(" second\n")


def test_lines_of_several_threads_are_not_mixed() -> None:
    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            for character in text:
                super().write(character)
                threading.Event().wait(0.00001)
            return len(text)

    stream = Slow()
    journal = TextJournal(stream)
    threads = [threading.Thread(target=journal.event, args=("job.updated",), kwargs={"by": n}) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)

    assert sorted(line.partition(" ")[2] for line in stream.getvalue().splitlines()) == [
        f"INFO job.updated by={n}" for n in range(8)
    ]


def test_a_signals_handler_that_writes_in_the_middle_of_a_line_does_not_hang() -> None:
    class Interrupted(io.StringIO):
        def write(self, text: str) -> int:
            if " outer" in text:
                journal.event("inner")
            return super().write(text)

    stream = Interrupted()
    journal = TextJournal(stream)
    thread = threading.Thread(target=journal.event, args=("outer",), daemon=True)
    thread.start()
    thread.join(PATIENCE_S)

    assert not thread.is_alive() and [line.split()[2] for line in stream.getvalue().splitlines()] == ["inner", "outer"]


def test_a_write_within_a_write_that_is_refused_costs_that_line_and_nothing_else() -> None:
    """As a buffered stream does when a signal's handler writes to it in the middle of a write."""

    class Refusing(io.StringIO):
        def write(self, text: str) -> int:
            if " inner" in text:
                raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")
            journal.event("inner")
            return super().write(text)

    stream = Refusing()
    journal = TextJournal(stream)
    journal.event("outer")

    assert [line.split()[2] for line in stream.getvalue().splitlines()] == ["outer"]


def test_a_fresh_id_is_sixteen_hexadecimal_digits_that_nobody_had_before() -> None:
    given = [SystemIds().fresh() for _ in range(1000)]

    assert len(set(given)) == 1000 and all(re.fullmatch("[0-9a-f]{16}", one) for one in given)


def test_an_event_that_may_need_somebody_has_another_level() -> None:
    assert [line.split()[1] for line in lines(("turn.failed", {}), ("job.refused", {}), ("serve.ready", {}))] == [
        "ERROR", "WARNING", "INFO",
    ]  # fmt: skip


def test_as_json_each_line_is_an_object_with_the_fields_as_they_are() -> None:
    stream = io.StringIO()
    TextJournal(stream, as_json=True).event("job.refused", job_id="1", labels=("a", "b"), at=1.5, where=ValueError("x"))

    told = json.loads(stream.getvalue())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told.pop("time"))
    assert told == {
        "level": "WARNING", "event": "job.refused", "job_id": "1", "labels": ["a", "b"], "at": 1.5, "where": "x",
    }  # fmt: skip


def test_what_is_shipped_too_gets_the_same_line_and_its_level_and_what_is_said_here_alone_is_not() -> None:
    stream, shipped = io.StringIO(), list[tuple[str, int, float]]()
    journal = TextJournal(stream)
    journal.ship(lambda line, level, at: shipped.append((line, level, at)))

    journal.event("turn.failed", loop="x")
    journal.say_here("log_group.failed", why="y")

    first, second = stream.getvalue().splitlines()
    assert [(line, level) for line, level, _ in shipped] == [(first, 40)]
    assert second.endswith("WARNING log_group.failed why=y")
