"""The configuration comes late, never, unreadable or too old: what each leads to, through the whole life."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from agent.contract.messages import Status
from agent.errors import ServiceError
from simulation.agent_inbox import Script, refused
from simulation.agent_services import INSTANCE
from simulation.agent_world import Ended, VirtualWorld, config_text, token_text
from simulation.clock import BIRTHDAY

PARAMETER = f"/runs-fleet/runners/{INSTANCE}/config"
ROLE = "arn:aws:sts::123456789012:assumed-role/runs-fleet-runner/i-0123456789abcdef0"
NOT_THERE = refused("ParameterNotFound", "ssm:GetParameter")
DENIED = refused("AccessDeniedException", f"ssm:GetParameter on {PARAMETER}", f"User: {ROLE} is not authorized")
THROTTLED = refused("ThrottlingException", "ssm:GetParameter")
NO_CREDENTIALS = refused("NoCredentials", "ssm:GetParameter")


def moment(*, minutes: float) -> str:
    """A moment that many minutes after the world began."""
    return (BIRTHDAY + timedelta(minutes=minutes)).isoformat()


def ended_with(root: Path, text: str) -> Ended:
    """A life whose configuration is `text`, from the start."""
    world = VirtualWorld(root)
    world.parameters.answers = [(0.0, text)]
    return world.live()


@pytest.mark.parametrize("after_s", [1.0, 29.0, 290.0])
def test_a5_a_configuration_that_comes_late_is_waited_for(tmp_path: Path, after_s: float) -> None:
    world = VirtualWorld(tmp_path)
    world.parameters.answers = [(0.0, NOT_THERE), (after_s, config_text())]

    ended = world.live()

    assert (ended.exit_code, ended.word.status) == (0, Status.SUCCESS)
    assert after_s <= world.processes.launches[0][0] <= after_s + 6.0


def test_a5_ten_minutes_are_waited_where_the_settings_allow_them(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, CONFIG_TIMEOUT_SECONDS="900")
    world.parameters.answers = [(0.0, NOT_THERE), (600.0, config_text())]

    assert world.live().exit_code == 0


def test_a5_a_configuration_that_never_comes_ends_the_machine_at_the_deadline_with_75(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.parameters.answers = [(0.0, NOT_THERE)]

    ended = world.live()

    assert (ended.exit_code, ended.word.status, ended.word.job_id) == (75, Status.FAILURE, "")
    assert PARAMETER in ended.word.error
    assert 290.0 < ended.age_s < 303.0
    assert len(world.machine.terminations) == 1


def test_a_denial_to_the_last_ends_with_77_and_names_action_parameter_and_role(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.parameters.answers = [(0.0, DENIED)]

    ended = world.live()

    assert (ended.exit_code, ended.word.reason) == (77, "configuration_denied")
    for named in ("ssm:GetParameter", PARAMETER, "runs-fleet-runner"):
        assert named in ended.word.error


@pytest.mark.parametrize("first", [DENIED, NO_CREDENTIALS, refused("Unreachable"), refused("ThrottlingException")])
def test_what_may_pass_in_the_first_seconds_is_waited_out(tmp_path: Path, first: BaseException) -> None:
    world = VirtualWorld(tmp_path)
    world.parameters.answers = [(0.0, first), (5.0, config_text())]

    ended = world.live()

    assert (ended.exit_code, ended.word.status) == (0, Status.SUCCESS)
    assert world.processes.launches[0][0] < 11.0


def test_no_credentials_to_the_last_ends_with_75(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.parameters.answers = [(0.0, NO_CREDENTIALS)]

    assert world.live().exit_code == 75


def test_an_answer_that_no_waiting_mends_is_not_waited_out(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.parameters.answers = [(0.0, refused("ValidationException", "ssm:GetParameter"))]

    ended = world.live()

    assert (ended.exit_code, len(world.parameters.names)) == (75, 1)
    assert ended.age_s < 5.0


@pytest.mark.parametrize("not_yet", [NOT_THERE, DENIED], ids=["absent", "denied"])
@pytest.mark.parametrize("after_s", [5.0, 9.7, 22.0, 200.3])
def test_a_configuration_that_comes_late_is_found_within_a_moment(tmp_path: Path, after_s: float, not_yet: ServiceError) -> None:
    world = VirtualWorld(tmp_path)
    world.parameters.answers = [(0.0, not_yet), (after_s, config_text())]

    world.live()

    assert world.processes.launches[0][0] - after_s < 0.9


def test_a_throttled_machine_looks_rarely_and_comes_back_to_the_quick_pace_slowly(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.parameters.answers = [(0.0, THROTTLED), (60.0, NOT_THERE)]

    world.live()

    looks = world.parameters.looks_s
    assert len([age_s for age_s in looks if age_s <= 60.0]) < 20
    assert len([age_s for age_s in looks if 60.0 < age_s <= 90.0]) < 15
    assert len([age_s for age_s in looks if age_s > 270.0]) > 15


def test_a_service_that_does_not_answer_is_asked_with_growing_waits(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.parameters.answers = [(0.0, refused("Unreachable"))]

    world.live()

    assert len(world.parameters.names) < 300 / 4.0 + 10  # the virtual machine's jitter is always the least


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "InvalidSignatureException", "RequestTimeTooSkewed", "RequestExpired"])
def test_a_clock_that_is_off_for_six_seconds_ends_no_machine(tmp_path: Path, code: str) -> None:
    world = VirtualWorld(tmp_path, CONFIG_TIMEOUT_SECONDS="30")
    world.parameters.answers = [(0.0, refused(code, "sts:GetCallerIdentity", "Signature expired")), (6.0, config_text())]

    ended = world.live()

    assert (ended.exit_code, ended.word.status) == (0, Status.SUCCESS)
    assert world.processes.launches[0][0] < 11.5


def test_a_clock_that_is_off_to_the_last_is_named_as_what_it_is(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, CONFIG_TIMEOUT_SECONDS="30")
    world.parameters.answers = [(0.0, refused("SignatureDoesNotMatch", "sts:GetCallerIdentity", "Signature expired"))]

    word = world.live().word

    assert "for 30 s" in word.error and "clock" in word.error


def test_what_was_not_waited_for_is_not_said_to_have_been(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, CONFIG_TIMEOUT_SECONDS="30")
    world.parameters.answers = [(0.0, refused("NoSuchBucket", "s3:GetObject on wrong"))]

    word = world.live().word

    assert "could not be read at once" in word.error and "30 s" not in word.error


def test_the_parameter_is_the_one_the_settings_name(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, SSM_PARAMETER="/elsewhere/config")

    world.live()

    assert world.parameters.names == ["/elsewhere/config"]


def test_the_parameter_follows_the_instance_id_that_the_machine_told(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, INSTANCE_ID="")

    ended = world.live()

    assert (world.parameters.names, ended.word.instance_id) == ([PARAMETER], INSTANCE)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "malformed JSON"),
        ("[]", "a list"),
        (config_text(drop=("org",)), "org"),
        (config_text(drop=("job_id",)), "job_id"),
        (config_text(attempt="three"), "attempt"),
        (config_text(drop=("jit_config",)), "jit_token"),
        (config_text(max_runtime_minutes=0), "max_runtime_minutes"),
    ],
)
def test_a_malformed_configuration_ends_with_65_and_names_parameter_and_field(tmp_path: Path, text: str, named: str) -> None:
    ended = ended_with(tmp_path, text)

    assert (ended.exit_code, ended.word.status, ended.word.job_id) == (65, Status.FAILURE, "")
    assert PARAMETER in ended.word.error
    assert named in ended.word.error
    assert ended.age_s < 5.0


def test_every_fault_of_a_configuration_is_named_at_once(tmp_path: Path) -> None:
    error = ended_with(tmp_path, config_text(drop=("org",), attempt="three", expires_at="tomorrow")).word.error

    assert all(named in error for named in ("org", "attempt", "expires_at"))


def test_a_configuration_that_came_late_and_malformed_ends_with_65_too(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.parameters.answers = [(0.0, NOT_THERE), (10.0, "{")]

    assert world.live().exit_code == 65


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (config_text(expires_at=moment(minutes=-1)), "expires_at"),
        (token_text(expires_at=moment(minutes=-1)), "expires_at"),
        (token_text(issued_at=moment(minutes=-61)), "issued_at"),
    ],
)
def test_rq3_a_credential_that_is_too_old_is_refused_with_that_reason_and_nothing_is_started(
    tmp_path: Path, text: str, why: str
) -> None:
    world = VirtualWorld(tmp_path)
    world.parameters.answers = [(0.0, text)]

    ended = world.live()

    assert (ended.exit_code, ended.word.reason, ended.word.status) == (65, "configuration_expired", Status.FAILURE)
    assert why in ended.word.error
    assert (world.processes.launches, world.processes.ran) == ([], [])


@pytest.mark.parametrize(
    "text",
    [
        config_text(issued_at=moment(minutes=-61)),
        token_text(issued_at=moment(minutes=-59)),
        token_text(),
        config_text(expires_at=moment(minutes=1)),
    ],
    ids=["old-but-jit", "young-token", "token-without-a-date", "not-yet-expired"],
)
def test_rq3_what_is_young_enough_or_does_not_say_is_used(tmp_path: Path, text: str) -> None:
    assert ended_with(tmp_path, text).exit_code == 0


@pytest.mark.parametrize("after_s", [0.0, 10.0])
def test_a_refused_configuration_still_tells_the_orchestrator_which_session_it_was(tmp_path: Path, after_s: float) -> None:
    world = VirtualWorld(tmp_path)
    world.parameters.answers = [(0.0, NOT_THERE), (after_s, config_text(expires_at=moment(minutes=-1)))]

    word = world.live().word

    assert (word.reason, word.job_id, word.session_id) == ("configuration_expired", "7001", "session-9")


def test_no_message_and_no_event_ever_holds_the_credential(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.parameters.answers = [(0.0, token_text())]
    world.processes.config_sh = Script(OSError("cannot run with AAAATOKENTOKEN"))

    ended = world.live()

    assert ended.word.status is Status.FAILURE
    assert "AAAATOKENTOKEN" not in "".join(body for _, body in world.queue.bodies)


def test_a_setting_that_is_none_is_warned_of_and_ends_nothing(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.environment["RUNS_FLEET_GRACE_SECOND"] = "5"

    ended = world.live()

    (told,) = world.journal.told("settings.warning")
    assert "did you mean RUNS_FLEET_GRACE_SECONDS?" in str(told["warning"])
    assert ended.word.status is Status.SUCCESS
