"""The auditor's rules at their edges, and how its failures are told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.commands.audit import MARGIN_S, OLDEST_S, Audit, audit, audited, handler, outlived
from orchestrator.errors import ServiceFailed
from simulation.calls import Calls
from simulation.clock import MORNING, VirtualTime
from simulation.ec2 import MemoryEc2
from simulation.process import MemoryJournal
from tests.conftest import Moto

MANAGED = {"runs-fleet:managed": "true", "runs-fleet:stack": "tests", "runs-fleet:expires-at": "1"}


def described(end: str | None, launched_at: float | None = MORNING) -> dict[str, Any]:
    """An instance as EC2 describes it."""
    tags = [{"Key": "Name", "Value": "x"}, *([] if end is None else [{"Key": "runs-fleet:expires-at", "Value": end}])]
    launched = {} if launched_at is None else {"LaunchTime": datetime.fromtimestamp(launched_at, UTC)}
    return {"InstanceId": "i-1", "Tags": tags, **launched}


def machines(moto: Moto, number: int = 1, **tags: str) -> list[str]:
    """The ids of instances with our tags, or others."""
    told = [{"Key": key, "Value": value} for key, value in {**MANAGED, **tags}.items()]
    made = moto.client("ec2").run_instances(
        ImageId="ami-12c6146b", MinCount=number, MaxCount=number, TagSpecifications=[{"ResourceType": "instance", "Tags": told}]
    )
    return [one["InstanceId"] for one in made["Instances"]]


def states(moto: Moto) -> dict[str, str]:
    """Of all instances there are."""
    found = moto.client("ec2").describe_instances()["Reservations"]
    return {one["InstanceId"]: one["State"]["Name"] for reservation in found for one in reservation["Instances"]}


@pytest.fixture
def account(moto: Moto) -> Iterator[Moto]:
    """An AWS of instances, none of which is protected when the test is over."""
    yield moto
    for identity in states(moto):
        moto.client("ec2").modify_instance_attribute(InstanceId=identity, DisableApiTermination={"Value": False})


@pytest.mark.parametrize(("late_s", "over"), [(0.0, True), (-1.0, False)])
def test_an_instance_outlives_its_end_with_the_last_second_of_the_margin(late_s: float, over: bool) -> None:
    assert outlived(described(str(int(MORNING))), MORNING + MARGIN_S + late_s) is over


@pytest.mark.parametrize("end", [None, "", "soon", "-1", "1e9"])
def test_without_a_readable_end_its_age_decides(end: str | None) -> None:
    assert not outlived(described(end), MORNING + OLDEST_S)
    assert outlived(described(end), MORNING + OLDEST_S + 1.0)


def test_a_readable_end_decides_whatever_the_age_is() -> None:
    ends = str(int(MORNING + 2 * OLDEST_S))

    assert not outlived(described(ends), MORNING + 1.5 * OLDEST_S)


def test_an_instance_without_tags_and_without_an_age_is_left_alone() -> None:
    assert not outlived(described(None, launched_at=None), MORNING + 10 * OLDEST_S)
    assert not outlived({"InstanceId": "i-1"}, MORNING)


def test_a_list_that_cannot_be_had_is_a_failure_and_nothing_is_terminated() -> None:
    calls, journal = Calls(), MemoryJournal()
    ec2 = MemoryEc2(calls)
    ec2.instances = {"i-1": "running"}
    calls.fail("ec2.describe", ServiceFailed("ec2:DescribeInstances", "UnauthorizedOperation"))

    with pytest.raises(ServiceFailed, match="UnauthorizedOperation"):
        audit(ec2, VirtualTime(), journal, "tests")
    assert (ec2.instances, journal.events) == ({"i-1": "running"}, [])


def test_what_came_of_each_machine_is_in_the_log_and_in_the_count() -> None:
    ec2, journal = MemoryEc2(), MemoryJournal()
    ec2.instances = dict.fromkeys(("i-1", "i-2", "i-young", "i-stopped", "i-gone"), "running")
    ec2.instances |= {"i-stopped": "stopped", "i-gone": "terminated"}
    ec2.expires, ec2.broken = {**dict.fromkeys(ec2.instances, 1.0), "i-young": MORNING}, {"i-1"}

    found = audit(ec2, VirtualTime(), journal, "tests")

    assert found == Audit("tests", seen=4, terminated=2, failed=1), "a disk that is stopped is billed; what is gone is not seen"
    assert [one["instance_id"] for one in journal.of("audit.terminated")] == ["i-2", "i-stopped"]
    (failure,) = journal.of("audit.failed")
    assert failure["instance_id"] == "i-1" and "RequestLimitExceeded" in str(failure["error"])


def test_on_aws_only_living_machines_that_we_manage_are_seen(account: Moto) -> None:
    ours, stopped = machines(account, 2)
    foreign = [*machines(account, **{"runs-fleet:managed": "false"}), *machines(account, **{"runs-fleet:stack": "others"})]
    account.client("ec2").stop_instances(InstanceIds=[stopped])

    found = audited({"RUNS_FLEET_STACK_ID": "tests"})

    assert (found.seen, found.terminated, found.failed) == (2, 2, 0)
    assert states(account) == {**dict.fromkeys((ours, stopped), "terminated"), **dict.fromkeys(foreign, "running")}


@pytest.mark.parametrize("environment", [{}, {"RUNS_FLEET_STACK_ID": ""}])
def test_without_a_name_it_is_the_stack_with_the_usual_one(account: Moto, environment: dict[str, str]) -> None:
    (usual,), (other,) = machines(account, **{"runs-fleet:stack": "runs-fleet"}), machines(account)

    found = audited(environment)

    assert (found.stack_id, found.terminated) == ("runs-fleet", 1)
    assert states(account) == {usual: "terminated", other: "running"}


def test_as_a_function_a_machine_that_could_not_be_ended_is_an_error_with_the_counts(account: Moto) -> None:
    protected, free = machines(account, 2, **{"runs-fleet:stack": "runs-fleet"})
    account.client("ec2").modify_instance_attribute(InstanceId=protected, DisableApiTermination={"Value": True})

    with pytest.raises(RuntimeError, match=r"2 machines, 1 outlived their end and are terminated, 1 could not be"):
        handler({}, None)

    assert states(account) == {protected: "running", free: "terminated"}
