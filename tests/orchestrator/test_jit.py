"""What a session is called at GitHub, and the blob with which its runner starts: nothing in it changes but the updates."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.contract.config import PARAMETER_LIMIT, RunnerConfig, read_config, write_config
from agent.contract.secret import Secret
from orchestrator.jobs.jit import JitRegistrations, without_update
from orchestrator.jobs.runner_releases import RunnerReleases
from orchestrator.store.naming import registration_name, session_of
from orchestrator.store.states import SessionState
from simulation.examples import a_blob, a_session
from simulation.world import World


def encoded(value: object) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def files_of(blob: str) -> dict[str, dict[str, object]]:
    return {name: json.loads(base64.b64decode(content)) for name, content in json.loads(base64.b64decode(blob)).items()}


@given(st.text("abcdefgh-123", min_size=1, max_size=100), st.integers(0, 99))
@example("s" * 41, 0)
@example("s" * 200, 99)
@example("a-s-b", 1)
def test_r3_a_runner_name_has_at_most_64_characters_and_leads_back_to_its_session(stack: str, number: int) -> None:
    session = f"s-0123456789abcdef-{number}"

    name = registration_name(stack, session)

    assert len(name) <= 64 and name.startswith(stack[:20])
    assert session_of(stack, name) == session


@pytest.mark.parametrize("name", ["", "somebody-else", "other-s-0123456789abcdef-1", "tests-s-", "tests", "s-1", "TESTS-s-1"])
def test_a_runner_of_somebody_else_is_no_session_of_ours(name: str) -> None:
    assert session_of("tests", name) in ("", "s-") and session_of("tests", name) != "s-1"


def test_updates_are_switched_off_and_everything_else_stays() -> None:
    before, after = files_of(a_blob()), files_of(without_update(a_blob()))

    assert after.pop(".runner") == {**before.pop(".runner"), "DisableUpdate": "True"}
    assert after == before


def test_a_runner_file_with_a_byte_order_mark_is_read() -> None:
    marked = base64.b64encode(b'\xef\xbb\xbf{"AgentId": "1"}').decode()

    assert files_of(without_update(encoded({".runner": marked})))[".runner"]["DisableUpdate"] == "True"


SHAPES = {
    "no base64": "not base64!",
    "no json": base64.b64encode(b"no json").decode(),
    "a list": encoded([1]),
    "a text": encoded("text"),
    "no runner file": encoded({".credentials": "e30="}),
    "a runner file that is a number": encoded({".runner": 7}),
    "a runner file that is no base64": encoded({".runner": "%%"}),
    "a runner file that is a list": encoded({".runner": encoded([1])}),
    "a runner file that is a text": encoded({".runner": encoded("text")}),
    "not ascii": "ü",
    "nothing": "",
}


@pytest.mark.parametrize("blob", SHAPES.values(), ids=SHAPES.keys())
def test_a_blob_of_another_shape_is_left_as_it_is(blob: str) -> None:
    assert without_update(blob) == blob


@pytest.mark.parametrize("seed", range(5))
def test_r6_the_blob_written_anew_still_fits_a_standard_parameter_as_a_whole(seed: int) -> None:
    blob = without_update(a_blob(seed, "x" * 64))
    config = RunnerConfig(
        org="acme-corporation", job_id="47331908423", repo="widgets-and-gadgets", labels=("runs-fleet=15739284610/arch=arm64",),
        jit_config=Secret(blob), run_id="15739284610", runner_name="x" * 64, session_id="s-" + "0" * 20, attempt=1,
        stack_id="production", runner_version="2.336.0", runner_sha256="0123456789abcdef" * 4, max_runtime_minutes=360.0,
        runner_by_default=True,
    )  # fmt: skip

    text = write_config(config)

    assert len(text) <= PARAMETER_LIMIT
    assert read_config(text).blob() == Secret(blob)


@pytest.mark.parametrize(
    ("state", "is_idle"), [(SessionState.READY, False), (SessionState.CONFIGURED, True), (SessionState.LAUNCHED, True)]
)
def test_of_a_ready_session_whose_runner_github_has_no_more_it_is_not_known_that_it_is_idle(
    state: SessionState, is_idle: bool
) -> None:
    world = World()
    releases = RunnerReleases(world.settings, world.github, world.clock, world.journal)

    assert JitRegistrations(world.settings, world.github, releases, world.clock).withdraw(a_session(state=state)) is is_idle
