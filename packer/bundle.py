"""Build the agent's bundle: what a machine needs, as one archive with its installer inside. See `main` for the words.

    python packer/bundle.py --out dist [--python 3.12] [--architecture arm64]

The archive holds the agent with its dependencies as a plain directory (started by `python DIRECTORY`), compiled where the
Python at hand is the one it is for, botocore's data trimmed to the services used, and `install.sh` with the units.
"""

from __future__ import annotations

import argparse
import compileall
import gzip
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path
from py_compile import PycInvalidationMode

ROOT = Path(__file__).resolve().parent.parent
SERVICES = ("ec2", "logs", "s3", "sqs", "ssm", "sts")
"""What the agent calls, and sts for credentials that boto3 may have to assume."""
SHARED = ("endpoints.json", "partitions.json", "_retry.json", "sdk-default-configuration.json")
"""What every botocore client reads. Source: botocore.loaders, botocore.session."""
PLATFORMS = {"amd64": "x86_64", "arm64": "aarch64"}
START = "from agent.cli import main\n\nraise SystemExit(main())\n"


def main() -> None:
    """Build one bundle and print its path and SHA-256."""
    here = ".".join(map(str, sys.version_info[:2]))
    parser = argparse.ArgumentParser(description="build the agent's bundle")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--python", default=here, help="the machine's Python, such as 3.12")
    parser.add_argument("--architecture", choices=sorted(PLATFORMS), default="amd64")
    wanted = parser.parse_args()
    path = build(wanted.out, wanted.python, wanted.architecture)
    print(path, hashlib.sha256(path.read_bytes()).hexdigest())  # noqa: T201 - what the caller asked for


def build(out: Path, python: str, architecture: str) -> Path:
    """The bundle's path below `out`. Raises: subprocess.CalledProcessError if pip cannot get a dependency."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        top = Path(scratch)
        agent = top / "agent"
        _install_dependencies(agent, python, PLATFORMS[architecture])
        shutil.copytree(ROOT / "agent", agent / "agent", ignore=shutil.ignore_patterns("__pycache__"))
        (agent / "__main__.py").write_text(START, encoding="utf-8")
        _trim(agent)
        if python == ".".join(map(str, sys.version_info[:2])):
            compileall.compile_dir(
                agent,
                quiet=1,
                invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
                stripdir=str(agent),
                prependdir="/usr/local/lib/runs-fleet/agent",
            )
        shutil.copytree(ROOT / "packer" / "machine", top, dirs_exist_ok=True)
        (top / "python-version").write_text(f"{python}\n", encoding="utf-8")
        path = out / f"runs-fleet-agent-{version}-py{python}-{architecture}.tar.gz"
        _pack(top, path)
    return path


def _install_dependencies(target: Path, python: str, platform: str) -> None:
    """Wheels of that platform, by the hashes we pinned."""
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(ROOT / "constraints" / "agent.txt")]
    words += [
        "--target",
        str(target),
        "--only-binary",
        ":all:",
        "--no-compile",
        "--implementation",
        "cp",
        "--python-version",
        python,
    ]
    for tag in (f"manylinux2014_{platform}", f"manylinux_2_17_{platform}", f"manylinux_2_28_{platform}", f"linux_{platform}"):
        words += ["--platform", tag]
    subprocess.run(words, check=True)


def _trim(agent: Path) -> None:
    """Without what no call of ours reads: other services' models, tests, scripts."""
    data = agent / "botocore" / "data"
    for entry in data.iterdir():
        if entry.is_dir() and entry.name not in SERVICES:
            shutil.rmtree(entry)
        elif entry.is_file() and entry.name not in SHARED:
            entry.unlink()
    for examples in data.glob("*/*/examples-1.json*"):
        examples.unlink()
    for name in ("bin", "boto3/data", "boto3/examples", "psutil/tests"):
        shutil.rmtree(agent / name, ignore_errors=True)
    (agent / "boto3" / "data").mkdir()


def _pack(top: Path, path: Path) -> None:
    """The same bytes for the same contents: names sorted, no owner, no time."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = "root"
        return member

    with (
        path.open("wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for entry in sorted(top.rglob("*")):
            archive.add(entry, str(entry.relative_to(top)), recursive=False, filter=plain)


if __name__ == "__main__":
    main()
