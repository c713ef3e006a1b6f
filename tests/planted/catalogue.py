"""The faults written by hand: each a small replacement in one file, that must fit the file exactly once."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).parent / "faults"


class Moved(Exception):
    """A fault does not fit the code any more: write it anew for the code as it is now, or take it out if it cannot be made."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault that may be planted. `path` from the checkout; `content`: the whole file with it."""

    name: str
    what: str
    """What is wrong then, and who is hurt."""
    path: str
    content: str
    by_hand: bool = True
    first: tuple[str, ...] = ()
    """Tests that are run before the others: those that boot machines take minutes. It changes nothing but the order."""

    @property
    def digest(self) -> str:
        """Of the file as it is with the fault: a result holds for as long as it is the same."""
        return hashlib.sha256(f"{self.path}\0{self.content}".encode()).hexdigest()[:16]


def written_faults(checkout: Path = CHECKOUT, folder: Path = FOLDER) -> list[Fault]:
    """All of them, in the order of their files. Raises: Moved."""
    found: list[Fault] = []
    for file in sorted(folder.glob("*.toml")):
        for told in tomllib.loads(file.read_text("utf-8"))["fault"]:
            found.append(_planted(checkout, told))
    names = [fault.name for fault in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Moved(f"expected a name of its own for each fault, found twice: {', '.join(twice)}")
    return found


def _planted(checkout: Path, told: dict[str, Any]) -> Fault:
    name, path = told["name"], told["file"]
    source = checkout / path
    if not source.is_file():
        raise Moved(f"{name}: there is no {path} any more")
    text = source.read_text("utf-8")
    if (number := text.count(told["old"])) != 1:
        raise Moved(f"{name}: expected its old text once in {path}, found it {number} times")
    content = text.replace(told["old"], told["new"])
    if path.endswith(".py"):
        try:
            compile(content, path, "exec")
        except SyntaxError as error:
            raise Moved(f"{name}: {path} cannot be compiled with it: {error}") from error
    return Fault(name=name, what=told["what"], path=path, content=content, first=tuple(told.get("first", ())))


def equivalents() -> dict[str, str]:
    """Faults that change nothing anybody could observe, each with the reason."""
    told = tomllib.loads((FOLDER.parent / "equivalent.toml").read_text("utf-8"))
    return {one["name"]: one["why"] for one in told.get("equivalent", [])}


def equivalents_table() -> str:
    """The same for docs/testing.md."""
    rows = [f"| `{name}` | {why} |" for name, why in sorted(equivalents().items())]
    return "\n".join(["| fault | why nobody could observe it |", "|---|---|", *rows])
