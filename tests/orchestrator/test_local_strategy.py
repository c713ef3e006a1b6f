"""The strategy `local`: what it asks for and says of its agents, on a list of agents; and with real processes of this machine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.compute.local import CONSOLE_CHARACTERS, LocalStrategy
from orchestrator.compute.port import InstanceState, SessionHandle
from orchestrator.errors import FailureKind, ServiceFailed, Unanswered
from orchestrator.store.request import MachineRequest
from orchestrator.store.resources import Resources
from simulation.examples import some_wanted
from tests.orchestrator.conformance import end, handles, is_gone, local_strategy
from tests.waiting import sooner_or_later


class ListedInstances:
    """LocalInstances (`compute/local.py`) in memory; a test says where each agent is."""

    def __init__(self) -> None:
        self.decisions: dict[str, dict[str, Any]] = {}
        self.tagged: dict[str, dict[str, str]] = {}
        self.states: dict[str, InstanceState] = {}
        self.printed = ""
        self.stopped: list[str] = []
        self.inside = False

    def exclusive(self) -> AbstractContextManager[None]:
        """Whoever is in here is alone."""

        @contextlib.contextmanager
        def alone() -> Any:
            self.inside = True
            yield
            self.inside = False

        return alone()

    def decided(self, token: str, decide: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What was decided first."""
        assert self.inside
        if token not in self.decisions:
            self.decisions[token] = decide()
        return self.decisions[token]

    def recalled(self, token: str) -> dict[str, Any] | None:
        """What was decided, if anything was."""
        return self.decisions.get(token)

    def begin(self, identity: str, tags: Mapping[str, str]) -> None:
        """It runs, if it never did."""
        assert self.inside
        self.tagged.setdefault(identity, dict(tags))
        self.states.setdefault(identity, InstanceState.RUNNING)

    def stop(self, identity: str) -> None:
        """It is on its way out."""
        self.stopped.append(identity)
        self.states[identity] = InstanceState.SHUTTING_DOWN

    def known(self) -> list[str]:
        """All there ever were."""
        return sorted(self.tagged)

    def tags(self, identity: str) -> dict[str, str]:
        """Empty: there is no such agent."""
        return self.tagged.get(identity, {})

    def began_at(self, identity: str) -> float:
        """Always the same."""
        return 77.0

    def console(self, identity: str) -> str:
        """What the test wrote."""
        return self.printed

    def state(self, identity: str) -> InstanceState:
        """Where the test put it."""
        return self.states[identity]


def on_list(instances: ListedInstances, slots: int = 3, stack: str = "tests") -> LocalStrategy:
    """The strategy on a list of agents."""
    return LocalStrategy(instances, architecture="arm64", stack_id=stack, slots=slots)


def started(strategy: LocalStrategy, count: int = 1, launch_id: str = "l-1", *, sent_before: bool = False) -> list[SessionHandle]:
    """The agents of a launch."""
    plan = strategy.plan(some_wanted(None, count, launch_id=launch_id))
    assert plan is not None
    return handles(strategy.start_sessions(plan.request, {}, sent_before=sent_before))


def test_there_is_one_step_and_nothing_that_could_be_taken_back() -> None:
    strategy, wanted = on_list(ListedInstances()), some_wanted()
    plan = strategy.plan(wanted)

    assert plan is not None and (plan.step, plan.market, plan.interruptible) == (0, "local", False)
    assert [strategy.plan(wanted, after=0, failure=kind) for kind in FailureKind] == [None] * len(FailureKind)
    assert (strategy.traits.architectures, strategy.traits.is_priced, strategy.traits.names_sender) == (("arm64",), False, False)


def test_a_machine_takes_what_was_asked_for_and_costs_nothing() -> None:
    assert on_list(ListedInstances()).at_most(MachineRequest(cpu_min=4, cpu_max=8)) == Resources(1, 4.0, 0.0)


def test_an_agent_carries_whose_it_is_the_launch_and_its_end() -> None:
    instances = ListedInstances()
    (handle,) = started(on_list(instances))
    (one,) = on_list(instances).list_sessions()

    assert (one.handle, one.launch_id, one.market, one.launched_at) == (handle, "l-1", "local", 77.0)
    assert one.expires_at == some_wanted().expires_at and one.resources is None
    tags = instances.tagged[handle.instance]
    assert (tags["runs-fleet:managed"], tags["runs-fleet:spec"]) == ("true", MachineRequest().spec())


@pytest.mark.parametrize(
    ("state", "free"),
    [(InstanceState.PENDING, 0), (InstanceState.RUNNING, 0), (InstanceState.SHUTTING_DOWN, 0), (InstanceState.TERMINATED, 2)],
)
def test_a_slot_is_free_only_when_its_agent_is_gone_for_good(state: InstanceState, free: int) -> None:
    instances = ListedInstances()
    strategy = on_list(instances, slots=2)
    for handle in started(strategy, 2):
        instances.states[handle.instance] = state

    assert len(started(strategy, 2, "l-2")) == free


def test_the_slots_are_the_machines_whichever_stack_took_them() -> None:
    instances = ListedInstances()
    started(on_list(instances, stack="another"), 2, "l-0")

    assert len(started(on_list(instances, slots=3), 3)) == 1


def test_what_was_refused_for_want_of_slots_stays_refused_under_the_same_token() -> None:
    instances = ListedInstances()
    strategy = on_list(instances, slots=1)
    plan = strategy.plan(some_wanted(None, 2))
    assert plan is not None
    first = strategy.start_sessions(plan.request, {}, sent_before=False)
    instances.states[first.instances[0].handle.instance] = InstanceState.TERMINATED

    again = strategy.start_sessions(plan.request, {}, sent_before=True)

    assert handles(again) == handles(first) and again.reasons == ("InsufficientSlots: this machine has 1",)
    assert (again.failure, again.why) == (FailureKind.NO_CAPACITY, "every slot of this machine is taken")


def test_one_that_goes_is_neither_listed_nor_stopped_again() -> None:
    instances = ListedInstances()
    strategy = on_list(instances)
    (handle,) = started(strategy)

    assert (strategy.stop_session(handle), strategy.stop_session(handle)) == (True, False)
    assert list(strategy.list_sessions()) == [] and instances.stopped == [handle.instance]
    assert strategy.poll_sessions([handle])[handle].state is InstanceState.SHUTTING_DOWN


def test_of_a_console_the_end_is_kept_and_only_what_can_be_printed() -> None:
    instances = ListedInstances()
    instances.printed = "x" * CONSOLE_CHARACTERS + "\x1b[31mpanic\r\nüber\x00"

    tail = on_list(instances).console_tail(SessionHandle("local", "i-1"))

    assert tail.endswith("x[31mpanic\nüber") and len(tail) == CONSOLE_CHARACTERS


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ServiceFailed("local:start", "IdempotentParameterMismatch"), FailureKind.REFUSED),
        (ServiceFailed("local:start", "OSError", "no space left"), FailureKind.THROTTLED),
        (Unanswered("local:start"), FailureKind.THROTTLED),
    ],
)
def test_only_a_fault_of_ours_is_given_up_a_disk_may_be_mended(error: ServiceFailed, kind: FailureKind) -> None:
    assert on_list(ListedInstances()).classify(error).kind is kind


def test_a_local_instance_begins_once_whoever_asks_and_however_often(tmp_path: Path) -> None:
    """Two replicas of one machine, and an orchestrator that was killed in between, are other objects on the same directory."""
    script = "echo began >> $HOME/../count; exec sleep 300"
    strategies = [local_strategy(tmp_path, "sh", "-c", script) for _ in range(3)]

    found = [started(strategy, sent_before=True) for strategy in (*strategies, *strategies)]

    assert len({tuple(one) for one in found}) == 1
    count = tmp_path / "instances" / found[0][0].instance / "count"
    assert sooner_or_later(count.exists)
    time.sleep(0.2)
    assert count.read_text("ascii") == "began\n"
    end(strategies[0])


def test_a_local_instance_gets_what_makes_it_itself_and_nothing_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNS_FLEET_GITHUB_WEBHOOK_SECRET", "hush")
    strategy = local_strategy(tmp_path, "env")

    (handle,) = started(strategy)
    assert sooner_or_later(lambda: strategy.poll_sessions([handle])[handle].state == "terminated")

    told = dict(line.split("=", 1) for line in strategy.console_tail(handle).splitlines() if "=" in line)
    assert (told["RUNS_FLEET_INSTANCE_ID"], told["RUNS_FLEET_POWER_OFF"]) == (handle.instance, "true")
    assert "hush" not in strategy.console_tail(handle) and not any("GITHUB" in name for name in told)


def test_no_more_local_instances_than_there_are_slots_and_that_is_no_outage(tmp_path: Path) -> None:
    strategy = local_strategy(tmp_path, slots=3)
    first = started(strategy, count=2)
    plan = strategy.plan(some_wanted(None, 2, launch_id="l-2"))
    assert plan is not None

    answer = strategy.start_sessions(plan.request, {}, sent_before=False)

    assert (len(answer.instances), answer.reasons) == (1, ("InsufficientSlots: this machine has 3",))
    # before it runs it may come once more
    assert sooner_or_later(lambda: strategy.poll_sessions([first[0]])[first[0]].state == "running")
    strategy.stop_session(first[0])
    assert is_gone(strategy, first[0]) and len(started(strategy, launch_id="l-3")) == 1
    end(strategy)


def test_a_local_instance_that_does_not_go_when_asked_is_killed_by_somebody_who_needs_nobody(tmp_path: Path) -> None:
    strategy = local_strategy(tmp_path, "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done", polite_s=0.5)
    (handle,) = started(strategy)
    assert sooner_or_later(lambda: "up" in strategy.console_tail(handle))

    strategy.stop_session(handle)

    assert strategy.poll_sessions([handle])[handle].state == "shutting-down"
    assert is_gone(local_strategy(tmp_path), handle)


def test_a_local_instance_that_is_stopped_before_it_begins_never_does(tmp_path: Path) -> None:
    strategy = local_strategy(tmp_path)
    (handle,) = started(strategy)
    place = tmp_path / "instances" / handle.instance
    assert sooner_or_later((place / "begun").exists)
    strategy.stop_session(handle)
    assert is_gone(strategy, handle)
    (place / "begun").unlink()

    started(strategy, sent_before=True)

    assert sooner_or_later((place / "begun").exists)
    assert is_gone(strategy, handle)


def test_another_request_under_the_same_token_is_refused_here_too(tmp_path: Path) -> None:
    strategy = local_strategy(tmp_path)
    started(strategy)

    with pytest.raises(ServiceFailed, match="IdempotentParameterMismatch"):
        started(strategy, count=2)
    end(strategy)


def test_a_disk_that_fails_is_an_outage(tmp_path: Path) -> None:
    strategy = local_strategy(tmp_path, runner=tmp_path / "not-there")

    with pytest.raises(ServiceFailed, match="local:start"):
        started(strategy)
