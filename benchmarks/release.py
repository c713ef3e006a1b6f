"""A synthetic runner release with the real one's size and mix: 200 MB packed, 600 MB unpacked, 6,000 files.

Four large binaries and thousands of small scripts, semi-compressible, made once per machine and kept on tmpfs. Its `run.sh`
writes the moment it was executed into `$HOME/exec-at` and ends: that is where every start is measured to.
"""

from __future__ import annotations

import io
import random
import subprocess
import tarfile
from pathlib import Path

VERSION = "2.999.0"
BINARIES = {
    "externals/node20/bin/node": 99 << 20,
    "externals/node24/bin/node": 107 << 20,
    "bin/libcoreclr.so": 6 << 20,
    "bin/System.Private.CoreLib.dll": 15 << 20,
}
LIBRARIES = (420, 620 << 10)
"""How many .dll files below bin/, and bytes of each."""
SCRIPTS = (5_570, 18 << 10)
"""How many .js files below externals/, and bytes of each on average."""
RUN = b"""#!/bin/bash
printf '%s' "$EPOCHREALTIME" > "$HOME/exec-at"
"""
SEED = 20
BLOCK_BYTES = 4 << 20
"""gzip looks back 32 KB only, so a block that repeats later compresses no better than fresh text would."""


def make(directory: Path) -> Path:
    """The archive in `directory`, made now unless it is there already."""
    archive = directory / f"release-{SEED}-{VERSION}.tar.gz"
    if archive.exists():
        return archive
    half = archive.with_suffix(".half")
    with half.open("wb") as packed, subprocess.Popen(["gzip", "-6", "-n"], stdin=subprocess.PIPE, stdout=packed) as gzip:
        assert gzip.stdin is not None
        with tarfile.open(fileobj=gzip.stdin, mode="w|", bufsize=1 << 20, format=tarfile.GNU_FORMAT) as tar:
            _fill(tar)
        gzip.stdin.close()
    half.rename(archive)
    return archive


def baked(directory: Path, run: bytes = RUN) -> Path:
    """A directory that passes for a pre-baked release, with `run` as its run.sh."""
    (directory / "bin").mkdir(parents=True)
    (directory / ".runs-fleet-version").write_text(VERSION, encoding="utf-8")
    (directory / "run.sh").write_bytes(run)
    (directory / "run.sh").chmod(0o755)
    return directory


def _fill(tar: tarfile.TarFile) -> None:
    chance = random.Random(SEED)
    machine, text = _machine_code(chance), _source_text(chance)
    _add(tar, "./run.sh", RUN, 0o755)
    for name, size in BINARIES.items():
        _add(tar, f"./{name}", (machine * (size // len(machine) + 1))[:size], 0o755)
    for number in range(LIBRARIES[0]):
        _add(tar, f"./bin/Library{number:03}.dll", _cut(machine, chance, LIBRARIES[1]), 0o644)
    for number in range(SCRIPTS[0]):
        size = max(200, int(chance.expovariate(1 / SCRIPTS[1])))
        place = f"./externals/node{20 + 4 * (number % 2)}/lib/node_modules/package-{number // 12}/lib/file-{number}.js"
        _add(tar, place, _cut(text, chance, size), 0o644)


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(content), mode, 1_700_000_000
    tar.addfile(member, io.BytesIO(content))


def _cut(block: bytes, chance: random.Random, size: int) -> bytes:
    start = chance.randrange(max(1, len(block) - size))
    return block[start : start + size]


def _machine_code(chance: random.Random) -> bytes:
    """Short frequent patterns, some of them rare, with bytes of chance between: about 3 : 1 under gzip."""
    patterns = [chance.randbytes(chance.choice((2, 3, 4, 5, 7, 9, 16, 30))) for _ in range(1_500)]
    weights = [1 / (rank + 5) for rank in range(len(patterns))]
    made = bytearray()
    while len(made) < BLOCK_BYTES:
        for pattern in chance.choices(patterns, weights, k=4_000):
            made += pattern
            if chance.random() < 0.22:
                made += chance.randbytes(1)
        made += bytes(4_096)
    return bytes(made)


def _source_text(chance: random.Random) -> bytes:
    """Words, indentation and punctuation: about 4 : 1 under gzip."""
    last_will = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(chance.choices(last_will, k=chance.randrange(2, 11))) for _ in range(4_000)]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    ends = (" ", "(", ");\n    ", ".", " = ", ", ", ";\n", " => {\n        ")
    chosen = chance.choices(words, weights, k=700_000)
    return "".join(word + chance.choice(ends) for word in chosen).encode()[:BLOCK_BYTES]
