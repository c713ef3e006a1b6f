"""The agent's bundle as packer/bundle.py builds it: for the architecture that was asked for, and the same bytes each time."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.machines.tree import ROOT

AARCH64 = 183
"""`e_machine` of an ELF file. Source: EM_AARCH64 in elf.h."""


def built(out: Path, architecture: str) -> Path:
    words = [sys.executable, str(ROOT / "packer" / "bundle.py"), "--out", str(out), "--python", "3.12"]
    told = subprocess.run([*words, "--architecture", architecture], capture_output=True, text=True, timeout=600, check=True)
    path, digest = told.stdout.split()
    assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == digest
    return Path(path)


def test_what_is_compiled_is_of_the_architecture_that_was_asked_for_and_two_bundles_are_the_same_bytes(tmp_path: Path) -> None:
    first, second = built(tmp_path / "first", "arm64"), built(tmp_path / "second", "arm64")

    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as archive:
        files = [archive.extractfile(name) for name in archive.getnames() if name.endswith(".so")]
        headers = [file.read(20) for file in files if file is not None]
    assert len(headers) > 1
    assert {int.from_bytes(header[18:20], "little") for header in headers} == {AARCH64}
