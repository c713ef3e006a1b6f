"""A JIT config or a registration token becomes the way the runner is started."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.adapters.posix import PosixProcesses
from agent.adapters.system import QueueInbox, TextJournal, ThreadWorkers
from agent.contract.config import RunnerConfig
from agent.contract.jit import pack
from agent.contract.secret import Secret
from agent.errors import RegistrationFailed, RunnerUnstartable
from agent.ports import Finished, Launch, TaskEnded
from agent.runner.registration import ALWAYS, CONFIG_S, FINAL_WORDS, STARTED_HOOK, TRIES, WITHIN_S, Registration
from agent.settings import read_settings
from sandbox.runner import release
from tests.conftest import AgentClock

INSTANCE = "i-0123456789abcdef0"
BLOB = "eyIucnVubmVyIjoiZXlKQloyVnVkRWxrSWpvaU1TSjkifQ=="
TOKEN = "a-registration-token"
TOKEN_CONFIG = RunnerConfig(org="acme", job_id="7", repo="widgets", jit_token=Secret(TOKEN), labels=("runs-fleet=1", "x64"))
JIT_CONFIG = RunnerConfig(org="acme", job_id="7", jit_config=Secret(BLOB))
RECORDER = """#!/bin/bash
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
echo run >> tries
tr '\\0' '\\n' < /proc/$$/cmdline > seen.argv
env -0 > seen.environment
pwd > seen.directory
{answer}
"""
"""A config.sh that keeps what it was given and then does `answer`."""


@dataclass
class Bench:
    """A release with a config.sh of ours, and the room that is to register it."""

    directory: Path
    registration: Registration
    clock: AgentClock

    def tries(self) -> int:
        """How often config.sh ran."""
        return len((self.directory / "tries").read_text().split()) if (self.directory / "tries").exists() else 0

    def seen_environment(self) -> dict[str, str]:
        """What config.sh found in its environment."""
        pairs = (self.directory / "seen.environment").read_bytes().decode().split("\0")
        return dict(pair.partition("=")[::2] for pair in pairs if pair)

    def seen_words(self) -> list[str]:
        """What config.sh was called with, itself left out."""
        words = (self.directory / "seen.argv").read_text().splitlines()
        return words[words.index(str(self.directory / "config.sh")) + 1 :]


Make = Callable[..., Bench]


@pytest.fixture
def bench(tmp_path: Path, clock: AgentClock) -> Make:
    def make(answer: str = "exit 0", environment: Mapping[str, str] | None = None, **own: str) -> Bench:
        journal = TextJournal()
        journal.hide(Secret(TOKEN))
        directory = release.install(tmp_path / "runner")
        (directory / "config.sh").write_text(RECORDER.replace("{answer}", answer))
        required = {
            "RUNS_FLEET_TERMINATION_QUEUE_URL": "http://127.0.0.1:9/queue",
            "RUNS_FLEET_WORK_DIR": str(tmp_path / "work"),
        }
        decided = read_settings(required | own)
        processes = PosixProcesses(QueueInbox(), lambda descriptor, inbox: None)
        given = {"PATH": os.environ["PATH"]} if environment is None else environment
        return Bench(directory, Registration(decided, given, processes, clock, journal), clock)

    return make


@pytest.mark.parametrize(
    "config", [JIT_CONFIG, RunnerConfig(org="acme", job_id="7", jit_config_gz=Secret(pack(BLOB)))], ids=["plain", "packed"]
)
def test_a_jit_config_reaches_the_runner_s_environment_byte_for_byte_and_config_sh_is_not_run(
    config: RunnerConfig, bench: Make
) -> None:
    one = bench()

    launch = one.registration.prepare(config, INSTANCE, one.directory)

    assert launch.environment["ACTIONS_RUNNER_INPUT_JITCONFIG"] == BLOB
    assert launch.command == (str(one.directory / "bin/Runner.Listener"), "run") and launch.directory == one.directory
    assert one.tries() == 0


def test_a_jit_config_goes_before_a_token(bench: Make) -> None:
    one = bench()
    both = RunnerConfig(org="a", job_id="7", jit_token=Secret(TOKEN), jit_config=Secret(BLOB), repo="r", labels=("x64",))

    launch = one.registration.prepare(both, INSTANCE, one.directory)

    assert one.tries() == 0 and TOKEN not in launch.environment.values()


def test_a_token_reaches_config_sh_in_its_environment_and_never_on_its_command_line(bench: Make) -> None:
    one = bench()

    one.registration.prepare(TOKEN_CONFIG, INSTANCE, one.directory)

    assert one.seen_environment()["ACTIONS_RUNNER_INPUT_TOKEN"] == TOKEN
    assert TOKEN not in " ".join(one.seen_words())


def test_the_runner_itself_is_started_without_the_token(bench: Make) -> None:
    one = bench()

    launch = one.registration.prepare(TOKEN_CONFIG, INSTANCE, one.directory)

    assert launch.command == (str(one.directory / "bin/Runner.Listener"), "run")
    assert not [name for name in launch.environment if name.startswith("ACTIONS_RUNNER_INPUT_")]


def test_rq2_config_sh_registers_one_ephemeral_runner_that_never_updates_itself(bench: Make) -> None:
    one = bench()

    one.registration.prepare(TOKEN_CONFIG, INSTANCE, one.directory)

    words = one.seen_words()
    assert {"--unattended", "--ephemeral", "--disableupdate"} <= set(words)
    assert words[words.index("--url") + 1] == "https://github.com/acme/widgets"
    assert words[words.index("--labels") + 1] == "runs-fleet=1,x64"
    assert words[words.index("--name") + 1] == f"runs-fleet-{INSTANCE}"
    assert "--runnergroup" not in words
    assert (one.directory / "seen.directory").read_text().strip() == str(one.directory)


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({"repo": "widgets"}, "https://github.com/acme/widgets"),
        ({"repo": "other/widgets"}, "https://github.com/other/widgets"),
        ({"repo": "widgets", "is_org": True}, "https://github.com/acme"),
        ({"repo": ""}, "https://github.com/acme"),
    ],
)
def test_r9_a_runner_belongs_to_its_repository_unless_the_configuration_says_organisation(
    changes: dict[str, Any], url: str, bench: Make
) -> None:
    one = bench()
    base: dict[str, Any] = {"org": "acme", "job_id": "7", "jit_token": Secret(TOKEN), "labels": ("x64",)}

    one.registration.prepare(RunnerConfig(**base | changes), INSTANCE, one.directory)

    words = one.seen_words()
    assert words[words.index("--url") + 1] == url


def test_a_github_of_one_s_own_a_group_and_a_name_are_passed_on(bench: Make) -> None:
    one = bench(RUNS_FLEET_GITHUB_URL="https://github.acme.example")
    config = RunnerConfig(
        org="acme", job_id="7", repo="w", jit_token=Secret(TOKEN), labels=("a",), runner_group="Big Ones", runner_name="mine"
    )

    one.registration.prepare(config, INSTANCE, one.directory)

    words = one.seen_words()
    assert words[words.index("--url") + 1] == "https://github.acme.example/acme/w"
    assert (words[words.index("--runnergroup") + 1], words[words.index("--name") + 1]) == ("Big Ones", "mine")


def test_a13_a_name_from_the_configuration_that_is_too_long_does_not_abort_the_registration(bench: Make) -> None:
    one = bench()
    config = RunnerConfig(
        org="acme", job_id="7", repo="w", jit_token=Secret(TOKEN), labels=("a",), runner_name="p" * 80 + "-" + INSTANCE
    )

    one.registration.prepare(config, INSTANCE, one.directory)

    words = one.seen_words()
    name = words[words.index("--name") + 1]
    assert len(name) <= 64 and name.endswith(INSTANCE)


def test_a_passing_fault_is_tried_again(bench: Make) -> None:
    one = bench('[ "$(wc -l < tries)" -ge 3 ] || { echo "Http response code: 503"; exit 1; }')

    one.registration.prepare(TOKEN_CONFIG, INSTANCE, one.directory)

    assert one.tries() == 3 and len(one.clock.pauses) == 2


def test_a_fault_that_does_not_pass_is_given_up_after_so_many_tries_and_config_sh_is_quoted(bench: Make) -> None:
    one = bench('echo "The service is on fire"; exit 3')

    with pytest.raises(RegistrationFailed, match=r"ended with 3 after 3 tries: The service is on fire"):
        one.registration.prepare(TOKEN_CONFIG, INSTANCE, one.directory)

    assert one.tries() == TRIES.tries


@pytest.mark.parametrize("words", FINAL_WORDS)
def test_words_that_no_trying_again_can_change_end_the_registration_at_once(words: str, bench: Make) -> None:
    one = bench(f'echo "An error: {words}, sorry" >&2; exit 1')

    with pytest.raises(RegistrationFailed, match="1 tries") as refused:
        one.registration.prepare(TOKEN_CONFIG, INSTANCE, one.directory)

    assert (one.tries(), one.clock.pauses) == (1, []) and words in str(refused.value)


def test_a_config_sh_that_never_ends_is_killed_each_time_and_all_of_it_is_bounded(tmp_path: Path, clock: AgentClock) -> None:
    endless = Endless(clock)
    decided = read_settings({"RUNS_FLEET_WORK_DIR": str(tmp_path), "RUNS_FLEET_TERMINATION_QUEUE_URL": "http://q"})
    registration = Registration(decided, {}, endless, clock, TextJournal())

    with pytest.raises(RegistrationFailed, match=f"did not end within {CONFIG_S:g} s"):
        registration.prepare(TOKEN_CONFIG, INSTANCE, tmp_path)

    assert clock.age_s <= WITHIN_S and len(endless.launches) == 2


@dataclass
class Endless:
    """Processes (ports) on which whatever is started runs until it is killed."""

    clock: AgentClock
    launches: list[Launch] = field(default_factory=list)

    def run(self, launch: Launch, within_s: float) -> Finished:
        self.launches.append(launch)
        self.clock.pause(within_s)
        return Finished(None, "")

    def user_home(self, user: str | None) -> Path:
        return Path("/home/somebody")

    def own(self, path: Path, user: str | None) -> None:
        return


def test_a_real_config_sh_that_hangs_is_killed_with_everything_it_started(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "held")
    script = tmp_path / "config.sh"
    script.write_text("#!/bin/bash\nexec 9> held\nsleep 20 &\necho waiting\nsleep 20\n")
    script.chmod(0o755)
    processes = PosixProcesses(QueueInbox(), lambda descriptor, inbox: None)
    held = os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK)

    finished = processes.run(Launch((str(script),), tmp_path, {"PATH": os.environ["PATH"]}), within_s=0.3)
    readable, _, _ = select.select([held], [], [], 10)

    assert finished == Finished(None, "waiting\n")
    assert readable and os.read(held, 1) == b"", "somebody still holds the pipe open"
    os.close(held)


def test_the_token_is_not_in_the_error_even_if_config_sh_prints_it(bench: Make) -> None:
    one = bench('echo "token $ACTIONS_RUNNER_INPUT_TOKEN refused: Http response code: NotFound"; exit 1')

    with pytest.raises(RegistrationFailed) as refused:
        one.registration.prepare(TOKEN_CONFIG, INSTANCE, one.directory)

    assert TOKEN not in str(refused.value) and "***" in str(refused.value)


def test_a_config_sh_that_cannot_be_executed_is_named(bench: Make) -> None:
    one = bench()
    (one.directory / "config.sh").chmod(0o644)

    with pytest.raises(RegistrationFailed, match=r"config\.sh cannot be executed"):
        one.registration.prepare(TOKEN_CONFIG, INSTANCE, one.directory)


def test_a_user_who_does_not_exist_is_named_before_anything_is_started(bench: Make) -> None:
    one = bench(RUNS_FLEET_RUNNER_USER="nobody-of-that-name")

    with pytest.raises(RunnerUnstartable, match="nobody-of-that-name"):
        one.registration.prepare(TOKEN_CONFIG, INSTANCE, one.directory)

    assert one.tries() == 0


EVERYTHING = {
    "PATH": os.environ["PATH"],
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "https_proxy": "http://proxy:3128",
    "NO_PROXY": "localhost",
    "AWS_REGION": "eu-west-1",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "hush-key",
    "AWS_SECRET_ACCESS_KEY": "hush-secret",
    "AWS_SESSION_TOKEN": "hush-session",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9",
    "RUNS_FLEET_TERMINATION_QUEUE_URL": "http://127.0.0.1:9/queue",
    "RUNS_FLEET_INSTANCE_ID": INSTANCE,
    "RUNS_FLEET_POWER_OFF": "true",
    "GITHUB_TOKEN": "hush-token",
    "SSH_AUTH_SOCK": "/tmp/agent",
    "LD_PRELOAD": "/tmp/evil.so",
    "RUNNER_TOOL_CACHE": "/opt/tools",
    "PYTHONPATH": "/opt/agent",
}
"""An agent's environment with everything in it that somebody might have put there."""


@pytest.mark.parametrize("config", [JIT_CONFIG, TOKEN_CONFIG], ids=["jit", "token"])
def test_the_job_s_environment_is_exactly_what_the_list_allows(config: RunnerConfig, bench: Make) -> None:
    one = bench(environment=EVERYTHING)

    launch = one.registration.prepare(config, INSTANCE, one.directory)

    kept = {"PATH", "HOME", "LANG", "https_proxy", "NO_PROXY", "AWS_REGION", "AWS_DEFAULT_REGION", "RUNNER_TOOL_CACHE"}
    ours = {*ALWAYS, "RUNS_FLEET_ATTEMPT", STARTED_HOOK}
    credential = {"ACTIONS_RUNNER_INPUT_JITCONFIG"} if config.jit_config else set()
    assert set(launch.environment) == kept | ours | credential
    assert not [value for value in launch.environment.values() if "hush" in value]


def test_config_sh_sees_no_more_than_the_job_but_its_token(bench: Make) -> None:
    one = bench(environment=EVERYTHING)

    launch = one.registration.prepare(TOKEN_CONFIG, INSTANCE, one.directory)

    of_the_shell = {"PWD", "SHLVL", "_", "OLDPWD"}
    assert set(one.seen_environment()) - of_the_shell == {*launch.environment, "ACTIONS_RUNNER_INPUT_TOKEN"}


names = st.sampled_from(["AWS_", "RUNS_FLEET_", "", "ACTIONS_", "GITHUB_"]).flatmap(
    lambda prefix: st.text("ABCDEGNORSTU_", min_size=1, max_size=12).map(prefix.__add__)
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(strangers=st.dictionaries(names, st.just("stranger"), max_size=8))
def test_no_name_that_is_not_on_the_list_reaches_the_job(strangers: dict[str, str], bench: Make) -> None:
    one = bench(environment=strangers)

    launch = one.registration.prepare(JIT_CONFIG, INSTANCE, one.directory)

    allowed = {"AWS_REGION", "AWS_DEFAULT_REGION", "RUNS_FLEET_ATTEMPT"}
    assert {name for name in launch.environment if name.startswith(("AWS_", "RUNS_FLEET_"))} <= allowed


def test_the_cache_s_address_is_handed_on_under_both_names_only_when_it_is_set(bench: Make) -> None:
    without = bench().registration.prepare(JIT_CONFIG, INSTANCE, bench().directory).environment
    one = bench(RUNS_FLEET_S3_CACHE_ENDPOINT="http://cache.example:9000")

    launch = one.registration.prepare(JIT_CONFIG, INSTANCE, one.directory)

    assert not {"RUNS_FLEET_S3_CACHE_ENDPOINT", "ACTIONS_CACHE_URL"} & set(without)
    assert launch.environment["RUNS_FLEET_S3_CACHE_ENDPOINT"] == "http://cache.example:9000"
    assert launch.environment["ACTIONS_CACHE_URL"] == "http://cache.example:9000"


def test_a_job_without_any_path_of_ours_still_has_one(bench: Make) -> None:
    one = bench(environment={})

    assert "/usr/bin" in one.registration.prepare(JIT_CONFIG, INSTANCE, one.directory).environment["PATH"].split(":")


def test_the_attempt_is_told_to_the_job(bench: Make) -> None:
    one = bench()
    third = RunnerConfig(org="acme", job_id="7", jit_config=Secret(BLOB), attempt=3)

    assert one.registration.prepare(third, INSTANCE, one.directory).environment["RUNS_FLEET_ATTEMPT"] == "3"


def run_hook(launch: Launch) -> int:
    """The hook, as a runner would run it for a job."""
    job = {"GITHUB_RUN_ID": "9001", "GITHUB_RUN_ATTEMPT": "2", "GITHUB_REPOSITORY": "acme/widgets", "GITHUB_JOB": "build"}
    return subprocess.run([launch.environment[STARTED_HOOK]], env={**launch.environment, **job}, check=False).returncode


def test_the_started_hook_notes_which_job_was_taken(bench: Make) -> None:
    one = bench()
    launch = one.registration.prepare(JIT_CONFIG, INSTANCE, one.directory)

    code = run_hook(launch)

    assert code == 0
    assert one.registration.job_note.read_text().splitlines() == ["9001", "2", "acme/widgets", "build"]


def test_a_hook_of_the_image_s_own_runs_after_ours_and_its_code_counts(bench: Make, tmp_path: Path) -> None:
    theirs = tmp_path / "their hook.sh"
    theirs.write_text(f'#!/bin/bash\ntouch "{tmp_path}/theirs"\nexit 7\n')
    one = bench(environment={"PATH": os.environ["PATH"], STARTED_HOOK: str(theirs)})

    code = run_hook(one.registration.prepare(JIT_CONFIG, INSTANCE, one.directory))

    assert code == 7 and (tmp_path / "theirs").exists() and one.registration.job_note.exists()


@pytest.mark.parametrize("mode", [0o644, 0o755, 0o600])
@pytest.mark.parametrize("first_line", ["#!/bin/bash\n", "", "#!/usr/bin/no-such-shell\n"])
def test_a_hook_needs_neither_a_mode_nor_a_first_line_as_with_the_runner_itself(
    bench: Make, tmp_path: Path, mode: int, first_line: str
) -> None:
    theirs = tmp_path / "prepare.sh"
    theirs.write_text(f'{first_line}[[ $- == *e* ]] && echo "$GITHUB_JOB in $PWD" > "{tmp_path}/theirs"\n')
    theirs.chmod(mode)
    one = bench(environment={"PATH": os.environ["PATH"], STARTED_HOOK: str(theirs)})

    code = run_hook(one.registration.prepare(JIT_CONFIG, INSTANCE, one.directory))

    assert (code, (tmp_path / "theirs").read_text()) == (0, f"build in {Path.cwd()}\n")


def test_a_hook_fails_at_its_first_failing_command_but_not_in_a_pipe(bench: Make, tmp_path: Path) -> None:
    theirs = tmp_path / "prepare.sh"
    theirs.write_text(f'false | true\ntouch "{tmp_path}/reached"\nfalse\nexit 0\n')
    one = bench(environment={"PATH": os.environ["PATH"], STARTED_HOOK: str(theirs)})

    code = run_hook(one.registration.prepare(JIT_CONFIG, INSTANCE, one.directory))

    assert (code, (tmp_path / "reached").exists()) == (1, True)


@pytest.mark.parametrize(
    ("name", "shell", "expected"),
    [
        ("prepare hook.ps1", "pwsh", ["-command", ". '{hook}'"]),
        ("prepare.js", "externals/node24/bin/node", ["{hook}"]),
    ],
)
def test_a_hook_of_another_language_is_run_by_the_runners_own_shell(
    bench: Make, tmp_path: Path, name: str, shell: str, expected: list[str]
) -> None:
    theirs = tmp_path / name
    theirs.write_text("")
    one = bench(environment={"PATH": f"{tmp_path}:{os.environ['PATH']}", STARTED_HOOK: str(theirs)})
    for where in (tmp_path / "pwsh", *(one.directory / f"externals/{node}/bin/node" for node in ("node20", "node24", "node9"))):
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(f'#!/bin/bash\nprintf "%s\\n" "$0" "$@" > "{tmp_path}/argv"\n')
        where.chmod(0o755)

    assert run_hook(one.registration.prepare(JIT_CONFIG, INSTANCE, one.directory)) == 0

    started, *words = (tmp_path / "argv").read_text().splitlines()
    assert started.endswith(shell)
    assert words == [word.format(hook=theirs) for word in expected]


def test_a_hook_that_the_runner_would_not_run_fails_with_the_runners_words(bench: Make, tmp_path: Path) -> None:
    one = bench(environment={"PATH": os.environ["PATH"], STARTED_HOOK: str(tmp_path / "prepare")})

    assert run_hook(one.registration.prepare(JIT_CONFIG, INSTANCE, one.directory)) == 1


def test_a_hook_in_the_releases_dot_env_runs_after_ours_instead_of_replacing_it(bench: Make, tmp_path: Path) -> None:
    theirs = tmp_path / "baked.sh"
    theirs.write_text(f'touch "{tmp_path}/theirs"\n')
    one = bench(environment={"PATH": os.environ["PATH"]})
    dot_env = one.directory / ".env"
    dot_env.write_text(f"LANG=C.UTF-8\n{STARTED_HOOK}={theirs}\nRUNNER_ALLOW_RUNASROOT=\n")

    launch = one.registration.prepare(JIT_CONFIG, INSTANCE, one.directory)

    assert run_hook(launch) == 0
    assert (tmp_path / "theirs").exists() and one.registration.job_note.exists()
    assert dot_env.read_text() == "LANG=C.UTF-8\n"
    assert launch.environment["RUNNER_ALLOW_RUNASROOT"] == "1"


def test_a_hook_that_cannot_write_its_note_never_fails_the_job(bench: Make) -> None:
    one = bench()
    launch = one.registration.prepare(JIT_CONFIG, INSTANCE, one.directory)
    one.registration.job_note.parent.rmdir()

    assert run_hook(launch) == 0


def test_a_note_that_an_earlier_life_left_is_not_taken_for_this_one_s(bench: Make) -> None:
    one = bench()
    one.registration.job_note.parent.mkdir(parents=True)
    one.registration.job_note.write_text("an old job")

    one.registration.prepare(JIT_CONFIG, INSTANCE, one.directory)

    assert not one.registration.job_note.exists()


def test_a_bounded_run_never_closes_what_somebody_else_opened_meanwhile(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    script = tmp_path / "script"
    script.write_text(f'#!/bin/bash\nhead -c 300000 /dev/zero\nread -r < "{tmp_path}/go"\n')
    script.chmod(0o755)
    inbox = QueueInbox()
    processes = PosixProcesses(inbox, lambda descriptor, inbox: None)
    launch = Launch((str(script),), tmp_path, {"PATH": os.environ["PATH"]})
    ThreadWorkers(inbox).begin("running", lambda: processes.run(launch, within_s=20))

    go = os.open(tmp_path / "go", os.O_WRONLY)  # opened only when more than a pipe holds was read: the run is under way
    opened = [go, *(os.open(os.devnull, os.O_RDONLY) for _ in range(8))]
    os.write(go, b"on\n")
    end = inbox.wait(float("inf"))
    still_open = [descriptor for descriptor in opened if Path(f"/proc/self/fd/{descriptor}").exists()]
    for descriptor in still_open:
        os.close(descriptor)

    assert isinstance(end, TaskEnded) and end.value.code == 0
    assert still_open == opened
