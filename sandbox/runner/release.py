"""Builds the stand-in's release: the tree and the archive, shaped like those of actions/runner."""

from __future__ import annotations

import gzip
import hashlib
import io
import py_compile
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib.util import cache_from_source
from pathlib import Path

HERE = Path(__file__).parent
MODULES = (
    "__init__.py",
    "expressions.py",
    "functions.py",
    "file_hashes.py",
    "shells.py",
    "surroundings.py",
    "wire.py",
    "files.py",
    "report.py",
    "terminal.py",
    "configure.py",
    "worker.py",
    "listener.py",
)
VERSION = "2.999.0"
PYTHON = str(getattr(sys, "_base_executable", None) or sys.executable)
"""What runs the stand-in on this machine: outside of any virtual environment, which another user may not enter."""
_SHIM = """#!{python} -SE
import sys
from pathlib import Path
root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root / "bin" / "standin"))
sys.dont_write_bytecode = True
from sandbox.runner.{module} import main
raise SystemExit(main({arguments}))
"""


@dataclass(frozen=True)
class Archive:
    """A release archive; `sha256` in lower-case hex."""

    version: str
    content: bytes

    @property
    def sha256(self) -> str:
        """The digest of the archive, as release notes give it."""
        return hashlib.sha256(self.content).hexdigest()


def files(version: str = VERSION, python: str = PYTHON) -> dict[str, tuple[bytes, int]]:
    """Every file of the release: name -> (content, mode). `python` runs the stand-in where it is installed."""
    tree: dict[str, tuple[bytes, int]] = {}
    for script in sorted((HERE / "scripts").iterdir()):
        tree[script.name] = (script.read_bytes(), 0o755)
    tree["bin/Runner.Listener"] = (_shim("listener", f"root, {version!r}", python), 0o755)
    tree["bin/Runner.Worker"] = (_shim("worker", "root", python), 0o755)
    tree["bin/installdependencies.sh"] = (b"#!/bin/bash\nexit 0\n", 0o755)
    tree["bin/standin/sandbox/__init__.py"] = (b"", 0o644)
    for module in MODULES:
        tree[f"bin/standin/sandbox/runner/{module}"] = ((HERE / module).read_bytes(), 0o644)
    for node in ("node20", "node24"):
        tree[f"externals/{node}/bin/node"] = (b"#!/bin/bash\necho v20.0.0-standin\n", 0o755)
        tree[f"externals/{node}/lib/node_modules/npm/bin/npm-cli.js"] = (b"// stand-in\n", 0o644)
    return tree


def links() -> dict[str, str]:
    """The symbolic links every real release carries."""
    return {f"externals/{node}/bin/npm": "../lib/node_modules/npm/bin/npm-cli.js" for node in ("node20", "node24")}


def archive(version: str = VERSION, extra: dict[str, bytes] | None = None, python: str = PYTHON) -> Archive:
    """The .tar.gz: entries begin with `./`, no directory of its own on top."""
    packed = io.BytesIO()
    compressed = gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=0)  # the same bytes for the same files
    with compressed, tarfile.open(fileobj=compressed, mode="w") as tar:
        tree = files(version, python)
        tree.update({name: (content, 0o644) for name, content in (extra or {}).items()})
        directories = sorted({str(parent) for name in [*tree, *links()] for parent in Path(name).parents if str(parent) != "."})
        for name in ["", *directories]:
            member = tarfile.TarInfo(f"./{name}")
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        for name, (content, mode) in tree.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size, member.mode = len(content), mode
            tar.addfile(member, io.BytesIO(content))
        for name, target in links().items():
            member = tarfile.TarInfo(f"./{name}")
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return Archive(version, packed.getvalue())


def install(directory: Path, version: str = VERSION) -> Path:
    """The release unpacked, as an image would have it baked in."""
    for name, (content, mode) in (files(version) | _compiled()).items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
    for name, target in links().items():
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(target)
    (directory / ".runs-fleet-version").write_text(version, encoding="utf-8")
    return directory


@cache
def _compiled() -> dict[str, tuple[bytes, int]]:
    """The byte code of the stand-in for the Python that runs us: name -> (content, mode). An image has it; an archive's bytes must not
    depend on the process that made them, and byte code's do."""
    made: dict[str, tuple[bytes, int]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for module in MODULES:
            place = Path(scratch) / "compiled"
            py_compile.compile(
                str(HERE / module), str(place), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
            )
            made[cache_from_source(f"bin/standin/sandbox/runner/{module}")] = place.read_bytes(), 0o644
    return made


def _shim(module: str, arguments: str, python: str) -> bytes:
    return _SHIM.format(python=python, module=module, arguments=arguments).encode()
