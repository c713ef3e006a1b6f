"""The provisioning scripts where packages come by dnf: a real one, whose packages are empty and named as in Amazon Linux."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.machines import tree

NEEDED = [tool for tool in ("mmdebstrap", "unshare") if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or bool(NEEDED), reason=f"NOTHING WAS INSTALLED: needs root{''.join(f', {tool}' for tool in NEEDED)}"
)
OFFERED = (
    "python3.11", "nftables", "git", "tar", "gzip", "curl-minimal", "util-linux", "procps-ng", "shadow-utils", "libicu", "sudo",
)  # fmt: skip
"""Source: the packages of Amazon Linux 2023, its release notes."""
PUBLISH = """
mkdir -p /repository && cd /repository
spec() { printf 'Name: %s\nVersion: 1\nRelease: 1\nSummary: s\nLicense: MIT\nBuildArch: noarch\n%%description\nd\n%s' "$1" "$2"; }
for name in OFFERED; do spec $name '%files' > $name.spec; done
spec docker '%install
mkdir -p %{buildroot}/usr/lib/systemd/system && cd %{buildroot}/usr/lib/systemd/system
printf "[Socket]\\nListenStream=/run/docker.sock\\n[Install]\\nWantedBy=sockets.target\\n" > docker.socket
%files
/usr/lib/systemd/system/docker.socket
' > docker.spec
rpmbuild -bb --quiet --define "_rpmdir /repository" --define "_topdir /tmp/rpm" *.spec
createrepo_c --quiet .
mkdir -p /etc/yum.repos.d
printf '[here]\nname=here\nbaseurl=file:///repository\ngpgcheck=0\n' > /etc/yum.repos.d/here.repo
""".replace("OFFERED", " ".join(OFFERED))
OVERLAY = """
mount --make-rprivate / && mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
mount -t proc proc "$2/root/proc"; exec chroot "$2/root" bash -euo pipefail -c "$3"
"""


class Disk:
    """A machine's disk, of which the tree below stays as it is."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        for name in ("upper/tmp/scripts", "work", "root"):
            (directory / name).mkdir(parents=True)
        (directory / "upper/tmp").chmod(0o1777)
        self.scripts = directory / "upper/tmp/scripts"
        for script in (tree.ROOT / "packer/scripts").glob("*.sh"):
            shutil.copy2(script, self.scripts)

    def run(self, script: str, **environment: str) -> str:
        """What it printed. Raises: AssertionError if it fails."""
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", OVERLAY, "disk"]
        told = subprocess.run(
            [*words, str(tree.stock(dnf=True)), str(self._directory), script],
            env={"PATH": tree.PATH, "HOME": "/root", **environment}, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert told.returncode == 0, f"{script} ended with {told.returncode}:\n{told.stdout}{told.stderr}"
        return told.stdout

    def installed(self) -> set[str]:
        """By name."""
        return set(self.run("rpm -qa --queryformat '%{NAME}\\n'").split())


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    made = Disk(tmp_path)
    made.run(PUBLISH)
    return made


def test_the_base_layer_installs_what_is_missing_and_a_second_time_nothing(disk: Disk) -> None:
    disk.run("/tmp/scripts/base.sh")
    assert disk.installed() == {*OFFERED} - {"curl-minimal"}, "curl is there: the smaller one would be in its way"

    disk.run("rm -r /repository /etc/yum.repos.d/here.repo; /tmp/scripts/base.sh")


def test_the_base_layer_with_docker_gives_the_jobs_user_the_right_to_it(disk: Disk) -> None:
    disk.run("/tmp/scripts/base.sh", DOCKER="yes")

    assert "docker" in disk.installed()
    assert "docker" in disk.run("id -nG runner").split()
    assert disk.run("systemctl is-enabled docker.socket").strip() == "enabled"


def test_an_image_without_curl_gets_the_minimal_one(disk: Disk) -> None:
    disk.run("rm /usr/bin/curl; /tmp/scripts/base.sh")

    assert disk.installed() == {*OFFERED}


def test_the_agents_own_installer_fetches_what_a_stock_image_lacks_and_a_second_time_nothing(disk: Disk) -> None:
    subprocess.run(["tar", "-xzf", str(tree.bundle()), "-C", str(disk.scripts)], check=True)

    disk.run("/tmp/scripts/install.sh")
    assert disk.installed() == {"python3.11", "nftables"}
    disk.run("rm -r /repository /etc/yum.repos.d/here.repo; /tmp/scripts/install.sh")

    assert disk.run("readlink /usr/local/lib/runs-fleet/python").strip() == "/usr/bin/python3.11"
