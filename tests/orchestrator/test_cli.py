"""The `runs-fleet` command on tables, machines and a log that are there: what each word shows, changes and refuses."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from agent.contract.names import log_stream_name
from orchestrator.commands.cli import _missing, command
from orchestrator.jobs.model import JobState
from orchestrator.jobs.records import JobRecords
from orchestrator.store.states import SessionState
from simulation.clock import MORNING
from simulation.examples import REQUIRED_ENVIRONMENT, SCOPE, a_job, a_session
from tests.answering import Asked
from tests.conftest import Moto
from tests.orchestrator.dynamo import dynamo
from tests.orchestrator.githubs import ScriptedGitHub, foreign_key

TABLES = {"RUNS_FLEET_JOBS_TABLE": "some-jobs", "RUNS_FLEET_SESSIONS_TABLE": "some-sessions", "RUNS_FLEET_STACK_ID": "tests"}
APP = command()
GROUP = "/runs-fleet/agent"
WORDS = (
    "serve", "doctor", "jobs", "sessions", "explain", "logs", "launch", "terminate", "pause", "resume", "drain", "audit", "local",
)  # fmt: skip


class Typist:
    """An operator of a stack. `records`: all that the stack remembers; `moto`: its AWS."""

    def __init__(self, moto: Moto) -> None:
        self.moto, self.records = moto, JobRecords(dynamo(), 3)
        ec2 = moto.client("ec2")
        self.subnet = str(ec2.describe_subnets()["Subnets"][0]["SubnetId"])
        for architecture in ("amd64", "arm64"):
            name = f"runs-fleet-runner-{architecture}"
            ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData={"ImageId": "ami-12c6146b"})
        self.environment = {
            **REQUIRED_ENVIRONMENT, **TABLES, "RUNS_FLEET_INDEX_SHARDS": "3", "RUNS_FLEET_SUBNET_IDS": self.subnet,
        }  # fmt: skip

    def types(self, *words: str, **environment: str | None) -> Result:
        """What the command says, and its exit code. `launch` asks no GitHub, unless its key is given."""
        if words[0] == "launch":
            environment = {"RUNS_FLEET_GITHUB_APP_PRIVATE_KEY": None, **environment}
        return CliRunner().invoke(APP, list(words), env={**self.environment, **environment})

    def told(self, *words: str) -> Any:
        """What it tells programs."""
        shown = self.types(*words, "--json")
        assert shown.exit_code == 0, shown.output
        return json.loads(shown.stdout)

    def machine(self) -> str:
        """The id of an instance that runs."""
        made = self.moto.client("ec2").run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)
        return str(made["Instances"][0]["InstanceId"])

    def state(self, instance_id: str) -> str:
        """Of an instance."""
        found = self.moto.client("ec2").describe_instances(InstanceIds=[instance_id])
        return str(found["Reservations"][0]["Instances"][0]["State"]["Name"])


@pytest.fixture
def operator(moto: Moto) -> Typist:
    """Of a stack that has just been made."""
    return Typist(moto)


def test_the_command_has_every_word_and_each_says_what_it_does(operator: Typist) -> None:
    names = [(one.name or one.callback.__name__) for one in APP.registered_commands if one.callback is not None]
    assert sorted(names) == sorted(WORDS)
    for name in names:
        shown = CliRunner().invoke(APP, [name, "--help"])
        assert (shown.exit_code, name in shown.output) == (0, True)


def test_jobs_lists_those_that_are_open_with_the_session_that_ran_each(operator: Typist) -> None:
    over = {"state": JobState.COMPLETED, "conclusion": "success", "queued_at": MORNING - 1.0}
    operator.records.put(a_job(job_id="old", completed_at=MORNING, **over))
    operator.records.put(a_job(state=JobState.IN_PROGRESS, runner_name="tests-s-00000000000000ff-0", due=MORNING))
    later = {"session_id": "s-3", "instance_id": "i-3", "launched_for": "1", "launched_at": MORNING + 9.0}
    operator.records.put(a_session(**later))
    took = {
        "session_id": "s-00000000000000ff-0",
        "instance_id": "i-2",
        "launched_for": "old",
        "bound_job": "1",
        "state": SessionState.BUSY,
    }
    operator.records.put(a_session(**took, registration_name="tests-s-00000000000000ff-0", status="x", reason="y"))

    (job,) = operator.told("jobs")

    assert job == {
        "job": "1", "name": "build", "repository": "octo/widgets", "state": "in_progress", "conclusion": "",
        "runner": "tests-s-00000000000000ff-0", "session": "s-00000000000000ff-0", "session_state": "busy", "instance": "i-2",
        "reason": "x y",
        "waited": job["waited"], "queued": "2026-01-31T12:00:00Z",
        "url": "https://github.com/octo/widgets/actions/runs/7/job/1",
    }  # fmt: skip
    assert [one["job"] for one in operator.told("jobs", "--all")] == ["old", "1"], "the oldest first"


def test_sessions_lists_those_that_are_open_oldest_first_and_their_consoles_only_for_programs(operator: Typist) -> None:
    operator.records.put(a_session(session_id="s-2", instance_id="i-2", launched_at=MORNING + 1.0, due=MORNING, console="panic"))
    operator.records.put(a_session(session_id="s-1", launched_at=MORNING, due=MORNING, bound_job="7", market="spot"))
    operator.records.put(a_session(session_id="s-0", state=SessionState.CLOSED, closed_at=MORNING))

    first, second = operator.told("sessions")

    assert (first["session"], first["launched"], first["job"]) == ("s-1", "2026-01-31T12:00:00Z", "7")
    assert (second["session"], second["console"]) == ("s-2", "panic")
    assert {one["session"] for one in operator.told("sessions", "--all")} == {"s-0", "s-1", "s-2"}
    shown = operator.types("sessions").stdout
    assert "s-1" in shown and "spot" in shown and "panic" not in shown


@pytest.mark.parametrize("word", ["jobs", "sessions"])
def test_where_nothing_is_open_people_read_how_to_see_the_rest(operator: Typist, word: str) -> None:
    assert "--all lists those that are over" in operator.types(word).stdout
    assert "nothing" in operator.types(word, "--all").stdout
    assert operator.told(word) == []


def test_what_others_chose_is_shown_as_it_is(operator: Typist) -> None:
    operator.records.put(a_job(name="build [red]all[/red] [/]", due=MORNING))

    assert "build [red]all[/red] [/]" in operator.types("jobs").stdout


@pytest.mark.parametrize("word", ["1", "https://github.com/octo/widgets/actions/runs/7/job/1?pr=3"])
def test_explain_tells_people_the_story_and_what_it_waits_for(operator: Typist, word: str) -> None:
    operator.records.put(a_job(due=MORNING))

    lines = operator.types("explain", word).stdout.splitlines()

    assert lines[0] == "job 1 'build' of octo/widgets, run 7: queued"
    assert lines[1] == "  2026-01-31T12:00:00Z  queued by GitHub, labels runs-fleet=7/arch=amd64"
    assert lines[-1].startswith("  now: waits for ") and operator.told("explain", word)["waits_for"] in lines[-1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["explain", "build"], "'build' is no job: expected its id"),
        (["explain", "9"], "no job 9 is known"),
        (["logs", "9"], "no job 9 is known: `runs-fleet jobs --all` lists them"),
        (["logs", "1"], "no machine has run job 1 yet"),
        (["terminate", "s-9"], "no session s-9 is open"),
        (["terminate", "s-over"], "no session s-over is open"),
        (["launch", "octo/widgets", "runs-fleet/cpu=many"], "nothing is launched for runs-fleet/cpu=many for octo/widgets"),
        (["launch", "octo/widgets", "windows"], "nothing is launched for windows"),
        *(
            (["launch", repository, "runs-fleet", *more], "expected owner/repo, a count from 1 to 100 and minutes up to 1440")
            for repository, *more in (
                ["octo"], ["octo/a/b"], ["octo/widgets", "--count", "0"], ["octo/widgets", "--count", "101"],
                ["octo/widgets", "--minutes", "0"], ["octo/widgets", "--minutes", "1441"],
            )
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_and_fails(operator: Typist, words: list[str], said: str) -> None:
    operator.records.put(a_job(due=MORNING))
    operator.records.put(a_session(session_id="s-over", state=SessionState.ENDED, launched_for="2"))

    shown = operator.types(*words, RUNS_FLEET_LOG_GROUP=GROUP)

    assert shown.exit_code == 1 and said in shown.output
    assert list(operator.records.all(type(operator.records.stack()))) == []


def test_launch_has_machines_wanted_for_so_many_minutes(operator: Typist) -> None:
    (row,) = operator.told("launch", "octo/widgets", "runs-fleet=7/arch=amd64", "--count", "3", "--minutes", "1440")

    label_set = operator.records.label_set(row["label_set"])
    assert (row["wanted"], row["paused"]) == (3, False) and label_set is not None
    assert (label_set.repository, label_set.labels) == ("octo/widgets", ("runs-fleet=7/arch=amd64",))
    assert [round((until - label_set.touched_at) / 3600.0) for until in label_set.prepared] == [24] * 3


def test_launch_says_to_people_that_a_paused_stack_launches_nothing(operator: Typist) -> None:
    assert "the stack is paused" not in operator.types("launch", "octo/widgets", "runs-fleet").stderr
    operator.told("pause")

    shown = operator.types("launch", "octo/widgets", "runs-fleet")
    assert (shown.exit_code, "the stack is paused: nothing is launched before" in shown.stderr) == (0, True)


def test_pause_and_resume_change_the_record_and_say_what_holds_now(operator: Typist) -> None:
    for word, paused in (("pause", True), ("pause", True), ("resume", False)):
        assert operator.told(word) == [{"paused": paused}]
        assert operator.records.stack().paused is paused


def test_terminate_ends_a_session_and_its_machine_once(operator: Typist) -> None:
    instance_id = operator.machine()
    operator.records.put(a_session(instance_id=instance_id, state=SessionState.BUSY, bound_job="1"))

    (ended,) = operator.told("terminate", "s-1")

    assert ended == {"session": "s-1", "instance": instance_id, "status": "interrupted dismissed"}
    assert operator.state(instance_id) == "terminated"
    assert operator.types("terminate", "s-1").exit_code == 1


def test_drain_takes_idle_machines_back_lists_what_is_left_and_fails_if_one_could_not_be(operator: Typist) -> None:
    ec2, scope = operator.moto.client("ec2"), {"scope": SCOPE, "due": MORNING}
    machines = {name: operator.machine() for name in ("idle", "busy", "stuck", "kept")}
    for name, instance_id in machines.items():
        told = {"state": SessionState.BUSY, "bound_job": "7"} if name == "busy" else {"state": SessionState.CONFIGURED}
        operator.records.put(a_session(session_id=f"s-{name}", registration_name=name, instance_id=instance_id, **told, **scope))
    ec2.modify_instance_attribute(InstanceId=machines["kept"], DisableApiTermination={"Value": True})

    def registered(asked: Asked) -> tuple[int, Any]:
        return (409, {"message": "not now"}) if "name=stuck" in asked.path else (200, {"runners": []})

    with ScriptedGitHub({"/runners": registered}) as github:
        key = {"RUNS_FLEET_GITHUB_API_URL": github.url, "RUNS_FLEET_GITHUB_APP_PRIVATE_KEY": foreign_key().reveal()}
        shown = operator.types("drain", "--json", **key)
    ec2.modify_instance_attribute(InstanceId=machines["kept"], DisableApiTermination={"Value": False})

    rows, _ = json.JSONDecoder().raw_decode(shown.stdout)
    assert (shown.exit_code, operator.records.stack().paused, operator.state(machines["idle"])) == (1, True, "terminated")
    assert "2 sessions could not be taken back: call it again" in shown.output
    found = {row["session"]: (row["state"], row["job"], row["error"].partition(":")[0]) for row in rows}
    assert found == {
        "s-busy": ("busy", "7", ""), "s-stuck": ("configured", "", "ServiceFailed"), "s-kept": ("ended", "", "ServiceFailed"),
    }  # fmt: skip


def test_logs_prints_the_whole_stream_of_the_machine_that_ran_the_job(operator: Typist) -> None:
    operator.records.put(a_job(due=MORNING))
    operator.records.put(a_session(instance_id="i-1", bound_job="1"))
    logs, stream = operator.moto.client("logs"), log_stream_name("i-1", "1")
    logs.create_log_group(logGroupName=GROUP)
    logs.create_log_stream(logGroupName=GROUP, logStreamName=stream)
    minute = int(time.time()) // 60 * 60  # what is old is refused
    lines = [f"line {number}" for number in range(10_500)]  # of which one answer holds 10,000
    for part in (lines[:6000], lines[6000:]):
        events = [{"timestamp": minute * 1000 + 7, "message": line} for line in part]
        logs.put_log_events(logGroupName=GROUP, logStreamName=stream, logEvents=events)

    shown = operator.types("logs", "1", RUNS_FLEET_LOG_GROUP=GROUP).stdout.splitlines()

    assert [line.partition(" ")[2] for line in shown] == lines
    assert {line.partition(" ")[0] for line in shown} == {
        datetime.fromtimestamp(minute, UTC).strftime("%Y-%m-%dT%H:%M:%S") + ".007Z"
    }
    assert operator.types("logs", "1").output.strip() == "RUNS_FLEET_LOG_GROUP is not set: expected the agents' log group"


def test_every_wrong_setting_is_on_a_line_of_its_own(operator: Typist) -> None:
    shown = operator.types("drain", RUNS_FLEET_PORT="x", RUNS_FLEET_QUEUE_URL=None)

    head, *lines = shown.output.splitlines()
    assert (shown.exit_code, head) == (1, "runs-fleet cannot start:")
    assert [line.split()[0].rstrip(":") for line in lines] == ["RUNS_FLEET_QUEUE_URL", "RUNS_FLEET_PORT"]
    assert "found fargate" in operator.types("jobs", RUNS_FLEET_STRATEGIES="fargate").output


def test_where_the_log_is_json_serve_tells_of_wrong_settings_so_too(operator: Typist) -> None:
    shown = operator.types("serve", RUNS_FLEET_PORT="x", RUNS_FLEET_QUEUE_URL=None, RUNS_FLEET_LOG_FORMAT="json")

    told = [json.loads(line) for line in shown.output.splitlines()]
    assert shown.exit_code == 1
    assert [(one["level"], one["event"]) for one in told] == [("ERROR", "settings.invalid")] * len(told)
    assert [one["problem"].split()[0].rstrip(":") for one in told][:2] == ["RUNS_FLEET_QUEUE_URL", "RUNS_FLEET_PORT"]


@pytest.mark.parametrize("words", [["jobs"], ["sessions"], ["explain", "1"], ["pause"], ["resume"], ["terminate", "s-1"]])
def test_who_looks_at_records_or_ends_a_machine_needs_no_secret(operator: Typist, words: list[str]) -> None:
    operator.records.put(a_job(due=MORNING))
    operator.records.put(a_session(instance_id=operator.machine(), state=SessionState.BUSY))
    none: dict[str, str | None] = dict.fromkeys(REQUIRED_ENVIRONMENT)

    assert operator.types(*words, **none).exit_code == 0


def test_launch_needs_the_subnets_and_no_secret(operator: Typist) -> None:
    none: dict[str, str | None] = dict.fromkeys(REQUIRED_ENVIRONMENT)
    refused = operator.types("launch", "octo/widgets", "runs-fleet", **none)
    launched = operator.types("launch", "octo/widgets", "runs-fleet", **{**none, "RUNS_FLEET_SUBNET_IDS": operator.subnet})

    assert "RUNS_FLEET_SUBNET_IDS names none" in str(refused.exception)
    assert launched.exit_code == 0


def test_launch_refuses_what_a_job_would_wait_for_in_vain(operator: Typist) -> None:
    shown = operator.types("launch", "octo/widgets", "runs-fleet/arch=arm64", RUNS_FLEET_LAUNCH_TEMPLATE_NAME="other")

    assert (shown.exit_code, "there is no launch template for arm64" in shown.output) == (1, True)
    assert operator.types("sessions").exit_code == 0


def test_launch_refuses_a_repository_in_which_the_app_is_not_installed(operator: Typist) -> None:
    with ScriptedGitHub({"/installation": lambda asked: (404, {"message": "Not Found"})}) as github:
        key = {"RUNS_FLEET_GITHUB_API_URL": github.url, "RUNS_FLEET_GITHUB_APP_PRIVATE_KEY": foreign_key().reveal()}
        shown = operator.types("launch", "octo/widgets", "runs-fleet", **key)

    assert shown.exit_code == 1 and "not installed there" in shown.output


def test_who_calls_github_needs_every_setting(operator: Typist) -> None:
    none: dict[str, str | None] = dict.fromkeys(REQUIRED_ENVIRONMENT)

    shown = operator.types("drain", **none).output.splitlines()

    assert [line.split()[0] for line in shown[1:]] == list(REQUIRED_ENVIRONMENT)


def test_an_audit_in_which_a_machine_could_not_be_ended_fails(operator: Typist) -> None:
    instance_id, ec2 = operator.machine(), operator.moto.client("ec2")
    tags = {"runs-fleet:managed": "true", "runs-fleet:stack": "tests", "runs-fleet:expires-at": "1"}
    ec2.create_tags(Resources=[instance_id], Tags=[{"Key": key, "Value": value} for key, value in tags.items()])
    ec2.modify_instance_attribute(InstanceId=instance_id, DisableApiTermination={"Value": True})
    failed = operator.types("audit")
    ec2.modify_instance_attribute(InstanceId=instance_id, DisableApiTermination={"Value": False})
    fine = operator.types("audit")

    assert (failed.exit_code, fine.exit_code) == (1, 0)
    assert "1 could not be (see above)" in failed.stdout and "1 machines, 1 outlived" in fine.stdout


@pytest.mark.parametrize(
    ("without", "said"), [("", "ResourceNotFoundException"), ("AWS_REGION", "(set AWS_REGION and credentials, or an AWS profile")]
)
def test_a_failure_of_aws_is_one_line_on_standard_error(moto: Moto, without: str, said: str) -> None:
    given = {**moto.environment, "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/nowhere", "PATH": "/bin", **TABLES}
    environment = {name: value for name, value in given.items() if not without or name not in (without, "AWS_DEFAULT_REGION")}

    shown = subprocess.run(
        [sys.executable, "-m", "orchestrator", "sessions"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert shown.returncode == 1 and shown.stdout == ""
    assert shown.stderr.startswith("runs-fleet: ") and said in shown.stderr and len(shown.stderr.splitlines()) == 1


def test_the_version_is_told(operator: Typist) -> None:
    shown = operator.types("--version")

    assert (shown.exit_code, shown.stdout) == (0, f"runs-fleet {version('runs-fleet')}\n")


def test_shells_can_complete_it(operator: Typist) -> None:
    assert "--install-completion" in operator.types("--help").stdout


def test_a_variable_that_nothing_reads_is_warned_of_with_the_name_that_was_meant(operator: Typist) -> None:
    shown = operator.types("jobs", RUNS_FLEET_JOB_TABLE="x")

    assert shown.exit_code == 0
    assert (
        "RUNS_FLEET_JOB_TABLE is not a setting of the orchestrator, and does nothing: did you mean RUNS_FLEET_JOBS_TABLE?"
        in shown.stderr
    )


def test_a_word_whose_packages_are_missing_says_so_when_it_is_called_and_not_before() -> None:
    absent = _missing("local", "No module named 'moto'")

    with pytest.raises(SystemExit) as ended:
        absent()

    assert str(ended.value) == "runs-fleet local is not installed (No module named 'moto'): pip install 'runs-fleet[sandbox]'"


def test_ids_are_whole_and_there_are_no_borders_where_the_output_is_piped(operator: Typist) -> None:
    operator.records.put(a_session(session_id="s-00000000000000ff-0", instance_id="i-0123456789abcdef0", due=MORNING))

    shown = operator.types("sessions").stdout

    assert "s-00000000000000ff-0" in shown and "i-0123456789abcdef0" in shown
    assert not set(shown) & set("│┃━─┏┗")
