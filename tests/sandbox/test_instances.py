"""A machine of the sandbox: its processes, its metadata service, and the real boot scripts that run on it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests

from sandbox import power
from sandbox.imds import ROLE, Metadata
from sandbox.instances import Instances, boot_scripts, user_data
from tests.sandbox.runner_driver import PATIENCE_S, Gate, alive, gone, listening_on

BOOT, WRAPPER = boot_scripts() / "runs-fleet.sh", boot_scripts() / "run-agent.sh"


# The machine


class Yard:
    """Machines below a directory; `off` are those that went by themselves or were ended."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.off = Gate(root / "off")
        self.instances = Instances(root / "instances", "us-east-1", lambda: "http://127.0.0.1:9", self._note)

    def _note(self, instance_id: str) -> None:
        os.write(self.off._writable, f"{instance_id}\n".encode())

    def boot(self, script: str, instance_id: str = "i-0123456789abcdef0") -> str:
        self.instances.boot(instance_id, f"#!/bin/bash\n{script}\n")
        return instance_id


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    place = Yard(tmp_path)
    yield place
    place.instances.stop()
    for thread in threading.enumerate():
        if thread.name.startswith("watch "):
            thread.join(PATIENCE_S)
    place.off.close()


STUBBORN = "trap '' TERM INT HUP; echo $BASHPID > {gate}; while :; do sleep 1000; done"
DAEMON = """python3 -c '
import os, signal, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
os.environ.clear()
os.chdir("/")
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open("{gate}", "w").write(str(os.getpid()) + chr(10))
time.sleep(1000)'
"""


@pytest.mark.parametrize(
    "script", ["echo $$ > {gate}; exec sleep 1000", f"({STUBBORN}) &", DAEMON], ids=["plain", "stubborn", "daemon"]
)
def test_when_a_machine_is_ended_no_process_of_it_is_left(script: str, yard: Yard) -> None:
    gate = Gate(yard.root / "there")
    instance_id = yard.boot(script.replace("{gate}", str(gate.path)))
    pid = int(gate.heard())

    yard.instances.end(instance_id)

    assert yard.off.heard() == instance_id
    assert gone(pid)
    assert not alive(pid)
    gate.close()


def test_a_machine_stays_when_its_boot_script_has_ended(yard: Yard) -> None:
    gate = Gate(yard.root / "there")
    instance_id = yard.boot(f"(trap 'echo polite > {gate.path}; exit' TERM; echo up > {gate.path}; sleep 1000 & wait) & exit 0")
    assert gate.heard() == "up"
    machine = yard.instances.machines[instance_id]

    assert machine.init.poll() is None
    yard.instances.end(instance_id)

    assert gate.heard() == "polite"
    gate.close()


def test_booting_twice_is_booting_once(yard: Yard) -> None:
    gate = Gate(yard.root / "there")
    for _ in range(2):
        instance_id = yard.boot(f"echo booted > {gate.path}; sleep 1000")

    assert gate.heard() == "booted"
    assert yard.instances.ever == [instance_id]
    gate.close()


def test_ending_a_machine_that_is_not_there_is_nothing(yard: Yard) -> None:
    yard.instances.end("i-00000000000000bad")


def test_a_machine_knows_nothing_of_ours_and_its_console_is_kept(yard: Yard) -> None:
    instance_id = yard.boot("env | cut -d= -f1 | sort; $RUNS_FLEET_POWER_OFF")

    assert yard.off.heard() == instance_id
    names = set(yard.instances.console(instance_id).split())
    assert {"AWS_ENDPOINT_URL", "AWS_EC2_METADATA_SERVICE_ENDPOINT", "RUNS_FLEET_START", "RUNS_FLEET_POWER_OFF", "HOME"} <= names
    assert not {name for name in names if name.startswith(("AWS_ACCESS", "AWS_SECRET", "PYTEST", "PYTHON", "VIRTUAL"))}


def test_the_metadata_service_goes_with_its_machine(yard: Yard) -> None:
    instance_id = yard.boot("sleep 1000")
    url = yard.instances.machines[instance_id].metadata.url

    yard.instances.end(instance_id)

    assert yard.off.heard() == instance_id
    with pytest.raises(requests.ConnectionError):
        requests.put(f"{url}/latest/api/token", timeout=600)


def test_outside_a_machine_there_is_no_power_switch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert power.main(str(tmp_path)) == 1
    assert "no machine runs from" in capsys.readouterr().err


# Its metadata service


@pytest.fixture(scope="module")
def metadata() -> Iterator[Metadata]:
    service = Metadata("i-0123456789abcdef0", "us-east-1")
    yield service
    service.stop()


def token(metadata: Metadata) -> dict[str, str]:
    headers = {"X-aws-ec2-metadata-token-ttl-seconds": "300"}
    return {"X-aws-ec2-metadata-token": requests.put(f"{metadata.url}/latest/api/token", headers=headers, timeout=600).text}


def read(metadata: Metadata, path: str, headers: dict[str, str] | None = None) -> requests.Response:
    return requests.get(f"{metadata.url}/latest/{path}", headers=token(metadata) if headers is None else headers, timeout=600)


def test_without_a_token_the_metadata_service_says_nothing(metadata: Metadata) -> None:
    answers = [read(metadata, "meta-data/instance-id", headers) for headers in ({}, {"X-aws-ec2-metadata-token": "made-up"})]

    assert [(answer.status_code, answer.text) for answer in answers] == [(401, ""), (401, "")]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("meta-data/instance-id", "i-0123456789abcdef0"), ("meta-data/placement/region", "us-east-1"),
        ("meta-data/iam/security-credentials/", ROLE),
    ],
)  # fmt: skip
def test_with_a_token_it_says_who_the_machine_is(path: str, value: str, metadata: Metadata) -> None:
    assert (read(metadata, path).status_code, read(metadata, path).text) == (200, value)


def test_the_roles_credentials_are_temporary_and_of_their_own(metadata: Metadata) -> None:
    told = json.loads(read(metadata, f"meta-data/iam/security-credentials/{ROLE}").text)

    assert told["Code"] == "Success" and told["AccessKeyId"].startswith("ASIA")
    assert told["SecretAccessKey"] and told["Token"]
    assert datetime.fromisoformat(told["Expiration"].replace("Z", "+00:00")) > datetime.now(UTC)


def test_boto3_finds_the_roles_credentials_there(metadata: Metadata) -> None:
    code = "import boto3; print(boto3.Session().get_credentials().get_frozen_credentials().access_key)"
    environment = {"PATH": os.environ["PATH"], "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url, "HOME": "/nonexistent"}

    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=600, check=True)

    assert told.stdout.strip() == "ASIA9ABCDEF0"


def test_there_is_no_spot_notice_until_there_is_one() -> None:
    doomed = Metadata("i-0123456789abcdef1", "us-east-1")
    before = read(doomed, "meta-data/spot/instance-action").status_code

    doomed.spot_notice(120)

    notice = json.loads(read(doomed, "meta-data/spot/instance-action").text)
    doomed.stop()
    assert (before, notice["action"]) == (404, "terminate")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", notice["time"])


def test_the_metadata_service_listens_on_loopback_alone(metadata: Metadata) -> None:
    assert listening_on(int(metadata.url.rpartition(":")[2])) == {"127.0.0.1"}


# The boot script


@pytest.mark.parametrize("script", [BOOT, WRAPPER], ids=lambda path: path.name)
def test_the_boot_scripts_are_sound_and_short(script: Path) -> None:
    checked = [["bash", "-n", str(script)], *([["shellcheck", str(script)]] if shutil.which("shellcheck") else [])]

    for words in checked:
        told = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
        assert told.returncode == 0, told.stdout + told.stderr
    assert len(script.read_text("utf-8").splitlines()) < 60


def test_the_last_line_of_the_boot_script_starts_the_agent() -> None:
    assert BOOT.read_text("utf-8").splitlines()[-1] == "${RUNS_FLEET_START:-systemctl start --no-block runs-fleet-agent}"


def test_user_data_is_the_real_script_after_the_operators_settings() -> None:
    text = user_data({"RUNS_FLEET_LOG_GROUP": "it's; $(touch /tmp/never)"})

    first, second, rest = text.split("\n", 2)
    assert (first, "#!/bin/bash\n" + rest) == ("#!/bin/bash", BOOT.read_text("utf-8"))
    said = subprocess.run(["bash", "-c", f'{second}\necho "$RUNS_FLEET_LOG_GROUP"'], capture_output=True, text=True, check=True)
    assert said.stdout == "it's; $(touch /tmp/never)\n"


@pytest.fixture
def booted(metadata: Metadata, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """The real script, started as cloud-init would, with a start command that shows its environment."""
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url,
        "RUNS_FLEET_ENVIRONMENT_FILE": str(tmp_path / "etc" / "agent.env"), "RUNS_FLEET_START": "env",
        "AWS_SECRET_ACCESS_KEY": "not-for-the-agent", "RUNS_FLEET_LOG_GROUP": "/group",
        "RUNS_FLEET_STATE_DIR": str(tmp_path / "state"),
        "RUNS_FLEET_POWER_OFF": f"touch {tmp_path}/off",
    }  # fmt: skip
    return subprocess.run(["bash", str(BOOT)], env=environment, capture_output=True, text=True, timeout=600, check=False)


def test_the_boot_script_tells_the_agent_who_it_is(booted: subprocess.CompletedProcess[str]) -> None:
    lines = booted.stdout.splitlines()

    assert booted.returncode == 0, booted.stderr
    assert {"RUNS_FLEET_INSTANCE_ID=i-0123456789abcdef0", "AWS_REGION=us-east-1", "RUNS_FLEET_LOG_GROUP=/group"} <= set(lines)
    assert any(line.startswith("RUNS_FLEET_POWER_OFF=touch ") for line in lines)


def test_the_agents_environment_file_holds_no_secret_and_is_its_owners(
    booted: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    file = tmp_path / "etc" / "agent.env"
    names = {line.partition("=")[0] for line in file.read_text("utf-8").splitlines()}

    assert booted.returncode == 0 and file.stat().st_mode & 0o777 == 0o600
    assert {"RUNS_FLEET_INSTANCE_ID", "RUNS_FLEET_POWER_OFF", "AWS_REGION"} <= names
    assert not {name for name in names if re.search("SECRET|TOKEN|KEY|PASSWORD", name)}


def test_without_a_metadata_service_the_boot_script_starts_nothing(tmp_path: Path) -> None:
    """With static identity absent there is nobody to be; curl's tries are cut short by a curl that refuses at once."""
    (tmp_path / "curl").write_text("#!/bin/bash\nexit 7\n", encoding="utf-8")
    (tmp_path / "curl").chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "RUNS_FLEET_START": f"touch {tmp_path}/started",
        "RUNS_FLEET_STATE_DIR": f"{tmp_path}/state", "RUNS_FLEET_ENVIRONMENT_FILE": f"{tmp_path}/agent.env",
        "RUNS_FLEET_POWER_OFF": f"touch {tmp_path}/off",
    }  # fmt: skip

    told = subprocess.run(["bash", str(BOOT)], env=environment, capture_output=True, text=True, timeout=600, check=False)

    assert told.returncode == 1
    assert not (tmp_path / "started").exists()
    assert (tmp_path / "off").exists()


# The wrapper


def wrapped(directory: Path, *words: str) -> subprocess.Popen[str]:
    """The wrapper around `words`; its power-off command leaves a mark."""
    environment = {"PATH": os.environ["PATH"], "RUNS_FLEET_POWER_OFF": f"touch {directory / 'off'}"}
    return subprocess.Popen([str(WRAPPER), *words], env=environment, cwd=directory, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["bash", "-c", "exit 0"], 0), (["bash", "-c", "exit 78"], 78), (["bash", "-c", "kill -9 $$"], 137),
        (["bash", "-c", "kill -SEGV $$"], 139), (["/nowhere/agent"], 127), (["/etc/passwd"], 126),
    ],
    ids=["zero", "non-zero", "kill -9", "crash", "missing", "not executable"],
)  # fmt: skip
def test_however_the_agent_ends_the_power_goes_off(words: Sequence[str], code: int, tmp_path: Path) -> None:
    wrapper = wrapped(tmp_path, *words)
    wrapper.communicate(timeout=PATIENCE_S)

    assert (wrapper.returncode, (tmp_path / "off").exists()) == (code, True)


AGENT = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
signal.signal(signal.SIGTERM, signal.SIG_DFL)
open(sys.argv[1], "w").write("up\\n")
signal.sigwait([signal.SIGTERM])
open(sys.argv[1], "w").write("asked\\n")
open(sys.argv[2]).readline()
sys.exit(5)
"""


def test_the_wrapper_hands_a_stop_on_and_waits_for_the_agents_own_end(tmp_path: Path) -> None:
    gate, permit = Gate(tmp_path / "gate"), Gate(tmp_path / "permit")
    wrapper = wrapped(tmp_path, sys.executable, "-c", AGENT, str(gate.path), str(permit.path))
    assert gate.heard() == "up"

    wrapper.send_signal(signal.SIGTERM)
    assert gate.heard() == "asked"
    assert not (tmp_path / "off").exists()
    permit.open()

    wrapper.communicate(timeout=PATIENCE_S)
    assert (wrapper.returncode, (tmp_path / "off").exists()) == (5, True)
    gate.close()
    permit.close()
