"""How text that strangers chose is shown, one function for each place: a log's field, a terminal, JSON, a page of GitHub.

Names of jobs, labels, branches and repositories, the words of services, and what a job prints are chosen by strangers. Printed as
they are they steer a terminal, forge a further line or field, hide a part of themselves, or become a link in our name.
"""

from __future__ import annotations

import json
import re
from typing import Any

MOST_FIELD, MOST_LINE, MOST_DOCUMENT = 2_000, 16_000, 64_000
"""Characters of a log's field; of a line on a terminal; of a string in a document."""
MOST_MARKDOWN, WRAPPED_AT = 5_000, 100
"""Characters of a notice (GitHub takes 65,535; one that is escaped takes ten), and where its lines are wrapped: a page shows the
lines of a code block uncut."""
TOKENS = re.compile(
    r"\b(?:gh[a-z]_[A-Za-z0-9_]{16,}|github_pat_[A-Za-z0-9_]{16,})|(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"
    r"|(?i:\b(?:bearer|basic|token)\s+)[\w.~+/=-]{16,}"
    r"|(?i:x-amz-(?:signature|security-token|credential)[=:]\s*)[^\s&\"']+"
    r"|(?i:\bsignature=)[0-9a-f]{64}"
)
"""GitHub's tokens and those of an App, JWTs, and what an Authorization header or a signed address carries.

Each alternative begins only where what it repeats cannot have begun before: no text takes time that grows with its square.
Source: GitHub docs, "About authentication to GitHub", "GitHub's token formats".
"""


def as_field(value: object) -> str:
    """The value of a field of a log's line; in quotes where it is empty, holds blanks, or cannot be printed as it is."""
    text = cut(without_tokens(str(value)), MOST_FIELD)
    is_plain = bool(text) and text.isprintable() and " " not in text and '"' not in text and not text.startswith("'")
    return text if is_plain else repr(text)


def as_line(text: object) -> str:
    """One line on a terminal: nothing in it steers the terminal, begins a further line, or is shown in another order."""
    return escaped(cut(str(text), MOST_LINE), kept="\t")


def as_cell(value: object) -> str:
    """A cell of a table on a terminal; None is shown as nothing."""
    return "" if value is None else escaped(cut(str(value), MOST_LINE))


def as_json(value: Any, *, most: int = MOST_DOCUMENT, indent: int | None = None) -> str:
    """A document for programs, in ASCII: a terminal that shows it is not steered either. Each string is cut at `most`."""
    return json.dumps(_bounded(value, most), indent=indent, default=lambda one: _bounded(str(one), most), ensure_ascii=True)


def as_markdown(text: str) -> str:
    """A text on a page of GitHub: a code block, in which there are no links, images, mentions or HTML."""
    lines = [escaped(line) for line in cut(text, MOST_MARKDOWN).splitlines()]
    wrapped = "\n".join(part for line in lines for part in _wrapped(line))
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", wrapped)), default=0))
    return f"{fence}text\n{wrapped}\n{fence}"


def escaped(text: str, kept: str = "") -> str:
    r"""With `\x1b` and the like for whatever is no letter, digit, sign or blank: controls, and what changes the direction."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in kept else _code(one) for one in text)


def cut(text: str, most: int) -> str:
    """No longer than `most` characters and a few that say how many are missing."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most} more characters)"


def without_tokens(text: str) -> str:
    """With `***` for whatever has the shape of a credential: the words of a service may quote what they were sent."""
    return TOKENS.sub("***", text)


def _code(one: str) -> str:
    number = ord(one)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _wrapped(line: str) -> list[str]:
    """Broken at blanks; a word longer than a line stays whole."""
    lines = [""]
    for word in line.split(" "):
        fits = len(lines[-1]) + 1 + len(word) <= WRAPPED_AT
        lines = [*lines[:-1], f"{lines[-1]} {word}".lstrip()] if fits or not lines[-1] else [*lines, word]
    return lines


def _bounded(value: Any, most: int) -> Any:
    match value:
        case str():
            return cut(without_tokens(value), most)
        case dict():
            return {cut(str(key), most): _bounded(one, most) for key, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_bounded(one, most) for one in value]
    return value
