"""What follows from each kind of notice about a machine, whoever gave it: the table alone says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.contract.messages import Interruption
from orchestrator.compute.ec2.breakers import Circuits
from orchestrator.compute.notices import AGENT_REASONS, HANDLING, InstanceNotice, NoticeHandling, NoticeKind
from orchestrator.fleet.session_checks import WORD_S
from orchestrator.ports import Received
from orchestrator.store.kinds import changed
from orchestrator.store.states import SessionState
from simulation.clock import MORNING
from simulation.world import World

NOBODYS = Received("", "receipt")


def noticed(world: World, kind: NoticeKind, *, handling: NoticeHandling | None = None) -> None:
    """A notice of this kind about the only machine; `handling`: what shall follow instead of what does."""
    events = world.turns.events
    events = events if handling is None else replace(events, handling={kind: handling})
    events.on_notice(InstanceNotice(world.session.instance_id, kind, MORNING, "words", by_service=True), NOBODYS)
    world.reconcile()


def test_every_kind_of_notice_has_consequences_and_a_log_event_of_its_own() -> None:
    assert set(HANDLING) == set(NoticeKind)
    assert len({one.event for one in HANDLING.values()}) == len(NoticeKind)


def test_every_reason_that_agents_give_is_understood() -> None:
    assert set(AGENT_REASONS) == set(Interruption)


@pytest.mark.parametrize(
    ("reason", "event", "launched"),
    [
        ("spot_notice", "session.interrupting", 2),
        ("rebalance_recommendation", "session.at_risk", 1),
        ("hibernation", "agent_message.unknown_notice", 1),
    ],
)
def test_an_agents_reason_is_one_of_these_kinds_or_is_logged_as_unknown(reason: str, event: str, launched: int) -> None:
    world = World()
    session = world.launched()

    world.hear("interrupting", session=session, reason=reason)

    (told,) = world.journal.of(event)
    assert (told["session_id"], told["reason"], world.compute.launched) == (session.session_id, reason, launched)


@pytest.mark.parametrize(
    ("kind", "interrupted", "reclaims", "gone"),
    [
        (NoticeKind.INTERRUPTION, True, 1, False),
        (NoticeKind.INTERRUPTION_RISK, False, 0, False),
        (NoticeKind.GONE, False, 0, True),
    ],
)
def test_what_follows_from_each_kind(kind: NoticeKind, interrupted: bool, reclaims: int, gone: bool) -> None:
    world = World()
    session = world.at_work()

    noticed(world, kind)

    known, circuits = world.records.session(session.session_id), world.records.read(Circuits, "circuits")
    assert known is not None and known.state is SessionState.BUSY
    assert (known.interrupting_at is not None, known.gone_at is not None) == (interrupted, gone)
    assert (circuits is not None and session.placement in circuits.faults) is (reclaims > 0)
    assert world.compute.launched == 1 + interrupted, "one more for work that will be sent back"


@pytest.mark.parametrize("kind", NoticeKind)
def test_what_the_table_says_of_a_kind_is_what_follows(kind: NoticeKind) -> None:
    world = World()
    session = world.at_work()

    noticed(world, kind, handling=NoticeHandling("tests.interrupts", interrupts=True))

    known = world.records.session(session.session_id)
    assert known is not None and known.interrupting_at == MORNING and known.gone_at is None
    assert world.records.read(Circuits, "circuits") is None, "it does not steer"
    assert world.journal.of("tests.interrupts") == [{"session_id": session.session_id, "reason": "words"}]


@pytest.mark.parametrize("interrupts", [False, True])
@pytest.mark.parametrize("steers", [False, True])
@pytest.mark.parametrize("is_gone", [False, True])
def test_each_column_of_the_table_acts_by_itself(interrupts: bool, steers: bool, is_gone: bool) -> None:
    world = World()
    session = world.at_work()
    handling = NoticeHandling("tests.noticed", interrupts=interrupts, steers=steers, is_gone=is_gone)

    noticed(world, NoticeKind.INTERRUPTION_RISK, handling=handling)

    known, circuits = world.records.session(session.session_id), world.records.read(Circuits, "circuits")
    assert known is not None and world.journal.of("tests.noticed") == [{"session_id": session.session_id, "reason": "words"}]
    assert (known.interrupting_at is not None, known.gone_at is not None) == (interrupts, is_gone)
    assert (circuits is not None and session.placement in circuits.faults) is steers
    assert world.compute.launched == 1 + interrupts


def test_a_machine_that_is_gone_gets_some_seconds_for_its_last_word_then_its_session_ends() -> None:
    world = World()
    session = world.at_work()
    world.compute.instances[session.instance_id] = "terminated"

    noticed(world, NoticeKind.GONE)
    before = world.session.state
    world.tick(after_s=WORD_S)

    assert (before, world.session.state, world.session.reason) == (SessionState.BUSY, SessionState.ENDED, "instance_gone")


def test_notices_of_a_session_that_is_over_change_nothing() -> None:
    world = World()
    world.at_work()
    world.hear_the_end("success")
    over, launched = world.session, world.compute.launched

    for kind in NoticeKind:
        noticed(world, kind)

    assert (world.session, world.compute.launched) == (changed(over, taken_back=True, version=world.session.version), launched)
