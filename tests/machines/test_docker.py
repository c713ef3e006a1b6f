"""A job that may use docker, on machines that really boot: it is root when it wants to be, and still its machine goes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.contract.messages import Status
from tests.conftest import Moto
from tests.machines import tree
from tests.machines.boot_env import BootEnv

NEEDED = [tool for tool in ("systemd-nspawn", "mmdebstrap", "nft", "ip") if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or bool(NEEDED), reason=f"NOTHING WAS BOOTED: needs root{''.join(f', {tool}' for tool in NEEDED)}"
)
OFF_S = 240.0
"""Seconds from power-on within which each machine must be off: three to six, ten more with a container that defies SIGTERM."""
HOLD = "trap 'exit 1' INT; while :; do sleep 0.05; done"
IMAGE = "tar -cC /usr --no-recursion bin bin/busybox | docker import - box"
"""An image without a registry: one static program."""
LIVES = "the container lives"
STAY = "docker run --detach --name stayer --restart always --log-driver journald"
FOREVER = f"""box busybox sh -c "trap '' INT TERM; while :; do echo '{LIVES}'; usleep 100000; done" """
RUNS = "until docker ps --filter name=stayer --filter status=running --quiet | grep .; do sleep 0.05; done"


@pytest.fixture(scope="session")
def baked() -> Path:
    return tree.baked(tree.bundle(), docker=True)


@pytest.fixture
def boot_env(moto: Moto, baked: Path, tmp_path: Path) -> Iterator[BootEnv]:
    made = BootEnv(moto, baked, tmp_path, docker=True)
    yield made
    made.close()


STAYERS = {
    # as `--privileged`, but for the one capability that whoever runs these tests may lack
    "root with all that the machine has": "--network host --pid host --volume /:/host --security-opt seccomp=unconfined"
    " --cap-add ALL --cap-drop SYS_RESOURCE",
    "the job's own user": "--network host --user $(id -u):$(id -g)",
}


@pytest.mark.parametrize("how", STAYERS)
def test_a_container_that_always_restarts_does_not_keep_the_machine(boot_env: BootEnv, how: str) -> None:
    boot_env.configure()
    boot_env.play(IMAGE, f"{STAY} {STAYERS[how]} {FOREVER}", RUNS)
    boot_env.boot()

    boot_env.machine.wait_off(OFF_S)

    assert (boot_env.word().status, boot_env.state()) == (Status.SUCCESS, "terminated"), boot_env.machine.console
    if how == "the job's own user":  # it goes with whatever else that user has, and is back if the machine leaves docker the time
        assert LIVES in boot_env.machine.console
    else:
        _lived_on_after_the_word(boot_env)


def test_a_container_that_always_restarts_does_not_stretch_the_maximum_runtime(boot_env: BootEnv) -> None:
    boot_env.configure(max_runtime_minutes=0.1)
    boot_env.play(IMAGE, f"{STAY} {FOREVER}", RUNS, "docker wait stayer")
    boot_env.boot(RUNS_FLEET_GRACE_SECONDS="1")

    boot_env.machine.wait_off(OFF_S)

    word = boot_env.word()
    assert (word.status, word.reason, boot_env.state()) == (Status.TIMEOUT, "max_runtime", "terminated"), boot_env.machine.console
    _lived_on_after_the_word(boot_env)


ASK = r"""
ask() { printf "$1 HTTP/1.0\r\nX-aws-ec2-metadata-token$2\r\n\r\n" | busybox nc -w 3 169.254.169.254 80; }
token=$(ask "PUT /latest/api/token" "-ttl-seconds: 60" | busybox tail -n 1)
[ -z "$token" ] || ask "GET /latest/meta-data/iam/security-credentials/runs-fleet-agent" ": $token" | busybox grep -o ASIA
echo asked
"""
TELL = "docker run --rm --interactive box busybox nc -w 3 10.77.0.1 5002 < $HOME/heard"
"""On a bridge: were that to lead nowhere, nothing would be told."""
CONTAINERS = {
    "on a bridge": ("", "asked\n"),
    "on the machine's network, as the job's user": ("--network host --user $(id -u):$(id -g)", "asked\n"),
    "on the machine's network, as root": ("--network host", "ASIA\nasked\n"),
}


@pytest.mark.parametrize("where", CONTAINERS)
def test_of_all_containers_only_one_of_roots_on_the_machines_network_gets_credentials(boot_env: BootEnv, where: str) -> None:
    options, expected = CONTAINERS[where]
    asks = f"docker run --rm --interactive {options} box busybox sh > $HOME/heard <<'ASK'\n{ASK}ASK"
    told = boot_env.listen(5002)
    boot_env.configure()
    boot_env.play(IMAGE, asks, TELL)
    boot_env.boot()

    boot_env.machine.wait_off(OFF_S)

    assert told() == expected, boot_env.machine.console
    assert boot_env.word().status is Status.SUCCESS


def test_docker_starts_when_somebody_asks_for_it(boot_env: BootEnv) -> None:
    boot_env.configure()
    boot_env.play(HOLD)
    boot_env.boot()
    boot_env.machine.shows("message.outcome kind=busy")

    units = boot_env.machine.run("systemctl", "is-active", "docker.socket", "docker.service", "containerd.service").stdout.split()
    boot_env.machine.run("systemctl", "stop", "--no-block", "runs-fleet-agent")
    boot_env.machine.wait_off(OFF_S)

    assert units == ["active", "inactive", "inactive"]


def test_the_selfcheck_says_what_docker_means(boot_env: BootEnv) -> None:
    boot_env.configure()
    boot_env.play(HOLD)
    boot_env.boot()
    boot_env.machine.shows("message.outcome kind=busy")

    told = boot_env.machine.run("runs-fleet-agent", "selfcheck")
    boot_env.machine.run("systemctl", "stop", "--no-block", "runs-fleet-agent")
    boot_env.machine.wait_off(OFF_S)

    rights = next(line for line in told.stdout.splitlines() if " rights " in line)
    assert rights.startswith("FAIL should")
    assert "the job has docker, so it is root when it wants to be" in rights
    assert rights.endswith("is void")


def _lived_on_after_the_word(boot_env: BootEnv) -> None:
    _, word_is_out, afterwards = boot_env.machine.console.partition("final_word.delivered")
    assert word_is_out and LIVES in afterwards, boot_env.machine.console
