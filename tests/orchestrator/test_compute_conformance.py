"""Every strategy keeps what the compute port promises, and the suite tells one that does not."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from orchestrator.compute.port import Compute, ComputeInstance, Plan, SessionHandle, Started, Wanted
from orchestrator.errors import FailureKind, OrchestratorError, ServiceFailed
from sandbox.cloud import Cloud
from sandbox.instances import Idle
from tests.orchestrator import promises
from tests.orchestrator.conformance import BUILDERS, Builder, Subject, Surroundings, ec2_on_its_twin
from tests.orchestrator.promises import PROMISES, Promise


@pytest.fixture(scope="module")
def lazy_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Cloud]]:
    """An AWS for this module, started when the first test asks for it."""
    up: list[Cloud] = []

    def cloud() -> Cloud:
        if not up:
            up.append(Cloud(tmp_path_factory.mktemp("cloud"), Idle()).start())
        return up[0]

    yield cloud
    for one in up:
        one.stop()


@pytest.fixture
def around(tmp_path: Path, lazy_cloud: Callable[[], Cloud]) -> Surroundings:
    """What builders build on."""
    return Surroundings(tmp_path, lazy_cloud)


@pytest.mark.parametrize("builder", BUILDERS.values(), ids=BUILDERS)
@pytest.mark.parametrize("check", PROMISES, ids=lambda check: check.__name__)
def test_every_strategy_keeps_each_promise(builder: Builder, check: Promise, around: Surroundings) -> None:
    with builder(around) as subject:
        check(subject)


class Faulty:
    """A strategy with one fault; everything else is as it was."""

    def __init__(self, subject: Subject) -> None:
        self.strategy, self.neighbour = subject.compute, subject.neighbour

    def __getattr__(self, name: str) -> Any:
        return getattr(self.strategy, name)

    def start_sessions(self, request: str, payloads: Mapping[str, str], *, sent_before: bool) -> Started:
        """As the strategy does."""
        return self.strategy.start_sessions(request, payloads, sent_before=sent_before)


class Forgetful(Faulty):
    """Each sending has a token of its own."""

    def start_sessions(self, request: str, payloads: Mapping[str, str], *, sent_before: bool) -> Started:
        again = {**json.loads(request), "ClientToken": str(uuid.uuid4())}
        return super().start_sessions(json.dumps(again), payloads, sent_before=sent_before)


class Stingy(Faulty):
    """Keeps one instance for itself."""

    def start_sessions(self, request: str, payloads: Mapping[str, str], *, sent_before: bool) -> Started:
        started = super().start_sessions(request, payloads, sent_before=sent_before)
        return replace(started, instances=started.instances[1:])


class Alarmed(Faulty):
    """Takes a lack of capacity for an error."""

    def start_sessions(self, request: str, payloads: Mapping[str, str], *, sent_before: bool) -> Started:
        started = super().start_sessions(request, payloads, sent_before=sent_before)
        if not started.instances:
            raise ServiceFailed("start", "InsufficientInstanceCapacity")
        return started


class Calm(Faulty):
    """Takes an outage for a lack of capacity."""

    def start_sessions(self, request: str, payloads: Mapping[str, str], *, sent_before: bool) -> Started:
        try:
            return super().start_sessions(request, payloads, sent_before=sent_before)
        except ServiceFailed:
            return Started(instances=(), reasons=("Full: none left",), failure=FailureKind.NO_CAPACITY, why="it is full")


class Boastful(Faulty):
    """Says that it ended what never was."""

    def stop_session(self, handle: SessionHandle) -> bool:
        """Always."""
        self.strategy.stop_session(handle)
        return True


class Nosy(Faulty):
    """Lists what belongs to others."""

    def list_sessions(self) -> Iterator[ComputeInstance]:
        """Everything there is."""
        yield from self.strategy.list_sessions()
        yield from self.neighbour.list_sessions()


class Touchy(Faulty):
    """Fails for all where one is unknown."""

    def poll_sessions(self, handles: Iterable[SessionHandle]) -> dict[SessionHandle, ComputeInstance]:
        """All or none."""
        asked = list(handles)
        found = self.strategy.poll_sessions(asked)
        if len(found) < len(asked):
            raise ServiceFailed("poll", "InvalidInstanceID.NotFound")
        return found


class Blind(Faulty):
    """Finds nothing of what it made."""

    def look_up(self, request: str) -> Started:
        """Nothing."""
        return Started(instances=())


class Hasty(Faulty):
    """Sends a request where it was to look."""

    def look_up(self, request: str) -> Started:
        """As if it were a start."""
        return self.strategy.start_sessions(request, {}, sent_before=True)


class Endless(Faulty):
    """Begins anew where the fallback ends."""

    def plan(self, wanted: Wanted, *, after: int | None = None, failure: FailureKind | None = None) -> Plan | None:
        """Always something."""
        return self.strategy.plan(wanted, after=after, failure=failure) or self.strategy.plan(wanted)


class Deaf(Faulty):
    """Goes on asking, whatever the failure was."""

    def plan(self, wanted: Wanted, *, after: int | None = None, failure: FailureKind | None = None) -> Plan | None:
        """As if there were no capacity."""
        return self.strategy.plan(wanted, after=after, failure=failure and FailureKind.NO_CAPACITY)


FAULTS: list[tuple[type[Faulty], Promise]] = [
    (Forgetful, promises.the_same_request_gives_the_same_instances_however_often_it_is_sent),
    (Forgetful, promises.another_request_under_the_same_token_is_refused_and_starts_nothing),
    (Stingy, promises.a_start_gives_as_many_instances_as_are_wanted_each_with_an_id_of_its_own),
    (Alarmed, promises.a_lack_of_capacity_is_an_answer_without_instances_that_says_so),
    (Calm, promises.an_outage_is_no_answer_at_all_makes_nothing_and_is_not_mistaken_for_a_lack_of_capacity),
    (Boastful, promises.an_instance_may_be_stopped_twice_and_an_unknown_one_is_gone_already),
    (Nosy, promises.another_stacks_instances_are_not_listed_though_they_stand_on_the_same_service),
    (Touchy, promises.an_unknown_instance_is_absent_and_hides_no_other),
    (Blind, promises.what_a_request_made_is_looked_up_without_making_more),
    (Hasty, promises.what_a_request_made_is_looked_up_without_making_more),
    (Endless, promises.the_steps_of_a_launch_are_numbered_upwards_differ_and_end),
    (Deaf, promises.throttling_and_a_refusal_lead_to_no_other_step),
]
"""A fault, and the promise that it breaks."""


@pytest.mark.parametrize(("fault", "check"), FAULTS, ids=[f"{fault.__name__}-{check.__name__}" for fault, check in FAULTS])
def test_a_strategy_with_a_fault_breaks_the_promise_that_names_it(
    fault: type[Faulty], check: Promise, around: Surroundings
) -> None:
    with ec2_on_its_twin(around) as subject:
        broken: Any = fault(subject)

        @contextlib.contextmanager
        def within(times: Callable[[], AbstractContextManager[Compute]]) -> Iterator[Compute]:
            with times():
                yield broken

        bad = {"drought": partial(within, subject.drought), "outage": partial(within, subject.outage)}
        with pytest.raises((AssertionError, OrchestratorError, pytest.fail.Exception)):
            check(replace(subject, compute=broken, **bad))
