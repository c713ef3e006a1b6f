"""`hashFiles()`: one hash over the files of the workspace that match patterns.

Source of the order, the patterns and the hash: `hashFiles` in actions/runner and `@actions/glob`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path


def hash_files(workspace: Path, patterns: list[str]) -> str:
    """SHA-256, in hex, over the SHA-256 digests of all files that match; empty if none does. `!` before a pattern excludes."""
    rules = [rule for text in patterns for line in text.splitlines() if (rule := line.strip()) and not rule.startswith("#")]
    whole, found = hashlib.sha256(), False
    for path in _files(workspace):
        if _is_chosen(path.relative_to(workspace).as_posix(), workspace, rules):
            found = True
            whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest() if found else ""


def _files(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir()):
        if path.is_dir() and not path.is_symlink():
            yield from _files(path)
        elif path.is_file():
            yield path


def _is_chosen(path: str, workspace: Path, rules: list[str]) -> bool:
    """The last rule that matches decides."""
    chosen = False
    for rule in rules:
        excludes = rule.startswith("!")
        pattern = rule.lstrip("!").strip().removeprefix(f"{workspace}/").removeprefix("./").rstrip("/")
        if _matches(path, pattern):
            chosen = not excludes
    return chosen


def _matches(path: str, pattern: str) -> bool:
    """Whether the pattern names the file, or a directory above it."""
    parts = path.split("/")
    above = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
    expression = re.compile(_expression(pattern))
    return any(expression.fullmatch(one) for one in above)


def _expression(pattern: str) -> str:
    """A glob as a regular expression: `**` any directories, `*` and `?` within one name, `[…]` one of these characters."""
    made: list[str] = []
    for part in re.findall(r"\*\*/|\*\*|\*|\?|\[[^\]/]+\]|.", pattern, re.S):
        made.append({"**/": r"(?:[^/]+/)*", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}.get(part) or _literal(part))
    return "".join(made)


def _literal(part: str) -> str:
    if len(part) > 2 and part.startswith("["):
        return f"[{'^' if part[1] in '!^' else ''}{re.escape(part[1:-1].lstrip('!^')).replace(chr(92) + '-', '-')}]"
    return re.escape(part)
