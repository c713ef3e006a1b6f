"""Environment variables, read one after the other; what is wrong is collected, so that all of it can be told at once."""

from __future__ import annotations

import base64
import re
import textwrap
from collections.abc import Mapping

from agent.contract.variables import PREFIX


class Environment:
    """The variables that begin with our prefix. `problems`: in words for whoever set them; `warnings`: what still works."""

    def __init__(self, environment: Mapping[str, str], *, records_only: bool = False) -> None:
        """`records_only`: for whoever looks at our records and calls nobody else; then nothing is required."""
        self.variables, self._records_only = environment, records_only
        self.problems: list[str] = []
        self.warnings: list[str] = []

    def text(self, name: str, default: str) -> str:
        """The variable's text; empty counts as missing."""
        return self.variables.get(PREFIX + name, "").strip() or default

    def required(self, name: str, expected: str) -> str:
        """The variable's text; missing is a problem."""
        found = self.text(name, "")
        if not found and not self._records_only:
            self.problems.append(f"{PREFIX}{name} is missing: expected {expected}")
        return found

    def listed(self, name: str, *, required: bool = False) -> tuple[str, ...]:
        """The parts between commas."""
        found = tuple(part.strip() for part in self.text(name, "").split(",") if part.strip())
        if required and not found and not self._records_only:
            self.problems.append(f"{PREFIX}{name} is missing: expected a comma-separated list")
        return found

    def number(
        self, name: str, default: float, *, least: float = 1e-9, most: float = 999_999_999.0, whole: bool = False
    ) -> float:
        """A number within these bounds, otherwise a problem, and the default."""
        raw = self.text(name, "")
        try:
            value = float(raw) if raw else default
        except ValueError:
            value = -1.0
        if not least <= value <= most or (whole and value != int(value)):
            kind = "a whole number" if whole else "a number"
            self.problems.append(f"{PREFIX}{name}: expected {kind} from {least:g} to {most:.10g}, found {raw!r}")
            return default
        return value

    def switch(self, name: str, *, default: bool) -> bool:
        """A variable that says `true` or `false`."""
        raw = self.text(name, str(default)).lower()
        if raw not in ("true", "false"):
            self.problems.append(f"{PREFIX}{name}: expected true or false, found {raw!r}")
        return raw != "false"

    def one_of(self, name: str, words: tuple[str, ...]) -> str:
        """One of these words; the first is the default."""
        found = self.text(name, words[0])
        if found not in words:
            self.problems.append(f"{PREFIX}{name}: expected {' or '.join(words)}, found {found!r}")
        return found

    def pem(self, name: str) -> str:
        """A private key, as base64 or plain; no part of it is ever quoted."""
        raw = self.required(name, "the App's private key, base64 of the PEM file")
        if not raw:
            return ""
        try:
            return plain_pem(raw)
        except ValueError as error:
            self.problems.append(f"{PREFIX}{name}: expected a PEM file, plain or as base64; found {error}")
            return ""


def plain_pem(raw: str) -> str:
    """A PEM key from whatever secret stores make of one: plain, with `\\n` written out or with its lines run together, quoted,
    or base64 of any of these, wrapped or not. Raises: ValueError, without quoting it.
    """
    text = raw.strip().strip("\"'").strip()
    if "-----BEGIN" not in text:
        try:
            packed = "".join(text.replace("\\n", "").split()).translate(str.maketrans("-_", "+/"))
            text = base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True).decode("utf-8").strip()
        except ValueError as error:
            raise ValueError("neither a PEM file nor base64 of one") from error
    text = text.replace("\\r", "").replace("\\n", "\n").replace("\r", "")
    found = re.search(r"-----BEGIN ([A-Z ]+)-----(.*?)-----END \1-----", text, re.S)
    if found is None:
        raise ValueError("not a whole PEM file: expected a BEGIN line, the key, and the END line")
    body = "".join(found[2].split())
    return "\n".join([f"-----BEGIN {found[1]}-----", *textwrap.wrap(body, 64), f"-----END {found[1]}-----", ""])
