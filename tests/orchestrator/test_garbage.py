"""What nobody owns is removed, twice looked at; what might be owned is kept."""

from __future__ import annotations

import pytest

from orchestrator.errors import ServiceFailed, Unanswered
from orchestrator.fleet.garbage import FEW, SUSPECTED_S, each
from orchestrator.store.kinds import changed
from orchestrator.store.states import LaunchState, SessionState
from simulation.clock import MORNING
from simulation.examples import a_launch, an_event, some_settings
from simulation.world import World
from tests.orchestrator.garbage import STRANGER, cleaned, stranger


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

    def put_off(_: object) -> None:
        world.compute.expires[session.instance_id] += 3600.0

    world.calls.script("ec2.describe", after=put_off)

    assert cleaned(world, 60.0).compute.instances[session.instance_id] == "running"


def test_a_machine_of_no_session_whose_end_was_put_off_between_the_look_and_the_act_is_kept() -> None:
    world = World()
    stranger(world)
    world.compute.expires[STRANGER] = MORNING + 86_400.0
    cleaned(world)
    world.calls.script("ec2.describe", after=lambda _: world.compute.expires.update({STRANGER: MORNING + 90_000.0}))

    assert cleaned(world, SUSPECTED_S).compute.instances[STRANGER] == "running"


def test_h5_one_machine_that_cannot_be_terminated_keeps_no_other_alive_and_is_reported() -> None:
    world = World()
    stranger(world)
    stranger(world, instance_id="i-2")
    world.compute.broken = {STRANGER}
    cleaned(world)

    world.clock.at += SUSPECTED_S
    failed = world.turns.on_tick()

    assert (failed, world.compute.instances["i-2"]) == (1, "terminated")
    assert "garbage.failed" in world.journal.names and "garbage.incomplete" in world.journal.names


def test_a_table_that_knows_none_of_the_machines_is_not_believed() -> None:
    """Restored, renamed, or another stack's of the same name: unknown means keep. Their tags end them."""
    world = World(settings=some_settings(max_sessions=100))
    for number in range(20):
        world.turns.on_job_event(an_event(job_id=str(number)))
    world.reconcile()
    other = World()
    turns = other.replica(ec2=world.compute)

    failed = []
    for _ in range(15):
        other.clock.at += 60.0
        failed.append(turns.on_tick())

    assert set(world.compute.instances.values()) == {"running"}
    assert failed == [1] * 15, "an operator sees it"
    (why,) = {str(fields["error"]) for name, fields in other.journal.events if name == "garbage.failed"}
    assert "20 of 20 machines belong to no session" in why and "RUNS_FLEET_SESSIONS_TABLE" in why


def test_some_machines_of_no_session_among_many_are_believed() -> None:
    world = World(settings=some_settings(max_sessions=100))
    for number in range(20):
        world.turns.on_job_event(an_event(job_id=str(number)))
    world.reconcile()
    for number in range(8):
        stranger(world, instance_id=f"i-{0xFFFF + number:017x}")

    cleaned(world, 0.0, SUSPECTED_S)

    assert sorted(world.compute.instances.values()) == ["running"] * 20 + ["terminated"] * 8


@pytest.mark.parametrize(("number", "state"), [(FEW, "terminated"), (FEW + 1, "running")])
def test_a_few_machines_of_no_session_are_believed_though_there_are_no_others(number: int, state: str) -> None:
    world = World()
    for place in range(number):
        stranger(world, instance_id=f"i-{place}")

    cleaned(world, 0.0, SUSPECTED_S)

    assert list(world.compute.instances.values()) == [state] * number


def test_the_end_of_a_machine_past_its_own_comes_though_so_many_are_of_no_session() -> None:
    world = World()
    for number in range(20):
        stranger(world, instance_id=f"i-{number}")
    world.compute.expires["i-7"] = MORNING

    cleaned(world, 0.0, 60.0)

    assert [name for name, state in world.compute.instances.items() if state == "terminated"] == ["i-7"]


def test_a_machine_that_went_between_the_look_and_the_act_is_not_ended_again() -> None:
    world = World()
    stranger(world)
    cleaned(world)
    world.calls.script("ec2.describe", after=lambda _: world.compute.instances.update({STRANGER: "shutting-down"}))

    cleaned(world, SUSPECTED_S)

    assert "machine.collected" not in world.journal.names and "ec2.terminate" not in world.calls.made


def test_a_machine_that_becomes_a_session_between_the_look_and_the_act_is_kept() -> None:
    world = World()
    session = world.launched()
    stranger(world)
    cleaned(world)
    # the first look lists them all, the second one is at this machine
    world.calls.script("ec2.describe", skip=1, after=lambda _: world.records.put(changed(session, instance_id=STRANGER)))

    cleaned(world, SUSPECTED_S)

    assert world.compute.instances[STRANGER] == "running"


def test_a_machine_that_is_removed_is_said_with_its_launch_and_why() -> None:
    world = World()
    stranger(world)
    cleaned(world, 0.0, SUSPECTED_S)

    assert world.journal.of("machine.collected") == [{"instance_id": STRANGER, "launch_id": "l-unknown", "why": "of no session"}]


def test_h4_one_reaper_that_fails_keeps_no_other_from_its_work() -> None:
    world = World()
    stranger(world)
    cleaned(world)
    world.calls.fail("configurations.instances", Unanswered("ssm:DescribeParameters"))
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


def test_a_secret_of_no_session_is_kept_until_it_was_suspected_long_enough() -> None:
    world = World()
    world.configurations.put(STRANGER, "left over")

    kept = set(cleaned(world, 0.0, SUSPECTED_S - 1.0).configurations.values)
    cleaned(world, 60.0)

    assert (kept, world.configurations.values) == ({STRANGER}, {})
    assert world.journal.of("secret.collected") == [{"instance_id": STRANGER}]


def test_the_secret_of_a_session_that_ended_is_removed_though_its_machine_lives() -> None:
    world = World()
    session = world.launched()
    world.records.put(changed(session, state=SessionState.ENDED, ended_at=MORNING))

    cleaned(world, 0.0, SUSPECTED_S)

    assert world.configurations.values == {} and world.compute.instances[session.instance_id] == "running"


def test_each_of_many_is_looked_at_and_the_first_failure_is_raised_in_the_end() -> None:
    seen: list[int] = []

    def look_at(number: int) -> None:
        seen.append(number)
        if number in (1, 2):
            raise ServiceFailed("look", str(number))

    with pytest.raises(ServiceFailed, match="look answered 1"):
        each(range(4), look_at)

    assert seen == [0, 1, 2, 3]


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
