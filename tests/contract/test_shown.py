"""Text that strangers chose, in each place where it is shown: it stays where it is, is shown whole or said to be cut."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from agent.contract.shown import (
    MOST_FIELD,
    MOST_LINE,
    MOST_MARKDOWN,
    as_cell,
    as_field,
    as_json,
    as_line,
    as_markdown,
    cut,
    without_tokens,
)

pytestmark = pytest.mark.attack
HOSTILE = [
    "\x1b[2J\x1b[1;1Hall jobs are green",
    "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "\x1b]52;c;Y3VybCBldmls\x07",
    "a\nb: forged",
    "a\r  rewritten",
    *(f"a{separator}b" for separator in "\u2028\u2029\x85\x0b\x0c"),
    *(f"{control}gnp.exe" for control in "\u202e\u2066\u200f\u200b\x9b\x00\x7f\ud800\ufeff\U000e0041\uf8ff"),
    "`" * 50 + "\n![x](https://evil.example/x.png)",
    "```\n# heading\n```",
    "<img src=x onerror=alert(1)>",
    "[click](https://evil.example)",
    "@everyone #1 https://evil.example",
    "a=b c=d",
    "' x='y",
    '" x="y',
]
GH = "gh"
"""No text of ours has the form of a token as a whole."""
hostile = st.one_of(st.sampled_from(HOSTILE), st.text(), st.text(alphabet="`~\n \r#<>[]()!@\x1b"))


def steers(text: str) -> bool:
    """Whether a terminal would do anything but print letters: controls, directions, separators, and what has no shape."""
    return any(unicodedata.category(one) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for one in text)


@given(hostile)
def test_a_line_and_a_cell_of_a_terminal_are_one_line_and_steer_nothing(text: str) -> None:
    assert not steers(as_line(text).replace("\t", "")) and not steers(as_cell(text))


@given(st.dictionaries(st.sampled_from(["why", "name", "error"]), hostile))
def test_a_logs_line_has_the_fields_that_were_written_and_no_others(fields: dict[str, str]) -> None:
    line = " ".join(["event", *(f"{name}={as_field(value)}" for name, value in fields.items())])

    assert not steers(line)
    rest, found = line.removeprefix("event"), {}
    while rest:
        match = re.match(r""" (\w+)=('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^ ]+)(?= |$)""", rest)
        assert match is not None, line
        found[match[1]], rest = match[2], rest[match.end() :]
    assert list(found) == list(fields)


@given(hostile)
def test_a_document_is_ascii_and_says_the_text_as_it_was(text: str) -> None:
    shown = as_json({"name": text, "list": [text]})

    assert shown.isascii() and "\n" not in shown
    assert json.loads(shown) == {"name": text, "list": [text]}


@given(st.lists(hostile).map("".join))
def test_a_notice_is_one_code_block_on_a_page_whatever_is_in_it(text: str) -> None:
    tokens = MarkdownIt("commonmark", {"html": True, "linkify": True}).parse(as_markdown(text))

    assert [token.type for token in tokens] == ["fence"]
    assert not steers(tokens[0].content.replace("\n", ""))


def test_a_notice_is_wrapped_and_loses_no_word() -> None:
    words = [f"word{number}" for number in range(200)]
    shown = as_markdown(" ".join(words))

    assert shown.split()[1:-1] == words
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize(
    ("shown", "most"),
    [
        (as_field("x" * 240_000), MOST_FIELD + 50),
        (as_field("\x1b" * 240_000), 4 * MOST_FIELD + 50),
        (as_line("x" * 2_400_000), MOST_LINE + 50),
        (as_cell("x" * 2_400_000), MOST_LINE + 50),
        (as_json({"a": ["x" * 2_400_000]}, most=MOST_FIELD), MOST_FIELD + 100),
        (as_json({"x" * 2_400_000: 1}, most=MOST_FIELD), MOST_FIELD + 100),
        (as_markdown("`" * 240_000), 3 * MOST_MARKDOWN + 100),
        (as_markdown("\U000e0041" * 240_000), 65_535),
        (as_markdown("\n" * 240_000), 65_535),
    ],
)
def test_whatever_is_long_is_cut_and_says_so(shown: str, most: int) -> None:
    assert len(shown) <= most and re.search(
        r"\(\d+ more characters\)", shown.encode().decode("unicode_escape", "replace") + shown
    )


def test_what_is_not_too_long_is_whole() -> None:
    assert cut("x" * 10, 10) == "x" * 10 and cut("x" * 11, 10) == "x" * 10 + "… (1 more characters)"


@pytest.mark.parametrize(
    ("before", "value"),
    [
        ("", f"{GH}s_16C7e42F292c6912E7710c838347Ae178B4a"),
        ("", f"{GH}p_16C7e42F292c6912E7710c838347Ae178B4a"),
        ("", f"{GH[0]}ithub_pat_11ABCDEFG0abcdefghijkl"),
        ("", ".".join(["eyJhbGciOiJSUzI1NiJ9", "eyJpc3MiOiIxIn0", "c2lnbmF0dXJl"])),
        ("Bearer ", "abcdefghijklmnopqrstuv"),
        ("bearer  ", "abcdefghijklmnopqrstuv"),
        ("Authorization: Basic ", "dXNlcjpwYXNzd29yZA=="),
        ("Signature=", "0f" * 32),
        ("https://queue/?X-Amz-Signature=", "0f0f0f0f"),
        ("x-amz-security-token: ", "FwoGZXIvYXdz"),
    ],
)
def test_what_has_the_shape_of_a_credential_is_not_shown_in_a_log(before: str, value: str) -> None:
    for shown in (as_field(f"invalid header value b'{before}{value}'"), as_json({"error": f"sent {before}{value} there"})):
        assert value not in shown and "***" in shown


@pytest.mark.parametrize(
    "harmless",
    ["a token of GitHub", "basic settings", "signature=short", "sha256:" + "0f" * 32, "runs-fleet/ghosts", "i-0123456789"],
)
def test_what_only_looks_like_one_stays(harmless: str) -> None:
    assert without_tokens(harmless) == harmless


@pytest.mark.parametrize(
    "piece",
    [
        "eyJaaaaaaaa-",
        "eyJaaaaaaaa.",
        "eyJ",
        "ghp_aaaaaaaaaaaaaaa-",
        "gh",
        "github_pat_a-",
        "token ",
        "bearer a=",
        "x-amz-signature=",
        "signature=0",
        "basic\t",
    ],
)
def test_no_text_takes_time_that_grows_with_its_square(piece: str) -> None:
    """With one that did, these took hours."""
    text = piece * (3_000_000 // len(piece))

    assert len(without_tokens(text)) <= len(text)
    assert len(as_field(text)) < len(text)
