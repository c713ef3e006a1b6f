"""Write the tables of settings into the pages: `python docs/generate_settings.py` (`--check`: only say whether they agree).

Each table stands between `<!-- settings: NAME -->` and `<!-- end -->`; what stands there is replaced.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agent.settings import DESCRIBED, PREFIX
from orchestrator.settings import described

DOCS = Path(__file__).resolve().parent
PAGES = ("configuration.md", "operations.md")
HEAD = "| variable | default | what it does |\n|---|---|---|\n"


def agent_table() -> str:
    """The variables that the agent reads."""
    return HEAD + "".join(f"| `{PREFIX}{name}` | {default} | {text} |\n" for name, (default, text) in DESCRIBED.items())


def orchestrator_table() -> str:
    """The variables that the orchestrator reads."""
    return HEAD + "".join(f"| `{PREFIX}{it.name}` | {it.default} | {it.text} |\n" for it in described())


TABLES = {"agent": agent_table, "orchestrator": orchestrator_table}


def filled(page: str) -> str:
    """The page with its tables as they are now. Raises: KeyError: there is no table of that name."""

    def table(mark: re.Match[str]) -> str:
        return f"<!-- settings: {mark[1]} -->\n\n{TABLES[mark[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- settings: (\w+) -->.*?<!-- end -->", table, page, flags=re.S)


def main(arguments: list[str]) -> int:
    """Returns the exit code: 1 if `--check` found a page that does not agree."""
    stale = [name for name in PAGES if filled(text := (DOCS / name).read_text("utf-8")) != text]
    if "--check" in arguments:
        print("\n".join(f"docs/{name} does not agree with the settings: run python docs/generate_settings.py" for name in stale))
        return int(bool(stale))
    for name in stale:
        (DOCS / name).write_text(filled((DOCS / name).read_text("utf-8")), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
