"""What each way to ship the agent costs: its size, its start, and the way to its configuration.

    python -m benchmarks.packaging [ROUNDS]

Wheels come from the package index by the hashes of constraints/agent.txt; shiv and pex go into a scratch environment. Writes
results-packaging.json beside this file, which the page reads, and prints the section.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import page, release
from benchmarks.figures import in_turns
from benchmarks.stage import ROOT, TREE, Stage, staged, start

RESULTS = Path(__file__).with_name("results-packaging.json")
ROUNDS, FIRST_ROUNDS = 15, 5
TOOLS = ("shiv==1.0.8", "pex==2.105.2")
BASE = str(getattr(sys, "_base_executable", None) or sys.executable)
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_", "PEX_", "SHIV_"))}
"""Byte code is written and read, as on a machine."""
CONFIGURED = re.compile(r"^(\S+Z) phase\.entered phase=registering", re.M)
OURS = "our bundle: a directory"


@dataclass(frozen=True)
class Package:
    """One way to ship it: what is run, what travels (None: as ours), and what lies on the disk while it runs."""

    command: tuple[str, ...]
    shipped: Path | None
    unpacked: tuple[Path, ...]
    cache: str = ""
    """The variable that names the directory into which a first start unpacks; empty if it unpacks nothing."""
    root: Path = Path()

    @property
    def environment(self) -> Mapping[str, str]:
        return {self.cache: str(self.root)} if self.cache else {}


def main() -> None:
    """Build all of them, then take turns."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    began_s = time.monotonic()
    with staged() as stage, tempfile.TemporaryDirectory(dir=ROOT) as scratch:
        packages = built(Path(scratch))
        first = in_turns(FIRST_ROUNDS, {name: partial(_first, stage, one) for name, one in packages.items() if one.cache})
        for one in packages.values():
            _version(one.command, one.environment)  # its cache is filled now
        version = in_turns(rounds, {name: partial(_version, one.command, one.environment) for name, one in packages.items()})
        configured = in_turns(rounds, {name: partial(_configured, stage, one) for name, one in packages.items()})
        found = {
            "machine": {**page.machine(), "took_s": round(time.monotonic() - began_s), "rounds": rounds, "tools": TOOLS},
            "botocore_bytes": {name: _size(path) for name, path in botocore_data(packages).items()},
            "packages": {
                name: {
                    "shipped_bytes": _size(one.shipped) if one.shipped else None,
                    "unpacked_bytes": sum(map(_size, one.unpacked)),
                    "version_ms": [round(ms, 1) for ms in version[name]],
                    "configured_ms": [round(ms, 1) for ms in configured[name]],
                    "first_ms": [round(ms, 1) for ms in first.get(name, [])],
                }
                for name, one in packages.items()
            },
        }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    RESULTS.with_suffix(".md").write_text(section(found), encoding="utf-8")
    print(section(found))


def built(scratch: Path) -> dict[str, Package]:
    """Each from the same sources and the same wheels; an empty environment's Python stands for the machine's, since what
    this machine's own runs at its start is none of theirs. Raises: CalledProcessError, what the tool said above it."""
    out, bundle, bare, wheels = scratch / "out", scratch / "bundle", scratch / "bare", scratch / "wheels"
    _run(sys.executable, str(TREE / "packer" / "bundle.py"), "--out", str(out))
    (archive,) = out.iterdir()
    with tarfile.open(archive) as packed:
        packed.extractall(bundle, filter="data")
    shutil.copytree(bundle / "agent", bare, ignore=shutil.ignore_patterns("__pycache__"))
    _make_wheels(scratch, wheels)
    offline = ("--no-index", "-f", str(wheels), "runs-fleet")
    python = str(_environment(scratch / "machine") / "python")
    plain, tools = _environment(scratch / "venv", *offline), _environment(scratch / "tools", *TOOLS)
    shiv, trimmed, pex, quick = (scratch / f"{name}.pyz" for name in ("shiv", "trimmed", "pex", "pex-venv"))
    _run(str(tools / "shiv"), "-q", "-c", "runs-fleet-agent", "-p", python, "-o", str(shiv), *offline)
    lean = ("-e", "agent.cli:main", "-p", python, "--site-packages", str(bundle / "agent"))
    _run(str(tools / "shiv"), *lean, "-o", str(trimmed))
    made = (str(tools / "pex"), "--python", python, "--pex-root", str(scratch / "pex-build"), "--compile")
    _run(*made, "-c", "runs-fleet-agent", "-o", str(pex), *offline)
    _run(*made, "-c", "runs-fleet-agent", "--venv", "prepend", "-o", str(quick), *offline)

    def file(path: Path, cache: str) -> Package:
        root = path.with_suffix(".root")
        return Package((python, str(path)), path, (path, root), cache, root)

    return {
        OURS: Package((python, "-I", str(bundle / "agent")), archive, (bundle / "agent",)),
        "the same, not compiled": Package((python, "-I", "-B", str(bare)), None, (bare,)),
        "virtual environment": Package((str(plain / "runs-fleet-agent"),), wheels, (plain.parent,)),
        "shiv": file(shiv, "SHIV_ROOT"),
        "shiv of our directory": file(trimmed, "SHIV_ROOT"),
        "pex": file(pex, "PEX_ROOT"),
        "pex --venv": file(quick, "PEX_ROOT"),
    }


def botocore_data(packages: Mapping[str, Package]) -> dict[str, Path]:
    """Service models: all of them, and those that our bundle keeps."""
    (whole,) = packages["virtual environment"].unpacked[0].glob("lib/*/site-packages/botocore/data")
    return {"untrimmed": whole, "trimmed": packages[OURS].unpacked[0] / "botocore" / "data"}


def _make_wheels(scratch: Path, wheels: Path) -> None:
    """The agent's own from a copy of the checkout, which building would litter, and its dependencies' by their hashes."""
    copy = scratch / "checkout"
    for name in ("agent", "orchestrator", "sandbox", "userdata"):
        shutil.copytree(TREE / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(TREE / name, copy)
    pip = (sys.executable, "-m", "pip")
    _run(*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(copy))
    _run(*pip, "download", "-q", "--require-hashes", "-r", str(TREE / "constraints" / "agent.txt"), "-d", str(wheels))


def _environment(directory: Path, *wanted: str) -> Path:
    """A virtual environment with that installed, bare of everything if that is nothing; its programs' directory."""
    _run(BASE, "-m", "venv", *([] if wanted else ["--without-pip"]), str(directory))
    if wanted:
        _run(str(directory / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", *wanted)
    return directory / "bin"


def _run(*words: str) -> None:
    subprocess.run(words, env=CLEAN, check=True)


def _version(command: tuple[str, ...], environment: Mapping[str, str]) -> float:
    """ms from process start to its end."""
    began_s = time.perf_counter()
    subprocess.run([*command, "--version"], env={"PATH": os.defpath, **environment}, check=True, capture_output=True)
    return 1_000 * (time.perf_counter() - began_s)


def _configured(stage: Stage, package: Package) -> float:
    """ms from process start until SSM has answered and the answer is understood, by the agent's own log."""
    with stage.fresh() as place:
        release.baked(place / "opt")
        life = start(list(package.command), place, stage.environment(place, **package.environment))
        life.finish()
        at = CONFIGURED.search(life.errors())
        assert at is not None, life.errors()
        return 1_000 * (datetime.fromisoformat(at[1]).timestamp() - life.began_at)


def _first(stage: Stage, package: Package) -> float:
    """The same on a machine that has never run it, as every machine of ours is; the file itself is in the page cache."""
    with tempfile.TemporaryDirectory(dir=ROOT) as empty:
        return _configured(stage, replace(package, root=Path(empty)))


def _size(path: Path) -> int:
    """Bytes of a file, or of every file below a directory; links count as nothing."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(entry.lstat().st_size for entry in path.rglob("*") if entry.is_file() and not entry.is_symlink())


def section(found: Mapping[str, Any]) -> str:
    """The part of the page: what was measured."""
    lines = [
        "| way | shipped | on the disk | `--version`, ms | ratio | configured, ms | ratio | at the first start, ms | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    ours = found["packages"][OURS]
    for name, one in found["packages"].items():
        shipped = f"{one['shipped_bytes'] / 1e6:.1f} MB" if one["shipped_bytes"] else "—"
        cells = [name, shipped, f"{one['unpacked_bytes'] / 1e6:.1f} MB"]
        for what in ("version_ms", "configured_ms", "first_ms"):
            theirs, against = one[what] or one["configured_ms"], ours[what] or ours["configured_ms"]
            spread = f"**{median(theirs):,.0f}** ({min(theirs):,.0f}–{max(theirs):,.0f})"
            cells += [spread if one[what] else "as later", f"{median(theirs) / median(against):.2f}×"]
        lines.append(f"| {' | '.join(cells)} |")
    whole, kept = (found["botocore_bytes"][name] / 1e6 for name in ("untrimmed", "trimmed"))
    lines += [
        "",
        f"botocore's service models are {whole:.1f} MB; the bundle keeps {kept:.1f} MB, those of the services it calls.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
