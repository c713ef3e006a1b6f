"""What every strategy promises to the fleet (`compute/port.py`), as checks that any strategy passes; see `conformance.py`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from orchestrator.compute.port import Payload, SessionHandle
from orchestrator.errors import FailureKind, ServiceFailed, Unanswered
from orchestrator.readiness import Standing, examine
from orchestrator.store.request import ARCHITECTURES
from tests.orchestrator.conformance import EXPIRES_AT, Subject, handles, is_gone

MOST_SESSIONS, REQUEST_BYTES = 100, 100_000
"""Of one launch; a request for so many is kept in a record of less than 400 KB, beside much else."""
Promise = Callable[[Subject], None]
PROMISES: list[Promise] = []
"""Every check, in the order of this file."""


def promise(check: Promise) -> Promise:
    """A check of the suite."""
    PROMISES.append(check)
    return check


@promise
def its_name_fits_a_label_and_stands_in_every_handle(subject: Subject) -> None:
    """`compute=` takes it, and a handle leads back to it."""
    assert re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", subject.compute.name)
    assert {handle.strategy for handle in subject.started()} == {subject.compute.name}


@promise
def its_traits_contradict_neither_themselves_nor_its_plans(subject: Subject) -> None:
    """What is true of all instances is true of each step."""
    traits = subject.compute.traits

    assert traits.architectures and set(traits.architectures) <= set(ARCHITECTURES.values())
    assert traits.unseen_s >= 0 and (traits.longest_runtime_s is None or traits.longest_runtime_s > 0)
    assert traits.memory_gib is None or 0 < traits.memory_gib[0] <= traits.memory_gib[1]
    assert traits.start_rate is None or (traits.start_rate.burst >= 1 and traits.start_rate.per_second > 0)
    assert traits.interruptible or not any(plan.interruptible for plan in subject.steps(subject.wanted()))


@promise
def what_it_serves_meets_neither_objection_nor_obstacle_and_has_a_size_and_an_image(subject: Subject) -> None:
    """Everything that is decided about a request before it is planned."""
    compute, machine = subject.compute, subject.machine

    assert (compute.objection(machine), compute.obstacle(machine)) == ("", "")
    most = compute.at_most(machine)
    assert most.machines == 1 and most.vcpus >= machine.cpu_min
    assert compute.image(machine) and compute.image(machine) == compute.image(machine)


@promise
def the_same_wish_makes_the_same_plan_and_planning_starts_nothing(subject: Subject) -> None:
    """A plan that is made again before it was stored is no other plan."""
    one, more = subject.wanted(), subject.wanted(MOST_SESSIONS)

    assert len({subject.plan(one) for _ in range(3)}) == 1 and subject.plan(one) != subject.plan(more)
    assert subject.listed() == set()
    assert all(len(plan.request.encode()) < REQUEST_BYTES for plan in subject.steps(more))


@promise
def the_steps_of_a_launch_are_numbered_upwards_differ_and_end(subject: Subject) -> None:
    """Each step has a request of its own."""
    plans = subject.steps(subject.wanted())

    numbers = [plan.step for plan in plans]
    assert numbers == sorted(set(numbers)) and len({plan.request for plan in plans}) == len(plans)


@promise
def throttling_and_a_refusal_lead_to_no_other_step(subject: Subject) -> None:
    """The same is asked for again later, or never."""
    wanted = subject.wanted()

    for plan in subject.steps(wanted):
        for failure in (FailureKind.THROTTLED, FailureKind.REFUSED):
            assert subject.compute.plan(wanted, after=plan.step, failure=failure) is None


@promise
def a_start_gives_as_many_instances_as_are_wanted_each_with_an_id_of_its_own(subject: Subject) -> None:
    """And says nothing else of them than that they begin."""
    wanted = subject.wanted(3)
    started = subject.start(wanted)

    assert len(set(handles(started))) == 3
    assert (started.failure, started.why) == (None, ""), "nothing is missing"
    assert {one.state for one in subject.compute.poll_sessions(handles(started)).values()} <= {"pending", "running"}
    most = subject.compute.at_most(subject.machine)
    sizes = [one.resources for one in started.instances if one.resources is not None]
    assert all(one.machines == 1 and one.vcpus <= most.vcpus and one.usd_per_hour <= most.usd_per_hour for one in sizes)


@promise
def who_gets_which_instance_is_said_where_the_payload_travels_in_the_call(subject: Subject) -> None:
    """Elsewhere any session may have any."""
    wanted = subject.wanted()
    started = subject.start(wanted)

    assigned, mine = dict(started.assigned), {handle.instance for handle in handles(started)}
    assert set(assigned) <= set(wanted.sessions) and set(assigned.values()) <= mine
    if subject.compute.traits.payload is Payload.IN_CALL:
        assert set(assigned) == set(wanted.sessions) and set(assigned.values()) == mine


@promise
def the_same_request_gives_the_same_instances_however_often_it_is_sent(subject: Subject) -> None:
    """Also if one of them has gone meanwhile."""
    wanted = subject.wanted()
    plan = subject.plan(wanted)

    sent = [subject.start(wanted, plan, sent_before=before) for before in (False, False, True)]
    assert len({frozenset(handles(started)) for started in sent}) == 1 and len(subject.listed()) == 2

    (one, other) = handles(sent[0])
    assert subject.compute.stop_session(one)
    assert set(handles(subject.start(wanted, plan, sent_before=True))) == {one, other}
    assert subject.listed() == {other}


@promise
def another_step_and_another_launch_give_other_instances(subject: Subject) -> None:
    """Each has a token of its own."""
    wanted, another = subject.wanted(), subject.wanted()
    answers = [subject.start(wanted, plan) for plan in subject.steps(wanted)[:2]] + [subject.start(another)]

    given = [handle for started in answers for handle in handles(started)]
    assert len(given) == len(set(given)) == 2 * len(answers) and subject.listed() == set(given)


@promise
def another_request_under_the_same_token_is_refused_and_starts_nothing(subject: Subject) -> None:
    """A fault of ours makes no machine that nobody knows."""
    wanted = subject.wanted()
    first = subject.start(wanted)
    greedy = replace(wanted, sessions=(*wanted.sessions, "s-more"))

    with pytest.raises(ServiceFailed) as raised:
        subject.start(greedy)

    assert subject.compute.classify(raised.value).kind is FailureKind.REFUSED
    assert subject.listed() == set(handles(first))


@promise
def what_was_started_is_listed_from_its_birth_with_its_launch_and_its_end(subject: Subject) -> None:
    """Whoever made it: an orchestrator that lost all records finds it again."""
    wanted = subject.wanted()
    started = subject.start(wanted)

    listed = {one.handle: one for one in subject.compute.list_sessions()}
    assert set(listed) == set(handles(started))
    assert {one.launch_id for one in listed.values()} == {wanted.launch_id}
    assert {one.expires_at for one in listed.values()} <= {EXPIRES_AT, None}


@promise
def another_stacks_instances_are_not_listed_though_they_stand_on_the_same_service(subject: Subject) -> None:
    """Nobody ends what is not his."""
    mine = subject.started()
    theirs = handles(replace(subject, compute=subject.neighbour).start(subject.wanted()))

    assert subject.listed() == set(mine)
    assert {one.handle for one in subject.neighbour.list_sessions()} == set(theirs)


@promise
def what_a_request_made_is_looked_up_without_making_more(subject: Subject) -> None:
    """As far as it was ever sent, and though one has gone."""
    wanted = subject.wanted()
    plan, never_sent = subject.plan(wanted), subject.plan()
    made = handles(subject.start(wanted, plan))

    assert set(handles(subject.compute.look_up(plan.request))) == set(made)
    assert subject.compute.look_up(never_sent.request).instances == ()
    assert subject.listed() == set(made)

    subject.compute.stop_session(made[0])
    assert set(handles(subject.compute.look_up(plan.request))) == set(made), "the dead were its machines too"


@promise
def an_instance_may_be_stopped_twice_and_an_unknown_one_is_gone_already(subject: Subject) -> None:
    """And nobody else is stopped by it."""
    handle, kept = subject.started()

    assert subject.compute.stop_session(handle)
    subject.compute.stop_session(handle)
    assert not subject.compute.stop_session(SessionHandle(subject.compute.name, subject.unknown)), "it was gone already"

    assert is_gone(subject.compute, handle)
    assert subject.compute.poll_sessions([kept])[kept].state in ("pending", "running")
    assert subject.listed() == {kept}


@promise
def an_unknown_instance_is_absent_and_hides_no_other(subject: Subject) -> None:
    """Neither does one of another strategy."""
    mine = subject.started()
    unknown, foreign = SessionHandle(subject.compute.name, subject.unknown), SessionHandle("another", mine[0].instance)

    assert set(subject.compute.poll_sessions([unknown, foreign, *mine])) == set(mine)
    assert subject.compute.poll_sessions([]) == {}
    assert subject.compute.console_tail(unknown) == ""


@promise
def a_handle_can_be_stored_and_read_again(subject: Subject) -> None:
    """By another process, days later."""
    handle, _ = subject.started()

    stored = msgspec.json.decode(msgspec.json.encode(handle), type=SessionHandle)
    assert stored in subject.compute.poll_sessions([stored])


@promise
def a_lack_of_capacity_is_an_answer_without_instances_that_says_so(subject: Subject) -> None:
    """To the fleet by its kind, to people in words, and by the service's own code."""
    wanted = subject.wanted()
    with subject.drought() as compute:
        answer = replace(subject, compute=compute).start(wanted)

    assert (answer.instances, answer.failure) == ((), FailureKind.NO_CAPACITY)
    assert answer.why and answer.reasons and all(": " in reason for reason in answer.reasons)
    assert subject.listed() == set()


@promise
def an_outage_is_no_answer_at_all_makes_nothing_and_is_not_mistaken_for_a_lack_of_capacity(subject: Subject) -> None:
    """It is asked for again, and then it is served."""
    wanted = subject.wanted()
    plan = subject.plan(wanted)

    with subject.outage() as compute, pytest.raises(ServiceFailed) as raised:
        compute.start_sessions(plan.request, dict.fromkeys(wanted.sessions, ""), sent_before=False)

    assert subject.compute.classify(raised.value).kind in (FailureKind.THROTTLED, FailureKind.UNKNOWN)
    assert subject.listed() == set()
    assert len(handles(subject.start(wanted, plan, sent_before=True))) == 2


@promise
def an_error_that_may_pass_is_never_a_refusal_and_each_has_words_and_a_hint(subject: Subject) -> None:
    """What nobody knows is not given up for good."""
    silence, news = Unanswered("start"), ServiceFailed("start", "NeverHeardOf")

    assert subject.compute.classify(silence).kind is FailureKind.THROTTLED
    assert subject.compute.classify(news).kind in (FailureKind.UNKNOWN, FailureKind.THROTTLED)
    assert all(told.words and told.hint for told in map(subject.compute.classify, (silence, news)))


@promise
def an_interruption_steers_and_makes_nothing_unlaunchable(subject: Subject) -> None:
    """Where everything was taken back again and again, everything is asked for again."""
    started = subject.start(subject.wanted())
    for one in started.instances * 2:
        subject.compute.interrupted(one.placement)
    subject.compute.interrupted("")

    assert subject.compute.obstacle(subject.machine) == "" and len(subject.started()) == 2


@promise
def what_it_needs_outside_is_checked_under_names_of_its_own_and_looking_starts_nothing(subject: Subject) -> None:
    checks = subject.compute.checks()
    names = [check.name for check in checks]

    assert names and len(set(names)) == len(names)
    assert all(name.startswith(subject.compute.name) for name in names) and all(check.needs for check in checks)
    assert {examine(check).standing for check in checks} <= {Standing.FINE, Standing.FAILED}
    assert subject.listed() == set()


@promise
def maintenance_touches_no_instance(subject: Subject) -> None:
    """It is done every minute."""
    mine = subject.started()
    for _ in range(3):
        subject.compute.maintain()

    assert subject.listed() == set(mine)
