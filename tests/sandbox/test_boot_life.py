"""What the boot script does with a machine: a bundle it cannot trust, a word that is not out, a second boot."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from agent.contract.messages import BootstrapFailed, read_message
from sandbox.imds import Metadata
from tests.sandbox.boot_script import Service, booted


def bundle(installer: str) -> bytes:
    """An archive whose install.sh is this."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("install.sh")
        member.mode, member.size = 0o755, len(installer)
        archive.addfile(member, io.BytesIO(installer.encode()))
    return packed.getvalue()


@pytest.mark.parametrize("digest", ["its own", "another"])
def test_a_bundle_is_installed_only_where_its_digest_is_the_one_that_was_asked_for(
    metadata: Metadata, service: Service, tmp_path: Path, digest: str
) -> None:
    service.answer = bundle(f"#!/bin/bash\ntouch {tmp_path}/installed\n")
    told = hashlib.sha256(service.answer).hexdigest() if digest == "its own" else "0" * 64

    booted(metadata, service, tmp_path, RUNS_FLEET_AGENT_SHA256=told)

    assert (tmp_path / "installed").exists() is (digest == "its own")


def test_the_time_limit_of_an_installation_ends_with_it(metadata: Metadata, service: Service, tmp_path: Path) -> None:
    service.answer = bundle("#!/bin/bash\n")

    booted(metadata, service, tmp_path, RUNS_FLEET_AGENT_SHA256=hashlib.sha256(service.answer).hexdigest())

    told = (tmp_path / "systemd").read_text("utf-8").splitlines()
    (limit,) = [at for at, line in enumerate(told) if line.startswith("systemd-run") and "--on-active=15min" in line]
    assert "systemctl poweroff --force" in told[limit]
    assert "systemctl stop runs-fleet-install-limit.timer" in told[limit:]
    assert told[-1] == "systemctl start --no-block runs-fleet-agent"


@pytest.mark.parametrize("taken", [True, False])
def test_a_word_counts_as_said_only_once_the_queue_has_taken_it(
    metadata: Metadata, service: Service, tmp_path: Path, taken: bool
) -> None:
    service.status = 200 if taken else 403

    booted(metadata, service, tmp_path, RUNS_FLEET_START="false")

    assert {call[0] for call in service.calls} == {"POST"}
    assert (tmp_path / "state" / "final-word-sent").exists() is taken
    assert (tmp_path / "off").exists()


def test_a_machine_that_starts_again_says_its_last_will_and_begins_no_second_life(
    metadata: Metadata, service: Service, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    will = '{"instance_id":"i-0123456789abcdef0","status":"bootstrap_failed","error":"rebooted @NOW@"}'
    (tmp_path / "state" / "last-will-rebooted").write_text(will, "utf-8")
    start = {"RUNS_FLEET_START": f"touch {tmp_path}/started"}

    booted(metadata, service, tmp_path, **start)

    (sent,) = service.calls
    message = read_message(parse_qs(sent[3].decode())["MessageBody"][0])
    assert isinstance(message, BootstrapFailed) and message.error.startswith("rebooted 2")
    assert ((tmp_path / "off").exists(), (tmp_path / "started").exists()) == (True, False)

    booted(metadata, service, tmp_path, **start)

    assert (len(service.calls), (tmp_path / "started").exists()) == (1, False)
