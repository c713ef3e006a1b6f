"""One decision on whom to trust for AWS and GitHub, over real TLS with an authority of the test's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.adapters.trust import NAMED, bundle_of
from orchestrator.errors import SettingsInvalid
from tests.answering import Answering
from tests.wires import Authority, TlsFront

ASK_AWS = """
from orchestrator.adapters.aws import Clients, caller
print(caller(Clients()))
"""
ASK_GITHUB = """
from agent.contract.secret import Secret
from orchestrator.adapters.github_wire import GitHubWire
from orchestrator.jobs.rate_limits import Need
import os
print(GitHubWire(os.environ["URL"], "1", Secret("k")).exchange("GET", os.environ["URL"] + "/app", "b", "", Need.WORK))
"""
IDENTITY = (
    "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:sts::1:me</Arn></GetCallerIdentityResult>"
    "</GetCallerIdentityResponse>"
)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def url(authority: Authority) -> Iterator[str]:
    """An AWS and a GitHub whose certificate a private authority gave."""
    behind = Answering(lambda asked: (200, IDENTITY.encode()))
    front = TlsFront(behind.url, authority)
    yield front.url
    front.stop()
    behind.stop()


def asked(script: str, url: str, tmp_path: Path, **trust: str) -> str:
    """What a process of its own says, whose environment names authorities so."""
    environment = {
        "PATH": "/usr/bin:/bin", "AWS_ENDPOINT_URL": url, "URL": url, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "AKIA",
        "AWS_SECRET_ACCESS_KEY": "k", "AWS_MAX_ATTEMPTS": "1", "HOME": str(tmp_path), **trust,  # pragma: allowlist secret
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("variable", NAMED)
@pytest.mark.parametrize(
    ("script", "answer"), [(ASK_AWS, "arn:aws:sts::1:me"), (ASK_GITHUB, "(200, None)")], ids=["aws", "github"]
)
def test_each_variable_counts_for_aws_and_for_github(
    script: str, answer: str, variable: str, url: str, authority: Authority, tmp_path: Path
) -> None:
    assert answer in asked(script, url, tmp_path, **{variable: str(authority.path)})


@pytest.mark.parametrize("script", [ASK_AWS, ASK_GITHUB], ids=["aws", "github"])
def test_who_is_vouched_for_by_nobody_is_not_trusted(script: str, url: str, tmp_path: Path) -> None:
    assert "CERTIFICATE_VERIFY_FAILED" in asked(script, url, tmp_path)


def test_the_systems_own_store_is_used_where_nothing_is_named(authority: Authority) -> None:
    assert bundle_of({}, ("/nowhere", str(authority.path))) == str(authority.path)
    assert bundle_of({}, ("/nowhere",)) is None


def test_what_is_named_is_trusted_besides_the_systems(authority: Authority, tmp_path: Path) -> None:
    system = tmp_path / "system.pem"
    system.write_text("the system's", "utf-8")

    joined = Path(str(bundle_of({"AWS_CA_BUNDLE": str(authority.path)}, (str(system),)))).read_bytes()

    assert authority.path.read_bytes() in joined and b"the system's" in joined


def test_a_variable_that_names_no_file_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid) as invalid:
        bundle_of({"AWS_CA_BUNDLE": "/nope", "REQUESTS_CA_BUNDLE": str(tmp_path)}, ())

    assert [problem.split(":")[0] for problem in invalid.value.problems] == ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"]
