"""The agent as a real process: real signals, a real runner tree, AWS and the metadata service over HTTP."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.contract.messages import Busy, Interrupting, Started, Status
from agent.contract.names import config_object, parameter_name
from agent.phases import Phase
from sandbox.imds import Metadata
from sandbox.runner import release
from tests.conftest import Moto
from tests.integration.agent_harness import BRIEF, CHECKOUT, KEY, STRIKE, AgentHarness, blob
from tests.sandbox.runner_driver import alive
from tests.waiting import sooner_or_later
from tests.wires import Relay

GROUP = "/runs-fleet/agent"
WRAPPED = [str(CHECKOUT / "userdata" / "run-agent.sh"), sys.executable, "-m", "agent"]


@pytest.fixture
def harness(moto: Moto, tmp_path: Path) -> Iterator[AgentHarness]:
    made = AgentHarness(moto, tmp_path)
    yield made
    assert sooner_or_later(lambda: not made.kill_what_is_left()), "what an agent started outlives SIGKILL"


@pytest.fixture
def hung() -> Iterator[str]:
    """An endpoint that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_bare_agent_exits_78_and_runs_nothing(tmp_path: Path) -> None:
    dead = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(CHECKOUT), "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9"}

    bare = subprocess.run(
        [sys.executable, "-m", "agent"], env=dead, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )

    assert bare.returncode == 78
    assert "RUNS_FLEET_TERMINATION_QUEUE_URL is missing" in bare.stderr
    assert "RUNS_FLEET_INSTANCE_ID is missing" in bare.stderr
    assert "power_off.none" in bare.stderr
    assert list(tmp_path.iterdir()) == []


def test_wrong_settings_are_all_named_and_the_machine_still_goes_away(harness: AgentHarness) -> None:
    agent = harness.live(RUNS_FLEET_MAX_RUNTIME="soon", RUNS_FLEET_WORK_DIR="relative", RUNS_FLEET_GITHUB_URL="ftp://x")

    assert agent.code == 78
    assert all(name in agent.log for name in ("RUNS_FLEET_MAX_RUNTIME", "RUNS_FLEET_WORK_DIR", "RUNS_FLEET_GITHUB_URL"))
    assert harness.state() == "terminated"
    assert (harness.word().job_id, harness.messages()) == ("", [])


def test_rq2_one_green_job_then_the_word_then_the_end(harness: AgentHarness) -> None:
    harness.configure()
    harness.play("echo one", "echo two")

    agent = harness.live(RUNS_FLEET_LOG_GROUP=GROUP)

    messages = harness.messages()
    assert [type(m).__name__ for m in messages] == ["Started", "Busy", "FinalWord"]
    word = messages[-1]
    assert (agent.code, word.status, word.exit_code, word.error) == (0, Status.SUCCESS, 0, "")  # type: ignore[union-attr]
    assert all((m.session_id, m.attempt, m.job_id, bool(m.message_id)) == ("s-1", 2, "7", True) for m in messages)  # type: ignore[union-attr]
    assert isinstance(messages[0], Started)
    assert messages[0].self_termination == "permitted"
    assert isinstance(messages[1], Busy)
    assert harness.state() == "terminated"
    assert not harness.off.exists()


def test_a_red_job_is_a_failure_with_the_listeners_own_exit_code(harness: AgentHarness) -> None:
    harness.configure()
    harness.play("exit 3")

    agent = harness.live()

    word = harness.word()
    assert (agent.code, word.status, word.exit_code, word.job_result) == (0, Status.FAILURE, 1, "Failed")
    assert (word.runner_exit_code, word.reason, word.log_outcome) == (102, "job_failed", "disabled")
    assert any("RUNS_FLEET_LOG_GROUP" in part for part in word.degraded)


def test_the_job_sees_only_the_allow_list(harness: AgentHarness) -> None:
    harness.configure()
    harness.play(f"env > {harness.root}/job-env; cat /proc/$PPID/environ | tr '\\0' '\\n' >> {harness.root}/job-env")

    harness.live(AWS_SESSION_TOKEN="a-session-token-nobody-may-see", RUNS_FLEET_S3_CACHE_ENDPOINT="http://cache.example")

    seen = dict(line.split("=", 1) for line in (harness.root / "job-env").read_text("utf-8").splitlines() if "=" in line)
    ours = {name for name in seen if name.startswith(("AWS_", "RUNS_FLEET_"))}
    assert ours == {"AWS_REGION", "AWS_DEFAULT_REGION", "RUNS_FLEET_ATTEMPT", "RUNS_FLEET_S3_CACHE_ENDPOINT"}
    assert seen["ACTIONS_CACHE_URL"] == "http://cache.example"
    assert not any("a-session-token" in value or KEY in value or blob() in value for value in seen.values())


def test_no_secret_reaches_log_stream_messages_or_argv(harness: AgentHarness) -> None:
    harness.configure()
    harness.play(f"for p in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $p >> {harness.root}/argv 2>/dev/null || true; done")
    listener = harness.runner_dir / "bin" / "Runner.Listener"
    listener.rename(listener.with_name("Real"))
    listener.write_text(f'#!/bin/bash\necho "leaked {blob()} and {KEY}"\nexec "$(dirname "$0")/Real" "$@"\n', "utf-8")
    listener.chmod(0o755)

    agent = harness.live(RUNS_FLEET_LOG_GROUP=GROUP)

    said = "\n".join(
        [agent.log, *harness.log_lines(GROUP), *(repr(m) for m in harness.messages()), (harness.root / "argv").read_text("utf-8")]
    )
    assert KEY not in said
    assert blob() not in said
    assert "leaked *** and ***" in said


def test_a_late_configuration_is_waited_for(harness: AgentHarness) -> None:
    harness.play("true")
    with harness.agent() as agent:
        agent.says("configuration.not_yet")
        harness.configure()
        agent.process.wait(600)

    assert (agent.code, harness.word().status) == (0, Status.SUCCESS)


def test_a_configuration_is_taken_from_an_object_of_its_own_if_the_operator_says_so(harness: AgentHarness) -> None:
    moto = harness.moto
    moto.client("s3").create_bucket(Bucket="config")
    harness.configure()
    name = parameter_name(harness.instance_id)
    text = moto.client("ssm").get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
    moto.client("ssm").delete_parameter(Name=name)
    harness.play("true")
    with harness.agent(RUNS_FLEET_CONFIG_SOURCE="s3", RUNS_FLEET_CONFIG_BUCKET="config") as agent:
        agent.says("configuration.not_yet")
        key = config_object(moto.client("sts").get_caller_identity()["UserId"])
        moto.client("s3").put_object(Bucket="config", Key=key, Body=text.encode())
        agent.process.wait(600)

    assert (agent.code, harness.word().status) == (0, Status.SUCCESS), agent.log
    assert "code=NoSuchKey" in agent.log


def test_a_configuration_that_never_comes_ends_with_75_and_a_word(harness: AgentHarness) -> None:
    agent = harness.live(RUNS_FLEET_CONFIG_TIMEOUT_SECONDS="1")

    assert (agent.code, harness.word().reason, harness.state()) == (75, "configuration_missing", "terminated")


def test_credentials_and_identity_come_from_the_metadata_service(harness: AgentHarness) -> None:
    metadata = Metadata(harness.instance_id, "us-east-1")
    harness.configure()
    harness.play("true")

    absent = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None, "AWS_REGION": None, "AWS_DEFAULT_REGION": None}
    agent = harness.live(
        AWS_EC2_METADATA_SERVICE_ENDPOINT=metadata.url, RUNS_FLEET_INSTANCE_ID=None, HOME="/nonexistent", **absent
    )

    metadata.stop()
    assert (agent.code, harness.word().status, harness.state()) == (0, Status.SUCCESS, "terminated")


def test_a_spot_notice_interrupts_the_job_and_says_when(harness: AgentHarness) -> None:
    metadata = Metadata(harness.instance_id, "us-east-1")
    harness.configure()
    harness.play("trap 'exit 1' INT; echo up; while :; do sleep 0.05; done")

    with harness.agent(AWS_EC2_METADATA_SERVICE_ENDPOINT=metadata.url) as agent:
        agent.says("message.outcome kind=busy")
        metadata.spot_notice(in_s=100)
        agent.process.wait(600)

    metadata.stop()
    messages = harness.messages()
    word = messages[-1]
    assert (word.status, word.reason) == (Status.INTERRUPTED, "spot_notice")  # type: ignore[union-attr]
    assert any(isinstance(m, Interrupting) and m.ends_at is not None for m in messages)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_rq8_a_signal_becomes_one_sigint_to_the_listener(harness: AgentHarness, name: str) -> None:
    harness.configure()
    harness.play("trap 'exit 1' INT; while :; do sleep 0.05; done")

    with harness.agent() as agent:
        agent.says("message.outcome kind=busy")
        agent.process.send_signal(getattr(signal, name))
        agent.process.wait(600)

    word = harness.word()
    assert (agent.code, word.status, word.reason, word.job_result) == (0, Status.INTERRUPTED, "signal", "Canceled")
    assert agent.log.count("work.signalled signal=SIGINT") == 1


def test_a3_the_maximum_runtime_ends_a_stubborn_job_with_its_own_status(moto: Moto, tmp_path: Path) -> None:
    agent, word = None, None
    for minutes in (0.02, 0.2, 2.0, 10.0):  # a busy machine may need longer until the job is deaf
        harness = AgentHarness(moto, tmp_path / str(minutes))
        deaf = harness.root / "deaf"
        harness.configure(max_runtime_minutes=minutes)
        harness.play(f"trap '' INT TERM; touch {deaf}; while :; do sleep 0.05; done")
        agent = harness.live(RUNS_FLEET_GRACE_SECONDS="0.5", RUNS_FLEET_LOG_GROUP=GROUP)
        word = harness.word()
        if deaf.exists():
            break

    assert agent is not None and word is not None
    assert (agent.code, word.status, word.reason) == (0, Status.TIMEOUT, "max_runtime")
    assert word.log_outcome == "shipped"
    assert "work.killed" in agent.log


@pytest.mark.parametrize("last", ["true", "exit 1"])
def test_whatever_a_job_leaves_running_is_killed_at_every_end(harness: AgentHarness, last: str) -> None:
    harness.configure()
    mark = f"{harness.root}/still-here"
    hidden = f"env -i /bin/bash -c 'setsid setsid bash -c \"echo \\$\\$ > {mark}; exec sleep 600\" & ' >/dev/null 2>&1 </dev/null"
    harness.play(f"{hidden}; while [ ! -s {mark} ]; do sleep 0.01; done; {last}")

    agent = harness.live()

    pid = int(Path(mark).read_text("utf-8"))
    assert "work.leftovers_killed" in agent.log
    assert not alive(pid)


def test_the_listener_killed_is_a_failure_and_its_worker_is_not_left(harness: AgentHarness) -> None:
    harness.configure()
    harness.play("echo up; while :; do sleep 0.05; done")
    with harness.agent() as agent:
        agent.says("message.outcome kind=busy")
        listeners = subprocess.run(
            ["pgrep", "-f", f"{harness.runner_dir}/bin/Runner.Listener"], capture_output=True, text=True, check=True
        )
        os.kill(int(listeners.stdout.split()[0]), signal.SIGKILL)
        agent.process.wait(600)

    word = harness.word()
    assert (word.status, word.reason) == (Status.FAILURE, "listener_killed")
    assert subprocess.run(["pgrep", "-f", f"{harness.runner_dir}/bin/Runner.Worker"], check=False).returncode == 1


def test_the_worker_killed_is_a_failed_job(harness: AgentHarness) -> None:
    harness.configure()
    harness.play("kill -9 $PPID; sleep 1")

    harness.live()

    assert harness.word().status is Status.FAILURE


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("version_too_old", "version_refused"),
        ("deleted", "registration_deleted"),
        ("session_conflict", "session_conflict"),
        ("lost", "job_lost"),
    ],
)
def test_what_the_runner_refuses_is_named(harness: AgentHarness, fault: str, reason: str) -> None:
    harness.configure()
    harness.play("true", fault=fault)

    harness.live()

    word = harness.word()
    assert (word.status, word.reason) == (Status.FAILURE, reason)
    assert word.error


def test_a_runner_that_updates_itself_all_the_same_still_runs_its_job(harness: AgentHarness) -> None:
    harness.configure()
    harness.play("true", fault="update")

    harness.live(RUNS_FLEET_LOG_GROUP=GROUP)

    lines = harness.log_lines(GROUP)
    assert any(line.startswith("Runner update in progress") for line in lines)
    assert sum(line.endswith("Listening for Jobs") for line in lines) == 1
    assert harness.word().status is Status.SUCCESS


@pytest.mark.parametrize("fault", ["never", "hang_after_acknowledge"])
def test_a_runner_that_nobody_claims_or_that_hangs_with_its_claim_is_stopped_at_the_idle_limit(
    harness: AgentHarness, fault: str
) -> None:
    harness.configure()
    harness.play("true", fault=fault)

    agent = harness.live(RUNS_FLEET_IDLE_TIMEOUT_SECONDS="0.5")

    word = harness.word()
    assert (agent.code, word.status, word.reason) == (0, Status.INTERRUPTED, "unclaimed")


def test_a_restart_loop_is_never_endless(harness: AgentHarness) -> None:
    harness.configure()
    harness.play("true", fault="retryable")
    helper = harness.runner_dir / "run-helper.sh.template"
    helper.write_text(helper.read_text("utf-8").replace("${STANDIN_RESTART_SECONDS:-5}", "0"), "utf-8")

    harness.live()

    assert harness.word().reason == "restart_loop"


def test_log_lines_and_our_events_share_one_stream_in_order(harness: AgentHarness) -> None:
    harness.configure()
    harness.play("true")

    harness.live(RUNS_FLEET_LOG_GROUP=GROUP)

    lines = harness.log_lines(GROUP)
    listening = next(at for at, line in enumerate(lines) if line.endswith("Listening for Jobs"))
    assert '"event":"work.started"' in lines[0]
    assert any(line.endswith("completed with result: Succeeded") for line in lines[listening:])
    assert harness.word().log_lines_shipped == len(lines)


def test_a10_diagnostic_logs_are_kept_also_when_the_runner_is_killed(harness: AgentHarness) -> None:
    harness.moto.client("s3").create_bucket(Bucket="diagnostics")
    harness.configure()
    deaf = harness.root / "deaf"
    harness.play(f"trap '' INT TERM; touch {deaf}; while :; do sleep 0.05; done")

    with harness.agent(RUNS_FLEET_GRACE_SECONDS="0.1", RUNS_FLEET_LOGS_BUCKET="diagnostics") as agent:
        assert sooner_or_later(lambda: deaf.exists() or agent.process.poll() is not None) and deaf.exists(), agent.log
        agent.process.send_signal(signal.SIGTERM)
        agent.process.wait(600)

    assert "work.killed" in agent.log
    keys = [item["Key"] for item in harness.moto.client("s3").list_objects_v2(Bucket="diagnostics")["Contents"]]
    assert {key.rpartition("/")[2].split("_")[0] for key in keys} == {"Runner", "Worker"}
    assert harness.word().diag_outcome == "uploaded"


@pytest.mark.parametrize(
    ("told", "digest"), [({"runner_sha256"}, "configuration"), (set(), "recorded")], ids=["by digest", "by version"]
)
def test_rq4_the_release_comes_from_s3_though_github_cannot_be_reached(
    harness: AgentHarness, told: set[str], digest: str
) -> None:
    archive = release.archive("2.998.0")
    harness.moto.client("s3").create_bucket(Bucket="config")
    key = "runners/2.998.0/x64/actions-runner-2.998.0.tar.gz"
    harness.moto.client("s3").put_object(Bucket="config", Key=key, Body=archive.content, Metadata={"sha256": archive.sha256})
    harness.configure(runner_version="2.998.0", **dict.fromkeys(told, archive.sha256))

    harness.live(
        RUNS_FLEET_CONFIG_BUCKET="config", RUNS_FLEET_RUNNER_DIR="/nonexistent/runner", RUNS_FLEET_IDLE_TIMEOUT_SECONDS="0.5",
        RUNS_FLEET_GITHUB_API_URL="http://127.0.0.1:9",
    )  # fmt: skip

    word = harness.word()
    assert (word.reason, word.digest, word.cache_outcome) == ("unclaimed", digest, "hit")
    doubts = [part for part in word.degraded if part.startswith("release: GitHub could not be reached")]
    assert len(doubts) == (digest == "recorded")
    assert not list(harness.work.glob("runner-*"))


HELD = [Phase.WAKING, Phase.PREPARING, Phase.REGISTERING, Phase.RUNNING, Phase.SETTLING, Phase.REPORTING, Phase.TERMINATING]
"""The phases that can be held open from outside."""


@pytest.mark.parametrize("phase", HELD)
def test_a18_an_agent_killed_in_any_phase_leaves_no_machine_up(harness: AgentHarness, phase: Phase, hung: str) -> None:
    relay, go = Relay(harness.moto.url), harness.root / "go"
    harness.play(f"until [ -e {go} ]; do sleep 0.05; done" if phase in (Phase.RUNNING, Phase.REPORTING) else "true")
    if phase is Phase.REGISTERING:
        harness.configure(jit_config=None, jit_token="AREGtoken12345", labels=["x"])
        (harness.runner_dir / "config.sh").write_text("#!/bin/bash\nexec sleep 60\n", "utf-8")
    elif phase is not Phase.PREPARING:
        harness.configure()
    slow: dict[Phase, dict[str, Any]] = {
        Phase.WAKING: {"RUNS_FLEET_INSTANCE_ID": None, "AWS_EC2_METADATA_SERVICE_ENDPOINT": hung},
        Phase.SETTLING: {"AWS_ENDPOINT_URL_LOGS": hung, "RUNS_FLEET_LOG_GROUP": GROUP},
        Phase.REPORTING: {"AWS_ENDPOINT_URL_SQS": relay.url},
        Phase.TERMINATING: {"AWS_ENDPOINT_URL_EC2": hung},
    }

    with harness.agent(WRAPPED, **slow.get(phase, {})) as agent:
        if phase is Phase.REPORTING:
            agent.says("message.outcome kind=busy")
            relay.hang()
            go.touch()
        agent.says(f"phase.entered phase={phase.value}")
        killed = subprocess.run(["pgrep", "-P", str(agent.process.pid)], capture_output=True, text=True, check=True)
        os.kill(int(killed.stdout.split()[0]), signal.SIGKILL)
        agent.process.wait(600)

    relay.stop()
    assert harness.off.exists()


@pytest.mark.parametrize("phase", BRIEF)
def test_a18_an_agent_killed_in_a_brief_phase_leaves_no_machine_up(harness: AgentHarness, phase: Phase) -> None:
    harness.configure()
    harness.play("true")
    event, word = BRIEF[phase]
    (harness.root / "sitecustomize.py").write_text(STRIKE.format(event=event, word=word), "utf-8")

    with harness.agent(WRAPPED, PYTHONPATH=f"{harness.root}:{CHECKOUT}") as agent:
        agent.process.wait(600)
    entered = [line.rpartition("=")[2].strip() for line in agent.log.splitlines() if "phase.entered" in line]

    assert entered[-1:] == [phase.value], agent.log
    assert agent.code == 128 + signal.SIGKILL
    assert harness.off.exists()


def test_the_brief_phases_and_those_held_open_are_all_there_are() -> None:
    assert {*HELD, *BRIEF} == set(Phase)


@pytest.mark.parametrize("broken", ["boto3 is not importable", "no instance id"])
def test_the_net_runs_the_power_off_command(harness: AgentHarness, broken: str, tmp_path: Path) -> None:
    harness.configure()
    harness.play("true")
    poisoned = tmp_path / "poisoned" / "boto3"
    poisoned.mkdir(parents=True)
    (poisoned / "__init__.py").write_text("raise ImportError('planted')", "utf-8")
    extra: dict[str, Any] = {
        "boto3 is not importable": {"PYTHONPATH": f"{poisoned.parent}:{CHECKOUT}", "RUNS_FLEET_LOG_GROUP": GROUP},
        "no instance id": {"RUNS_FLEET_INSTANCE_ID": None},
    }[broken]

    agent = harness.live(**extra)

    assert harness.off.exists(), agent.log
    assert agent.code in (69, 78)


def test_with_everything_refused_or_hung_the_power_goes_off_all_the_same(moto: Moto, tmp_path: Path) -> None:
    """Two machines side by side, for each waits half a minute: from a moment in their job on, one's calls are refused and the
    other's never return.

    That it takes less than a minute is held in virtual time (tests/agent/test_shutdown.py).
    """
    lives = {AgentHarness(moto, tmp_path / name): Relay(moto.url) for name in ("refused", "hung")}

    with contextlib.ExitStack() as running:
        agents = {}
        for harness, relay in lives.items():
            harness.configure()
            harness.play(f"touch {harness.root}/running; until [ -e {harness.root}/go ]; do sleep 0.05; done")
            relayed = {f"AWS_ENDPOINT_URL_{service}": relay.url for service in ("LOGS", "SQS", "EC2")}
            agents[harness] = running.enter_context(harness.agent(RUNS_FLEET_LOG_GROUP=GROUP, **relayed))
        for harness, agent in agents.items():
            agent.says("message.outcome kind=busy")
            relay = lives[harness]
            relay.stop() if harness.root.name == "refused" else relay.hang()
            (harness.root / "go").touch()
        for agent in agents.values():
            agent.process.wait(600)

    for harness, agent in agents.items():
        lives[harness].stop()
        assert harness.off.exists(), agent.log
        assert agent.code == 69


def test_the_module_and_the_script_are_the_same(harness: AgentHarness) -> None:
    script = Path(sys.executable).with_name("runs-fleet-agent")
    harness.configure()
    harness.play("true")

    with harness.agent([str(script)]) as agent:
        agent.process.wait(600)

    assert (agent.code, harness.word().status) == (0, Status.SUCCESS)


def test_a_process_that_forks_and_exits_without_end_does_not_outlive_the_job(harness: AgentHarness) -> None:
    harness.configure()
    hopper = harness.root / "hopper.py"
    mark = harness.root / "hopping"
    hopper.write_text(
        f"import os\nos.setsid()\nopen({str(mark)!r}, 'w').close()\nwhile True:\n    if os.fork():\n        os._exit(0)\n",
        "utf-8",
    )
    harness.play(f"env -i {sys.executable} -SE {hopper} >/dev/null 2>&1 </dev/null & while [ ! -e {mark} ]; do sleep 0.01; done")

    harness.live()

    try:
        assert subprocess.run(["pgrep", "-f", str(hopper)], check=False, capture_output=True).stdout == b""
    finally:
        subprocess.run(["pkill", "-9", "-f", str(hopper)], check=False)


def test_a_flood_of_forged_announcements_holds_nothing_up(harness: AgentHarness) -> None:
    harness.configure(max_runtime_minutes=0.05)
    line = "Runner listener exit with 0 return code"
    harness.play(
        f"yes '{line}' | head -n 300000 > /proc/$(pgrep -f {harness.runner_dir}/bin/Runner.Listener | head -1)/fd/1; sleep 60"
    )

    with harness.agent(RUNS_FLEET_GRACE_SECONDS="1") as agent:
        agent.process.wait(600)

    assert harness.word().status is Status.TIMEOUT


def test_a_forged_green_line_before_the_listener_is_killed_is_no_success(harness: AgentHarness) -> None:
    harness.configure()
    pid = f"$(pgrep -f {harness.runner_dir}/bin/Runner.Listener | head -1)"
    green = "2026-01-01 00:00:00Z: Job build completed with result: Succeeded"
    harness.play(f"pid={pid}; echo '{green}' > /proc/$pid/fd/1; kill -9 $pid; sleep 5")

    harness.live()

    word = harness.word()
    assert (word.status, word.reason) == (Status.FAILURE, "listener_killed")


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full"])
def test_a_log_that_cannot_be_written_changes_nothing(harness: AgentHarness, where: str) -> None:
    harness.configure()
    harness.play("true")

    with harness.agent(["bash", "-c", f"exec {sys.executable} -m agent {where}"]) as agent:
        agent.process.wait(600)

    assert (agent.code, harness.word().status, harness.state()) == (0, Status.SUCCESS, "terminated")


def test_a_registration_that_is_interrupted_leaves_no_process_and_is_not_tried_again(harness: AgentHarness, hung: str) -> None:
    """The queue hangs, so that the agent is there for longer than a registration waits between two tries."""
    harness.configure(jit_config=None, jit_token="AREGtoken12345", labels=["x"])
    mark = harness.root / "registering"
    (harness.runner_dir / "config.sh").write_text(f"#!/bin/bash\necho $$ >> {mark}\nsleep 500\n", "utf-8")

    with harness.agent(AWS_ENDPOINT_URL_SQS=hung) as agent:
        agent.says("phase.entered phase=registering")
        waiting = threading.Event()
        while not (mark.exists() and mark.read_text("utf-8").strip()):
            waiting.wait(0.02)
        agent.process.send_signal(signal.SIGTERM)
        agent.process.wait(600)

    assert "final_word.undelivered status=interrupted" in agent.log
    (tried,) = mark.read_text("utf-8").split()
    assert not alive(int(tried))
