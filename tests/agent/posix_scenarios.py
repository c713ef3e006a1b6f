"""Scenarios with real children, each run in a process of its own: adopting and reaping act on the whole process.

`python -m tests.agent.posix_scenarios NAME` runs one and prints what came of it as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.adapters.output import DiskSpool, Output
from agent.adapters.posix import PosixProcesses, listen_for_signals
from agent.adapters.system import QueueInbox, SystemClock, ThreadWorkers
from agent.executor import Executor
from agent.mailbox import Mailbox
from agent.phases import Phase
from agent.ports import Event, Heard, Launch, OutputEnded, Runner, RunnerExited, Signalled
from agent.reports.log_stream import Lines
from agent.runner import announcements
from agent.supervision import Limits, Watch

HASTE = 25.0
"""The supervision's seconds pass that much faster than the machine's: its ladder of many seconds is climbed in a few tenths."""
NEVER = Limits(runtime_s=1e9, grace_s=5.0, idle_s=1e9)
Scenario = Callable[["Bench"], dict[str, Any]]


class HastyClock(SystemClock):
    """A Clock (ports) on which durations are longer than they are."""

    def monotonic_s(self) -> float:
        return time.monotonic() * HASTE


class HastyInbox(QueueInbox):
    """An Inbox (ports) on the same clock."""

    def wait(self, until_s: float) -> Event | None:
        return super().wait(until_s / HASTE)


class ListJournal:
    """A Journal (ports) in memory."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def event(self, name: str, **fields: object) -> None:
        self.events.append((name, fields))

    def phase(self, phase: Phase) -> None:
        self.event("phase", phase=phase)

    def hide(self, *secrets: object) -> None:
        return None

    def cleaned(self, text: str) -> str:
        return text


class Indifferent:
    """An Observer (executor) that looks at nothing and asks for nothing."""

    def checked(self, now_s: float) -> float:
        return float("inf")

    def happened(self, event: Event) -> None:
        return None

    def decided(self, before: Watch, after: Watch) -> None:
        return None


class Bench:
    """The agent's own parts around one child."""

    def __init__(self, directory: Path, cap_bytes: int = 1 << 30) -> None:
        self.directory = directory
        self.inbox = HastyInbox()
        listen_for_signals(self.inbox)
        self.spool = DiskSpool(directory / "spool", cap_bytes=cap_bytes, floor_bytes=0)
        self.processes = PosixProcesses(self.inbox, Output(self.spool, announcements).attach)
        self.journal, self.clock = ListJournal(), HastyClock()
        self.mailbox = Mailbox(self.inbox, ThreadWorkers(self.inbox), self.clock)
        self.executor = Executor(self.processes, self.mailbox, self.clock, self.journal)

    def gate(self, name: str) -> Path:
        """A named pipe: whoever reads it waits for whoever writes."""
        path = self.directory / name
        os.mkfifo(path)
        return path

    def launch(self, *command: str, **environment: str) -> Launch:
        return Launch(command, self.directory, {"PATH": os.environ["PATH"], **environment})

    def bash(self, script: str) -> Launch:
        return self.launch("bash", "-c", script)

    def start(self, launch: Launch) -> Runner:
        return self.executor.start(launch)

    def attend(self, runner: Runner) -> Watch:
        return self.executor.attend(runner, NEVER, Indifferent())

    def both_ends(self) -> tuple[int, list[Event]]:
        """The exit code and all that was heard, once the child and its output have ended."""
        code, ended, heard = None, False, []
        while code is None or not ended:
            event = self.inbox.wait(float("inf"))
            code = event.code if isinstance(event, RunnerExited) else code
            ended = ended or isinstance(event, OutputEnded)
            heard += [event] if isinstance(event, Heard) else []
        return code, heard

    def lines(self) -> list[str]:
        """Everything that was spooled, as the stream would show it."""
        lines, found = Lines(lambda content: content, lambda: 1), []
        while records := self.spool.take(1 << 22):
            found += [text for _, text in lines.events(records)]
        return found + [text for _, text in lines.rest()]

    def said(self) -> list[str]:
        return [name for name, _ in self.journal.events]


def children() -> list[int]:
    """Every child of this process, zombies too."""
    return [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text("ascii").split()]


def open_files() -> list[str]:
    """What every descriptor of this process leads to."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(str(path.readlink()))
    return found


def there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_gone(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        select.select([descriptor], [], [], 10)
        os.close(descriptor)


def stubborn(bench: Bench) -> dict[str, Any]:
    ready = bench.gate("ready")
    never = bench.gate("never")
    runner = bench.start(bench.bash(f"trap '' INT TERM; echo $$ > {ready}; while :; do read -r _ <> {never}; done"))
    pid = int(ready.read_text("ascii"))
    bench.inbox.post(Signalled("SIGTERM"))
    watch = bench.attend(runner)
    signals = [fields["signal"] for name, fields in bench.journal.events if name in ("work.signalled", "work.killed")]
    return {"code": watch.exit_code, "signals": signals, "there": there(pid)}


def forking(bench: Bench) -> dict[str, Any]:
    ready = bench.gate("ready")
    script = f"for i in $(seq 25); do (sleep 300 & echo $! > {bench.directory}/pid$i; sleep 300) & done; echo $$ > {ready}; wait"
    runner = bench.start(bench.bash(script))
    ready.read_text("ascii")
    killed = runner.sweep(10.0)
    code, _ = bench.both_ends()
    pids = [int(path.read_text("ascii")) for path in bench.directory.glob("pid*") if path.read_text("ascii").strip()]
    return {"killed": killed, "code": code, "there": [pid for pid in pids if there(pid)]}


def silent(bench: Bench) -> dict[str, Any]:
    bench.start(bench.bash("exit 3"))
    code, heard = bench.both_ends()
    return {"code": code, "heard": len(heard), "lines": bench.lines()}


def killed_early(bench: Bench) -> dict[str, Any]:
    bench.start(bench.bash("echo last words; printf 'and a half'; kill -KILL $$"))
    code, _ = bench.both_ends()
    return {"code": code, "lines": bench.lines()}


def flooding(bench: Bench) -> dict[str, Any]:
    bench.start(bench.launch("seq", "-f", "line %06.0f", "1", "100000"))
    code, _ = bench.both_ends()
    lines = bench.lines()
    return {"code": code, "ordered": lines == [f"line {n:06}" for n in range(1, 100_001)], "count": len(lines)}


def flooding_beyond_the_cap(directory: Path) -> dict[str, Any]:
    bench = Bench(directory, cap_bytes=200_000)
    bench.start(bench.launch("seq", "-f", "line %06.0f", "1", "100000"))
    code, _ = bench.both_ends()
    lines, dropped = bench.lines(), bench.spool.lines_dropped()
    torn = [line for line in lines if not re.fullmatch(r"line \d{6}", line)]
    oldest = lines[:5_000] == [f"line {n:06}" for n in range(1, 5_001)]
    return {"code": code, "oldest": oldest, "torn": torn[:3], "all": len(lines) + dropped, "dropped": dropped}


def announcing(bench: Bench) -> dict[str, Any]:
    bench.start(bench.bash("printf '2026-01-01 10:00:00Z: Listen'; read -r -t 0.1 _; printf 'ing for Jobs\\n'"))
    _, heard = bench.both_ends()
    return {"heard": [type(event.announcement).__name__ for event in heard if isinstance(event, Heard)]}


def unstartable(bench: Bench) -> dict[str, Any]:
    before, errors = len(os.listdir("/proc/self/fd")), []
    for act in (bench.processes.start, lambda launch: bench.processes.run(launch, 5.0)):
        try:
            act(bench.launch("/nowhere/run.sh"))
        except OSError as error:
            errors.append(type(error).__name__)
    return {"errors": errors, "left_open": len(os.listdir("/proc/self/fd")) - before}


DAEMON = """
import os, sys
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
if sys.argv[2] == 'quiet':
    null = os.open('/dev/null', os.O_RDWR)
    for number in (0, 1, 2): os.dup2(null, number)
with open(sys.argv[1], 'w') as ready: ready.write(f'{os.getpid()} {len(os.environ)}')
import signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)
while True: signal.pause()
"""


def _hidden(bench: Bench, how: str, after: str) -> tuple[Runner, int, int]:
    (bench.directory / "daemon.py").write_text(DAEMON, encoding="utf-8")
    ready = bench.gate("ready")
    runner = bench.start(bench.bash(f"env -i {sys.executable} -SE daemon.py {ready} {how}; {after}"))
    pid, variables = ready.read_text("ascii").split()
    return runner, int(pid), int(variables)


def hidden_after_a_stop(bench: Bench) -> dict[str, Any]:
    runner, pid, variables = _hidden(bench, "quiet", "exec sleep 300")
    bench.inbox.post(Signalled("SIGTERM"))
    session = os.getsid(pid)
    bench.attend(runner)
    return {"variables": variables, "own_session": session != os.getsid(0), "there": there(pid)}


def hidden_after_a_green_end(bench: Bench) -> dict[str, Any]:
    runner, pid, _ = _hidden(bench, "quiet", "exit 0")
    watch = bench.attend(runner)
    return {"code": watch.exit_code, "there": there(pid), "told": "work.leftovers_killed" in bench.said()}


def output_held_open(bench: Bench) -> dict[str, Any]:
    runner, pid, _ = _hidden(bench, "loud", "echo green; exit 0")
    watch = bench.attend(runner)
    held = "work.output_held_open" in bench.said()
    return {"code": watch.exit_code, "there": there(pid), "held": held, "lines": bench.lines()}


def _living_threads(pid: int) -> int:
    """Those of a process that run or wait: one that was killed is listed as a zombie until its parent has looked."""
    states = []
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):  # reaped meanwhile
            states.append(stat.read_text("ascii").rpartition(")")[2].split()[0])
    return sum(state not in ("Z", "X") for state in states)


def hidden_behind_a_thread(bench: Bench) -> dict[str, Any]:
    """Its first thread has ended: the kernel shows a zombie that works on."""
    program = (
        "import ctypes, os, platform, threading, time\n"
        f"def work():\n  open('{bench.gate('ready')}', 'w').write(str(os.getpid()))\n  while True: time.sleep(300)\n"
        "threading.Thread(target=work).start()\n"
        "ctypes.CDLL(None).syscall(60 if platform.machine() == 'x86_64' else 93, 0)\n"
    )
    (bench.directory / "leaderless.py").write_text(program, encoding="utf-8")
    runner = bench.start(bench.bash(f"{sys.executable} -SE leaderless.py & read -r _ < {bench.gate('go')}; exit 0"))
    pid = int((bench.directory / "ready").read_text("ascii"))
    while Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z":
        os.sched_yield()
    (bench.directory / "go").write_text("go\n", encoding="ascii")
    bench.attend(runner)
    left = _living_threads(pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return {"threads_left": left}


TREE = {
    "run.sh": "trap 'echo run.sh >> told' INT TERM\nbash helper.sh\necho run.sh after >> told\n",
    "helper.sh": "trap 'echo helper >> told' INT TERM\n./Runner.Listener run\necho helper after >> told\n",
    "Runner.Listener": "trap 'echo listener $WORD >> told; kill -KILL $!; exit 0' {signal}\nbash step.sh &\nwait $!\n",
    "step.sh": "trap 'echo step >> told' INT TERM\necho here > ready\nread -r _ < never\n",
}


def _tree(bench: Bench, number: str) -> Runner:
    for name, text in TREE.items():
        path = bench.directory / name
        path.write_text("#!/bin/bash\n" + text.replace("{signal}", number), encoding="utf-8")
        path.chmod(0o755)
    ready = bench.gate("ready")
    bench.gate("never")
    runner = bench.start(bench.launch("bash", "run.sh"))
    ready.read_text("ascii")
    return runner


def interrupted_listener(bench: Bench) -> dict[str, Any]:
    runner = _tree(bench, "INT")
    reached = runner.interrupt()
    code, _ = bench.both_ends()
    return {"reached": reached, "code": code, "told": (bench.directory / "told").read_text("ascii").split("\n")[:-1]}


def terminated_listener(bench: Bench) -> dict[str, Any]:
    runner = _tree(bench, "TERM")
    reached = runner.terminate()
    code, _ = bench.both_ends()
    return {"reached": reached, "code": code, "told": (bench.directory / "told").read_text("ascii").split("\n")[:-1]}


def no_listener(bench: Bench) -> dict[str, Any]:
    ready = bench.gate("ready")
    runner = bench.start(bench.bash(f"trap 'exit 9' INT; echo here > {ready}; read -r _ < {bench.gate('never')}"))
    ready.read_text("ascii")
    first = runner.interrupt()
    code, _ = bench.both_ends()
    return {"first": first, "code": code, "later": [runner.interrupt(), runner.terminate()], "swept": runner.sweep(1.0)}


def a_clean_child(bench: Bench) -> dict[str, Any]:
    program = (
        "import json, os, time\n"
        "oom = lambda: open('/proc/self/oom_score_adj').read().strip()\n"
        "until = time.monotonic() + 60\n"
        "while oom() == '0' and time.monotonic() < until: time.sleep(0.001)\n"  # it is written once the child is there
        "status = dict(line.split(':\\t') for line in open('/proc/self/status') if line.startswith('Sig'))\n"
        "print(json.dumps({'stdin': os.readlink('/proc/self/fd/0'), 'leads': os.getsid(0) == os.getpid() == os.getpgid(0),"
        " 'environment': open('/proc/self/environ').read().split(chr(0))[:-1], 'cwd': os.getcwd(),"
        " 'descriptors': [n for n in sorted(map(int, os.listdir('/proc/self/fd'))) if os.path.exists(f'/proc/self/fd/{n}')],"
        " 'oom': oom()}))\n"
    )
    bench.start(Launch((sys.executable, "-SEc", program), bench.directory, {"ONLY": "this", "PATH": "/usr/bin:/bin"}))
    bench.both_ends()
    return {**json.loads(bench.lines()[0]), "directory": str(bench.directory)}


def signals_of_a_child(bench: Bench) -> dict[str, Any]:
    bench.start(bench.launch("grep", "^Sig", "/proc/self/status"))
    code, _ = bench.both_ends()
    masks = {name: int(value, 16) for name, value in (line.split(":\t") for line in bench.lines() if "SigQ" not in line)}
    ignored = [number.name for number in signal.Signals if masks["SigIgn"] >> (number - 1) & 1]
    return {"code": code, "ignored": ignored, "blocked": masks["SigBlk"]}


def zombies(bench: Bench) -> dict[str, Any]:
    runner = bench.start(bench.bash("for i in $(seq 20); do (setsid true &) ; done; exit 0"))
    bench.attend(runner)
    while True:  # blocks while any child lives; the reaper alone takes them away
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            return {"children": children()}


def run_to_the_end(bench: Bench) -> dict[str, Any]:
    done = bench.processes.run(bench.bash("seq 1 10000; echo last >&2; exit 4"), 10.0)
    return {"code": done.code, "tail_bytes": len(done.tail), "end": done.tail.split()[-2:]}


def run_beyond_its_bound(bench: Bench) -> dict[str, Any]:
    script = f"echo $$ > {bench.directory}/own; sleep 300 & echo $! > {bench.directory}/child; echo begun; exec sleep 300"
    done = bench.processes.run(bench.bash(script), 0.3)
    pids = [int((bench.directory / name).read_text("ascii")) for name in ("own", "child")]
    for pid in pids:
        wait_gone(pid)
    return {"code": done.code, "tail": done.tail, "there": [there(pid) for pid in pids]}


def run_after_everything_was_swept(bench: Bench) -> dict[str, Any]:
    """Others try again and again meanwhile, as a registration does that nobody waits for any more."""
    refused: queue.SimpleQueue[str] = queue.SimpleQueue()

    def again() -> None:
        while True:
            try:
                bench.processes.run(bench.bash(f"echo $$ >> {bench.directory}/tried; exec sleep 300"), 300.0)
            except OSError as error:
                refused.put(str(error))
                return

    threads = [threading.Thread(target=again) for _ in range(4)]
    for thread in threads:
        thread.start()
    while not (bench.directory / "tried").exists():
        os.sched_yield()
    bench.processes.sweep(20.0)
    for thread in threads:
        thread.join()
    left = [pid for pid in map(int, (bench.directory / "tried").read_text("ascii").split()) if there(pid)]
    try:
        bench.processes.start(bench.bash("sleep 300"))
    except OSError as error:
        refused.put(str(error))
    last = bench.processes.run(replace(bench.bash("exit 7"), after_sweep=True), 60.0)
    return {"left": left, "refused": refused.qsize(), "last": last.code}


def run_beyond_its_bound_with_groups(bench: Bench) -> dict[str, Any]:
    script = f"set -m; sleep 300 & echo $! > {bench.directory}/child; wait"
    bench.processes.run(bench.bash(script), 0.3)
    pid = int((bench.directory / "child").read_text("ascii"))
    wait_gone(pid)
    left = there(pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return {"there": left}


def run_beside_other_work(bench: Bench) -> dict[str, Any]:
    """Whatever is opened while a child runs must still be open when it has ended."""
    ready, go = bench.gate("ready"), bench.gate("go")
    ended: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    script = f"echo here > {ready}; read -r _ < {go}; exit 0"
    threading.Thread(target=lambda: ended.put(bench.processes.run(bench.bash(script), 20.0).code)).start()
    ready.read_text("ascii")
    while len(pipes := [link for link in open_files() if link.startswith("pipe:")]) > len(set(pipes)):
        os.sched_yield()  # until the run has closed the end that is the child's
    ours = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
    go.write_text("go\n", encoding="ascii")
    code = ended.get()
    closed = 0
    for descriptor in ours:
        try:
            os.fstat(descriptor)
        except OSError:
            closed += 1
    return {"code": code, "closed_under_us": closed}


def run_with_an_heir_of_its_output(bench: Bench) -> dict[str, Any]:
    """A grandchild holds the output open: the run is over all the same, and nothing of ours is read by its reader."""
    go, done = bench.gate("go"), bench.gate("done")
    script = f"(setsid bash -c 'read -r _ < {go}; echo more; echo done > {done}' &); echo here; exit 0"
    finished = bench.processes.run(bench.bash(script), 10.0)
    pipes = [os.pipe() for _ in range(10)]
    go.write_text("go\n", encoding="ascii")
    done.read_text("ascii")
    stolen = 0
    for readable, writable in pipes:
        os.write(writable, b"ours")
        os.set_blocking(readable, False)
    for readable, _ in pipes:
        for _ in range(200):
            os.sched_yield()
        try:
            stolen += os.read(readable, 4) != b"ours"
        except BlockingIOError:
            stolen += 1
    return {"code": finished.code, "tail": finished.tail, "stolen": stolen}


def main(name: str) -> None:
    scenario = globals()[name]
    with tempfile.TemporaryDirectory(prefix="posix-", ignore_cleanup_errors=True) as made:
        found = scenario(Path(made) if name == "flooding_beyond_the_cap" else Bench(Path(made)))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
