"""Real children of the real process adapter: how they are started, heard, stopped, and ended with all they started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.adapters.posix import PosixProcesses
from agent.adapters.system import QueueInbox
from agent.ports import Launch
from tests.agent.apart import ROOT, scenario

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may give files and processes to another user")


def test_a_forking_child_is_swept_with_everything_it_started() -> None:
    found = scenario("forking")

    assert found["killed"] >= 26
    assert (found["code"], found["there"]) == (-9, [])


def test_a_silent_child_ends_with_its_own_code_and_no_line() -> None:
    assert scenario("silent") == {"code": 3, "heard": 0, "lines": []}


def test_a_child_that_dies_early_leaves_its_last_words_even_without_a_line_end() -> None:
    assert scenario("killed_early") == {"code": -9, "lines": ["last words", "and a half"]}


def test_of_a_flood_no_line_is_lost_or_out_of_order_and_nobody_has_to_ship_for_it_to_end() -> None:
    assert scenario("flooding") == {"code": 0, "ordered": True, "count": 100_000}


def test_a_flood_beyond_the_cap_holds_nobody_up_keeps_the_oldest_and_counts_the_rest() -> None:
    found = scenario("flooding_beyond_the_cap")

    assert (found["code"], found["oldest"], found["all"]) == (0, True, 100_000)
    assert found["dropped"] > 50_000


def test_a_flood_beyond_the_cap_leaves_no_half_lines() -> None:
    assert scenario("flooding_beyond_the_cap")["torn"] == []


def test_an_announcement_is_heard_also_when_it_comes_in_two_pieces() -> None:
    assert scenario("announcing") == {"heard": ["Listening"]}


def test_what_cannot_be_executed_is_an_os_error_and_leaves_nothing_open() -> None:
    assert scenario("unstartable") == {"errors": ["FileNotFoundError", "FileNotFoundError"], "left_open": 0}


def test_a_descendant_that_cleared_its_environment_called_setsid_and_forked_twice_is_killed() -> None:
    found = scenario("hidden_after_a_stop")

    assert found["variables"] <= 1  # the C locale's own, set by Python itself
    assert (found["own_session"], found["there"]) == (True, False)


def test_a_descendant_whose_first_thread_has_ended_is_killed_too() -> None:
    assert scenario("hidden_behind_a_thread") == {"threads_left": 0}


def test_sigint_reaches_the_listener_alone_and_no_shell_above_or_step_below() -> None:
    found = scenario("interrupted_listener")

    assert found == {"reached": True, "code": 0, "told": ["listener", "helper after", "run.sh after"]}


def test_sigterm_reaches_the_listener_alone_likewise() -> None:
    found = scenario("terminated_listener")

    assert found == {"reached": True, "code": 0, "told": ["listener", "helper after", "run.sh after"]}


def test_without_a_listener_what_was_started_is_signalled_and_afterwards_nobody_is_there() -> None:
    assert scenario("no_listener") == {"first": True, "code": 9, "later": [False, False], "swept": 0}


def test_a_child_has_its_own_session_no_stdin_and_only_what_was_given() -> None:
    found = scenario("a_clean_child")

    assert (found["stdin"], found["leads"], found["descriptors"]) == ("/dev/null", True, [0, 1, 2])
    assert sorted(found["environment"]) == ["ONLY=this", "PATH=/usr/bin:/bin"]
    assert (found["cwd"], found["oom"]) == (found["directory"], "500")


@pytest.mark.parametrize("before", ["", "trap '' INT TERM HUP QUIT PIPE"], ids=["usual", "ignored by our parent"])
def test_signals_are_at_their_default_in_the_child_whatever_our_parent_ignored(before: str) -> None:
    assert scenario("signals_of_a_child", before) == {"code": 0, "ignored": [], "blocked": 0}


def test_a_bounded_run_gives_the_code_and_the_end_of_the_output() -> None:
    found = scenario("run_to_the_end")

    assert found == {"code": 4, "tail_bytes": 16_384, "end": ["10000", "last"]}


def test_a_run_beyond_its_bound_is_killed_with_its_children() -> None:
    assert scenario("run_beyond_its_bound") == {"code": None, "tail": "begun\n", "there": [False, False]}


def test_a_run_beyond_its_bound_is_killed_with_every_group_of_its_session() -> None:
    assert scenario("run_beyond_its_bound_with_groups") == {"there": False}


def test_after_a_sweep_only_what_is_marked_for_it_is_started() -> None:
    assert scenario("run_after_everything_was_swept") == {"left": [], "refused": 5, "last": 7}


def test_a_run_closes_nothing_that_was_opened_beside_it() -> None:
    assert scenario("run_beside_other_work") == {"code": 0, "closed_under_us": 0}


def test_a_run_whose_output_is_inherited_ends_and_reads_nothing_of_ours() -> None:
    assert scenario("run_with_an_heir_of_its_output") == {"code": 0, "tail": "here\n", "stolen": 0}


@as_root
def test_files_are_given_away_link_by_link_and_not_through_links(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.touch()
    inside.mkdir()
    (inside / "file").touch()
    (inside / "link").symlink_to(outside)

    PosixProcesses(QueueInbox(), lambda readable, inbox: None).own(inside, "nobody")

    assert outside.stat().st_uid == 0
    assert {path.lstat().st_uid for path in (inside, inside / "file", inside / "link")} == {inside.stat().st_uid} != {0}


@as_root
def test_a_child_may_run_as_another_user() -> None:
    launch = Launch(("id", "-un"), Path("/"), {"PATH": os.environ["PATH"]}, user="nobody")
    program = (
        "from agent.adapters.posix import PosixProcesses\nfrom agent.adapters.system import QueueInbox\n"
        "from agent.ports import Launch\nfrom pathlib import Path, PosixPath\n"
        f"print(PosixProcesses(QueueInbox(), lambda *_: None).run({launch!r}, 10.0).tail, end='')\n"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=600, check=True)

    assert done.stdout == b"nobody\n"


def test_a_user_who_does_not_exist_is_named_with_the_setting() -> None:
    processes = PosixProcesses(QueueInbox(), lambda readable, inbox: None)

    with pytest.raises(LookupError, match="RUNS_FLEET_RUNNER_USER names 'no-such-user'"):
        processes.user_home("no-such-user")
