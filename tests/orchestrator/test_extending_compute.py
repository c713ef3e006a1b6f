"""What a new strategy takes: one module (`toys.py`), one line of a table. These tests are docs/extending.md, done."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

import pytest

from agent.contract.config import read_config
from orchestrator.adapters.aws import Clients
from orchestrator.compute.dispatch import Strategies
from orchestrator.compute.port import InstanceState, Payload
from orchestrator.errors import SettingsInvalid
from orchestrator.fleet.sessions import handle_of
from orchestrator.store.states import SessionState
from orchestrator.strategies import BUILDERS, StrategyParts, build_strategies
from simulation.compute import MemoryService
from simulation.examples import an_event, some_settings
from simulation.world import World
from tests.orchestrator.conformance import Surroundings
from tests.orchestrator.promises import PROMISES, Promise
from tests.orchestrator.toys import ToyStrategy, called, fetched

CHECKOUT = Path(__file__).resolve().parents[2]
PAYLOADS = [Payload.IN_CALL, Payload.FETCHED]
NAMES = {Payload.IN_CALL: "toy-call", Payload.FETCHED: "toy-fetch"}


def offered(world: World, box: MemoryService, *names: str) -> Strategies:
    """The toys beside what is shipped, by one line of the table each."""
    parts = StrategyParts(
        settings=some_settings(strategies=names), clients=cast("Clients", None), records=world.records, clock=world.clock,
        journal=world.journal,
    )  # fmt: skip
    table = {
        **BUILDERS,
        "ec2": lambda _: world.turns.strategies.of("ec2"),
        "toy-call": lambda _: ToyStrategy(box, Payload.IN_CALL),
        "toy-fetch": lambda _: ToyStrategy(box, Payload.FETCHED),
    }
    return build_strategies(parts, table)


def toy_world(*names: str) -> tuple[World, MemoryService]:
    """A stack that offers these strategies."""
    world, box = World(), MemoryService()
    world.turns = world.replica(strategies=offered(world, box, *names))
    return world, box


@pytest.mark.parametrize("builder", [called, fetched], ids=NAMES.values())
@pytest.mark.parametrize("check", PROMISES, ids=lambda check: check.__name__)
def test_a_new_strategy_is_judged_by_the_same_promises(builder: object, check: Promise, tmp_path: Path) -> None:
    def no_cloud() -> None:
        raise AssertionError("toys need no cloud")

    with builder(Surroundings(tmp_path, no_cloud)) as subject:  # type: ignore[operator, arg-type]
        check(subject)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_whole_job_on_a_new_strategy(payload: Payload) -> None:
    world, box = toy_world(NAMES[payload])

    session = world.launched(head_sha="abc")
    (toy,) = box.instances.values()
    config = read_config(toy.payload or world.configurations.values[session.instance_id])
    assert (session.strategy, session.state) == (NAMES[payload], SessionState.CONFIGURED)
    assert (bool(toy.payload), config.session_id, config.blob is not None) == (
        payload is Payload.IN_CALL, session.session_id, True,
    )  # fmt: skip

    world.hear("started", started_at="2026-01-31T12:00:10Z")
    world.told(an_event("in_progress", runner_name=session.registration_name))
    world.hear_the_end()
    world.told(an_event("completed", runner_name=session.registration_name, conclusion="success"))
    world.github.runners.clear()  # a runner that is single-use goes with its job
    world.ticks(900.0, every_s=30.0)

    assert (world.session.state, world.session.status) == (SessionState.CLOSED, "success")
    assert (toy.state, world.configurations.values) == (InstanceState.TERMINATED, {})
    assert [len(box.instances), len(world.compute.instances)] == [1, 0]


def test_strategies_side_by_side_are_found_by_the_sessions_handle() -> None:
    world, box = toy_world("ec2", "toy-call", "toy-fetch")

    for number, label in enumerate(["runs-fleet", "runs-fleet/compute=toy-call", "runs-fleet/compute=toy-fetch"], start=1):
        world.told(an_event(job_id=str(number), labels=(label,)))

    assert sorted(one.strategy for one in world.sessions) == ["ec2", "toy-call", "toy-fetch"]
    assert [len(box.instances), len(world.compute.instances)] == [2, 1]
    for session in world.sessions:
        world.turns.sessions.stop(handle_of(session))
    assert set(world.compute.instances.values()) == {"terminated"}
    assert {toy.state for toy in box.instances.values()} == {InstanceState.TERMINATED}


def test_a_strategy_that_is_not_offered_is_refused_aloud_and_nothing_is_launched() -> None:
    world, _ = toy_world("ec2", "toy-call")

    world.told(an_event(labels=("runs-fleet/compute=toy-fetch",), head_sha="abc"))
    world.tick(60.0)

    said = "compute=toy-fetch is not offered here: expected one of ec2, toy-call"
    assert (world.sessions, world.compute.instances) == ([], {})
    assert said in str(world.explanation())
    assert [said in notice for notice in world.github.notices] == [True]


def test_an_unknown_name_in_the_settings_stops_the_start() -> None:
    world = World()

    with pytest.raises(SettingsInvalid, match="STRATEGIES: expected some of ec2, local, toy-call, toy-fetch, found lego"):
        offered(world, MemoryService(), "lego")


TABLE, READERS = "orchestrator/strategies.py", "orchestrator/setting_readers.py"
KNOWN_IN = [
    (r"toy-fetch", {"tests/orchestrator/toys.py", "tests/orchestrator/test_extending_compute.py"}),
    (
        r"compute\.local\b|[\"']local[\"']|\bLocalStrategy\b",
        {TABLE, READERS, "orchestrator/compute/local.py", "orchestrator/adapters/processes.py"},
    ),
    (
        r"compute\.ec2\b|[\"']ec2[\"']|\bEc2Strategy\b",
        {
            TABLE, READERS, "orchestrator/settings.py", "orchestrator/wiring.py", "orchestrator/store/model.py",
            *(f"orchestrator/compute/ec2/{name}.py" for name in ("strategy", "account", "calls", "fleet_request")),
            *(f"orchestrator/adapters/{name}.py" for name in ("ec2", "ec2_offerings", "aws")),
        },
    ),
]  # fmt: skip
"""The table, its settings, its module, its adapter. Of EC2 also the reader of its events, and the strategy of old records."""


@pytest.mark.parametrize(("words", "files"), KNOWN_IN, ids=["toy-fetch", "local", "ec2"])
def test_only_these_files_know_a_strategy(words: str, files: set[str]) -> None:
    """Of the product; of a toy, also of the tests."""
    folders = ("orchestrator", "agent", "tests") if words.startswith("toy") else ("orchestrator",)
    paths = [path for folder in folders for path in (CHECKOUT / folder).rglob("*.py")]

    assert {str(path.relative_to(CHECKOUT)) for path in paths if re.search(words, path.read_text("utf-8"))} == files
