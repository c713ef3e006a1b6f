"""Readiness: what a check may find, when turns may begin, when a server is ready, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from orchestrator.errors import ServiceFailed, Throttled, Unanswered
from orchestrator.readiness import Check, Fault, Readiness, Standing, examine
from simulation.process import InlineWorkerPool, MemoryJournal

MISSING = Fault(setting="RUNS_FLEET_X", found="no x", expected="an x", remedy="make an x", holds=True)
ODD = Fault(setting="RUNS_FLEET_X", found="an odd x", expected="an even x", remedy="correct x")


class Subject:
    """Something outside that a test may break."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.raises: Exception | None = None

    def look(self) -> Iterable[Fault]:
        """What is wrong with it now."""
        if self.raises is not None:
            raise self.raises
        return list(self.faults)


class Place:
    """Two subjects, of which the first is looked at before anything is begun."""

    def __init__(self) -> None:
        self.first, self.second, self.journal = Subject(), Subject(), MemoryJournal()
        checks = [Check(name="first", look=self.first.look, is_first=True), Check(name="second", look=self.second.look)]
        self.readiness = Readiness(checks, self.journal, InlineWorkerPool())


@pytest.mark.parametrize(
    ("raised", "standing"),
    [
        (ServiceFailed("a:B", "AccessDeniedException"), Standing.UNCHECKED),
        (ServiceFailed("a:B", "UnauthorizedOperation"), Standing.UNCHECKED),
        (ServiceFailed("a:B", "ExpiredToken"), Standing.FAILED),
        (ServiceFailed("a:B", "NoCredentials", "Unable to locate credentials"), Standing.FAILED),
        (ServiceFailed("github:x", "502"), Standing.UNREACHED),
        (Throttled("a:B", "Throttling"), Standing.UNREACHED),
        (Unanswered("a:B"), Standing.UNREACHED),
    ],
)
def test_what_could_not_be_read_is_neither_fine_nor_broken_unless_nobody_is_let_in(raised: Exception, standing: Standing) -> None:
    subject = Subject()
    subject.raises = raised

    assert examine(Check(name="x", look=subject.look, needs="a:B")).standing is standing


def test_a_denied_look_names_the_permission_that_it_needs() -> None:
    subject = Subject()
    subject.raises = ServiceFailed("a:B", "AccessDenied")

    assert "needs a:Read" in examine(Check(name="x", look=subject.look, needs="a:Read")).why


def test_nothing_was_looked_at_yet_so_nothing_may_begin_and_nothing_is_ready() -> None:
    place = Place()

    assert (place.readiness.may_begin, place.readiness.is_ready) == (False, False)
    assert (place.readiness.failed, place.readiness.pending) == ((), ("first", "second"))


def test_turns_may_begin_once_the_first_checks_hold_nothing_back_though_others_fail() -> None:
    place = Place()
    place.second.faults = [MISSING]
    place.readiness.look(first=True)
    begins = place.readiness.may_begin
    place.readiness.look()

    assert begins and place.readiness.may_begin
    assert (place.readiness.is_ready, place.readiness.failed) == (False, ("second",))


def test_what_holds_keeps_turns_from_beginning_and_what_is_merely_wrong_does_not() -> None:
    place = Place()
    place.first.faults = [MISSING]
    place.readiness.look(first=True)
    held = place.readiness.may_begin
    place.first.faults = [ODD]
    place.readiness.look(first=True)

    assert (held, place.readiness.may_begin) == (False, True)


def test_an_outage_at_the_start_holds_nothing_back_but_nothing_is_ready_before_it_was_seen() -> None:
    place = Place()
    place.first.raises = place.second.raises = Unanswered("a:B")
    place.readiness.look(first=True)
    place.readiness.look()
    before = (place.readiness.may_begin, place.readiness.is_ready)
    place.first.raises = place.second.raises = None
    place.readiness.look()

    assert (before, place.readiness.is_ready) == ((True, False), True)


def test_what_could_not_be_checked_does_not_stand_in_the_way_and_is_named() -> None:
    place = Place()
    place.second.raises = ServiceFailed("a:B", "AccessDenied")
    place.readiness.look()

    assert (place.readiness.is_ready, place.readiness.failed, place.readiness.unchecked) == (True, (), ("second",))


def test_ready_once_is_ready_for_good_and_what_fails_later_is_named() -> None:
    place = Place()
    place.readiness.look()
    place.second.faults = [MISSING]
    place.readiness.look()

    assert (place.readiness.is_ready, place.readiness.failed) == (True, ("second",))


def test_an_outage_does_not_turn_what_was_fine_into_a_failure() -> None:
    place = Place()
    place.readiness.look()
    place.second.raises = Unanswered("a:B")
    place.readiness.look()

    assert place.readiness.failed == ()


def test_the_first_look_alone_makes_nobody_ready() -> None:
    place = Place()
    place.readiness.look(first=True)

    assert not place.readiness.is_ready


def test_each_fault_is_logged_with_its_remedy_once_until_it_changes_and_when_it_is_corrected() -> None:
    place = Place()
    place.second.faults = [MISSING]
    for _ in range(3):
        place.readiness.look()
    place.second.faults = []
    place.readiness.look()

    told = {"check": "second", "setting": "RUNS_FLEET_X", "found": "no x", "expected": "an x", "remedy": "make an x"}
    assert place.journal.of("readiness.failed") == [told]
    assert place.journal.of("readiness.corrected") == [{"check": "second"}]


def test_what_holds_goes_on_holding_while_it_cannot_be_read() -> None:
    place = Place()
    place.first.faults = [MISSING]
    place.readiness.look(first=True)
    place.first.raises = Throttled("a:B", "Throttling")
    place.readiness.look(first=True)

    assert not place.readiness.may_begin


def test_a_part_that_does_not_work_is_named_and_nobody_waits_for_it() -> None:
    place = Place()
    place.second.faults = [replace(MISSING, holds=False, is_partial=True)]
    place.readiness.look()

    assert (place.readiness.is_ready, place.readiness.failed) == (True, ("second",))


def test_of_two_faults_one_that_is_not_partial_is_waited_for() -> None:
    place = Place()
    place.second.faults = [replace(ODD, is_partial=True), ODD]
    place.readiness.look()

    assert not place.readiness.is_ready


def test_whoever_is_needed_by_nothing_else_could_not_be_checked_where_he_cannot_be_reached() -> None:
    subject = Subject()
    subject.raises = Unanswered("sts:GetCallerIdentity")

    assert examine(Check(name="x", look=subject.look, is_optional=True)).standing is Standing.UNCHECKED
