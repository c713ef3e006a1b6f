"""A normal run cut off after every call, and with every call refused: what follows makes one instance and leaves nothing."""

from __future__ import annotations

import json

import msgspec
import pytest

from agent.contract.config import RunnerConfig, read_config
from orchestrator.errors import OrchestratorError, Unanswered
from orchestrator.jobs.webhook import JobEvent
from orchestrator.ports import Received
from orchestrator.store.states import SessionState
from simulation.calls import Calls, Crash
from simulation.examples import an_event, final_fields
from simulation.world import World, consume
from tests.orchestrator.refusals import Refusal, refusing

ROUNDS = 60
WORDS = ("started", "busy", "success")


class Run:
    """One job from its delivery to a closed session; whoever crashes is started again in the next round."""

    def __init__(self, calls: Calls) -> None:
        self.world = World(calls)
        self.accepted = False
        self.minds: dict[str, RunnerConfig] = {}
        self.texts: dict[str, str] = {}
        self.said: dict[str, int] = {}

    def to_its_end(self) -> World:
        for _ in range(ROUNDS):
            for turn in (self._delivery, self._jobs, self._levels, self._machines, self._agents, self._levels, self._tick):
                try:
                    turn()
                except Crash:
                    self.world.wakes.taken()  # what a process only knew died with it
                except OrchestratorError:
                    continue
            self.world.clock.at += 10.0
            self.world.queue.time_out()
            self.world.terminations.time_out()
            sessions = list(self.world.records.sessions())
            waiting = [*self.world.queue.bodies, *self.world.terminations.bodies]
            if sessions and not waiting and all(session.state is SessionState.CLOSED for session in sessions):
                break
        return self.world

    def _delivery(self) -> None:
        if not self.accepted:
            self.world.turns.on_webhook(b"the delivery", an_event())
            self.accepted = True

    def _jobs(self) -> None:
        turns = self.world.turns
        consume(self.world.queue, lambda message: turns.on_job_event(msgspec.json.decode(message.body, type=JobEvent)))

    def _levels(self) -> None:
        self.world.reconcile()

    def _tick(self) -> None:
        self.world.turns.on_sweep()

    def _agents(self) -> None:
        consume(self.world.terminations, self.world.turns.on_agent_message)

    def _machines(self) -> None:
        """Each machine reads its configuration once it is there, says one word a round, and is gone after the last."""
        world = self.world
        for instance_id, state in list(world.compute.instances.items()):
            text = world.configurations.values.get(instance_id)
            if text is not None:
                self.minds.setdefault(instance_id, read_config(text))
                self.texts[instance_id] = text
            at = self.said.get(instance_id, 0)
            if state != "running" or instance_id not in self.minds:
                continue
            if at == len(WORDS):
                world.github.runners = {n: r for n, r in world.github.runners.items() if not r.busy}
                world.compute.instances[instance_id] = "terminated"
                continue
            mind = self.minds[instance_id]
            told = {"instance_id": instance_id, "session_id": mind.session_id, "job_id": "1", "status": WORDS[at]}
            told["attempt"] = mind.attempt
            for runner in world.github.runners.values():
                runner.busy = WORDS[at] == "busy" or runner.busy
            if WORDS[at] == "busy":
                runner_name = read_config(self.texts[instance_id]).runner_name
                world.turns.on_webhook(b"taken", an_event("in_progress", runner_name=runner_name))
            if WORDS[at] == "success":
                world.turns.on_webhook(b"done", an_event("completed", conclusion="success"))
            body = json.dumps(told | (final_fields("success") if WORDS[at] == "success" else {}))
            world.terminations.put(body, f"AROARUNNER:{instance_id}")
            self.said[instance_id] = at + 1


def calls_of_a_normal_run() -> list[str]:
    calls = Calls()
    Run(calls).to_its_end()
    return calls.made


NORMAL = calls_of_a_normal_run()


def test_a_normal_run_makes_every_kind_of_call() -> None:
    wanted = {
        "queue.send", "queue.receive", "queue.delete", "tables.get", "tables.write", "tables.count", "tables.rows", "tables.due",
        "ec2.create_fleet", "ec2.describe", "github.mint", "configurations.put", "configurations.delete",
    }  # fmt: skip

    assert wanted <= set(NORMAL)


@pytest.mark.parametrize("failure", [Crash, Unanswered])
@pytest.mark.parametrize("fatal", range(1, len(NORMAL) + 1), ids=[f"{n}-{name}" for n, name in enumerate(NORMAL, 1)])
def test_s3_after_a_call_whose_answer_is_never_heard_one_machine_was_made_and_nothing_is_left(
    fatal: int, failure: type[Exception]
) -> None:
    calls = Calls(fatal=fatal, failure=failure)

    world = Run(calls).to_its_end()

    assert len(calls.made) >= fatal
    assert (world.compute.launched, set(world.compute.instances.values())) == (1, {"terminated"})
    assert (world.session.state, world.session.status) == (SessionState.CLOSED, "success")
    assert (world.configurations.values, world.github.runners) == ({}, {})
    assert world.queue.bodies == world.terminations.bodies == []


def refused(number: int) -> tuple[Refusal, World]:
    """A normal run whose turns have the call of that number refused (0: none)."""
    run, refusal = Run(Calls()), Refusal(number)
    refusing(run.world, refusal)
    return refusal, run.to_its_end()


@pytest.mark.parametrize("number", range(1, refused(0)[0].made + 1))
def test_after_a_call_that_is_refused_one_machine_was_made_and_nothing_is_left(number: int) -> None:
    refusal, world = refused(number)

    assert refusal.made >= number
    assert (world.compute.launched, set(world.compute.instances.values())) == (1, {"terminated"})
    assert (world.session.state, world.session.status) == (SessionState.CLOSED, "success")
    assert (world.configurations.values, world.github.runners) == ({}, {})
    assert world.queue.bodies == world.terminations.bodies == []


@pytest.mark.parametrize("fatal", range(1, len(NORMAL) + 1, 3))
def test_a_delivery_that_is_repeated_after_a_crash_changes_nothing(fatal: int) -> None:
    world = Run(Calls(fatal=fatal)).to_its_end()
    before = world.session

    world.told(an_event())
    world.turns.on_agent_message(
        Received(json.dumps({"instance_id": before.instance_id, "job_id": "1", "status": "started"}), "receipt")
    )

    assert (world.session, world.compute.launched, world.configurations.values) == (before, 1, {})
