"""The auditor: ends what outlived its end by its tag or its age, and nothing else, however often it is cut short."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.adapters.aws import Clients
from orchestrator.adapters.ec2 import Ec2Api
from orchestrator.commands.audit import MARGIN_S, OLDEST_S, Audit, audit, handler
from orchestrator.errors import ServiceFailed, Unanswered
from simulation.calls import Calls, Crash, call, raise_
from simulation.clock import MORNING, VirtualTime
from simulation.process import MemoryJournal
from tests.conftest import Moto


class Account:
    """An EC2 (audit) of some instances."""

    def __init__(self, *instances: dict[str, Any], calls: Calls | None = None) -> None:
        self._calls = calls or Calls()
        self.instances, self.terminated, self.filters = instances, list[str](), list[dict[str, Any]]()

    @call("ec2.describe")
    def describe(self, filters: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """All."""
        self.filters = filters
        return iter(self.instances)

    @call("ec2.terminate")
    def terminate(self, instance_id: str) -> None:
        """Unless it is the one that may not be."""
        if instance_id == "i-broken":
            raise ServiceFailed("ec2:TerminateInstances", "UnauthorizedOperation")
        self.terminated.append(instance_id)


def machine(identity: str, ends_at: float | str | None, age_s: float = 60.0) -> dict[str, Any]:
    """As EC2 describes it."""
    tags = [] if ends_at is None else [{"Key": "runs-fleet:expires-at", "Value": str(ends_at)}]
    launched = datetime.fromtimestamp(MORNING, UTC) - timedelta(seconds=age_s)
    return {"InstanceId": identity, "Tags": tags, "LaunchTime": launched}


def test_the_auditor_ends_what_outlived_its_end_and_nothing_else() -> None:
    account = Account(
        machine("i-young", int(MORNING) + 60), machine("i-due", int(MORNING) - 60), machine("i-over", int(MORNING - MARGIN_S)),
        machine("i-untagged", None), machine("i-garbled", "soon", OLDEST_S - 60), machine("i-ancient", None, OLDEST_S + 60),
    )  # fmt: skip

    failed = audit(account, VirtualTime(), MemoryJournal(), "tests").failed

    assert (failed, account.terminated) == (0, ["i-over", "i-ancient"])
    assert {"Name": "tag:runs-fleet:stack", "Values": ["tests"]} in account.filters


def test_one_that_the_auditor_may_not_end_keeps_no_other_alive_and_is_counted() -> None:
    account, journal = Account(machine("i-broken", 1), machine("i-over", 1)), MemoryJournal()

    failed = audit(account, VirtualTime(), journal, "tests").failed

    assert (failed, account.terminated, journal.names) == (1, ["i-over"], ["audit.failed", "audit.terminated"])


@pytest.mark.parametrize("failure", [Crash, Unanswered])
@pytest.mark.parametrize(("name", "skip"), [("ec2.describe", 0), *(("ec2.terminate", number) for number in range(3))])
@pytest.mark.parametrize("when", ["after", "before"])
def test_an_audit_cut_short_at_any_call_is_made_up_for_by_the_next(
    name: str, skip: int, when: str, failure: Callable[[str], BaseException]
) -> None:
    calls, young = Calls(), machine("i-young", int(MORNING) + 60)
    account = Account(*(machine(f"i-{n}", 1) for n in range(3)), young, calls=calls)
    cut: dict[str, Any] = {when: lambda *_: raise_(failure("cut"))}
    calls.script(name, skip=skip, **cut)

    with contextlib.suppress(Crash, Unanswered):
        audit(account, VirtualTime(), MemoryJournal(), "tests")
    failed = audit(account, VirtualTime(), MemoryJournal(), "tests").failed

    assert failed == 0 and set(account.terminated) == {"i-0", "i-1", "i-2"}


def test_the_auditor_on_aws_ends_only_machines_of_its_stack(moto: Moto) -> None:
    ec2 = moto.client("ec2")
    made = {}
    for stack in ("tests", "other"):
        tags = {"runs-fleet:managed": "true", "runs-fleet:stack": stack, "runs-fleet:expires-at": "1"}
        told = [{"ResourceType": "instance", "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}]
        found = ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1, TagSpecifications=told)
        made[stack] = found["Instances"][0]["InstanceId"]

    audit(Ec2Api(Clients()), VirtualTime(), MemoryJournal(), "tests")

    told = ec2.describe_instances(InstanceIds=list(made.values()))["Reservations"]
    states = {i["InstanceId"]: i["State"]["Name"] for reservation in told for i in reservation["Instances"]}
    assert states == {made["tests"]: "terminated", made["other"]: "running"}


def test_as_a_function_the_auditor_ends_what_outlived_its_end_and_says_what_it_saw(moto: Moto) -> None:
    ended = {"runs-fleet:managed": "true", "runs-fleet:stack": "runs-fleet", "runs-fleet:expires-at": "1"}
    tags = [{"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in ended.items()]}]
    moto.client("ec2").run_instances(ImageId="ami-12c6146b", MinCount=2, MaxCount=2, TagSpecifications=tags)

    first, again = handler({}, None), handler({}, None)

    assert first == {"stack": "runs-fleet", "seen": 2, "terminated": 2}
    assert again["seen"] == 0


def test_what_came_of_an_audit_is_told_in_one_line() -> None:
    assert str(Audit("tests", 3, 1)) == "stack tests: 3 machines, 1 outlived their end and are terminated"
    assert str(Audit("tests", 3, 1, 2)).endswith("2 could not be (see above)")
