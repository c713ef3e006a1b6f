"""Decide what the runner's own lines say about its state.

Standard output of the runner is a hint, not proof: the job's name in it is chosen by the workflow's author.
Source of every pattern: actions/runner 2.336.0, `Runner.Listener`.
"""

from __future__ import annotations

import re

from agent.supervision import (
    Announcement,
    Complained,
    Complaint,
    JobCompleted,
    JobRunning,
    Listening,
    Restarting,
)

JOB_RESULTS = {
    100: "Succeeded",
    101: "SucceededWithIssues",
    102: "Failed",
    103: "Canceled",
    104: "Skipped",
    105: "Abandoned",
}
"""Exit codes of a listener told to return its job's result (ACTIONS_RUNNER_RETURN_JOB_RESULT_FOR_HOSTED)."""


_STAMP = rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ: "
_COMPLAINTS: tuple[tuple[bytes, Complaint], ...] = (
    (b"The runner registration has been deleted from the server", Complaint.REGISTRATION_DELETED),
    (b"The runner no longer exists on the server", Complaint.REMOVED_BY_SERVER),
    (b"Runner not found", Complaint.REMOVED_BY_SERVER),
    (b"Stop retry on SessionConflictException", Complaint.SESSION_CONFLICT),
    (b"Not configured. Run config", Complaint.NOT_CONFIGURED),
    (b"The local machine's clock may be out of sync", Complaint.CLOCK_SKEW),
    (b"Fail to create and validate runner's work directory", Complaint.WORK_DIRECTORY),
    (b"Runner update in progress", Complaint.UPDATING),
)
_AN_ERROR, _VERSION = b"an error occurred: ", b"version "
_REFUSALS = (b"deprecated", b"too old", b"not supported", b"cannot receive messages")
"""What GitHub says of a version that it refuses, in any case of letters."""
_LISTENING = re.compile(rb"^" + _STAMP + rb"Listening for Jobs\s*$")
_RUNNING = re.compile(rb"^" + _STAMP + rb"Running job: (.*)$")
_COMPLETED = re.compile(rb"^" + _STAMP + rb"Job .* completed with result: (\w+)\s*$")
_WORTH_READING = re.compile(
    rb"^(?:" + _STAMP + rb"|.{0,40}(?:[Rr]unner|An error occurred|Stop retry on|local machine's clock))",
    re.M,
)
LONGEST_LINE = 4096
"""Bytes of a line that are looked at: the runner's own lines are shorter, a job's name is at most 100 characters."""


def worth_reading(chunk: bytes) -> bool:
    """Whether any line in `chunk` could be an announcement; cheap enough for a flood of output."""
    return _WORTH_READING.search(chunk) is not None


def read(line: bytes) -> tuple[Announcement, ...]:
    """What one line, without its end, announces; mostly nothing."""
    line = line[:LONGEST_LINE].rstrip(b"\r\n")
    if _LISTENING.match(line):
        return (Listening(),)
    if running := _RUNNING.match(line):
        return (JobRunning(running.group(1).rstrip().decode("utf-8", "replace")),)
    if completed := _COMPLETED.match(line):
        result = completed.group(1).decode("ascii", "replace")
        return (JobCompleted(result),) if result in JOB_RESULTS.values() else ()
    if line.strip() == b"Restarting runner...":
        return (Restarting(),)
    return _complaints(line)


def _complaints(line: bytes) -> tuple[Announcement, ...]:
    text = line.decode("utf-8", "replace").strip()
    found = [complaint for words, complaint in _COMPLAINTS if words in line]
    if _refuses_the_version(line.lower()):
        found.append(Complaint.VERSION_REFUSED)
    return tuple(Complained(complaint, text) for complaint in found[:1])


def _refuses_the_version(line: bytes) -> bool:
    at = line.find(_VERSION, len(_AN_ERROR)) if line.startswith(_AN_ERROR) else -1
    return at >= 0 and any(words in line[at:] for words in _REFUSALS)


def topic(announcement: Announcement) -> str:
    """What it is about: one of some twenty words. Who has heard of a topic a few times learns nothing more from it."""
    match announcement:
        case JobCompleted(result):
            return f"completed {result}"
        case Complained(complaint):
            return complaint.value
        case _:
            return type(announcement).__name__
