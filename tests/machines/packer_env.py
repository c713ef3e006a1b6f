"""What packer needs around it: an EC2 that is moto, the runner's release on a web server, the agent's bundle."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

from tests.agent import httpd
from tests.conftest import REGION, Moto
from tests.machines import tree
from tests.machines.builder import Builder

PACKER = tree.ROOT / "packer"
SYSTEM, ARCHITECTURE = "amazon-linux-2023", "amd64"
"""Debian stands in for it: the same Python, and its sudo is set up as Amazon's."""


@dataclass(frozen=True)
class Baked:
    """How a bake ended, and what EC2 has afterwards."""

    code: int
    said: str
    images: list[dict[str, Any]]
    """Ours, by name."""
    instances: list[dict[str, Any]]
    """Every builder, with its `UserData` and `InstanceInitiatedShutdownBehavior`; the oldest first."""


class PackerEnv:
    """Bakes on a builder, in that cloud."""

    def __init__(self, moto: Moto, site: httpd.Site, directory: Path) -> None:
        self._moto, self._directory = moto, directory
        self.archive = tree.runner()
        self._runner_url = site.serve("/runner.tar.gz", self.archive.content)

    def bake(
        self,
        layers: str,
        builder: Builder,
        *words: str,
        system: str = SYSTEM,
        architecture: str = ARCHITECTURE,
        **environment: str,
    ) -> Baked:
        """Run packer/bake.sh with packer's further `words`."""
        chosen = {
            "endpoint": self._moto.url, "region": REGION, "ssh_host": "127.0.0.1", "ssh_port": str(builder.port),
            "runner_url": self._runner_url,
        }  # fmt: skip
        given = {
            "PATH": os.environ["PATH"], "HOME": str(self._directory), "TMPDIR": str(self._directory), "CHECKPOINT_DISABLE": "1",
            "OUT": str(self._directory / "out"), "SSH_KEY": str(builder.key), "BUNDLE": str(tree.bundle()),
            "RUNNER_VERSION": self.archive.version, "RUNNER_SHA256": self.archive.sha256,
            **self._moto.environment, **environment,
        }  # fmt: skip
        variables = [word for name, value in chosen.items() for word in ("-var", f"{name}={value}")]
        told = subprocess.run(
            [str(PACKER / "bake.sh"), layers, system, architecture, "-color=false", *variables, *words],
            env=given, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        return Baked(told.returncode, told.stdout + told.stderr, self._images(), self._instances())

    def _images(self) -> list[dict[str, Any]]:
        found = self._moto.client("ec2").describe_images(Owners=["self"])["Images"]
        return sorted(found, key=lambda image: str(image["Name"]))

    def _instances(self) -> list[dict[str, Any]]:
        ec2 = self._moto.client("ec2")
        found = [instance for held in ec2.describe_instances()["Reservations"] for instance in held["Instances"]]
        for instance in found:
            for what in ("UserData", "InstanceInitiatedShutdownBehavior"):
                asked = what[0].lower() + what[1:]
                told = ec2.describe_instance_attribute(InstanceId=instance["InstanceId"], Attribute=asked)
                instance[what] = told[what]["Value"]
        return sorted(found, key=lambda instance: str(instance["LaunchTime"]))


@contextmanager
def cloud() -> Iterator[Moto]:
    """moto, but an image made of an instance has a root device like the instance's, without which packer launches nothing."""
    behind = DomainDispatcherApplication(create_backend_app)

    def front(environ: Any, start: Any) -> Iterable[bytes]:
        answer = Response.from_app(behind, environ)
        answer.data = answer.data.replace(b"<rootDeviceType>standard<", b"<rootDeviceType>ebs<")
        return answer(environ, start)

    server = make_server("127.0.0.1", 0, front, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.port}"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "true")  # the images that packer begins with
        requests.post(f"{url}/moto-api/reset", timeout=600)
        yield Moto(url)
    server.shutdown()
    thread.join()
