"""What every strategy promises, whoever makes the bodies; and what EC2's needs besides."""

from __future__ import annotations

import contextlib
import json
import os
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from orchestrator.adapters.aws import Ec2Api
from orchestrator.adapters.processes import LocalBodies
from orchestrator.catalogue import SNAPSHOT, fitting, snapshot
from orchestrator.errors import ServiceFailed, Throttled, Unanswered
from orchestrator.labels import Ask
from orchestrator.planning import STEPS, launch_request
from orchestrator.services import Body, Compute, SessionHandle, Site
from orchestrator.settings import ServerSettings
from orchestrator.strategies.ec2 import SITE_S, Ec2Strategy
from orchestrator.strategies.local import LocalStrategy
from orchestrator.troubles import BROKEN, Trouble, trouble
from sandbox.cloud import Cloud
from sandbox.instances import Idle
from sandbox.local import CloudClients
from tests.orchestrator.memory import ManualClock, MemoryCompute, some_settings

KINDS = fitting(snapshot(SNAPSHOT.read_text("utf-8")), Ask(), "amd64")
UNKNOWN = SessionHandle("ec2", "i-0123456789abcdef0")


@dataclass
class Ground:
    """A strategy, and what a request to it looks like."""

    compute: Compute
    settings: ServerSettings
    drought: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Its strategy for as long as there is no capacity."""
    outage: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Its strategy for as long as what it stands on does not work."""
    launch_id: str = field(default_factory=lambda: f"l-{uuid.uuid4().hex[:16]}")

    def request(self, step: int = 0, count: int = 2) -> str:
        site = self.compute.site()
        site = Site({architecture: next(iter(site.templates.values())) for architecture in ("amd64", "arm64")}, site.subnets)
        return launch_request(
            self.settings, site, Ask(), KINDS, STEPS[step], launch_id=self.launch_id, number=step, count=count,
            spec="spec", expires_at=1234.0,
        )  # fmt: skip

    def started(self, **how: Any) -> list[SessionHandle]:
        return [body.handle for body in self.compute.start_sessions(self.request(**how), sent_before=False).bodies]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    up = Cloud(tmp_path_factory.mktemp("cloud"), Idle()).start()
    yield up
    up.stop()


def ec2_ground(cloud: Cloud) -> Ground:
    urllib.request.urlopen(f"{cloud.url}/moto-api/reset", data=b"", timeout=30).close()
    ec2 = cloud.client("ec2")
    template = {"ImageId": "ami-0123456789abcdef0", "InstanceType": "m7i.large", "UserData": ""}
    for architecture in ("amd64", "arm64"):
        ec2.create_launch_template(LaunchTemplateName=f"runs-fleet-runner-{architecture}", LaunchTemplateData=template)
    subnets = tuple(subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"])
    settings = some_settings(subnet_ids=subnets)
    strategy = Ec2Strategy(
        Ec2Api(CloudClients(cloud)), ManualClock(), stack_id="tests", template=settings.launch_template, subnet_ids=subnets
    )

    @contextlib.contextmanager
    def weather(**bad: Any) -> Iterator[Compute]:
        fair = {name: getattr(cloud.weather, name) for name in bad}
        try:
            for name, value in bad.items():
                setattr(cloud.weather, name, value)
            yield strategy
        finally:
            for name, value in fair.items():
                setattr(cloud.weather, name, value)

    return Ground(strategy, settings, partial(weather, full={"spot"}), partial(weather, throttled=1.0))


def memory_ground() -> Ground:
    compute = MemoryCompute()

    @contextlib.contextmanager
    def drought() -> Iterator[Compute]:
        compute.full = {"*"}
        yield compute
        compute.full = set()

    @contextlib.contextmanager
    def outage() -> Iterator[Compute]:
        compute.answers = [ServiceFailed("ec2:CreateFleet", "ServiceUnavailable")]
        yield compute

    return Ground(compute, some_settings(), drought, outage)


def local_ground(root: Path) -> Ground:
    here, full = local_strategy(root), local_strategy(root, slots=0)

    @contextlib.contextmanager
    def outage() -> Iterator[Compute]:
        """Where a file should be written there is something else: as a disk that takes nothing, whoever asks."""
        (root / "lock").unlink(missing_ok=True)
        (root / "lock").mkdir()
        yield here
        (root / "lock").rmdir()

    return Ground(here, some_settings(), lambda: nullcontext(full), outage)


def local_strategy(root: Path, *words: str, slots: int = 20, polite_s: float = 1.0, runner: Path | None = None) -> LocalStrategy:
    """Bodies that only wait, unless said otherwise."""
    bodies = LocalBodies(root, words or ("sleep", "300"), {"PATH": os.environ["PATH"]}, runner, polite_s)
    return LocalStrategy(bodies, architecture="amd64", stack_id="tests", slots=slots)


@pytest.fixture(params=["memory", "ec2", "local"])
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    if request.param == "memory":
        yield memory_ground()
    elif request.param == "ec2":
        yield ec2_ground(request.getfixturevalue("cloud"))
    else:
        here = local_ground(tmp_path)
        yield here
        end(here.compute)


def end(strategy: Compute) -> None:
    """No process of it is left."""
    for body in list(strategy.list_sessions()):
        strategy.stop_session(body.handle)


def gone(compute: Compute, handle: SessionHandle) -> bool:
    """Whether it goes within seconds, and says so."""
    until_s = time.monotonic() + 10
    while (state := compute.poll_sessions([handle])[handle].state) == "shutting-down" and time.monotonic() < until_s:
        time.sleep(0.01)
    return state == "terminated"


def test_a_start_gives_as_many_bodies_as_are_asked_for_each_with_a_name_of_its_own(ground: Ground) -> None:
    handles = ground.started(count=3)

    assert len(set(handles)) == 3
    assert {body.state for body in ground.compute.poll_sessions(handles).values()} <= {"pending", "running"}


def test_the_same_request_gives_the_same_bodies_however_often_it_is_sent(ground: Ground) -> None:
    request = ground.request()

    sent = [ground.compute.start_sessions(request, sent_before=before).bodies for before in (False, False, True)]

    assert len({tuple(sorted(body.handle.body for body in bodies)) for bodies in sent}) == 1
    assert len(list(ground.compute.list_sessions())) == 2


def test_another_step_of_the_launch_gives_other_bodies(ground: Ground) -> None:
    first, second = ground.started(), ground.started(step=1)

    assert not set(first) & set(second)


def test_what_was_started_is_listed_as_ours_from_its_birth_with_the_launch_it_belongs_to(ground: Ground) -> None:
    handles = ground.started()

    listed = {body.handle: body for body in ground.compute.list_sessions()}

    assert set(listed) == set(handles) and {body.launch_id for body in listed.values()} == {ground.launch_id}


def test_a_request_whose_answer_was_lost_is_found_by_whoever_sends_it_again(ground: Ground) -> None:
    request = ground.request()
    ground.compute.start_sessions(request, sent_before=False)  # nobody heard

    again = ground.compute.start_sessions(request, sent_before=True)

    assert {body.handle for body in again.bodies} == {body.handle for body in ground.compute.list_sessions()}


def test_what_a_request_made_is_looked_up_without_making_more(ground: Ground) -> None:
    request, never_sent = ground.request(), ground.request(step=1)
    made = ground.compute.start_sessions(request, sent_before=False)

    assert {body.handle for body in ground.compute.look_up(request)} == {body.handle for body in made.bodies}
    assert ground.compute.look_up(never_sent) == ()
    assert len(list(ground.compute.list_sessions())) == len(made.bodies)


def test_a_body_may_be_stopped_twice_and_an_unknown_one_is_gone_already(ground: Ground) -> None:
    (handle, kept) = ground.started()

    assert ground.compute.stop_session(handle)
    ground.compute.stop_session(handle)
    assert not ground.compute.stop_session(UNKNOWN), "it was gone already"

    assert gone(ground.compute, handle)
    assert ground.compute.poll_sessions([kept])[kept].state in ("pending", "running")
    assert [body.handle for body in ground.compute.list_sessions()] == [kept]


def test_an_unknown_body_is_absent_and_hides_no_other(ground: Ground) -> None:
    handles = ground.started()

    assert set(ground.compute.poll_sessions([UNKNOWN, *handles])) == set(handles)
    assert ground.compute.poll_sessions([]) == {}


def test_a_handle_can_be_stored_and_read_again(ground: Ground) -> None:
    (handle, _) = ground.started()

    stored = msgspec.json.decode(msgspec.json.encode(handle), type=SessionHandle)

    assert stored in ground.compute.poll_sessions([stored])


def test_a_site_names_a_template_of_each_architecture_with_its_version_and_one_subnet_of_each_zone(ground: Ground) -> None:
    site = ground.compute.site()

    assert set(site.templates) <= {"amd64", "arm64"} and all(version.isdigit() for _, version in site.templates.values())
    assert site.templates and len(set(site.subnets.values())) == len(site.subnets) >= 1


def codes(reasons: Iterable[str]) -> set[Trouble | None]:
    return {trouble(reason.partition(":")[0]) for reason in reasons}


def test_a_lack_of_capacity_is_an_answer_without_bodies_whose_reason_says_so_by_its_code(ground: Ground) -> None:
    with ground.drought() as compute:
        answer = compute.start_sessions(ground.request(), sent_before=False)

    assert (answer.bodies, codes(answer.reasons)) == ((), {Trouble.CAPACITY})
    assert list(ground.compute.list_sessions()) == []


def test_an_outage_is_no_answer_at_all_makes_nothing_and_is_not_mistaken_for_a_lack_of_capacity(ground: Ground) -> None:
    request = ground.request()

    with ground.outage() as compute, pytest.raises(ServiceFailed) as raised:
        compute.start_sessions(request, sent_before=False)

    assert trouble(raised.value.code) not in (Trouble.CAPACITY, Trouble.QUOTA)
    assert list(ground.compute.list_sessions()) == []


def test_an_outage_is_no_lack_of_capacity(cloud: Cloud) -> None:
    ground = ec2_ground(cloud)
    request = ground.request().replace("runs-fleet-runner-amd64", "not-there")

    with pytest.raises(ServiceFailed, match="ec2:CreateFleet"):
        ground.compute.start_sessions(request, sent_before=False)


class Answers:
    """An EC2 (strategies) that answers CreateFleet as told; `lost`: the instance is made, the answer never comes."""

    def __init__(self, answer: dict[str, Any], failure: Exception | None = None) -> None:
        self.answer, self.failure = answer, failure
        self.made: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.asked: list[int] = []
        self.site_calls = 0
        self.zone_of: dict[str, str] = {"subnet-1": "a", "subnet-2": "b", "subnet-3": "a"}

    def create_fleet(self, request: str) -> dict[str, Any]:
        self.requests.append(request)
        for group in self.answer.get("Instances", []):
            self.made += [{"InstanceId": identity, "State": {"Name": "pending"}} for identity in group["InstanceIds"]]
        if self.failure is not None:
            raise self.failure
        return self.answer

    def describe(self, filters: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        self.asked += [len(wanted["Values"]) for wanted in filters]
        return iter(self.made)

    def terminate(self, instance_id: str) -> None:
        raise self.failure or ServiceFailed("ec2:TerminateInstances", "InvalidInstanceID.NotFound")

    def templates(self, names: list[str]) -> dict[str, str]:
        self.site_calls += 1
        return {names[0]: str(self.site_calls)}

    def zones(self, subnet_ids: list[str]) -> dict[str, str]:
        return {subnet: self.zone_of[subnet] for subnet in subnet_ids if subnet in self.zone_of}


def strategy(ec2: Answers, *subnets: str, clock: ManualClock | None = None) -> Ec2Strategy:
    return Ec2Strategy(ec2, clock or ManualClock(), stack_id="tests", template="t", subnet_ids=subnets or ("subnet-1",))


TAGS = [{"Key": f"runs-fleet:{name}", "Value": name} for name in ("stack", "launch-id", "launch-step")]
REQUEST = json.dumps({"ClientToken": "l-1-0", "TagSpecifications": [{"Tags": TAGS}]})
INSTANCE = {"Instances": [{"InstanceIds": ["i-1"], "InstanceType": "m7i.large", "Lifecycle": "spot"}]}
LOST = Unanswered("ec2:CreateFleet")
MISMATCH = ServiceFailed("ec2:CreateFleet", "IdempotentParameterMismatch")
ERRORS = {
    "Errors": [
        {"ErrorCode": "InsufficientInstanceCapacity", "ErrorMessage": "none left"},
        {"ErrorCode": "InsufficientInstanceCapacity", "ErrorMessage": "none left"},
        {"ErrorCode": "UnfulfillableCapacity", "ErrorMessage": "too dear"},
    ]
}


def test_f10_an_answer_with_instances_and_errors_is_both() -> None:
    started = strategy(Answers({**ERRORS, **INSTANCE})).start_sessions(REQUEST, sent_before=False)

    assert started.bodies == (Body(SessionHandle("ec2", "i-1"), "pending", kind="m7i.large", market="spot"),)
    assert started.reasons == ("InsufficientInstanceCapacity: none left", "UnfulfillableCapacity: too dear")


def of_pool(kind: str, subnet: str) -> dict[str, Any]:
    return {"Lifecycle": "spot", "LaunchTemplateAndOverrides": {"Overrides": {"InstanceType": kind, "SubnetId": subnet}}}


def test_an_answer_names_the_pools_that_gave_and_of_those_that_did_not_only_the_ones_that_had_nothing() -> None:
    broken = {code: of_pool("m7i.large", f"subnet-{code}") for code in sorted(BROKEN)}
    fine = {code: of_pool("c7i.large", f"subnet-{code}") for code in ("MaxSpotInstanceCountExceeded", "UnauthorizedOperation")}
    errors = [{"ErrorCode": code, "ErrorMessage": "no", **where} for code, where in {**broken, **fine}.items()]
    given = [{"InstanceIds": ["i-1", "i-2"], "InstanceType": "m7i.xlarge", **of_pool("m7i.xlarge", "subnet-9")}]

    started = strategy(Answers({"Errors": [*errors, {"ErrorCode": "InternalError"}], "Instances": given})).start_sessions(
        REQUEST, sent_before=False
    )

    assert started.refused == tuple(sorted(f"m7i.large/subnet-{code}/spot" for code in BROKEN))
    assert [(body.handle.body, body.pool) for body in started.bodies] == [
        (one, "m7i.xlarge/subnet-9/spot") for one in ("i-1", "i-2")
    ]


def test_of_a_cloud_whose_one_zone_is_full_exactly_the_pools_of_that_zone_are_refused(cloud: Cloud) -> None:
    ground = ec2_ground(cloud)
    request = ground.request()
    asked = json.loads(request)["LaunchTemplateConfigs"][0]["Overrides"]
    (full, *_) = ground.compute.site().subnets.values()
    cloud.weather.full = {full}
    try:
        started = ground.compute.start_sessions(request, sent_before=False)
    finally:
        cloud.weather.full = set()

    named = {(pool["SubnetId"] == full, f"{pool['InstanceType']}/{pool['SubnetId']}/spot") for pool in asked}
    assert len(started.bodies) == 2 and {(False, body.pool) for body in started.bodies} <= named
    assert {(True, pool) for pool in started.refused} == {one for one in named if one[0]}


@pytest.mark.parametrize("step", [0, 2])
def test_f6_whatever_ec2_makes_has_our_tags_from_its_birth_by_the_request_itself(cloud: Cloud, step: int) -> None:
    ground = ec2_ground(cloud)

    made = ground.started(step=step, count=3)

    found = Ec2Api(CloudClients(cloud)).describe([{"Name": "instance-id", "Values": [handle.body for handle in made]}])
    tags = [{tag["Key"]: tag["Value"] for tag in one["Tags"]} for one in found]
    named = {"runs-fleet:stack": "tests", "runs-fleet:managed": "true", "runs-fleet:expires-at": "1234"}
    assert len(tags) == 3 and all(named.items() <= one.items() for one in tags)


def test_p11_a_machine_that_is_only_stopped_is_still_ours_to_end(cloud: Cloud) -> None:
    ground = ec2_ground(cloud)
    (handle,) = ground.started(count=1, step=2)
    cloud.client("ec2").stop_instances(InstanceIds=[handle.body])

    assert [body.handle for body in ground.compute.list_sessions()] == [handle]
    assert ground.compute.stop_session(handle) and gone(ground.compute, handle)


def test_no_capacity_is_an_answer_without_bodies() -> None:
    started = strategy(Answers({"Instances": [], **ERRORS})).start_sessions(REQUEST, sent_before=False)

    assert started.bodies == () and len(started.reasons) == 2


def test_where_ec2_refuses_the_repetition_the_instances_are_found_by_their_tags() -> None:
    ec2 = Answers(INSTANCE, MISMATCH)

    started = strategy(ec2).start_sessions(REQUEST, sent_before=True)

    assert [body.handle.body for body in started.bodies] == ["i-1"] and ec2.requests == [REQUEST]


@pytest.mark.parametrize("sent_before", [True, False])
def test_an_answer_that_was_lost_stays_unknown_though_some_instances_are_shown_already(sent_before: bool) -> None:
    ec2 = Answers(INSTANCE, LOST)

    with pytest.raises(Unanswered):
        strategy(ec2).start_sessions(REQUEST, sent_before=sent_before)

    assert ec2.asked == []


def test_after_a_failure_the_site_is_looked_at_again() -> None:
    ec2 = Answers({}, ServiceFailed("ec2:CreateFleet", "InvalidLaunchTemplateId.VersionNotFound"))
    compute = strategy(ec2)
    first = compute.site()
    with pytest.raises(ServiceFailed):
        compute.start_sessions(REQUEST, sent_before=False)

    assert compute.site() != first


def test_f4_two_subnets_of_one_zone_are_never_named_together() -> None:
    assert strategy(Answers({}), "subnet-1", "subnet-2", "subnet-3").site().subnets == {"a": "subnet-1", "b": "subnet-2"}


def test_subnets_that_are_not_there_are_a_failure_that_names_them() -> None:
    with pytest.raises(ServiceFailed, match="subnet-8, subnet-9"):
        strategy(Answers({}), "subnet-8", "subnet-9").site()


def test_a_new_image_is_seen_after_a_while_and_not_asked_for_at_every_launch() -> None:
    ec2, clock = Answers({}), ManualClock()
    compute = strategy(ec2, clock=clock)

    first = [compute.site() for _ in range(3)][-1]
    clock.at += SITE_S + 1

    assert (first.templates["amd64"], compute.site().templates["amd64"]) == (("t-amd64", "1"), ("t-amd64", "2"))


@pytest.mark.parametrize("code", ["RequestLimitExceeded", "UnauthorizedOperation"])
def test_a_stop_that_was_refused_is_told(code: str) -> None:
    with pytest.raises(ServiceFailed, match=code):
        strategy(Answers({}, ServiceFailed("ec2:TerminateInstances", code))).stop_session(UNKNOWN)


def test_a_refusal_says_whether_trying_again_helps(cloud: Cloud) -> None:
    ground = ec2_ground(cloud)
    cloud.weather.throttled = 1.0
    try:
        with pytest.raises(Throttled):
            ground.compute.stop_session(UNKNOWN)
    finally:
        cloud.weather.throttled = 0.0


def test_no_question_holds_more_values_than_a_filter_may() -> None:
    ec2 = Answers({})

    strategy(ec2).poll_sessions(SessionHandle("ec2", f"i-{number}") for number in range(450))

    assert ec2.asked == [200, 200, 50]


def test_a_body_of_another_strategy_is_not_asked_about() -> None:
    ec2 = Answers({})

    found = strategy(ec2).poll_sessions([SessionHandle("local", "4711")])

    assert (found, ec2.asked) == ({}, [])


def started(strategy: LocalStrategy, count: int = 1, launch_id: str = "l-1", sent_before: bool = False) -> list[SessionHandle]:
    ground = Ground(strategy, some_settings(), launch_id=launch_id)
    return [body.handle for body in strategy.start_sessions(ground.request(count=count), sent_before=sent_before).bodies]


def waits(until: Any) -> None:
    until_s = time.monotonic() + 10
    while not until():
        assert time.monotonic() < until_s, "it never came to that"
        time.sleep(0.01)


def test_a_local_body_begins_once_whoever_asks_and_however_often(tmp_path: Path) -> None:
    """Two replicas of one machine, and an orchestrator that was killed in between, are other objects on the same directory."""
    script = "echo began >> $HOME/../count; exec sleep 300"
    strategies = [local_strategy(tmp_path, "sh", "-c", script) for _ in range(3)]

    handles = [started(strategy, sent_before=True) for strategy in (*strategies, *strategies)]

    assert len({tuple(one) for one in handles}) == 1
    count = tmp_path / "bodies" / handles[0][0].body / "count"
    waits(count.exists)
    time.sleep(0.2)
    assert count.read_text("ascii") == "began\n"
    end(strategies[0])


def test_a_local_body_gets_what_makes_it_itself_and_nothing_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNS_FLEET_GITHUB_WEBHOOK_SECRET", "hush")
    strategy = local_strategy(tmp_path, "env")

    (handle,) = started(strategy)
    waits(lambda: strategy.poll_sessions([handle])[handle].state == "terminated")

    told = dict(line.split("=", 1) for line in strategy.last_words(handle).splitlines() if "=" in line)
    assert (told["RUNS_FLEET_INSTANCE_ID"], told["RUNS_FLEET_POWER_OFF"]) == (handle.body, "true")
    assert "hush" not in strategy.last_words(handle) and not any("GITHUB" in name for name in told)


def test_no_more_local_bodies_than_there_are_slots_and_that_is_no_outage(tmp_path: Path) -> None:
    strategy = local_strategy(tmp_path, slots=3)
    first = started(strategy, count=2)

    answer = strategy.start_sessions(Ground(strategy, some_settings(), launch_id="l-2").request(count=2), sent_before=False)

    assert (len(answer.bodies), answer.reasons) == (1, ("InsufficientSlots: this machine has 3",))
    strategy.stop_session(first[0])
    assert gone(strategy, first[0]) and len(started(strategy, launch_id="l-3")) == 1
    end(strategy)


def test_a_local_body_that_does_not_go_when_asked_is_killed_by_somebody_who_needs_nobody(tmp_path: Path) -> None:
    strategy = local_strategy(tmp_path, "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done", polite_s=0.5)
    (handle,) = started(strategy)
    waits(lambda: "up" in strategy.last_words(handle))

    strategy.stop_session(handle)

    assert strategy.poll_sessions([handle])[handle].state == "shutting-down"
    assert gone(local_strategy(tmp_path), handle)


def test_a_local_body_that_is_stopped_before_it_begins_never_does(tmp_path: Path) -> None:
    strategy = local_strategy(tmp_path)
    (handle,) = started(strategy)
    place = tmp_path / "bodies" / handle.body
    waits((place / "begun").exists)
    strategy.stop_session(handle)
    assert gone(strategy, handle)
    (place / "begun").unlink()

    started(strategy, sent_before=True)

    waits((place / "begun").exists)
    assert gone(strategy, handle)


def test_another_request_under_the_same_token_is_refused_here_too(tmp_path: Path) -> None:
    strategy = local_strategy(tmp_path)
    started(strategy)

    with pytest.raises(ServiceFailed, match="IdempotentParameterMismatch"):
        started(strategy, count=2)
    end(strategy)


def test_a_disk_that_fails_is_an_outage(tmp_path: Path) -> None:
    strategy = local_strategy(tmp_path, runner=tmp_path / "not-there")

    with pytest.raises((ServiceFailed,), match="local:start"):
        started(strategy)
