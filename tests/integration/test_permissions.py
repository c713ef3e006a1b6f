"""docs/permissions.md against what is really called, both ways: nothing is missing there, and nothing stands there for nobody."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sandbox.imds import ROLE_ID
from sandbox.screen import show
from sandbox.stack import SERVER_KEY
from sandbox.world import World

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "permissions.md"
ONE_JOB = "name: one\non: push\njobs: {one: {runs-on: [self-hosted, runs-fleet], steps: [{run: 'echo hello'}]}}\n"
FREE = {"sts:GetCallerIdentity"}
"""Needs no permission. Source: the STS API reference."""
NOT_IN_A_PLAIN_RUN = {
    "machines": {
        "ec2:ModifyInstanceMetadataOptions": "strict mode", "s3:PutObject": "a release fetched from GitHub, diagnostics",
        "s3:ListBucket": "a release that is not baked",
    },
    "orchestrator": {
        "ec2:RunInstances": "called by EC2 itself", "ec2:CreateTags": "called by EC2 itself",
        "iam:PassRole": "checked by EC2 itself", "ssm:AddTagsToResource": "checked by SSM with PutParameter",
        "ssm:GetParameter": "whether what is there already is the same",
        "ec2:DescribeInstanceTypes": "once a day", "ec2:DescribeInstanceTypeOfferings": "once a day",
        "ec2:DescribeSpotPriceHistory": "once a day",
        "pricing:GetProducts": "once a day, if money is limited",
        "ec2:GetConsoleOutput": "a machine that died without a word", "ec2:TerminateInstances": "one that does not end itself",
        "logs:DescribeLogGroups": "its own log group", "logs:CreateLogGroup": "its own log group",
        "logs:CreateLogStream": "its own log group", "logs:PutLogEvents": "its own log group",
        "logs:GetLogEvents": "runs-fleet logs", "dynamodb:Scan": "lists for people, and once an hour",
        "dynamodb:DeleteItem": "a suspicion that was wrong", "s3:GetObject": "who takes up what somebody else began",
    },
}  # fmt: skip


def documented() -> dict[str, set[str]]:
    """Actions by role, in the document's order."""
    found = []
    for block in re.findall(r"```json\n(.*?)```", DOCUMENT.read_text("utf-8"), re.S):
        actions: set[str] = set()
        for statement in json.loads(block)["Statement"]:
            assert statement["Effect"] == "Allow"
            actions |= {statement["Action"]} if isinstance(statement["Action"], str) else set(statement["Action"])
        found.append(actions)
    return dict(zip(("machines", "orchestrator", "auditor"), found, strict=True))


def test_what_is_called_stands_there_and_what_stands_there_is_called(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    called: set[tuple[str, str]] = set()
    path = tmp_path / "one.yml"
    path.write_text(ONE_JOB, "utf-8")

    def look(up: World) -> None:
        called.update(up.cloud.permissions)

    for source in ("ssm", "s3"):
        assert show(path, config_source=source, before_proof=look) == 0, capsys.readouterr().out

    for role, key in {"machines": ROLE_ID, "orchestrator": SERVER_KEY}.items():
        needed = {permission for who, permission in called if who == key and permission} - FREE
        granted = documented()[role]
        assert needed - granted == set(), f"missing in docs/permissions.md for the {role}"
        assert granted - needed - set(NOT_IN_A_PLAIN_RUN[role]) == set(), f"granted to the {role}, and never needed"


def test_the_auditor_looks_and_ends_and_nothing_else() -> None:
    assert documented()["auditor"] == {"ec2:DescribeInstances", "ec2:TerminateInstances"}


def test_no_statement_grants_everything() -> None:
    text = DOCUMENT.read_text("utf-8")

    assert not re.search(r'"Action": "\*"|"[a-z0-9]+:\*"', text)
