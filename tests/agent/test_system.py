"""Time, threads, the inbox and the agent's own log, as the machine gives them."""

from __future__ import annotations


def test_only_what_says_how_far_a_machine_came_is_marked_and_only_for_the_journal() -> None:
    heard = {beacons: io.StringIO() for beacons in (True, False)}
    for beacons, stream in heard.items():
        journal = TextJournal(stream, beacons=beacons)
        journal.phase(Phase.RUNNING)
        journal.event("notice.ended", kind="busy")

    marked, plain = (heard[beacons].getvalue().splitlines() for beacons in (True, False))
    assert [line.startswith("<5>2") for line in marked] == [True, False]
    assert not any(line.startswith("<") for line in plain) and plain[0].endswith("phase.entered phase=running")


def test_standard_error_is_the_journals_only_if_it_is_the_very_one() -> None:
    ours = os.fstat(2)

    assert goes_to_the_journal({"JOURNAL_STREAM": f"{ours.st_dev}:{ours.st_ino}"})
    assert not goes_to_the_journal({"JOURNAL_STREAM": f"{ours.st_dev}:{ours.st_ino + 1}"}) and not goes_to_the_journal({})
