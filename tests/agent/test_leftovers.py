"""Which processes are a job's: by every id, by their threads, by login, by unit, by namespace. Real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.adapters.leftovers import Owner, processes_of, subordinate

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root may start processes of other users")
JOBS, SUBORDINATES, OTHERS = 59_861, range(700_000, 700_100), 59_862
"""Ids that nobody on this machine has."""
OWNER = Owner(JOBS, ("runs-fleet-job.service",), (SUBORDINATES,))
SETTLE = "import os, sys, time\n{before}\nprint('here', flush=True)\n{then}\ntime.sleep(600)"
LEADER_GONE = """
import ctypes, os, threading, time
os.setresuid({uid}, {uid}, {uid})
threading.Thread(target=time.sleep, args=(600,)).start()
print('here', flush=True)
ctypes.CDLL(None).syscall({exit}, 0)
"""
EXIT = {"x86_64": 60, "aarch64": 93}[os.uname().machine]
"""Number of the system call that ends one thread alone. Source: asm/unistd.h."""
Start = Callable[..., int]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts Python with a script and waits until it says that it is there; its pid."""
    children: list[subprocess.Popen[str]] = []

    def begun(script: str, **how: object) -> int:
        child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, **how)  # type: ignore[call-overload]
        children.append(child)
        assert child.stdout is not None and child.stdout.readline() == "here\n"
        return int(child.pid)

    yield begun
    for child in children:
        child.kill()
        child.wait()


def lives(before: str = "", then: str = "") -> str:
    return SETTLE.format(before=before, then=then)


IDS = {
    "its own": (JOBS,) * 3, "real alone": (JOBS, OTHERS, OTHERS), "effective alone": (OTHERS, JOBS, OTHERS),
    "saved alone": (OTHERS, OTHERS, JOBS), "subordinate": (SUBORDINATES[7],) * 3,
}  # fmt: skip


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
def test_a_process_is_the_jobs_by_any_of_its_ids(ids: tuple[int, int, int], start: Start) -> None:
    theirs, another = start(lives(f"os.setresuid{ids}")), start(lives(f"os.setresuid({OTHERS}, {OTHERS}, {OTHERS})"))

    found = set(processes_of(OWNER))

    assert theirs in found and another not in found and os.getpid() not in found


def test_a_process_whose_first_thread_has_ended_lives_on_in_another(start: Start) -> None:
    theirs = start(LEADER_GONE.format(exit=EXIT, uid=JOBS))
    while Path(f"/proc/{theirs}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z":
        pass

    assert theirs in set(processes_of(OWNER))


def test_a_process_that_has_ended_is_nobodys(start: Start) -> None:
    theirs = start(f"import os\nos.setresuid({JOBS}, {JOBS}, {JOBS})\nprint('here', flush=True)")
    while Path(f"/proc/{theirs}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z":
        pass

    assert theirs not in set(processes_of(OWNER))


def test_a_process_in_a_namespace_of_the_jobs_ids_is_found_though_its_own_id_is_another(start: Start) -> None:
    """As newuidmap makes one: root in it is the user, and the process has become another id in it."""
    maps = f"open(f'/proc/{{child}}/uid_map', 'w').write('0 {JOBS} 1\\n1 800000 10\\n')"
    script = f"""
import ctypes, os, time
reads, writes = os.pipe(); ready, done = os.pipe()
child = os.fork()
if child:
    os.read(ready, 1); {maps}; os.write(writes, b"x"); os.waitpid(child, 0)
assert ctypes.CDLL(None, use_errno=True).unshare(0x10000000) == 0, os.strerror(ctypes.get_errno())
os.write(done, b"x"); os.read(reads, 1)
os.setresuid(5, 5, 5)
print("here", flush=True); time.sleep(600)
"""
    parent = start(script)
    (child,) = map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text("ascii").split())

    found = set(processes_of(OWNER))

    os.kill(child, 9)
    assert child in found and parent not in found


def test_a_login_of_the_jobs_user_is_remembered_whoever_the_process_has_become(start: Start) -> None:
    if not Path("/proc/self/loginuid").exists():
        pytest.skip("this kernel has no audit")
    theirs = start(lives(f"open('/proc/self/loginuid', 'w').write('{JOBS}')"))

    assert theirs in set(processes_of(OWNER))


def test_nothing_of_roots_is_anybodys_by_its_id(start: Start) -> None:
    roots = start(lives())

    assert set(processes_of(Owner(0, ("no-such.service",)))) == set()
    assert roots not in set(processes_of(OWNER))


def test_subordinate_ids_are_read_by_name_and_by_number(tmp_path: Path) -> None:
    ids, none = tmp_path / "subuid", tmp_path / "none"
    ids.write_bytes(b"runner:100000:65536\nother:200000:10\n1001:300000:5\nrunner:x:y\nrunner\n\xff:1:2\n")

    assert subordinate("runner", 1001, (str(ids), str(none))) == (range(100_000, 165_536), range(300_000, 300_005))
