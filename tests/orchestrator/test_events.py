"""What EventBridge says of instances."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from orchestrator.compute.ec2.breakers import Circuits
from orchestrator.compute.ec2.events import Origin, origin_of, read_event
from orchestrator.compute.notices import InstanceNotice, NoticeKind
from orchestrator.errors import ServiceFailed
from orchestrator.fleet.session_checks import WORD_S
from orchestrator.ports import Received
from orchestrator.store.states import SessionState
from simulation.clock import MORNING
from simulation.examples import an_event, an_instance_event
from simulation.world import World

WARNING, REBALANCE = "EC2 Spot Instance Interruption Warning", "EC2 Instance Rebalance Recommendation"


CHANGE = "EC2 Instance State-change Notification"


def test_a_spot_warning_takes_an_idle_machine_out_of_supply_at_once() -> None:
    world = World()
    session = world.launched()

    world.turns.on_instance_event(an_instance_event(WARNING, session.instance_id, **{"instance-action": "terminate"}))
    world.reconcile()

    assert (world.compute.launched, world.sessions[0].interrupting_at) == (2, MORNING)


def test_a_warning_and_the_agents_own_notice_are_one() -> None:
    world = World()
    session = world.at_work()

    world.turns.on_instance_event(an_instance_event(WARNING, session.instance_id))
    world.hear("interrupting", session=session, reason="spot_notice")

    assert world.compute.launched == 2


def test_a_rebalance_recommendation_is_recorded_and_launches_nothing() -> None:
    world = World()
    session = world.launched()

    world.turns.on_instance_event(an_instance_event(REBALANCE, session.instance_id))
    world.reconcile()

    assert (world.compute.launched, world.journal.names[-1]) == (1, "session.at_risk")


@pytest.mark.parametrize("state", ["shutting-down", "terminated", "stopping", "stopped"])
def test_an_instance_that_dies_without_a_word_ends_its_session_within_seconds_and_its_console_is_kept(state: str) -> None:
    world = World()
    session = world.at_work()
    world.compute.instances[session.instance_id] = state
    world.compute.consoles[session.instance_id] = "Kernel panic - not syncing"

    world.turns.on_instance_event(an_instance_event(CHANGE, session.instance_id, state=state))
    world.tick(after_s=WORD_S)

    ended = world.session
    assert (ended.state, ended.status, ended.reason) == (SessionState.ENDED, "interrupted", "instance_gone")
    assert ended.console == "Kernel panic - not syncing"


def test_the_final_word_that_was_on_its_way_is_believed_before_the_event() -> None:
    world = World()
    session = world.at_work()
    world.compute.instances[session.instance_id] = "terminated"

    world.turns.on_instance_event(an_instance_event(CHANGE, session.instance_id, state="terminated"))
    world.hear_the_end("success")

    assert (world.session.status, world.session.console) == ("success", "")


@pytest.mark.parametrize("state", ["pending", "running"])
def test_an_instance_that_comes_up_changes_nothing(state: str) -> None:
    world = World()
    before = world.launched()

    world.turns.on_instance_event(an_instance_event(CHANGE, before.instance_id, state=state))

    assert world.session == before


@pytest.mark.parametrize("body", ["", "nonsense", "[]", "{}", '{"detail-type": 7}', '{"detail-type": "x", "detail": {}}'])
def test_an_event_nobody_can_read_is_logged_and_dropped(body: str) -> None:
    world = World()

    world.turns.on_instance_event(Received(body, "receipt"))

    assert world.journal.names == ["event.unusable"]


def test_an_event_of_somebody_elses_instance_is_dropped() -> None:
    world = World()
    before = world.launched()

    world.turns.on_instance_event(an_instance_event(CHANGE, "i-0123456789abcdef0", state="terminated"))

    assert world.session == before


def test_a_job_that_is_back_is_not_expected_any_more() -> None:
    world = World()
    session = world.at_work()
    world.turns.on_instance_event(an_instance_event(WARNING, session.instance_id))
    world.reconcile()
    made = world.compute.launched

    world.told(an_event("completed", conclusion="failure"))
    world.told(an_event("queued", job_id="1-again", run_attempt=2))

    assert (made, world.compute.launched) == (2, 2)


def test_a_job_that_ended_well_before_its_machine_went_is_not_expected_back() -> None:
    world = World()
    session = world.at_work()
    world.turns.on_instance_event(an_instance_event(WARNING, session.instance_id))
    world.reconcile()

    world.told(an_event("completed", conclusion="success", runner_name=session.registration_name))
    world.ticks(until_s=130.0)

    assert sorted(world.compute.instances.values()) == ["running", "terminated"], "the spare is surplus after a minute"


def test_an_agents_notice_of_a_rebalance_launches_nothing_and_hides_no_warning() -> None:
    world = World()
    session = world.launched()

    world.hear("interrupting", reason="rebalance_recommendation")
    before = world.compute.launched
    world.hear("interrupting", session=session, reason="spot_notice")

    assert (before, world.compute.launched) == (1, 2)


def test_an_event_that_comes_before_the_index_has_heard_of_its_instance_comes_again_and_counts_then() -> None:
    world = World(index_lag_s=5.0)
    session = world.launched()
    world.compute.instances[session.instance_id] = "terminated"
    told = replace(an_instance_event(CHANGE, session.instance_id, state="terminated"), waited_s=0.5)

    with pytest.raises(ServiceFailed, match="NotYet"):
        world.turns.on_instance_event(told)
    world.clock.at += 6.0
    world.turns.on_instance_event(replace(told, waited_s=6.5))

    assert world.session.gone_at == world.clock.at


@pytest.mark.parametrize("waited_s", [0.5, 25.0])
def test_an_event_of_somebody_elses_instance_is_dropped_where_nothing_was_launched_lately(waited_s: float) -> None:
    world = World()
    world.launched()
    world.clock.at += 600.0

    world.turns.on_instance_event(replace(an_instance_event(CHANGE, "i-foreign", state="terminated"), waited_s=waited_s))

    assert world.session.gone_at is None


@pytest.mark.parametrize(
    ("then", "gone_at"),
    [("2026-01-31T12:00:00Z", MORNING), ("some time", MORNING + 1200.0), ("2099-01-01T00:00:00Z", MORNING + 1200.0)],
)
def test_an_event_that_waited_for_us_tells_when_it_happened(then: str, gone_at: float) -> None:
    world = World()
    session = world.launched()
    world.clock.at += 1200.0

    told = json.loads(an_instance_event(CHANGE, session.instance_id, state="terminated").body)
    world.turns.on_instance_event(Received(json.dumps({**told, "time": then}), "receipt"))

    assert world.session.gone_at == gone_at


@pytest.mark.parametrize(
    ("kind", "detail", "notice"),
    [
        (WARNING, {}, NoticeKind.INTERRUPTION), (REBALANCE, {}, NoticeKind.INTERRUPTION_RISK),
        *((CHANGE, {"state": state}, NoticeKind.GONE) for state in ("stopping", "stopped", "shutting-down", "terminated")),
        (CHANGE, {"state": "running"}, None), (CHANGE, {"state": "pending"}, None), (CHANGE, {}, None),
        ("EC2 Fleet Instance Change", {"state": "terminated"}, None),
    ],
)  # fmt: skip
def test_each_event_is_a_notice_of_one_kind_or_none(kind: str, detail: dict[str, str], notice: NoticeKind | None) -> None:
    read = read_event(an_instance_event(kind, "i-1", at=MORNING, **detail).body, MORNING + 9.0)

    assert read == (InstanceNotice("i-1", notice, MORNING, kind, by_service=True) if notice is not None else None)


@pytest.mark.parametrize(
    ("time", "at"),
    [
        ("2026-01-31T11:59:00Z", MORNING - 60.0), ("2026-01-31T11:59:00+00:00", MORNING - 60.0),
        ("2026-01-31T12:00:01Z", MORNING), ("", MORNING), ("yesterday", MORNING),
    ],
)  # fmt: skip
def test_an_event_happened_when_it_says_so_and_never_later_than_now(time: str, at: float) -> None:
    told = {**json.loads(an_instance_event(WARNING, "i-1").body), "time": time}

    read = read_event(json.dumps(told), MORNING)

    assert read is not None and read.at == at


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"detail-type": "x", "detail": {}}', '{"detail-type": "x"}', "\ud800", '{"x":' + "[" * 50_000]
)
def test_what_is_no_event_of_an_instance_is_a_value_error(body: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_event(body, MORNING)


@pytest.mark.attack
@pytest.mark.parametrize(
    "forged",
    [
        {"source": "runs-fleet"}, {"source": ""}, {"account": "999999999999"}, {"account": ""}, {"region": "eu-west-1"},
        {"resources": []}, {"resources": ["arn:aws:ec2:us-east-1:123456789012:instance/i-12"]}, {"resources": ["i-1"]},
    ],
)  # fmt: skip
def test_an_event_that_ec2_did_not_make_there_is_refused(forged: dict[str, object]) -> None:
    told = {**json.loads(an_instance_event(WARNING, "i-1").body), **forged}

    with pytest.raises(ValueError, match="expected"):
        read_event(json.dumps(told), MORNING, origin_of("https://sqs.us-east-1.amazonaws.com/123456789012/events"))


@pytest.mark.parametrize(
    ("queue_url", "origin"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/events", Origin("123456789012", "eu-west-1")),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/events", Origin("123456789012", "cn-north-1")),
        ("http://127.0.0.1:4566/123456789012/events", Origin()),
        ("", Origin()),
    ],
)
def test_where_events_come_from_is_told_by_the_queue_they_are_put_into(queue_url: str, origin: Origin) -> None:
    assert origin_of(queue_url) == origin


def pools_left_alone(world: World) -> set[str]:
    """The pools that are better not asked, or are on the way to it."""
    circuits = world.records.read(Circuits, "circuits")
    return set(circuits.faults) if circuits is not None else set()


@pytest.mark.attack
def test_what_machines_say_of_being_taken_back_closes_no_pool_however_often() -> None:
    world = World()
    for number in range(33):
        world.told(an_event(job_id=str(number + 1)))
        session = next(one for one in world.sessions if not one.is_over and one.interrupting_at is None)
        world.hear("interrupting", session=session, reason="spot_notice")

    assert pools_left_alone(world) == set()


@pytest.mark.parametrize("agent_first", [True, False])
def test_ec2s_own_word_is_counted_once_whether_the_machine_said_so_before_or_not(agent_first: bool) -> None:
    world = World()
    session = world.at_work()
    if agent_first:
        world.hear("interrupting", session=session, reason="spot_notice")
        world.hear_the_end("interrupted", session=session, reason="spot_notice")
    for _ in range(3):
        world.turns.on_instance_event(an_instance_event(WARNING, session.instance_id))

    circuits = world.records.read(Circuits, "circuits")
    assert circuits is not None and len(circuits.faults[session.placement].reclaims) == 1


def test_without_events_the_reason_that_ec2_gives_for_an_instances_end_is_counted() -> None:
    world = World()
    session = world.at_work()
    world.compute.instances[session.instance_id] = "terminated"
    world.compute.reasons[session.instance_id] = ("Server.SpotInstanceTermination", "Spot instance termination")

    world.ticks(until_s=120.0)

    assert world.session.taken_back and pools_left_alone(world) == {session.placement}
