"""Decide how the runner ended: what was seen of it goes in, the verdict comes out.

The listener is told to return its job's result as its exit code (`ACTIONS_RUNNER_RETURN_JOB_RESULT_FOR_HOSTED`, since 2.332).
"""

from __future__ import annotations

from agent.contract.messages import Status
from agent.runner.announcements import JOB_RESULTS
from agent.supervision import GREEN, Complaint, Stop, Watch
from agent.work import STOPPED, Verdict

_REFUSED = {
    Complaint.REGISTRATION_DELETED: "the runner's registration has been deleted from the server",
    Complaint.VERSION_REFUSED: "GitHub refuses this version of the runner: bake or pin a newer one",
    Complaint.SESSION_CONFLICT: "another runner holds a session with this registration: a JIT config is single-use",
    Complaint.NOT_CONFIGURED: "the runner found itself without a registration",
    Complaint.CLOCK_SKEW: "the machine's clock is off by more than five minutes",
    Complaint.WORK_DIRECTORY: "the runner could not create its work directory",
    Complaint.UPDATING: "the runner went to update itself instead of working: bake or pin the current version",
}


_CODES = {5: Complaint.SESSION_CONFLICT, 7: Complaint.VERSION_REFUSED}
"""Exit codes of a listener that say what is wrong. Source: actions/runner, `Constants.Runner.ReturnCode`."""
_KILLED = (9, 15, 134, 137, 143)
"""Exit codes and signals of a listener that did not leave by itself."""


def of(watch: Watch) -> Verdict:
    """The verdict on a runner that is gone (or would not go)."""
    result = _job_result(watch)
    if result is not None and (
        watch.stop is None or watch.stop in (Stop.LINGERED, Stop.RESTART_LOOP) or watch.job_result_before_stop
    ):
        return _job_ended(result)
    said = watch.job_result or ""
    if watch.stop is Stop.UNCLAIMED and watch.job is not None:
        return Verdict(Status.INTERRUPTED, "raced", "a job was assigned just as the idle runner was being stopped", said)
    if watch.stop is not None:
        status, sentence = STOPPED[watch.stop]
        return Verdict(status, watch.stop.value, _with_complaint(sentence, watch), said)
    return _left_by_itself(watch)


def is_unexplained(watch: Watch) -> bool:
    """Whether the runner went in the middle of its work, and nobody has said why."""
    return watch.stop is None and _job_result(watch) is None and (watch.job is not None or _killed(watch) is not None)


def _killed(watch: Watch) -> int | None:
    code = abs(watch.exit_code or 0)
    return code if code in _KILLED else None


def _job_result(watch: Watch) -> str | None:
    """Red by the listener's exit code or by a line; green by the exit code alone: a job can write lines into its output."""
    coded = JOB_RESULTS.get(watch.exit_code or 0)
    return next((result for result in (coded, watch.job_result) if result is not None and result not in GREEN), coded)


def _job_ended(result: str) -> Verdict:
    if result in GREEN:
        return Verdict(Status.SUCCESS, "", "", result)
    return Verdict(Status.FAILURE, f"job_{result.lower()}", f"the job ended as {result}", result)


def _left_by_itself(watch: Watch) -> Verdict:
    code, killed = watch.exit_code, _killed(watch)
    complaint = watch.complaints[-1] if watch.complaints else None
    if watch.job is not None or watch.job_result is not None:
        said, taken = watch.job_result or "", "the runner took a job and left;"
        if killed:
            sentence = _with_complaint(f"{taken} its listener ended with {killed}", watch)
            return Verdict(Status.FAILURE, "listener_killed", sentence, said)
        if said:
            unproven = f"{taken} it said that the job ended as {said}, and its listener's exit code {code} does not say so"
            return Verdict(Status.FAILURE, "job_unproven", _with_complaint(unproven, watch), said)
        lost = _with_complaint(f"{taken} it never said how the job ended", watch)
        return Verdict(Status.FAILURE, "job_lost", lost)
    if complaint and complaint.complaint in _REFUSED:
        return Verdict(Status.FAILURE, complaint.complaint.value, f"{_REFUSED[complaint.complaint]} ({complaint.text})")
    if (coded := _CODES.get(code or 0)) is not None:
        return Verdict(Status.FAILURE, coded.value, f"{_REFUSED[coded]} (exit code {code})")
    if killed:
        return Verdict(Status.FAILURE, "listener_killed", f"the runner's listener ended with {killed} before it took a job")
    if code == 0 and (watch.connected or complaint is not None):
        return Verdict(Status.INTERRUPTED, Stop.UNCLAIMED.value, "the runner was removed by the server before it took a job")
    return Verdict(Status.FAILURE, "runner_failed", f"the runner left without a job: exit code {code}")


def _with_complaint(sentence: str, watch: Watch) -> str:
    return f"{sentence} (the runner said: {watch.complaints[-1].text})" if watch.complaints else sentence
