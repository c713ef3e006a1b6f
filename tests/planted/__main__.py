"""Plant faults in the product one at a time, and see whether the tests see them: `make planted-faults`.

Each worker has a copy of the tree. The tests that can reach the file are run, its own first, until one fails. What was found is
kept in `.planted/results.json`: a run that was stopped goes on where it was, and a fault that was seen is not planted again until
its file changes. The exit code is 0 if at least 95 % of the faults that are no equivalents are seen.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import queue
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
import xml.etree.ElementTree as Xml
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.planted.catalogue import CHECKOUT, Fault, equivalents, written_faults
from tests.planted.mutants import SEED, drawn_faults
from tests.planted.reach import files_for

KEPT = CHECKOUT / ".planted"
WORKERS, SHARE = 2, 0.95
BASELINE = ("tests/agent", "tests/contract", "tests/orchestrator", "tests/sandbox", "tests/simulation", "tests/test_install.py")
FIRST_S, TIMES, LEAST_S = 120.0, 4.0, 120.0
"""Seconds for a fault's own test files, and how often the usual time the others get: a fault may make tests wait for ever."""
WHOLE_WORLD_S = 400.0
"""Seconds of a file whose time was not measured: of those that boot machines, and start the whole fleet."""
SEEN, UNSEEN = (1, 2), (0, 5)
"""Exit codes of pytest: tests failed, or could not even be collected; all passed, or none can reach the file."""


@dataclass(frozen=True)
class Result:
    """What became of one fault. `by`: the first test that failed; empty: none did."""

    name: str
    seen: bool
    by: str
    seconds: float
    tests: str
    """The digest of the tests that did not see it; where it was seen, of the file whose test did: a result holds as long."""


def main(words: Sequence[str] | None = None) -> int:
    """Plant what is to be planted, print what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--only", default="", help="plant only faults with this text in their name or file")
    parser.add_argument("--by-hand", action="store_true", help="only those written by hand: needs no mutation tool")
    parser.add_argument("--minutes", type=float, default=90.0, help="begin no fault after so long")
    asked = parser.parse_args(words)
    faults = written_faults() + ([] if asked.by_hand else drawn_faults())
    faults = [fault for fault in faults if asked.only in f"{fault.name} {fault.path}"]
    board = Board(faults)
    _say(f"{len(faults)} faults, {len(board.pending)} of them to be planted; the seed of the drawn ones is {SEED}")
    if board.pending:
        with_trees([KEPT / f"tree-{number}" for number in range(WORKERS)], board, time.monotonic() + asked.minutes * 60.0)
    return board.report()


class Board:
    """The faults, and what is known of each."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults, self._file = list(faults), KEPT / "results.json"
        self.equivalent = equivalents()
        known = json.loads(self._file.read_text("utf-8")) if self._file.exists() else {}
        self.results = {digest: Result(**told) for digest, told in known.items()}
        self.tests, self._lock = _digest_of_tests(), threading.Lock()
        pending = [fault for fault in self.faults if fault.name not in self.equivalent and not self._is_known(fault)]
        self.pending = sorted(pending, key=lambda fault: fault.path.startswith(("userdata/", "packer/")))
        """What boots machines last: each takes minutes."""

    def keep(self, fault: Fault, result: Result) -> None:
        """On the disk at once: whoever is stopped goes on here."""
        with self._lock:
            self.results[fault.digest] = result
            aside = self._file.with_suffix(".new")
            aside.write_text(json.dumps({d: asdict(r) for d, r in self.results.items()}, indent=1), "utf-8")
            aside.rename(self._file)
            left = sum(not self._is_known(fault) for fault in self.pending)
        seen = f"seen by {result.by}" if result.seen else "NOT SEEN"
        _say(f"{left:4} left  {result.seconds:5.0f} s  {fault.name}: {seen}")

    def report(self) -> int:
        """What is known of all of them; the exit code."""
        real = [fault for fault in self.faults if fault.name not in self.equivalent]
        seen = [fault for fault in real if self._is_known(fault) and self.results[fault.digest].seen]
        unseen = [fault for fault in real if self._is_known(fault) and not self.results[fault.digest].seen]
        for fault in unseen:
            _say(f"NOT SEEN  {fault.name} ({fault.path})\n          {fault.what}")
        missing = len(real) - len(seen) - len(unseen)
        by_hand = sum(fault.by_hand for fault in real)
        _say(
            f"{len(self.faults)} faults, {len(self.faults) - len(real)} of them equivalent; of {len(real)} ({by_hand} by hand)"
            f" {len(seen)} seen ({100.0 * len(seen) / max(1, len(real)):.1f} %), {len(unseen)} not seen, {missing} not planted"
        )
        return 0 if not missing and len(seen) >= SHARE * len(real) else 1

    def _is_known(self, fault: Fault) -> bool:
        found = self.results.get(fault.digest)
        return found is not None and found.tests == (_digest_of(found.by) if found.seen else self.tests)


def with_trees(trees: Sequence[Path], board: Board, until_s: float) -> None:
    """Plant what is pending, one worker to a tree."""
    for tree in trees:
        _copy(tree)
    durations = _durations(trees[0], _digest_of_tree())
    waiting: queue.SimpleQueue[Fault] = queue.SimpleQueue()
    for fault in board.pending:
        waiting.put(fault)

    def work(tree: Path) -> None:
        """One worker's faults, until none is left."""
        while time.monotonic() < until_s:
            try:
                fault = waiting.get_nowait()
            except queue.Empty:
                return
            board.keep(fault, planted(tree, fault, durations, board.tests))

    threads = [threading.Thread(target=work, args=(tree,)) for tree in trees]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def planted(
    tree: Path, fault: Fault, durations: dict[str, float], tests: str,
    reach: Callable[[str, dict[str, float]], list[str]] = files_for,
) -> Result:  # fmt: skip
    """Plant one fault in a tree, and run the tests that can reach it until one fails. The tree is as before, afterwards."""
    target, begun_s = tree / fault.path, time.monotonic()
    before = target.read_text("utf-8")
    files = reach(fault.path, durations)
    own = [file for file in files if Path(file).name == f"test_{Path(fault.path).stem}.py"]
    target.write_text(fault.content, "utf-8")
    try:
        rest = [file for file in files if file not in own]
        for chosen, least_s in ((list(fault.first), FIRST_S), (own, FIRST_S), (rest, LEAST_S)):
            if not chosen:
                continue
            within_s = least_s + TIMES * sum(durations.get(file, WHOLE_WORLD_S) for file in chosen)
            by = _first_failure(tree, chosen, within_s)
            if by:
                target.write_text(before, "utf-8")
                if not set(chosen) <= durations.keys():
                    _insist_that_it_is_the_fault(tree, fault, by, chosen, within_s)
                seconds = round(time.monotonic() - begun_s, 1)
                return Result(fault.name, seen=True, by=by, seconds=seconds, tests=_digest_of(by, tree))
    finally:
        target.write_text(before, "utf-8")
    return Result(fault.name, seen=False, by="", seconds=round(time.monotonic() - begun_s, 1), tests=tests)


def _insist_that_it_is_the_fault(tree: Path, fault: Fault, by: str, chosen: Sequence[str], within_s: float) -> None:
    """What was not run before without a fault is run so now. Raises: RuntimeError: it fails all the same, and proves nothing."""
    again = [by] if "::" in by else chosen
    if failed := _first_failure(tree, again, within_s):
        raise RuntimeError(f"{fault.name}: {failed} fails without the fault, too: is something missing on this machine?")


def _digest_of(test: str, root: Path = CHECKOUT) -> str:
    """Of the file of a test; empty: it is gone, or nothing was named."""
    file = root / test.partition("::")[0]
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16] if test and file.is_file() else ""


def _first_failure(tree: Path, files: Sequence[str], within_s: float) -> str:
    """The first test that fails, or what else went wrong; empty: all pass."""
    words = [_python(tree), "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", *files]
    process = subprocess.Popen(
        words,
        cwd=tree,
        env=_environment(tree),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        told, _ = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        return f"a test that does not end (within {within_s:.0f} s)"
    if process.returncode in UNSEEN:
        return ""
    if process.returncode not in SEEN:
        raise RuntimeError(f"pytest ended with {process.returncode}:\n{told[-2000:]}")
    named = [line for line in told.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return named[0].split(" - ")[0].partition(" ")[2] if named else "a test"


def _environment(tree: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_STORAGE_DIRECTORY": str(KEPT)}


def _durations(tree: Path, tests: str) -> dict[str, float]:
    """Seconds of each test file, from a run without any fault. Raises: SystemExit if that is not green."""
    kept = KEPT / "durations.json"
    if kept.exists() and (known := json.loads(kept.read_text("utf-8")))["tests"] == tests:
        return dict(known["seconds"])
    _say("running the tests without any fault")
    report = KEPT / "baseline.xml"
    words = [_python(tree), "-m", "pytest", "-q", "-n", str(WORKERS), "--dist", "loadfile", "-m", "not root", "--tb=short"]
    words += [f"--junitxml={report}", "-o", "junit_family=xunit1", *BASELINE]
    done = subprocess.run(words, cwd=tree, env=_environment(tree), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the tests fail without any fault:\n{done.stdout[-4000:]}")
    seconds: dict[str, float] = {}
    for case in Xml.parse(report).iter("testcase"):
        file = str(case.get("file"))
        seconds[file] = seconds.get(file, 0.0) + float(case.get("time") or 0.0)
    kept.write_text(json.dumps({"tests": tests, "seconds": seconds}), "utf-8")
    return seconds


def _tracked(root: Path = CHECKOUT) -> list[str]:
    """What git has, and what is new and not ignored."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=root, capture_output=True, text=True, check=True).stdout.split("\n")
    return [name for name in listed if name and (root / name).is_file()]


def _copy(tree: Path) -> None:
    """The tree as it is now."""
    shutil.rmtree(tree, ignore_errors=True)
    for name in _tracked():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, tree / name, follow_symlinks=False)
    _give_environment(tree)


def _give_environment(tree: Path) -> None:
    """A virtual environment in which the product is this tree, also for processes that know of no PYTHONPATH."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tree / ".venv")], check=True)
    ours, theirs = Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("scripts"))
    (place,) = (tree / ".venv" / "lib").glob("python3.*/site-packages")
    (place / "planted.pth").write_text(f"{tree}\n{ours}\n", "utf-8")
    for name in ("runs-fleet", "runs-fleet-agent"):
        script = (theirs / name).read_text("utf-8").partition("\n")[2]
        (tree / ".venv" / "bin" / name).write_text(f"#!{_python(tree)}\n{script}", "utf-8")
        (tree / ".venv" / "bin" / name).chmod(0o755)


def _python(tree: Path) -> str:
    return str(tree / ".venv" / "bin" / "python")


def _digest_of_tests() -> str:
    """Of every test and of what tests stand on: whatever no test saw may be seen after a change."""
    digest = hashlib.sha256()
    for name in _tracked():
        if name.startswith(("tests/", "simulation/", "sandbox/")) and not name.startswith("tests/planted/"):
            digest.update(name.encode() + b"\0" + (CHECKOUT / name).read_bytes())
    return digest.hexdigest()[:16]


def _digest_of_tree() -> str:
    """Of everything that the tests run on, and of the tests: where it changes, they are run without a fault first."""
    digest = hashlib.sha256(_digest_of_tests().encode())
    for name in _tracked():
        if name.startswith(("agent/", "orchestrator/", "userdata/", "packer/", "pyproject.toml")):
            digest.update(name.encode() + b"\0" + (CHECKOUT / name).read_bytes())
    return digest.hexdigest()[:16]


def _say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
