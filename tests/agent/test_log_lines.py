"""Spooled bytes become lines, lines become events, events become batches that the service takes."""

from __future__ import annotations

import io
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.adapters.system import TextJournal
from agent.contract.secret import Secret
from agent.reports.log_stream import (
    BATCH_BYTES,
    BATCH_EVENTS,
    BATCH_SPAN_MS,
    EVENT_BYTES,
    EVENT_OVERHEAD_BYTES,
    UNENDED_BYTES,
    Lines,
    Record,
    batches,
    pieces,
)

SECRET = "very-secret-value-0123456789"


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


def lines_of(*chunks: bytes, secret: str = "") -> list[str]:
    """The messages these chunks of a child's output become."""
    journal = TextJournal(io.StringIO())
    journal.hide(Secret(secret))
    lines = Lines(journal.cleaned_bytes, journal.longest_secret)
    events = [*lines.events(Record(1, False, chunk) for chunk in chunks), *lines.rest()]
    return [text for _, text in events]


@pytest.mark.parametrize(
    ("chunks", "messages"),
    [
        ([b"one\ntwo\n"], ["one", "two"]),
        ([b"o", b"ne\nt", b"wo\n"], ["one", "two"]),
        ([b"one\n\n\ntwo\n"], ["one", " ", " ", "two"]),
        ([b"\n"], [" "]),
        ([b"dos\r\n"], ["dos"]),
        ([b"10%\r20%\r\n"], ["10%\r20%"]),
        ([b"no end"], ["no end"]),
        ([], []),
        ([b"caf\xc3", b"\xa9\n"], ["café"]),
        ([b"bro\xffken\xc3\n"], ["bro\ufffdken\ufffd"]),
        ([b"  kept  \n"], ["  kept  "]),
        (["a\u2028b\x0bc\x85d\n".encode()], ["a\u2028b\x0bc\x85d"]),
    ],
)
def test_bytes_become_these_messages(chunks: list[bytes], messages: list[str]) -> None:
    assert lines_of(*chunks) == messages


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=8))
def test_where_the_chunks_are_cut_makes_no_difference(output: bytes, cuts: list[int]) -> None:
    ends = sorted({0, len(output), *(min(cut, len(output)) for cut in cuts)})

    chunks = [output[start:end] for start, end in itertools.pairwise(ends)]

    assert lines_of(*chunks) == lines_of(output)


@given(st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line), max_size=30))
def test_every_line_is_one_message_and_none_is_empty(output: list[bytes]) -> None:
    messages = lines_of(*(line + b"\n" for line in output))

    assert len(messages) == len(output)
    assert all(messages)


@given(st.integers(1, len(SECRET) - 1), st.text("ab ", max_size=20))
def test_a_secret_is_redacted_also_when_it_is_spread_over_two_chunks(cut: int, around: str) -> None:
    output = f"{around}{SECRET}{around}\n".encode()
    middle = len(around) + cut

    assert lines_of(output[:middle], output[middle:], secret=SECRET) == [f"{around}***{around}"]


@pytest.mark.parametrize("after", [0, 1, len(SECRET) // 2, len(SECRET) - 1, len(SECRET), 2 * len(SECRET)])
def test_a_secret_is_redacted_also_where_an_endless_line_is_cut(after: int) -> None:
    """So many bytes follow the secret when the buffer is full."""
    first = b"x" * UNENDED_BYTES + SECRET.encode() + b"y" * after

    told = "".join(lines_of(first, b"y\n", secret=SECRET))

    assert told.lstrip("x") == "***" + "y" * after + "y"


def test_a_secret_that_is_not_complete_yet_when_an_endless_line_is_cut_is_redacted() -> None:
    first = b"x" * UNENDED_BYTES + SECRET[:10].encode()

    told = "".join(lines_of(first, SECRET[10:].encode() + b"\n", secret=SECRET))

    assert told.lstrip("x") == "***"


def test_the_last_words_are_redacted_too() -> None:
    assert lines_of(f"token {SECRET}".encode(), secret=SECRET) == ["token ***"]


def test_a_line_of_three_megabytes_is_split_and_no_byte_of_it_is_missing() -> None:
    line = "0123456789" * 300_000

    messages = lines_of(line.encode() + b"\nnext\n")

    assert "".join(messages[:-1]) == line
    assert max(map(len, messages)) <= EVENT_BYTES
    assert messages[-1] == "next"


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_an_endless_line_of_wide_characters_is_cut_between_them(shift: int) -> None:
    line = "x" * shift + "€" * (UNENDED_BYTES // 2)
    raw = line.encode()

    messages = lines_of(*(raw[at : at + 131_072] for at in range(0, len(raw), 131_072)), b"\n")

    assert "".join(messages).count("\ufffd") == 0
    assert "".join(messages) == line


@pytest.mark.parametrize("unit", [b"x", "é".encode(), "€".encode(), "\U0001f600".encode(), b"\xff", b"\xe2\x82", b"x\xff"])
@pytest.mark.parametrize("size", [EVENT_BYTES // 4, EVENT_BYTES // 3 + 1, EVENT_BYTES, EVENT_BYTES + 1, 3 * EVENT_BYTES + 7])
def test_no_message_is_larger_than_the_service_takes_whatever_its_bytes_are(unit: bytes, size: int) -> None:
    messages = lines_of((unit * size)[:size] + b"\n")

    assert all(0 < len(message.encode()) <= EVENT_BYTES for message in messages)


def test_a_line_of_ours_that_is_too_large_is_split_as_well() -> None:
    lines = Lines(lambda content: content, lambda: 1)

    messages = [text for _, text in lines.events([Record(1, True, b"x" * (EVENT_BYTES + 10))])]

    assert all(len(message) <= EVENT_BYTES for message in messages)


def test_a_line_of_ours_does_not_tear_the_childs() -> None:
    lines = Lines(lambda content: content, lambda: 1)
    records = [Record(1, False, b"half "), Record(2, True, b"{}"), Record(3, False, b"whole\n")]

    assert list(lines.events(records)) == [(2, "{}"), (3, "half whole")]


def test_time_never_runs_backwards_in_the_stream() -> None:
    lines = Lines(lambda content: content, lambda: 1)
    records = [Record(at_ms, False, b"line\n") for at_ms in (5, 9, 3, 10)]

    assert [at_ms for at_ms, _ in lines.events(records)] == [5, 9, 9, 10]


@given(TEXT, st.integers(4, 50))
def test_pieces_joined_are_the_text_and_each_fits(text: str, most_bytes: int) -> None:
    found = list(pieces(text, most_bytes))

    assert "".join(found) == text
    assert all(len(piece.encode()) <= most_bytes for piece in found)
    assert text == "" or all(found)


@given(st.lists(st.tuples(st.integers(0, 3 * BATCH_SPAN_MS), st.integers(1, EVENT_BYTES)), max_size=60))
@settings(max_examples=40)
def test_batches_respect_every_limit_of_the_service_and_keep_the_order(shapes: list[tuple[int, int]]) -> None:
    events = [(at_ms, "x" * size) for at_ms, size in sorted(shapes)]

    found = list(batches(events))

    assert [(event.at_ms, event.message) for batch in found for event in batch] == events
    assert all(sum(len(e.message) + EVENT_OVERHEAD_BYTES for e in batch) <= BATCH_BYTES for batch in found)
    assert all(batch and batch[-1].at_ms - batch[0].at_ms <= BATCH_SPAN_MS for batch in found)


def test_a_batch_has_at_most_ten_thousand_events() -> None:
    assert [len(batch) for batch in batches((1, "x") for _ in range(20_001))] == [BATCH_EVENTS, BATCH_EVENTS, 1]


def test_a_batch_may_be_full_to_the_last_byte() -> None:
    size = BATCH_BYTES // 8 - EVENT_OVERHEAD_BYTES

    assert [len(batch) for batch in batches((1, "x" * size) for _ in range(9))] == [8, 1]


def test_wide_characters_are_counted_in_bytes() -> None:
    size = BATCH_BYTES // 8 - EVENT_OVERHEAD_BYTES

    assert [len(batch) for batch in batches((1, "é" * (size // 2 + 1)) for _ in range(8))] == [7, 1]
