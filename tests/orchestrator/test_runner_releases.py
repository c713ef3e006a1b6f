"""The release that configurations name: GitHub is asked once an hour for the fleet, and its silence costs only the name."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from agent.contract.config import read_config
from orchestrator.errors import ServiceFailed, Unanswered
from orchestrator.jobs.github import RunnerRelease
from orchestrator.jobs.runner_releases import AGAIN_S, RENEW_S, NamedRelease, RunnerReleases
from orchestrator.setting_values import Digests
from orchestrator.store.naming import Scope
from sandbox.github.server import StandInGitHub
from sandbox.runner import release as standin
from simulation.examples import an_event, some_settings
from simulation.github import MemoryGitHub
from simulation.world import World
from tests.orchestrator.githubs import SCOPE, ScriptedGitHub, app_of

AMD, ARM, OWN = "ab" * 32, "cd" * 32, "ef" * 32
NEWEST = RunnerRelease("2.336.0", {"amd64": AMD, "arm64": ARM})


class Asked(MemoryGitHub):
    """Counts what it is asked, and fails as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.fails: Exception | None = None
        self.releases = {"": NEWEST, "2.330.0": RunnerRelease("2.330.0", {"amd64": OWN})}

    def release(self, scope: Scope, version: str) -> RunnerRelease | None:
        self.asked.append(version)
        if self.fails is not None:
            raise self.fails
        return self.releases.get(version)


class Bench:
    """The releases of some settings, with their GitHub."""

    def __init__(self, **settings: object) -> None:
        self.world, self.github = World(), Asked()
        self.releases = RunnerReleases(some_settings(**settings), self.github, self.world.clock, self.world.journal)

    def named(self, architecture: str = "amd64") -> NamedRelease:
        return self.releases.named(SCOPE, architecture)


def test_by_default_github_s_newest_is_named_with_the_digest_of_each_architecture() -> None:
    bench = Bench()

    assert bench.named("amd64") == NamedRelease("2.336.0", AMD, by_default=True)
    assert bench.named("arm64") == NamedRelease("2.336.0", ARM, by_default=True)
    assert bench.named("riscv") == NamedRelease("2.336.0", "", by_default=True)


def test_github_is_asked_once_an_hour_for_the_whole_fleet() -> None:
    bench = Bench()
    for _ in range(300):
        bench.named()
    bench.world.clock.pause(RENEW_S - 1.0)
    bench.named()
    assert bench.github.asked == [""]

    bench.github.releases[""] = RunnerRelease("2.337.0", {"amd64": OWN})
    bench.world.clock.pause(2.0)

    assert bench.named() == NamedRelease("2.337.0", OWN, by_default=True)
    assert bench.github.asked == ["", ""]


@pytest.mark.parametrize("failure", [Unanswered("github:get release", "cut off"), ServiceFailed("github:get release", "403")])
def test_where_github_does_not_tell_its_last_word_counts_and_it_is_asked_again_soon(failure: Exception) -> None:
    bench = Bench()
    bench.named()
    bench.world.clock.pause(RENEW_S)
    bench.github.fails = failure

    assert bench.named().sha256 == AMD
    assert bench.named().sha256 == AMD
    assert len(bench.github.asked) == 2
    bench.world.clock.pause(AGAIN_S)
    bench.named()
    assert len(bench.github.asked) == 3


@pytest.mark.parametrize("chosen", ["", "2.330.0"])
def test_without_any_word_of_github_nothing_is_made_up(chosen: str) -> None:
    bench = Bench(runner_version=chosen)
    bench.github.fails = Unanswered("github:get release", "cut off")

    assert bench.named() == NamedRelease(chosen)


def test_a_version_that_the_operator_chose_is_no_default_and_its_digest_is_asked_for() -> None:
    bench = Bench(runner_version="2.330.0")

    assert bench.named() == NamedRelease("2.330.0", OWN)
    assert bench.github.asked == ["2.330.0"]


def test_a_version_that_github_does_not_have_is_named_without_a_digest() -> None:
    assert Bench(runner_version="2.999.0").named() == NamedRelease("2.999.0")


def test_who_names_version_and_digest_has_github_asked_only_for_the_other_architecture() -> None:
    bench = Bench(runner_version="2.330.0", runner_sha256=Digests(amd64=AMD))

    assert bench.named("amd64") == NamedRelease("2.330.0", AMD)
    assert bench.github.asked == []
    assert bench.named("arm64") == NamedRelease("2.330.0", "")
    assert bench.github.asked == ["2.330.0"]


def test_while_one_asks_the_others_go_by_the_last_word() -> None:
    bench = Bench()
    bench.named()
    bench.world.clock.pause(RENEW_S)
    asking, go_on = threading.Event(), threading.Event()
    answer = bench.github.release

    def slow(scope: Scope, version: str) -> RunnerRelease | None:
        asking.set()
        go_on.wait(60)
        return answer(scope, version)

    bench.github.release = slow  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(bench.named)
        assert asking.wait(60)
        assert threads.submit(bench.named).result(60).sha256 == AMD
        go_on.set()
        assert first.result(60).sha256 == AMD


def test_every_configuration_names_version_and_digest() -> None:
    world = World()
    world.told(an_event())

    config = read_config(world.configurations.values[world.sessions[-1].instance_id])

    told = world.github.releases[""]
    assert (config.runner_version, config.runner_sha256) == (told.version, told.digests["amd64"])
    assert config.runner_by_default


def test_github_s_own_answer_is_read_for_each_architecture() -> None:
    archive = standin.archive("2.997.0")
    github = StandInGitHub(archive=archive).start()
    try:
        app = app_of(github)
        for version in ("", "2.997.0"):
            assert app.release(SCOPE, version) == RunnerRelease("2.997.0", {"amd64": archive.sha256})
        assert app.release(SCOPE, "2.998.0") is None
    finally:
        github.stop()


@pytest.mark.parametrize("answer", [{}, [], {"tag_name": "v1.2.3"}, {"tag_name": "v1.2.3", "assets": [{}]}])
def test_an_answer_of_another_shape_is_a_failed_call(answer: object) -> None:
    with ScriptedGitHub({"/releases/latest": (200, answer)}) as github, pytest.raises(ServiceFailed, match="Unreadable"):
        github.app().release(SCOPE, "")


def test_github_is_asked_with_the_token_of_an_installation() -> None:
    with ScriptedGitHub({"/releases/latest": (404, {"message": "Not Found"})}) as github:
        assert github.app().release(SCOPE, "") is None

    asked = next(asked for asked in github.asked if asked.path.endswith("/repos/actions/runner/releases/latest"))
    assert asked.headers["Authorization"] == "Bearer t"
