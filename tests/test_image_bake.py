"""packer/bake.sh with a packer that makes nothing: what it says of images is what this very run has made."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "packer" / "bake.sh"
MANIFEST = '{"builds": [{"artifact_id": "us-east-1:ami-0old"}]}\n'


def baked(directory: Path, build: str) -> subprocess.CompletedProcess[str]:
    """The base layer, with a packer whose `build` runs these words; an earlier run's list of images lies there."""
    tools, out = directory / "tools", directory / "out"
    tools.mkdir()
    out.mkdir()
    (out / "image-base-ubuntu-24.04-arm64.json").write_text(MANIFEST, "utf-8")
    stand_ins = {
        "packer": f'case $1 in version) echo "Packer v1.6.6" ;; build) {build} ;; esac',
        "ssh-keygen": '[ "$1" != -y ] || echo "ssh-ed25519 AAAA"',
    }
    for name, words in stand_ins.items():
        (tools / name).write_text(f"#!/bin/bash\n{words}\n", "utf-8")
        (tools / name).chmod(0o755)
    return subprocess.run(
        ["bash", str(SCRIPT), "base", "ubuntu-24.04", "arm64"], capture_output=True, text=True, timeout=600, check=False,
        env={"PATH": f"{tools}:{os.environ['PATH']}", "OUT": str(out)},
    )  # fmt: skip


def test_the_image_of_an_earlier_bake_is_never_told_as_this_ones(tmp_path: Path) -> None:
    told = baked(tmp_path, ":")

    assert (told.returncode, told.stdout) == (1, "")
    assert "packer ended well and wrote down no image" in told.stderr


def test_the_image_that_packer_wrote_down_is_told(tmp_path: Path) -> None:
    new = MANIFEST.strip().replace("0old", "0new")
    told = baked(tmp_path, f"echo '{new}' > {tmp_path}/out/image-base-ubuntu-24.04-arm64.json")

    assert (told.returncode, told.stdout) == (0, "base ubuntu-24.04 arm64 us-east-1:ami-0new\n"), told.stderr
