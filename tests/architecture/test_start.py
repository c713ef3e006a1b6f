"""Starting is lean: what the next step does not need is not imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
HEAVY = (
    "boto3",
    "botocore",
    "requests",
    "urllib3",
    "psutil",
    "tenacity",
    "asyncio",
    "isal",
    "concurrent.futures",
    "orchestrator",
    "sandbox",
)


def imported_by(statement: str) -> set[str]:
    """The modules a fresh Python knows after `statement`."""
    code = f"{statement}\nimport sys; print('\\n'.join(sys.modules))"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)}
    words = [sys.executable, "-c", code]
    told = subprocess.run(words, env=environment, cwd="/", capture_output=True, text=True, check=True)
    return set(told.stdout.split())


@pytest.mark.parametrize("statement", ["import agent.cli", "import agent.contract"])
def test_starting_the_agent_imports_nothing_heavy(statement: str) -> None:
    assert imported_by(statement) & set(HEAVY) == set()


def test_wiring_the_agent_imports_neither_boto3_nor_requests() -> None:
    assert (
        imported_by("import agent.wiring") & {"boto3", "botocore", "requests", "urllib3", "psutil", "tenacity", "asyncio"}
        == set()
    )


def test_the_webhooks_wiring_imports_neither_ec2_nor_cryptography() -> None:
    known = imported_by("import orchestrator.webhook_wiring")

    assert (
        known & {"cryptography", "jwt", "starlette", "uvicorn", "typer", "rich", "orchestrator.wiring", "orchestrator.turns"}
        == set()
    )
    assert [name for name in known if name.startswith(("orchestrator.compute.ec2", "orchestrator.adapters.ec2"))] == []


def test_what_is_imported_is_seen() -> None:
    assert "asyncio" in imported_by("import agent.cli, asyncio")
