"""Images, really baked: packer, an EC2 that is moto, and as the builder a real sshd in the real root file system."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.cli import VERSION
from tests.agent import httpd
from tests.machines import tree
from tests.machines.builder import Builder, Entry, listing
from tests.machines.machine import Machine
from tests.machines.network import Network, short_name
from tests.machines.packer_env import ARCHITECTURE, PACKER, SYSTEM, Baked, PackerEnv, cloud

NEEDED = [tool for tool in ("packer", "mmdebstrap", "ssh-keygen", "systemd-nspawn", "ip") if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or bool(NEEDED), reason=f"NOTHING WAS BAKED: needs root{''.join(f', {tool}' for tool in NEEDED)}"
)
ANY_AMI = "ami-12c6146b"
"""An image that moto has."""
DIFFERS = re.compile(
    r"etc/(passwd|group|shadow|gshadow|subuid|subgid)-?|etc/hosts|etc/sudoers\.d/90-.*"
    r"|etc/runs-fleet/runs-fleet-image\.json|etc/runs-fleet/runner\.sha256|opt/actions-runner/\.runs-fleet-digest"
)
"""What two bakes of the same sources need not have in common: the login user, there before packer comes, and dates (the
stand-in's archive has one too)."""


@dataclass(frozen=True)
class Bakes:
    """Both layers baked upon a stock image, and then both once more upon what that left."""

    first: Baked
    second: Baked
    before: dict[str, Entry]
    after: dict[str, Entry]
    """What the image keeps, after the first and after the second."""
    facts: dict[str, Any]
    """What the image tells of itself."""
    machine_id: str
    keys: list[str]
    """Whatever in the image lets somebody in, or lets it be somebody."""
    leftovers: list[str]
    runner_downloads: int
    runner_sha256: str


@pytest.fixture(scope="module")
def bakes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bakes]:
    directory = tmp_path_factory.mktemp("bakes")
    builder = Builder(tree.stock(), directory / "builder")
    try:
        with cloud() as aws, httpd.site() as site:
            packer_env = PackerEnv(aws, site, directory)
            first = packer_env.bake("both", builder)
            assert first.code == 0, first.said + builder.said
            before = builder.listing()
            second = packer_env.bake("both", builder)
            assert second.code == 0, second.said
            keys = [path for top in ("etc/ssh", "home", "root") for path in builder.path(top).rglob("*") if "_key" in path.name]
            yield Bakes(
                first, second, before, builder.listing(),
                json.loads(builder.path("/etc/runs-fleet/runs-fleet-image.json").read_text("utf-8")),
                builder.path("/etc/machine-id").read_text("utf-8"), list(map(str, keys)),
                [path.name for path in builder.path("/tmp").iterdir()], site.asked().count("/runner.tar.gz"),
                packer_env.archive.sha256,
            )  # fmt: skip
    finally:
        builder.close()


@pytest.fixture
def builder(tmp_path: Path) -> Iterator[Builder]:
    made = Builder(tree.stock(), tmp_path / "builder")
    yield made
    made.close()


@pytest.fixture
def packer_env(site: httpd.Site, tmp_path: Path) -> Iterator[PackerEnv]:
    with cloud() as aws:
        yield PackerEnv(aws, site, tmp_path)


def test_each_layer_becomes_an_image_upon_the_other(bakes: Bakes) -> None:
    base, runner = bakes.first.images

    assert base["Name"].startswith(f"runs-fleet-base-{SYSTEM}-{ARCHITECTURE}-20")
    assert runner["Name"].startswith(f"runs-fleet-runner-{SYSTEM}-{ARCHITECTURE}-{tree.RUNNER_VERSION}-20")
    assert _tags(base)["runs-fleet:layer"] == "base"
    assert _tags(runner)["runs-fleet:source-image"] == base["ImageId"]


def test_an_images_tags_tell_what_is_inside(bakes: Bakes) -> None:
    tags = _tags(bakes.first.images[1])

    assert tags.pop("runs-fleet:agent-sha256") == _sha256(tree.bundle())
    assert tags == {
        "Name": f"runs-fleet runner {SYSTEM} {ARCHITECTURE} {tree.RUNNER_VERSION}",
        "runs-fleet:layer": "runner", "runs-fleet:system": SYSTEM, "runs-fleet:architecture": ARCHITECTURE,
        "runs-fleet:source-image": bakes.first.images[0]["ImageId"], "runs-fleet:agent-version": VERSION,
        "runs-fleet:runner-version": tree.RUNNER_VERSION, "runs-fleet:runner-sha256": bakes.runner_sha256,
    }  # fmt: skip


def test_an_image_itself_tells_what_is_inside(bakes: Bakes) -> None:
    facts = bakes.facts

    assert (facts["agent"], facts["runner_version"], facts["runner_sha256"]) == (
        VERSION,
        tree.RUNNER_VERSION,
        bakes.runner_sha256,
    )
    assert facts["source_image"] == next(
        tags["runs-fleet:source-image"]
        for tags in map(_tags, reversed(bakes.second.images))
        if tags["runs-fleet:layer"] == "runner"
    )


def test_what_packer_bakes_is_what_the_boot_tests_boot(bakes: Bakes) -> None:
    booted = listing(tree.baked(tree.bundle()))

    assert _different(bakes.before, booted) == set()


def test_baking_once_more_changes_nothing(bakes: Bakes) -> None:
    assert _different(bakes.before, bakes.after) == set()
    assert bakes.runner_downloads == 1


def test_an_image_has_no_identity_and_lets_nobody_in(bakes: Bakes) -> None:
    assert (bakes.machine_id, bakes.keys) == ("", [])
    assert [name for name in bakes.leftovers if "runs-fleet" in name] == []


def test_a_builder_is_recognised_and_gone_when_its_image_is_made(bakes: Bakes) -> None:
    assert {_tags(builder)["runs-fleet:builder"] for builder in bakes.second.instances} == {"base", "runner"}
    assert {builder["State"]["Name"] for builder in bakes.second.instances} == {"terminated"}
    assert {builder["InstanceInitiatedShutdownBehavior"] for builder in bakes.second.instances} == {"terminate"}


@pytest.mark.parametrize("image", ["stock", "baked"])
def test_a_builder_lets_its_key_in_and_left_alone_switches_itself_off(bakes: Bakes, image: str, tmp_path: Path) -> None:
    user_data = base64.b64decode(bakes.first.instances[0]["UserData"]).decode()
    assert "90min" in user_data
    key = re.findall(r"ssh-ed25519 \S+", user_data)[0]
    network = Network(name := short_name())
    machine = Machine(name, tree.stock() if image == "stock" else tree.baked(tree.bundle()), network, tmp_path / name)
    try:
        machine.boot(user_data.replace("90min", "30s"))

        machine.shows("login:")
        let_in = machine.run("sh", "-c", "cat /home/*/.ssh/authorized_keys").stdout
        took_s = machine.wait_off(150)

        assert key in let_in
        assert took_s > 30
    finally:
        machine.destroy()
        network.close()


def test_a_runner_with_another_digest_is_not_baked(packer_env: PackerEnv, builder: Builder) -> None:
    baked = packer_env.bake("runner", builder, "-var", f"base_ami={ANY_AMI}", RUNNER_SHA256="0" * 64)

    _nothing_was_registered(baked)
    assert "FAILED" in baked.said
    assert not builder.path("/opt/actions-runner").exists()


def test_without_a_digest_no_builder_is_launched(packer_env: PackerEnv, builder: Builder) -> None:
    baked = packer_env.bake("both", builder, RUNNER_SHA256="")

    assert (baked.code, baked.instances) == (2, [])
    assert "RUNNER_SHA256 is missing" in baked.said


def test_a_bundle_that_changed_on_its_way_is_not_installed(packer_env: PackerEnv, builder: Builder) -> None:
    baked = packer_env.bake("runner", builder, "-var", f"base_ami={ANY_AMI}", "-var", f"agent_sha256={'0' * 64}")

    _nothing_was_registered(baked)
    assert not builder.path("/usr/local/lib/runs-fleet").exists()


@pytest.mark.parametrize(
    "damage", ["agent/agent/adapters", "agent/botocore", "agent/msgspec", "units/runs-fleet-power-off.service"]
)
def test_an_agent_that_is_not_whole_makes_no_image(packer_env: PackerEnv, builder: Builder, tmp_path: Path, damage: str) -> None:
    bundle = _damaged(tree.bundle(), tmp_path / "damaged", damage)

    baked = packer_env.bake("runner", builder, "-var", f"base_ami={ANY_AMI}", BUNDLE=str(bundle))

    _nothing_was_registered(baked)


APT = """#!/bin/sh
echo "$@" >> /var/log/asked-of-apt
printf '[Socket]\\nListenStream=/run/docker.sock\\n[Install]\\nWantedBy=sockets.target\\n' > /lib/systemd/system/docker.socket
"""


def test_the_base_layer_installs_what_is_missing_and_nothing_else(packer_env: PackerEnv, builder: Builder) -> None:
    builder.path("/usr/local/sbin/apt-get").write_text(APT, "utf-8")
    builder.path("/usr/local/sbin/apt-get").chmod(0o755)

    baked = packer_env.bake("base", builder, "-var", "docker=true")

    assert baked.code == 0, baked.said
    assert builder.path("/var/log/asked-of-apt").read_text("utf-8").splitlines()[-1].split()[-2:] == [
        "--no-install-recommends",
        "docker.io",
    ]
    assert _tags(baked.images[0])["runs-fleet:docker"] == "true"


OTHERS = [("amazon-linux-2023", "arm64", "ec2-user", "m7g.large"), ("ubuntu-24.04", "amd64", "ubuntu", "m7i.large")]


@pytest.mark.parametrize(("system", "architecture", "user", "instance_type"), OTHERS)
def test_other_systems_and_architectures_are_baked_the_same_way(
    packer_env: PackerEnv, tmp_path: Path, system: str, architecture: str, user: str, instance_type: str
) -> None:
    builder = Builder(tree.stock(), tmp_path / "theirs", user=user)
    try:
        found = ["-var", f"source_ami={ANY_AMI}"] if system == "ubuntu-24.04" else []  # moto has none of today's Ubuntus
        baked = packer_env.bake("base", builder, *found, system=system, architecture=architecture)
    finally:
        builder.close()

    assert baked.code == 0, baked.said
    assert _tags(baked.images[0])["Name"] == f"runs-fleet base {system} {architecture}"
    assert baked.instances[0]["InstanceType"] == instance_type


def test_words_that_match_no_layer_are_not_taken_for_success(packer_env: PackerEnv, builder: Builder) -> None:
    baked = packer_env.bake("base", builder, "-except=base.*")

    assert (baked.code, baked.images) == (1, [])
    assert "wrote down no image" in baked.said


WRONG = {
    "system": "debian-12", "architecture": "x86_64", "region": "Frankfurt", "source_ami": "image", "source_owner": "canonical",
    "base_ami": "ami-XYZ", "docker": "perhaps", "runner_version": "latest", "runner_sha256": "ABC", "runner_url": "ftp://there",
    "agent_version": "", "agent_sha256": "0", "instance_type": "large", "volume_gb": "4", "encrypted": "aes", "subnet_id": "mine",
    "ssh_from": '["anywhere"]', "builder_minutes": "5", "ssh_public_key": "ssh-rsa AAAA", "endpoint": "localhost",
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_value_that_makes_no_sense_is_refused_before_anything_starts(name: str) -> None:
    told = _packer("validate", "-var", f"{name}={WRONG[name]}", str(PACKER))

    assert told.returncode != 0
    assert name in told.stdout or "CIDR" in told.stdout, told.stdout + told.stderr


def test_the_template_and_the_scripts_are_valid_for_every_system_and_architecture() -> None:
    told = subprocess.run([str(PACKER / "validate.sh")], capture_output=True, text=True, timeout=600, check=False)

    assert told.returncode == 0, told.stdout + told.stderr
    assert "packer/ is valid for both systems and both architectures" in told.stdout


def test_todays_packer_is_told_the_same_and_what_only_it_knows() -> None:
    old, new = (_source((PACKER / name).read_text("utf-8")) for name in ("builder.pkr.hcl", "current/plugins.pkr.hcl"))

    assert old <= new
    assert {line.split()[0] for line in new - old} == {
        "imds_support", "skip_ami_run_tags", "metadata_options", "http_endpoint", "http_tokens", "http_put_response_hop_limit",
    }  # fmt: skip


def _nothing_was_registered(baked: Baked) -> None:
    assert baked.code != 0, baked.said
    assert baked.images == []
    assert [instance["State"]["Name"] for instance in baked.instances] == ["terminated"]


def _different(one: dict[str, Entry], other: dict[str, Entry]) -> set[str]:
    return {path for path in one.keys() | other.keys() if one.get(path) != other.get(path) and not DIFFERS.fullmatch(path)}


def _damaged(bundle: Path, aside: Path, name: str) -> Path:
    """The bundle without something of it."""
    with tarfile.open(bundle) as archive:
        archive.extractall(aside / "in", filter="fully_trusted")
    damaged = aside / "in" / name
    shutil.rmtree(damaged) if damaged.is_dir() else damaged.write_text("", "utf-8")
    with tarfile.open(aside / bundle.name, "w:gz", compresslevel=1) as archive:
        archive.add(aside / "in", ".")
    return aside / bundle.name


def _packer(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "CHECKPOINT_DISABLE": "1"}
    return subprocess.run(["packer", *words], env=environment, capture_output=True, text=True, timeout=600, check=False)


def _source(template: str) -> set[str]:
    """The lines of its source block, without how they are set."""
    block = template[template.index('source "amazon-ebs"') :]
    return {" ".join(line.partition("#")[0].split()) for line in block.splitlines()} - {"", "}"}


def _tags(thing: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in thing.get("Tags", [])}


def _sha256(path: Path) -> str:
    return subprocess.run(["sha256sum", str(path)], capture_output=True, text=True, check=True).stdout[:64]
