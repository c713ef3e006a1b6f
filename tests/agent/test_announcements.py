"""What each line of the runner announces, and what none of them can be made to announce."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.runner.announcements import JOB_RESULTS, LONGEST_LINE, read, topic, worth_reading
from agent.supervision import Announcement, Complained, Complaint, JobCompleted, JobRunning, Listening, Restarting

STAMP = "2026-08-17 10:00:00Z: "
STATE_LINES = [
    (STAMP + "Listening for Jobs", Listening()),
    (STAMP + "Listening for Jobs\r", Listening()),
    (STAMP + "Running job: build", JobRunning("build")),
    (STAMP + "Running job: test (3.11, ubuntu) ✓", JobRunning("test (3.11, ubuntu) ✓")),
    (STAMP + "Running job: build \r", JobRunning("build")),
    (STAMP + "Running job: ", JobRunning("")),
    *((STAMP + f"Job build completed with result: {result}", JobCompleted(result)) for result in JOB_RESULTS.values()),
    (STAMP + "Job a completed with result: Succeeded completed with result: Failed", JobCompleted("Failed")),
    (STAMP + "Running job: x completed with result: Succeeded", JobRunning("x completed with result: Succeeded")),
    ("Restarting runner...", Restarting()),
]
COMPLAINT_LINES = [
    (
        "Failed to create a session. The runner registration has been deleted from the server, please re-configure."
        " Runner registrations are automatically deleted for runners that have not connected to the service recently.",
        Complaint.REGISTRATION_DELETED,
    ),
    ("The runner no longer exists on the server. Please reconfigure the runner.", Complaint.REMOVED_BY_SERVER),
    ("The runner no longer exists on the server. Cleaning up local configuration.", Complaint.REMOVED_BY_SERVER),
    ("An error occurred: Runner not found", Complaint.REMOVED_BY_SERVER),
    ("Stop retry on SessionConflictException after retried for 240 seconds.", Complaint.SESSION_CONFLICT),
    ("An error occurred: Runner version v2.300.0 is deprecated and cannot receive messages.", Complaint.VERSION_REFUSED),
    ("An error occurred: Not configured. Run config.(sh/cmd) to configure the runner.", Complaint.NOT_CONFIGURED),
    (
        "The local machine's clock may be out of sync with the server time by more than five minutes."
        " Please sync your clock with your domain or internet time and try again.",
        Complaint.CLOCK_SKEW,
    ),
    ("Fail to create and validate runner's work directory '/x/_work'.", Complaint.WORK_DIRECTORY),
    ("Runner update in progress, do not shutdown runner.", Complaint.UPDATING),
]
NAMES = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=200)
SILENT_LINES = [
    "",
    "√ Connected to GitHub",
    "Current runner version: '2.336.0'",
    "√ Removed .credentials",
    "√ Removed .runner",
    "Exiting runner...",
    "Exiting...",
    "A session for this runner already exists.",
    STAMP + "Runner reconnected.",
    STAMP + "Runner connect error: refused. Retrying until reconnected.",
    STAMP + "Job build completed with result: Splendid",
    "Listening for Jobs",
    "Job build completed with result: Succeeded",
    " " + STAMP + "Job build completed with result: Succeeded",
    "echo " + STAMP + "Running job: build",
    "Runner listener exit with 0 return code, stop the service, no retry needed.",
    "Exiting with unknown error code: 100",
]


@pytest.mark.parametrize(("line", "announced"), STATE_LINES)
def test_a_line_about_the_runners_state_announces_it(line: str, announced: Announcement) -> None:
    assert read(line.encode()) == (announced,)


@pytest.mark.parametrize(("line", "complaint"), COMPLAINT_LINES)
def test_a_refusal_is_recognised_and_kept_in_the_runners_own_words(line: str, complaint: Complaint) -> None:
    assert Complained(complaint, line) in read(line.encode())


@pytest.mark.parametrize("line", SILENT_LINES)
def test_every_other_line_announces_nothing(line: str) -> None:
    assert read(line.encode()) == ()


@pytest.mark.parametrize("line", [line for line, _ in (*STATE_LINES, *COMPLAINT_LINES)])
def test_no_announcement_is_overlooked_in_a_flood(line: str) -> None:
    flood = b"compiling\n" * 1_000

    assert worth_reading(flood + line.encode() + b"\n" + flood)


def test_a_flood_without_announcements_is_not_read_line_by_line() -> None:
    assert not worth_reading(b"[ 42%] Building C object main.c.o\n" * 1_000)


def test_bytes_that_are_no_text_are_survived() -> None:
    assert read(STAMP.encode() + b"Running job: \xff\xfe") == (JobRunning("��"),)


def test_only_the_beginning_of_a_very_long_line_is_looked_at() -> None:
    (announced,) = read(STAMP.encode() + b"Running job: " + b"x" * 1_000_000)

    assert isinstance(announced, JobRunning)
    assert len(announced.name) < LONGEST_LINE


@given(st.binary(max_size=6_000))
def test_no_line_whatever_makes_reading_fail(line: bytes) -> None:
    assert isinstance(read(line), tuple)


@given(
    st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=200),
    st.sampled_from(sorted(JOB_RESULTS.values())),
)
def test_a_jobs_name_never_changes_the_result_of_its_line(name: str, result: str) -> None:
    assert read(f"{STAMP}Job {name} completed with result: {result}".encode()) == (JobCompleted(result),)


@given(NAMES)
def test_a_jobs_name_never_makes_its_running_line_announce_anything_else(name: str) -> None:
    (announced,) = read(f"{STAMP}Running job: {name}".encode())

    assert isinstance(announced, JobRunning)


@given(
    st.lists(
        st.sampled_from([line for line, _ in (*STATE_LINES, *COMPLAINT_LINES)]) | NAMES.map(f"{STAMP}Running job: {{}}".format)
    )
)
def test_there_are_few_topics_however_many_lines_there_are(lines: list[str]) -> None:
    assert len({topic(announced) for line in lines for announced in read(line.encode())}) <= 3 + len(JOB_RESULTS) + len(Complaint)


def test_each_result_and_each_complaint_is_a_topic_of_its_own() -> None:
    announced = [
        *map(JobCompleted, JOB_RESULTS.values()),
        *(Complained(complaint, "") for complaint in Complaint),
        JobRunning("a"),
    ]

    assert len({topic(one) for one in announced}) == len(announced)
    assert topic(JobRunning("a")) == topic(JobRunning("b"))
