"""Decide how the runner ended: what was seen of it goes in, the verdict comes out.

The runner exits 0 for nearly everything, so its exit code alone says nothing: green needs a `Succeeded` from the runner.
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


def of(watch: Watch) -> Verdict:
    """The verdict on a runner that is gone (or would not go)."""
    result = _job_result(watch)
    if result is not None and (
        watch.stop is None or watch.stop in (Stop.LINGERED, Stop.RESTART_LOOP) or watch.job_result_before_stop
    ):
        return _job_ended(result)
    if watch.stop is Stop.UNCLAIMED and watch.job is not None:
        return Verdict(Status.INTERRUPTED, "raced", "a job was assigned just as the idle runner was being stopped", result or "")
    if watch.stop is not None:
        status, sentence = STOPPED[watch.stop]
        return Verdict(status, watch.stop.value, _with_complaint(sentence, watch), result or "")
    return _left_by_itself(watch)


def is_unexplained(watch: Watch) -> bool:
    """Whether the runner went in the middle of its work, and nobody has said why."""
    return watch.stop is None and _job_result(watch) is None and (watch.job is not None or _killed(watch) is not None)


def _killed(watch: Watch) -> int | None:
    """The code or signal of a listener that did not leave by itself; `run.sh`'s code says so only where the job said nothing."""
    code = watch.exit_code or 0
    own = abs(code) if code < 0 or watch.job_result is None else 0
    return next((code for code in (*watch.listener_codes, own) if code in (9, 15, 134, 137, 143)), None)


def _job_result(watch: Watch) -> str | None:
    """The runner's line, and its exit code where that says something worse: a line can be forged by the job, green by none."""
    results = [JOB_RESULTS[code] for code in watch.listener_codes if code in JOB_RESULTS]
    coded = next((result for result in results if result not in GREEN), results[0] if results else None)
    said = watch.job_result
    if said in GREEN and coded is None and _killed(watch):
        return None
    if coded is not None and (said is None or (said in GREEN and coded not in GREEN)):
        return coded
    return said


def _job_ended(result: str) -> Verdict:
    if result in GREEN:
        return Verdict(Status.SUCCESS, "", "", result)
    return Verdict(Status.FAILURE, f"job_{result.lower()}", f"the job ended as {result}", result)


def _left_by_itself(watch: Watch) -> Verdict:
    code = watch.exit_code
    complaint = watch.complaints[-1] if watch.complaints else None
    killed = _killed(watch)
    if watch.job is not None:
        cause = f"its listener ended with {killed}" if killed else "it never said how the job ended"
        word = "listener_killed" if killed else "job_lost"
        return Verdict(Status.FAILURE, word, _with_complaint(f"the runner took a job and left; {cause}", watch))
    if complaint and complaint.complaint in _REFUSED:
        return Verdict(Status.FAILURE, complaint.complaint.value, f"{_REFUSED[complaint.complaint]} ({complaint.text})")
    if killed:
        return Verdict(Status.FAILURE, "listener_killed", f"the runner's listener ended with {killed} before it took a job")
    clean = code == 0 and all(c == 0 for c in watch.listener_codes)
    if clean and (watch.connected or complaint is not None):
        return Verdict(Status.INTERRUPTED, Stop.UNCLAIMED.value, "the runner was removed by the server before it took a job")
    codes = ", ".join(str(c) for c in watch.listener_codes) or "none"
    return Verdict(Status.FAILURE, "runner_failed", f"the runner left without a job: exit code {code}, listener codes {codes}")


def _with_complaint(sentence: str, watch: Watch) -> str:
    return f"{sentence} (the runner said: {watch.complaints[-1].text})" if watch.complaints else sentence
