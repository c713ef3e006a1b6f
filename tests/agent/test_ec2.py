"""An EC2 instance by its metadata service and its API: who it is, what it is told, and how it switches the service off."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.aws.ec2 import SelfTermination
from agent.adapters.aws.signing import CredentialChain, Region, SignedCalls
from agent.adapters.http import MetadataService
from agent.adapters.network import Network
from agent.errors import ServiceError
from agent.hosts.ec2 import CLOSED_WITHIN_S, POLL_S, SILENT_AFTER, SILENT_POLL_S, SWITCH, Ec2Machine
from agent.ports import Finished, Launch, NoticeCame
from agent.supervision import NoticeKind
from sandbox.imds import Metadata
from simulation.agent_inbox import HANGS, Script, VirtualInbox, VirtualWorkers, refused
from simulation.clock import BIRTH_S, BIRTHDAY, AgentClock
from tests.conftest import Moto

INSTANCE = "i-0123456789abcdef0"
SPOT, REBALANCE = "meta-data/spot/instance-action", "meta-data/events/recommendations/rebalance"
UNREACHABLE = refused("Unreachable", "the metadata service")


class ScriptedMetadata:
    """Metadata (`agent/hosts/ec2.py`): each path answers by its script, a path without one is not there."""

    def __init__(self, **scripts: Script[str | None]) -> None:
        self.scripts = {"meta-data/instance-id": Script[str | None](INSTANCE), **scripts}
        self.asked: list[str] = []

    def get(self, path: str) -> str | None:
        self.asked.append(path)
        return self.scripts[path].next() if path in self.scripts else None


@dataclass
class ScriptedEnding:
    """Ending (`agent/hosts/ec2.py`) of which only the metadata's switch is used."""

    ends_at: datetime | None = None
    closing: Script[None] = field(default_factory=lambda: Script(None))
    closed: list[str] = field(default_factory=list)

    def terminate(self, instance_id: str) -> None:
        raise AssertionError("nobody asked for the end")

    def may_terminate(self, instance_id: str) -> str:
        raise AssertionError("nobody asked whether")

    def close_metadata(self, instance_id: str) -> None:
        self.closed.append(instance_id)
        self.closing.next()

    def credentials_end(self) -> datetime | None:
        return self.ends_at


@dataclass
class Switch:
    """Processes (ports) of which only a bounded run is used."""

    code: int | None = 0
    ran: list[tuple[Launch, float]] = field(default_factory=list)

    def run(self, launch: Launch, within_s: float) -> Finished:
        self.ran.append((launch, within_s))
        return Finished(self.code, "")


class Bench:
    """A machine on a virtual clock."""

    def __init__(self, metadata: Any = None, ending: Any = None, *, certainly_ec2: bool = True, code: int | None = 0) -> None:
        self.clock = AgentClock()
        self.inbox = VirtualInbox(self.clock)
        self.workers = VirtualWorkers(self.clock, self.inbox)
        self.metadata, self.ending = metadata or ScriptedMetadata(), ending or ScriptedEnding()
        self.switch = Switch(code)
        self.machine = Ec2Machine(
            metadata=self.metadata, ending=self.ending, processes=self.switch, inbox=self.inbox,  # type: ignore[arg-type]
            workers=self.workers, clock=self.clock, certainly_ec2=lambda: certainly_ec2, path="/usr/bin",
        )  # fmt: skip

    def told(self) -> list[NoticeCame]:
        """Every notice until the look that never comes back."""
        self.machine.watch_notices()
        assert self.workers.hung == ["notices"]
        found = []
        while (event := self.inbox.wait(BIRTH_S + 86_400.0)) is not None:
            assert isinstance(event, NoticeCame)
            found.append(event)
        return found


@pytest.fixture
def imds() -> Iterator[Metadata]:
    """A real metadata service."""
    service = Metadata(INSTANCE, "us-east-1")
    yield service
    service.stop()


def service_at(imds: Metadata) -> MetadataService:
    return MetadataService({"AWS_EC2_METADATA_SERVICE_ENDPOINT": imds.url})


def test_the_instance_is_who_the_metadata_service_says(imds: Metadata) -> None:
    imds.values["meta-data/instance-id"] = f"{INSTANCE}\n"

    assert Bench(service_at(imds)).machine.instance_id() == INSTANCE


@pytest.mark.parametrize("first", [UNREACHABLE, None, ""])
def test_a_network_that_comes_up_in_the_first_second_is_waited_for(first: BaseException | None) -> None:
    bench = Bench(ScriptedMetadata(**{"meta-data/instance-id": Script[str | None](first, first, INSTANCE)}))

    assert bench.machine.instance_id() == INSTANCE
    assert bench.clock.pauses == [0.5, 0.5]


@pytest.mark.parametrize(("answer", "code"), [(UNREACHABLE, "Unreachable"), (None, "NoInstanceId")])
def test_an_instance_that_will_not_say_who_it_is_is_asked_three_times(answer: BaseException | None, code: str) -> None:
    metadata = ScriptedMetadata(**{"meta-data/instance-id": Script[str | None](answer)})

    with pytest.raises(ServiceError) as refusal:
        Bench(metadata).machine.instance_id()

    assert (refusal.value.code, len(metadata.asked)) == (code, 3)


def test_a_spot_notice_is_told_once_with_its_moment_and_again_when_the_moment_changes() -> None:
    first = json.dumps({"action": "terminate", "time": "2026-01-31T12:02:00Z"})
    later = json.dumps({"action": "terminate", "time": "2026-01-31T12:05:00Z"})
    bench = Bench(ScriptedMetadata(**{SPOT: Script[str | None](None, first, first, later, HANGS)}))

    assert bench.told() == [
        NoticeCame(NoticeKind.SPOT, BIRTHDAY + timedelta(minutes=2), "terminate"),
        NoticeCame(NoticeKind.SPOT, BIRTHDAY + timedelta(minutes=5), "terminate"),
    ]


def test_a_rebalance_recommendation_is_told_without_a_moment_of_the_end() -> None:
    told = json.dumps({"noticeTime": "2026-01-31T12:00:00Z"})
    bench = Bench(ScriptedMetadata(**{REBALANCE: Script[str | None](told, told, HANGS)}))

    assert bench.told() == [NoticeCame(NoticeKind.REBALANCE, None, "2026-01-31T12:00:00Z")]


@pytest.mark.parametrize("text", ["soon", "[]", "{}", '{"time": "soon", "action": null}', '{"time": 7}'])
def test_a_notice_that_cannot_be_read_is_a_notice_all_the_same(text: str) -> None:
    (notice,) = Bench(ScriptedMetadata(**{SPOT: Script[str | None](text, HANGS)})).told()

    assert (notice.kind, notice.ends_at) == (NoticeKind.SPOT, None)


def test_a_service_that_falls_silent_is_told_of_once_and_asked_less_often() -> None:
    answers = [UNREACHABLE] * (SILENT_AFTER + 2)
    bench = Bench(ScriptedMetadata(**{SPOT: Script[str | None](*answers, None, HANGS)}))

    (notice,) = bench.told()

    assert notice.kind is NoticeKind.SILENT and "Unreachable" in notice.detail
    assert bench.clock.pauses[: SILENT_AFTER + 3] == [*[POLL_S] * (SILENT_AFTER - 1), *[SILENT_POLL_S] * 3, POLL_S]


def test_a_hiccup_is_no_silence() -> None:
    hiccups = [UNREACHABLE] * (SILENT_AFTER - 1)
    bench = Bench(ScriptedMetadata(**{SPOT: Script[str | None](*hiccups, None, *hiccups, None, HANGS)}))

    assert bench.told() == []


def test_the_service_is_closed_when_it_refuses_and_the_watch_for_notices_is_over() -> None:
    metadata = ScriptedMetadata(**{"meta-data/instance-id": Script[str | None](INSTANCE, INSTANCE, refused("403"))})
    bench = Bench(metadata)

    bench.machine.close_metadata(INSTANCE, 3_600.0)
    bench.machine.watch_notices()

    assert bench.ending.closed == [INSTANCE]
    assert (set(metadata.asked), bench.workers.hung) == ({"meta-data/instance-id"}, [])


def test_a_single_hiccup_is_not_taken_for_the_end_of_the_service() -> None:
    answers = Script[str | None](UNREACHABLE, UNREACHABLE, INSTANCE, UNREACHABLE, UNREACHABLE, UNREACHABLE)
    metadata = ScriptedMetadata(**{"meta-data/instance-id": answers})

    Bench(metadata).machine.close_metadata(INSTANCE, 3_600.0)

    assert len(metadata.asked) == 6


def test_a_service_that_still_answers_after_its_time_is_exposed() -> None:
    bench = Bench()

    with pytest.raises(ServiceError, match="StillAnswers"):
        bench.machine.close_metadata(INSTANCE, 3_600.0)

    assert bench.clock.age_s == pytest.approx(CLOSED_WITHIN_S, abs=0.2)


def test_a_refused_switch_is_raised_as_it_came() -> None:
    ending = ScriptedEnding(closing=Script(refused("UnauthorizedOperation")))

    with pytest.raises(ServiceError, match="UnauthorizedOperation"):
        Bench(ending=ending).machine.close_metadata(INSTANCE, 3_600.0)


@pytest.mark.parametrize(("minutes", "closes"), [(59, False), (60, True), (None, True)])
def test_nothing_is_switched_off_with_credentials_that_end_too_early(minutes: int | None, closes: bool) -> None:
    ending = ScriptedEnding(None if minutes is None else BIRTHDAY + timedelta(minutes=minutes))
    bench = Bench(ScriptedMetadata(**{"meta-data/instance-id": Script[str | None](refused("403"))}), ending)

    if closes:
        bench.machine.close_metadata(INSTANCE, 3_600.0)
    else:
        with pytest.raises(ServiceError, match=r"TooShort.*12:59 UTC.*60 minutes: lower RUNS_FLEET_MAX_RUNTIME"):
            bench.machine.close_metadata(INSTANCE, 3_600.0)

    assert ending.closed == ([INSTANCE] if closes else [])


@pytest.mark.parametrize("certainly_ec2", [True, False])
def test_only_a_machine_that_is_certainly_amazons_has_a_switch_of_its_own(certainly_ec2: bool) -> None:
    assert Bench(certainly_ec2=certainly_ec2).machine.power_off_by_default() == (SWITCH if certainly_ec2 else None)


@pytest.mark.parametrize(("code", "answer"), [(0, 0), (3, 3), (None, -1)])
def test_the_switch_is_run_with_nothing_but_a_path_and_a_hung_one_has_a_code_too(code: int | None, answer: int) -> None:
    bench = Bench(code=code)

    assert bench.machine.power_off(("my", "switch")) == answer
    ((launch, within_s),) = bench.switch.ran
    assert launch == Launch(("my", "switch"), Path("/"), {"PATH": "/usr/bin"}, after_sweep=True)
    assert 0.0 < within_s <= 30.0


def self_termination() -> SelfTermination:
    environment = dict(os.environ)
    metadata = MetadataService(environment)
    chain = CredentialChain(environment, metadata)
    return SelfTermination(
        SignedCalls("ec2", environment, chain, Region(environment, metadata), lambda: datetime.now(UTC), Network(environment)),
        chain,
    )


def test_a_real_instance_is_asked_whether_it_may_end_itself_and_then_ends(moto: Moto) -> None:
    ec2 = moto.client("ec2")
    instance_id = ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    machine = Bench(ending=self_termination()).machine

    def state() -> str:
        (reservation,) = ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]
        return str(reservation["Instances"][0]["State"]["Name"])

    assert (machine.may_terminate(instance_id), state()) == ("permitted", "running")
    machine.terminate(instance_id)
    assert state() == "terminated"


def test_an_instance_that_ec2_does_not_know_is_refused_under_ec2s_own_code(moto: Moto) -> None:
    machine = Bench(ending=self_termination()).machine

    with pytest.raises(ServiceError) as refusal:
        machine.terminate(INSTANCE)

    assert refusal.value.code == "InvalidInstanceID.NotFound"
