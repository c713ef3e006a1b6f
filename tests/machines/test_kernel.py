"""Machines with a kernel of their own, for what a container cannot prove: the way EC2 boots, the clock, a kernel that hangs."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agent.contract.messages import Busy, FinalWord, Started, Status
from tests.conftest import Moto
from tests.machines import qemu, tree
from tests.machines.boot_env import CONSOLE, BootEnv
from tests.machines.network import short_name

NEEDED = [tool for tool in ("qemu-system-x86_64", "mmdebstrap", "mke2fs", "debugfs") if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or bool(NEEDED), reason=f"NO KERNEL WAS BOOTED: needs root{''.join(f', {tool}' for tool in NEEDED)}"
)
OFF_S = 420.0
"""Seconds from power-on within which each of these is off: fifty if qemu must emulate, or twice that, or with busy neighbours."""
AT_WORK = "/dev/shm/at-work"
"""What a job makes to say that it runs; gone when the machine starts again."""
HOLD = f"trap 'exit 1' INT; touch {AT_WORK}; sleep 1000 >/dev/null 2>&1 & wait"

OFTEN = "[Timer]\nOnUnitInactiveSec=4s\n"
HANDLER, ENDLESS_LOOP = "sysrq_handle_loglevel", b"\xeb\xfe"
"""A function of the kernel that root may have called, and what it becomes: `jmp` to itself."""


class KernelGround(BootEnv):
    """The same world, around a machine with a kernel of its own. `wired`: whether its network leads anywhere."""

    def __init__(self, moto: Moto, image: Path, directory: Path, *, wired: bool = True) -> None:
        self.moto, self.name = moto, short_name()
        self._queue = moto.client("sqs").create_queue(QueueName="terminations")["QueueUrl"]
        launched = moto.client("ec2").run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)
        self.instance_id = launched["Instances"][0]["InstanceId"]
        self.metadata = qemu.Metadata(self.instance_id, "us-east-1")
        self.guest = qemu.Guest(image, directory / self.name, self.metadata, urlsplit(moto.url).port if wired else None)
        self.machine = self.guest  # type: ignore[assignment]
        self.guest.put("/etc/systemd/journald.conf.d/console.conf", CONSOLE)
        aws = f"http://{qemu.CLOUD}:{qemu.AWS_PORT}"
        self.settings = {
            "RUNS_FLEET_TERMINATION_QUEUE_URL": f"{aws}{urlsplit(self._queue).path}", "AWS_ENDPOINT_URL": aws,
            "RUNS_FLEET_GRACE_SECONDS": "5",
        }  # fmt: skip

    def when_the_job_runs(self, script: str) -> None:
        """What root does on the machine as soon as the job says that it runs."""
        unit = "/etc/systemd/system/intruder"
        self.guest.put("/usr/local/sbin/intruder", f"#!/bin/bash\n{script}\n", 0o755)
        self.guest.put(f"{unit}.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/local/sbin/intruder\n")
        self.guest.put(f"{unit}.path", f"[Path]\nPathExists={AT_WORK}\n")
        self.guest.link("/etc/systemd/system/paths.target.wants/intruder.path", f"{unit}.path")

    def close(self) -> None:
        """Nothing is left."""
        self.guest.destroy()
        self.metadata.stop()


@pytest.fixture(scope="session")
def image() -> Path:
    return tree.image(tree.baked(tree.bundle(), kernel=True))


@pytest.fixture
def grounds(moto: Moto, image: Path, tmp_path: Path) -> Iterator[Callable[..., KernelGround]]:
    made: list[KernelGround] = []

    def make(**how: bool) -> KernelGround:
        made.append(KernelGround(moto, image, tmp_path, **how))
        return made[-1]

    yield make
    for boot_env in made:
        boot_env.close()


@pytest.fixture
def boot_env(grounds: Callable[..., KernelGround]) -> KernelGround:
    return grounds()


def test_a_green_job_with_user_data_from_ec2(boot_env: KernelGround) -> None:
    boot_env.configure()
    boot_env.play("id -un; ! curl -sS --max-time 2 http://169.254.169.254/latest/api/token -X PUT")
    boot_env.boot()

    took_s = boot_env.guest.wait_off(OFF_S)

    *notices, word = boot_env.messages()
    assert [type(notice) for notice in notices] == [Started, Busy], boot_env.guest.console
    assert isinstance(word, FinalWord)
    assert (word.status, word.error, boot_env.state()) == (Status.SUCCESS, "", "terminated")
    assert boot_env.guest.file(f"/var/lib/cloud/instances/{boot_env.instance_id}/datasource").startswith("DataSourceEc2")
    _write_timings(boot_env.guest, took_s, word)


def test_a_clock_set_a_day_ahead_and_a_day_back_ends_nothing_early_and_forgets_nothing(boot_env: KernelGround) -> None:
    boot_env.configure(max_runtime_minutes=1.5)  # an emulated machine on a busy one takes half a minute to set its clock
    boot_env.play(HOLD)
    check = "systemctl start runs-fleet-deadline"
    boot_env.when_the_job_runs(f"date --set='+1 day' && {check}; date --set='-2 days' && {check}; echo both set")
    boot_env.guest.put("/etc/systemd/system/runs-fleet-deadline.timer.d/often.conf", OFTEN)
    boot_env.boot()

    boot_env.guest.wait_off(OFF_S)

    word = boot_env.word()
    assert (word.status, word.reason, boot_env.state()) == (Status.TIMEOUT, "max_runtime", "terminated"), boot_env.guest.console
    begun_s, set_s, ended_s = (_at_s(boot_env.guest, words) for words in ("phase=running", "both set", "phase=settling"))
    assert max(begun_s, set_s) < ended_s, "the clock was set while the job ran"
    assert 90 <= ended_s - begun_s < 90 + 300
    assert 90 <= word.duration_seconds < 90 + 300
    assert "Finished runs-fleet-deadline.service" in boot_env.guest.console.partition("both set")[2], "its timer is lost"
    assert "switching off" not in boot_env.guest.console


def test_a_kernel_that_hangs_starts_again_and_runs_no_second_job(boot_env: KernelGround) -> None:
    """A processor that never comes back from the kernel: what watches over it panics, and a panic starts the machine again."""
    boot_env.configure()
    boot_env.play(HOLD)
    boot_env.when_the_job_runs(
        "sysctl kernel.softlockup_panic kernel.panic; sysctl --write kernel.watchdog_thresh=3 kernel.panic=1;"
        f"grep -w {HANDLER} /proc/kallsyms; while :; do echo 7 > /proc/sysrq-trigger; sleep 0.2; done"
    )
    boot_env.boot()
    boot_env.guest.shows(f" t {HANDLER}")
    found = re.search(rf"([0-9a-f]{{16}}) t {HANDLER}", boot_env.guest.console)
    assert found

    boot_env.guest.patch(int(found[1], 16), ENDLESS_LOOP)
    boot_env.guest.wait_off(OFF_S)

    word = boot_env.word()
    assert (word.status, word.reason, word.job_id, word.session_id) == (Status.INTERRUPTED, "rebooted", "7", "s-1")
    console = boot_env.guest.console
    assert "kernel.softlockup_panic = 1" in console and "kernel.panic = 10" in console
    assert "Kernel panic - not syncing: softlockup: hung tasks" in console
    assert (boot_env.guest.boots, console.count("phase.entered phase=running")) == (2, 1)


def test_a_network_that_is_dead_from_the_start(grounds: Callable[..., KernelGround]) -> None:
    boot_env = grounds(wired=False)
    boot_env.guest.put("/etc/runs-fleet/deadline.env", "RUNS_FLEET_START_SECONDS=120\n")
    boot_env.guest.put("/etc/systemd/system/runs-fleet-deadline.timer.d/often.conf", OFTEN)
    boot_env.boot()

    boot_env.guest.wait_off(OFF_S)

    assert "DHCPDISCOVER" in boot_env.guest.console
    assert "no agent was started within 120 s" in boot_env.guest.console
    assert boot_env.messages() == []


def _at_s(guest: qemu.Guest, words: str) -> float:
    """When the console showed `words`, on the machine's monotonic clock."""
    found = re.search(rf"\[ *(\d+\.\d+)\] [^\n]*{re.escape(words)}", guest.console)
    assert found, f"never showed {words!r}:\n{guest.console[-6000:]}"
    return float(found[1])


def _write_timings(guest: qemu.Guest, took_s: float, word: FinalWord) -> None:
    """Seconds since the kernel started, for whoever measures: where RUNS_FLEET_TIMINGS says."""
    if not (path := os.environ.get("RUNS_FLEET_TIMINGS")):
        return
    marks = {
        "init": "Run /init", "systemd": "running in system mode", "cloud_init_local": "Starting cloud-init-local.service",
        "datasource_found": "Finished cloud-init-local.service", "network": "Reached target network.target",
        "user_data_done": "Finished cloud-init.service", "agent": "phase.entered phase=waking",
        "runner": "phase.entered phase=running", "final_word": "final_word.delivered", "power_off": "reboot: Power down",
    }  # fmt: skip
    timings = {
        "accelerator": qemu.accelerator(), "power_on_to_off_s": round(took_s, 1),
        "at_s": {name: _at_s(guest, words) for name, words in marks.items()}, "agent_ms": word.phases_ms,
    }  # fmt: skip
    Path(path).write_text(json.dumps(timings, indent=2), "utf-8")
