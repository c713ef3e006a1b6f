"""What nobody owns is removed, twice looked at; what might be owned is kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.audit import MARGIN_S, OLDEST_S, Audit, audit, handler
from orchestrator.cleaning import OFFLINE_S, SUSPECTED_S
from orchestrator.errors import ServiceFailed, Unanswered
from orchestrator.model import changed
from orchestrator.states import LaunchState, SessionState
from tests.conftest import Moto
from tests.orchestrator.memory import (
    MORNING,
    Crash,
    ManualClock,
    MemoryJournal,
    Registration,
    World,
    a_launch,
    an_event,
    some_settings,
)

STRANGER = "i-0123456789abcdef0"


def cleaned(world: World, *after_s: float) -> World:
    """Ticks, so long after one another."""
    for pause_s in after_s or (0.0,):
        world.clock.at += pause_s
        world.turns.on_tick()
    return world


def stranger(world: World, launch_id: str = "l-unknown") -> None:
    """A machine with our tags that no record knows."""
    world.compute.instances[STRANGER], world.compute.launched_by[STRANGER] = "running", launch_id


def test_f9_a_machine_of_no_session_is_suspected_first_and_then_terminated() -> None:
    world = World()
    stranger(world)

    once = cleaned(world).compute.instances[STRANGER]
    early = cleaned(world, SUSPECTED_S - 1).compute.instances[STRANGER]
    late = cleaned(world, 60.0).compute.instances[STRANGER]

    assert (once, early, late) == ("running", "running", "terminated")


def test_t5_a_machine_that_becomes_a_session_meanwhile_is_kept() -> None:
    world = World()
    session = world.launched()
    stranger(world)
    cleaned(world)
    world.records.put(changed(session, instance_id=STRANGER))

    cleaned(world, SUSPECTED_S, SUSPECTED_S)

    assert world.compute.instances[STRANGER] == "running"


def test_a_machine_that_a_launch_may_still_deal_is_kept_until_the_launch_is_closed() -> None:
    world = World()
    launch = world.records.put(a_launch())
    stranger(world, launch.launch_id)
    kept = cleaned(world, 0.0, 10 * SUSPECTED_S).compute.instances[STRANGER]

    world.records.put(changed(launch, state=LaunchState.CLOSED))
    cleaned(world, 60.0, SUSPECTED_S)

    assert (kept, world.compute.instances[STRANGER]) == ("running", "terminated")


def test_a_machine_at_work_is_kept_however_old_it_is() -> None:
    world = World()
    session = world.at_work()

    cleaned(world, *[SUSPECTED_S] * 5)

    assert world.compute.instances[session.instance_id] == "running"


def test_a_machine_past_the_end_that_its_tag_names_is_marked_looked_at_again_and_terminated() -> None:
    world = World()
    session = world.at_work()
    world.compute.expires[session.instance_id] = session.expires_at

    states = [
        cleaned(world, after_s).compute.instances[session.instance_id]
        for after_s in (session.expires_at - MORNING - 1, 60.0, 60.0)
    ]

    assert states == ["running", "running", "terminated"]


def test_a_machine_whose_end_was_put_off_between_the_look_and_the_act_is_kept() -> None:
    world = World()
    session = world.at_work()
    world.compute.expires[session.instance_id] = session.expires_at
    cleaned(world, session.expires_at - MORNING + 1)
    listed = list(world.compute.list_sessions())
    world.compute.expires[session.instance_id] += 3600.0
    world.compute.list_sessions = lambda: iter(listed)  # type: ignore[method-assign]

    assert cleaned(world, 60.0).compute.instances[session.instance_id] == "running"


def test_h5_one_machine_that_cannot_be_terminated_keeps_no_other_alive_and_is_reported() -> None:
    world = World()
    stranger(world)
    world.compute.instances["i-2"], world.compute.launched_by["i-2"] = "running", "l-unknown"
    world.compute.broken = {STRANGER}
    cleaned(world)

    world.clock.at += SUSPECTED_S
    failed = world.turns.on_tick()

    assert (failed, world.compute.instances["i-2"]) == (1, "terminated")
    assert "cleaning.failed" in world.journal.names and "cleaning.incomplete" in world.journal.names


def test_a_table_that_knows_none_of_the_machines_is_not_believed() -> None:
    """Restored, renamed, or another stack's of the same name: unknown means keep. Their tags end them."""
    world = World(settings=some_settings(max_sessions=100))
    for number in range(20):
        world.turns.on_job_event(an_event(job_id=str(number)))
    world.settle()
    other = World()
    other.compute, other.clock = world.compute, world.clock
    turns = other.replica()

    failed = []
    for _ in range(15):
        world.clock.at += 60.0
        failed.append(turns.on_tick())

    assert set(world.compute.instances.values()) == {"running"}
    assert failed == [1] * 15, "an operator sees it"
    (why,) = {str(fields["error"]) for name, fields in other.journal.events if name == "cleaning.failed"}
    assert "20 of 20 machines are of no session" in why and "sessions table" in why


def test_some_machines_of_no_session_among_many_are_believed() -> None:
    world = World(settings=some_settings(max_sessions=100))
    for number in range(20):
        world.turns.on_job_event(an_event(job_id=str(number)))
    world.settle()
    for number in range(8):
        name = f"i-{0xFFFF + number:017x}"
        world.compute.instances[name], world.compute.launched_by[name] = "running", "l-unknown"

    cleaned(world, 0.0, SUSPECTED_S)

    assert sorted(world.compute.instances.values()) == ["running"] * 20 + ["terminated"] * 8


def many_repositories(world: World, number: int) -> list[str]:
    names = [f"repo{at:03}" for at in range(number)]
    for name in names:
        world.turns.on_job_event(an_event("completed", conclusion="success", job_id=name, repo=name))
    return names


def test_a_github_that_hangs_keeps_the_tick_for_one_repository_and_no_longer() -> None:
    world = World()
    many_repositories(world, 300)
    stranger(world)
    asked = []

    def hangs(scope: Any) -> Any:
        asked.append(scope.repo)
        world.clock.at += 20.0
        raise Unanswered("github:list runners")

    world.github.registered = hangs  # type: ignore[method-assign]
    cleaned(world, 0.0, SUSPECTED_S, 60.0)

    assert len(asked) == len(set(asked)) == 3, "one in each tick, and each time the next"
    assert world.compute.instances[STRANGER] == "terminated"


def test_every_repositorys_registrations_are_looked_through_in_half_an_hour_some_at_a_time() -> None:
    world = World()
    names = many_repositories(world, 60)
    asked = []

    def slow(scope: Any) -> Any:
        asked.append(scope.repo)
        world.clock.at += 3.0
        return iter(())

    world.github.registered = slow  # type: ignore[method-assign]
    took = []
    for _ in range(12):
        began = world.clock.at
        world.turns.on_tick()
        took.append(world.clock.at - began)
        world.clock.at += 60.0

    assert asked == names, "each once, though the replica may be another one each time"
    assert max(took) < 30.0


def test_h4_one_reaper_that_fails_keeps_no_other_from_its_work() -> None:
    world = World()
    stranger(world)
    cleaned(world)

    def broken() -> Any:
        raise Unanswered("ssm:DescribeParameters")

    world.configurations.instances = broken  # type: ignore[method-assign]
    world.clock.at += SUSPECTED_S

    assert world.turns.on_tick() == 1 and world.compute.instances[STRANGER] == "terminated"


def test_a_secret_whose_session_is_over_is_removed_and_one_whose_machine_boots_is_kept() -> None:
    world = World()
    session = world.launched()
    world.configurations.put(STRANGER, "left over")
    world.configurations.put("i-0f", "of another stack")
    world.configurations.stacks["i-0f"] = "other"

    cleaned(world, 0.0, SUSPECTED_S)

    assert set(world.configurations.values) == {session.instance_id, "i-0f"}


def test_r8_a_registration_that_is_left_over_and_long_offline_is_removed() -> None:
    world = World()
    world.launched()
    world.github.runners[77] = Registration("tests-s-00000000000000ff-0", ("runs-fleet",))

    early = dict(cleaned(world, 0.0, OFFLINE_S - 60.0).github.runners)
    cleaned(world, OFFLINE_S / 2)

    assert 77 in early and 77 not in world.github.runners
    assert world.session.runner_id in world.github.runners


@pytest.mark.parametrize("how", ["online", "busy"])
def test_a_registration_that_is_in_use_is_kept_and_its_time_begins_anew(how: str) -> None:
    world = World()
    world.launched()
    left = world.github.runners[77] = Registration("tests-s-00000000000000ff-0", ("runs-fleet",))
    cleaned(world)
    setattr(left, how, True)
    cleaned(world, OFFLINE_S)
    setattr(left, how, False)

    cleaned(world, 60.0)

    assert 77 in world.github.runners


@pytest.mark.parametrize("name", ["somebody-elses", "other-s-00000000000000ff-0", "tests-runner"])
def test_a_registration_of_somebody_else_is_never_touched(name: str) -> None:
    world = World()
    world.launched()
    world.github.runners[77] = Registration(name, ("runs-fleet",))

    cleaned(world, 0.0, OFFLINE_S, OFFLINE_S)

    assert 77 in world.github.runners


def test_two_replicas_do_not_clean_at_the_same_time() -> None:
    world = World()
    other = world.replica()

    cleaned(world)
    before = len(world.journal.events)
    other.on_tick()

    assert len(world.journal.events) == before
    world.clock.at += 60.0
    other.on_tick()
    assert len(world.journal.events) > before


def test_the_depth_and_age_of_every_queue_are_told() -> None:
    world = World()
    world.queue.age = 7.25
    world.turns.on_webhook(b"body", an_event())

    cleaned(world)

    told = {
        fields["queue"]: (fields["messages"], fields["age_s"]) for name, fields in world.journal.events if name == "queue.depth"
    }
    assert told == {"jobs": (1, 7.2), "terminations": (0, 0.0)}


def test_a_session_that_was_closed_is_not_owned_any_more() -> None:
    world = World()
    session = world.launched()
    world.records.put(changed(session, state=SessionState.CLOSED, closed_at=MORNING))

    cleaned(world, 0.0, SUSPECTED_S)

    assert world.compute.instances[session.instance_id] == "terminated"


class Account:
    """An EC2 (audit) of some instances."""

    def __init__(self, *instances: dict[str, Any]) -> None:
        self.instances, self.terminated, self.filters = instances, list[str](), list[dict[str, Any]]()

    def describe(self, filters: list[dict[str, Any]]) -> Any:
        self.filters = filters
        return iter(self.instances)

    def terminate(self, instance_id: str) -> None:
        if instance_id == "i-broken":
            raise ServiceFailed("ec2:TerminateInstances", "UnauthorizedOperation")
        self.terminated.append(instance_id)


def machine(identity: str, ends_at: float | str | None, age_s: float = 60.0) -> dict[str, Any]:
    tags = [] if ends_at is None else [{"Key": "runs-fleet:expires-at", "Value": str(ends_at)}]
    launched = datetime.fromtimestamp(MORNING, UTC) - timedelta(seconds=age_s)
    return {"InstanceId": identity, "Tags": tags, "LaunchTime": launched}


def test_the_auditor_ends_what_outlived_its_end_and_nothing_else() -> None:
    account = Account(
        machine("i-young", int(MORNING) + 60), machine("i-due", int(MORNING) - 60), machine("i-over", int(MORNING - MARGIN_S)),
        machine("i-untagged", None), machine("i-garbled", "soon", OLDEST_S - 60), machine("i-ancient", None, OLDEST_S + 60),
    )  # fmt: skip

    failed = audit(account, ManualClock(), MemoryJournal(), "tests").failed

    assert (failed, account.terminated) == (0, ["i-over", "i-ancient"])
    assert {"Name": "tag:runs-fleet:stack", "Values": ["tests"]} in account.filters


def test_one_that_the_auditor_may_not_end_keeps_no_other_alive_and_is_counted() -> None:
    account, journal = Account(machine("i-broken", 1), machine("i-over", 1)), MemoryJournal()

    failed = audit(account, ManualClock(), journal, "tests").failed

    assert (failed, account.terminated, journal.names) == (1, ["i-over"], ["audit.failed", "audit.terminated"])


@pytest.mark.parametrize("failure", [Crash, Unanswered])
@pytest.mark.parametrize("fatal", range(1, 5))
@pytest.mark.parametrize("effect", [True, False], ids=["after", "before"])
def test_an_audit_cut_short_at_any_call_is_made_up_for_by_the_next(fatal: int, failure: type[Exception], effect: bool) -> None:
    account, calls = Account(*(machine(f"i-{n}", 1) for n in range(3)), machine("i-young", int(MORNING) + 60)), [0]
    describe, terminate = account.describe, account.terminate

    def cut(act: Callable[[Any], Any], what: Any) -> Any:
        calls[0] += 1
        answer = act(what) if effect or calls[0] != fatal else None
        if calls[0] == fatal:
            raise failure("cut")
        return answer

    account.describe = lambda filters: cut(describe, filters)  # type: ignore[method-assign]
    account.terminate = lambda identity: cut(terminate, identity)  # type: ignore[method-assign]
    with contextlib.suppress(Crash, Unanswered):
        audit(account, ManualClock(), MemoryJournal(), "tests")
    failed = audit(account, ManualClock(), MemoryJournal(), "tests").failed

    assert failed == 0 and set(account.terminated) == {"i-0", "i-1", "i-2"}


def test_the_auditor_on_aws_ends_only_machines_of_its_stack(moto: Moto) -> None:
    from orchestrator.adapters.aws import Clients, Ec2Api

    ec2 = moto.client("ec2")
    made = {}
    for stack in ("tests", "other"):
        tags = {"runs-fleet:managed": "true", "runs-fleet:stack": stack, "runs-fleet:expires-at": "1"}
        told = [{"ResourceType": "instance", "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}]
        found = ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1, TagSpecifications=told)
        made[stack] = found["Instances"][0]["InstanceId"]

    audit(Ec2Api(Clients()), ManualClock(), MemoryJournal(), "tests")

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
