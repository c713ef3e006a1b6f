"""What a new notice, limit and label segment take: each is written into a copy of the product, and works.

Every file that has to change stands in its edits; nothing else does. These tests are docs/extending.md, done.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
Edits = dict[str, list[tuple[str, str]]]

NOTICE: Edits = {
    "orchestrator/compute/notices.py": [
        ('    GONE = "gone"\n', '    FREEZING = "freezing"\n    """It stands still for a while."""\n    GONE = "gone"\n'),
        ("    NoticeKind.GONE:", '    NoticeKind.FREEZING: NoticeHandling("session.freezing"),\n    NoticeKind.GONE:'),
        ("    Interruption.REBALANCE:", '    "freeze_notice": NoticeKind.FREEZING,\n    Interruption.REBALANCE:'),
    ]
}
NOTICED = """
world = World()
world.at_work()
world.hear("interrupting", reason="freeze_notice")
assert world.journal.of("session.freezing") == [{"session_id": world.session.session_id, "reason": "freeze_notice"}]
assert not {"session.at_risk", "session.interrupting", "agent_message.unknown_notice"} & set(world.journal.names)
"""

LIMIT: Edits = {
    "orchestrator/settings.py": [
        (
            '    max_sessions: int = setting("MAX_SESSIONS"',
            '    max_lately: int = setting("MAX_LATELY", read.whole(), "Machines that are not seen yet.", default=1000)\n'
            '    max_sessions: int = setting("MAX_SESSIONS"',
        )
    ],
    "orchestrator/fleet/limits.py": [
        (
            "        Headroom(most - stack.in_use.machines,",
            '        Headroom(settings.max_lately - lately(stack), f"the {settings.max_lately} machines not seen yet"),\n'
            "        Headroom(most - stack.in_use.machines,",
        )
    ],
}
LIMITED = """
world = World(settings=some_settings(max_lately=1))
for number in range(3):
    world.told(an_event(job_id=str(number), labels=("runs-fleet",)))
assert len(world.sessions) == 1
assert "the 1 machines not seen yet" in str(world.explanation("2"))
assert "MAX_LATELY" in " ".join(str(one) for one in described())
"""

SEGMENT: Edits = {
    "orchestrator/store/request.py": [('    pool: str = ""\n', '    pool: str = ""\n    gpu: int = 0\n')],
    "orchestrator/jobs/labels.py": [('    "pool": _pool,\n', '    "pool": _pool,\n    "gpu": partial(_number, "gpu", 16),\n')],
}
SEGMENTED = """
world = World()
for number, label in enumerate(["runs-fleet", "runs-fleet/gpu=2", "runs-fleet/gpu=4"]):
    world.told(an_event(job_id=str(number), labels=(label,)))
requests = {launch.spec: json.loads(launch.request) for launch in world.records.launches()}
assert len(requests) == 3, "each segment enters the launch's identity"
assert sorted(world.records.job(str(number)).machine.gpu for number in range(3)) == [0, 2, 4]
world.told(an_event(job_id="9", labels=("runs-fleet/gpu=many",), head_sha="abc"))
assert "gpu=many: expected a whole number above 0, up to 16" in str(world.explanation("9"))
"""
IMPORTS = """
import json
from orchestrator.settings import described
from simulation.examples import an_event, some_settings
from simulation.world import World
"""


@pytest.mark.parametrize(
    ("edits", "use"), [(NOTICE, NOTICED), (LIMIT, LIMITED), (SEGMENT, SEGMENTED)], ids=["notice", "limit", "segment"]
)
def test_it_is_written_where_the_page_says_and_works(edits: Edits, use: str, tmp_path: Path) -> None:
    for package in ("agent", "orchestrator", "simulation"):
        shutil.copytree(CHECKOUT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file, changes in edits.items():
        text = (tmp_path / file).read_text("utf-8")
        for before, after in changes:
            assert text.count(before) == 1, f"{file}: {before}"
            text = text.replace(before, after)
        (tmp_path / file).write_text(text, "utf-8")

    told = used(tmp_path, use)

    assert told.returncode == 0, told.stderr
    page = (CHECKOUT / "docs" / "extending.md").read_text("utf-8")
    assert [file for file in edits if f"`{file}`" not in page] == []


@pytest.mark.parametrize("use", [NOTICED, LIMITED, SEGMENTED], ids=["notice", "limit", "segment"])
def test_without_the_edits_it_does_not(use: str) -> None:
    assert used(CHECKOUT, use).returncode != 0


def used(directory: Path, code: str) -> subprocess.CompletedProcess[str]:
    """The code, run on the packages that lie there."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, "-c", IMPORTS + code]
    return subprocess.run(words, env=environment, cwd="/", capture_output=True, text=True, check=False)
