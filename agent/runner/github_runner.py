"""GitHub's runner as the work of a life: its release is fetched, its registration prepared, its own words judged."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.contract.config import RunnerConfig
from agent.errors import ReleaseUnavailable
from agent.mailbox import Mailbox
from agent.phases import Stopwatch
from agent.ports import Clock, Launch, Processes, TaskEnded
from agent.runner import verdict
from agent.runner.cache import Upload
from agent.runner.cleanup import clean
from agent.runner.registration import WITHIN_S, Registration
from agent.runner.release import Release, Releases, Wanted
from agent.supervision import Watch
from agent.work import Prepared, Verdict, WorkIdentity

RELEASE_S = 420.0
"""Seconds for fetching and unpacking; with the default waits for configuration (300) and registration (150) below 900."""
UPLOADING = "uploading"
"""The `cache_outcome` while the release is uploaded beside the job."""
UPLOAD_TASK = "cache upload"
NOTE_BYTES = 1024
"""Bytes read of what the started hook wrote."""


@dataclass(kw_only=True)
class GitHubRunner:
    """Work (`agent/work.py`): one ephemeral runner that takes one job."""

    releases: Releases
    registration: Registration
    upload: Upload
    diagnose: Callable[[RunnerConfig, Path, str], str]
    """Uploads the runner's diagnostic logs of a directory for an instance id; returns the outcome."""
    processes: Processes
    mailbox: Mailbox
    clock: Clock
    stopwatch: Stopwatch
    work_dir: Path
    homes: frozenset[Path]
    shared_places: tuple[Path, ...] = ()
    """Where a job writes beside the runner's directory: temporary files, its user's home, containers."""
    register_within_s: float = WITHIN_S
    _is_fetching: bool = False
    _release: Release | None = None

    def prefetch(self) -> None:
        """Fetch the release now if the settings name it; otherwise the configuration decides."""
        if self.releases.decided():
            self._fetch(Wanted())

    def prepare(self, config: RunnerConfig) -> Prepared:
        """The release the configuration asks for, fetched now unless that is under way already.

        Raises: StoppedEarly, and what `Releases.fetch` raises.
        """
        wanted = Wanted(config.runner_version or None, config.runner_sha256.lower() or None, config.runner_by_default)
        was_prefetched = self._is_fetching
        if not was_prefetched:
            self._fetch(wanted)
        until_s = self.clock.monotonic_s() + RELEASE_S
        end = self._fetched(until_s)
        if was_prefetched and (end.error is not None or not self.releases.satisfies(end.value, wanted)):
            self._fetch(wanted)
            end = self._fetched(until_s)
        self.stopwatch.end("release", self.clock.monotonic_s())
        if end.error is not None:
            raise end.error
        release: Release = end.value
        self._release = release
        fields = {"version": release.version, "source": release.source, "digest": release.digest}
        own = (release.directory, release.directory / "_work", release.directory / "_diag")
        places = (*own, *self.shared_places)
        doubts = (f"release: {release.doubt}",) if release.doubt else ()
        return Prepared(release.directory, release.digest, _cache_outcome(release), fields, places, doubts)

    def register(self, config: RunnerConfig, prepared: Prepared, instance_id: str) -> Launch:
        """The command that starts the runner, registered if its configuration brought no JIT config."""
        return self.registration.prepare(config, instance_id, prepared.directory)

    def started(self, prepared: Prepared) -> str:
        """Upload the release beside the job if the fleet's cache lacks it."""
        release = self._release
        if release is None or (archive := release.archive) is None:
            return prepared.cache_outcome
        self.mailbox.begin(UPLOAD_TASK, lambda: self.upload.run(release.version, archive, release.sha256))
        return UPLOADING

    def is_identified(self) -> bool:
        """Whether the started hook has written which job was taken."""
        return self.registration.job_note.exists()

    def identity(self) -> WorkIdentity:
        """What the started hook wrote: the job can write there, so only short printable lines are passed on."""
        text = ""
        with suppress(OSError):
            text = self.processes.read_plain(self.registration.job_note, NOTE_BYTES).decode("utf-8", "replace")
        if not text:
            return WorkIdentity()
        run_id, attempt, repository, job, *_ = [line if line.isprintable() else "" for line in text.split("\n")] + [""] * 4
        return WorkIdentity(run_id, attempt, f"{repository}:{job}" if repository or job else "")

    def is_unexplained(self, watch: Watch) -> bool:
        """Whether the runner ended in the middle of its job without a known reason."""
        return verdict.is_unexplained(watch)

    def verdict(self, watch: Watch) -> Verdict:
        """The verdict by the runner's announcements and exit codes."""
        return verdict.of(watch)

    def keep(self, config: RunnerConfig, prepared: Prepared, instance_id: str) -> str:
        """Upload the runner's diagnostic logs."""
        return self.diagnose(config, prepared.directory, instance_id)

    def clean(self, prepared: Prepared) -> list[str]:
        """Remove the runner's registration files and what the job left in its directory."""
        return clean(prepared.directory, self.work_dir, self.homes)

    def _fetch(self, wanted: Wanted) -> None:
        self._is_fetching = True
        self.stopwatch.begin("release", self.clock.monotonic_s())
        self.mailbox.begin("release", lambda: self.releases.fetch(wanted))

    def _fetched(self, until_s: float) -> TaskEnded:
        end = self.mailbox.ended_by("release", until_s)
        if end is None:
            raise ReleaseUnavailable(f"the runner's release was not there after {RELEASE_S:g} s")
        return end


def _cache_outcome(release: Release) -> str:
    if release.source == "s3":
        return "hit"
    return "unused" if release.source == "prebaked" else release.cache_note
