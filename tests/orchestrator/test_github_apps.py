"""Several Apps as one, against a GitHub that counts what each of them asks."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

import pytest

from agent.contract.secret import Secret
from orchestrator.adapters.github import GitHubApp
from orchestrator.adapters.github_apps import MORE_S, GitHubApps
from orchestrator.adapters.github_wire import SHUT_OUT_S
from orchestrator.errors import ServiceFailed, Throttled
from orchestrator.store.naming import Scope, place_of
from sandbox.github.limits import CORE, REGISTRATIONS
from sandbox.github.server import StandInGitHub
from sandbox.local import EXAMPLE
from sandbox.workflow import read_workflow
from simulation.clock import VirtualTime
from tests.orchestrator.githubs import LABELS, SCOPE, as_on_its_first_day


@pytest.fixture(scope="module")
def standing() -> Iterator[StandInGitHub]:
    """One for all tests here: its keys take a while."""
    github = StandInGitHub(apps=3).start()
    yield github
    github.stop()


@pytest.fixture
def github(standing: StandInGitHub) -> StandInGitHub:
    """As on its first day."""
    return as_on_its_first_day(standing)


def apps_of(github: StandInGitHub, number: int = 3) -> GitHubApps:
    return GitHubApps([GitHubApp(github.url, str(n + 1), Secret(github.private_key(str(n + 1)))) for n in range(number)])


def minted(apps: GitHubApps, number: int) -> int:
    """How many of so many were registered."""
    done = 0
    for at in range(number):
        try:
            done += apps.mint(SCOPE, f"tests-s-{at}", LABELS) is not None
        except Throttled:
            return done
    return done


def test_the_work_is_spread_over_all_of_them(github: StandInGitHub) -> None:
    github.limits.mints_a_minute = 4

    assert minted(apps_of(github), 20) == 12
    assert len(github.state.runners) == 12


def test_one_whose_hour_is_spent_is_followed_by_the_next(github: StandInGitHub) -> None:
    github.limits.hourly[REGISTRATIONS] = 5

    assert minted(apps_of(github), 20) == 15
    assert len(github.state.runners) == 15


def test_what_is_left_is_the_sum_of_what_each_tells(github: StandInGitHub) -> None:
    github.limits.hourly[REGISTRATIONS] = 10
    apps = apps_of(github)
    before = apps.registrations(SCOPE).left

    assert minted(apps, 6) == 6
    assert (before, apps.registrations(SCOPE).left) == (30, 24)


def test_one_repository_gets_no_more_than_github_allows_it_by_whichever_app(github: StandInGitHub) -> None:
    github.limits.hourly[REGISTRATIONS], github.limits.mints_a_minute = 1_000_000, 1_000_000
    apps = apps_of(github)

    before = apps.registrations(SCOPE)
    minted(apps, 6)

    assert (before.left, apps.registrations(SCOPE).left) == (1500, 1494)
    assert "one repository" in before.why


def test_all_repositories_of_an_installation_have_one_token_and_one_budget(github: StandInGitHub) -> None:
    github.limits.hourly[REGISTRATIONS] = 2
    apps = apps_of(github)
    minted(apps, 7)

    assert apps.registrations(Scope("3", "Octo", "SANDBOX")).left == 0
    assert sum(path.endswith("/access_tokens") for _, path in github.calls) == 3


def test_after_the_last_nobody_asks_any_more(github: StandInGitHub) -> None:
    github.limits.hourly[REGISTRATIONS] = 2
    apps = apps_of(github)
    assert minted(apps, 7) == 6
    asked = len(github.calls)

    with pytest.raises(Throttled, match="kept until"):
        apps.mint(SCOPE, "tests-s-99", LABELS)
    assert (len(github.calls), apps.registrations(SCOPE).left) == (asked, 0)


def test_one_that_is_not_installed_is_done_without_and_not_asked_again_for_a_while(github: StandInGitHub) -> None:
    github.uninstalled |= {"2", "3"}
    apps = apps_of(github)

    assert minted(apps, 6) == 6
    assert github.calls.count(("GET", "/repos/octo/sandbox/installation")) == 2


def test_the_first_is_told_apart_from_one_that_is_nowhere_installed(github: StandInGitHub) -> None:
    github.uninstalled.add("1")

    with pytest.raises(ServiceFailed, match="installation lookup answered 404"):
        apps_of(github, 1).mint(Scope("", "octo", "sandbox"), "tests-s-1", LABELS)


def test_what_one_registered_any_other_finds_and_removes(github: StandInGitHub) -> None:
    first, second = apps_of(github, 1), apps_of(github)
    made = first.mint(SCOPE, "tests-s-1", LABELS)
    assert made is not None

    assert {second.find(SCOPE, "tests-s-1") for _ in range(3)} == {made.runner_id}
    assert [runner.name for runner in second.registered(SCOPE)] == ["tests-s-1"]
    assert second.mint(SCOPE, "tests-s-1", LABELS) is None
    assert second.remove(SCOPE, made.runner_id) and second.find(SCOPE, "tests-s-1") is None


def test_jobs_are_told_with_the_first_ones_installation_whoever_asked(github: StandInGitHub) -> None:
    run = github.state.dispatch(read_workflow(EXAMPLE))
    apps = apps_of(github)

    told = [job.installation_id for _ in range(3) for job in apps.waiting_jobs(SCOPE)]
    assert told and set(told) == {"3"}
    assert {getattr(apps.job(SCOPE, str(run.jobs[0].id)), "installation_id", "") for _ in range(3)} == {"3"}
    assert apps.run(SCOPE, str(run.id)) is not None and apps.ended_badly(SCOPE, str(run.id)) == []


def test_p_what_can_wait_goes_at_an_even_pace_leaves_a_quarter_and_registrations_take_it(github: StandInGitHub) -> None:
    github.limits.hourly[CORE] = 20
    clock = VirtualTime(time.time())
    apps, looked = paced(github, clock, 100), []

    for passed_s in (0.0, 1500.0, 1500.0):
        clock.pause(passed_s)
        with pytest.raises(Throttled, match="BudgetSpent"):
            for at in range(30):
                list(apps.registered(SCOPE))
                looked.append(at)

    assert len(looked) == 15
    assert sum(at == 0 for at in looked) == 3, "some at the beginning, some later"
    assert looked.index(0, 1) <= 3
    assert apps.find(SCOPE, "nobody") is None, "which somebody's job waits for"
    assert minted(apps, 3) == 3


def test_a_limit_is_no_missing_permission(github: StandInGitHub) -> None:
    """403 means both: a notice that is not written for want of permission is no failure, one beyond the limit is."""
    github.limits.hourly[CORE] = 0

    with pytest.raises(Throttled):
        apps_of(github, 1).rerun(SCOPE, "1")


def test_an_app_that_was_taken_away_is_followed_by_the_next_and_found_again_when_it_is_back(github: StandInGitHub) -> None:
    apps = apps_of(github, 2)
    minted(apps, 4)
    github.uninstalled.add("2")
    github.state.tokens.clear()

    during = []
    for number in range(6):
        with contextlib.suppress(ServiceFailed):  # the first to hear that its token is not good any more
            during.append(apps.mint(SCOPE, f"during-s-{number}", LABELS))

    assert len(during) >= 4


@pytest.fixture
def clock() -> VirtualTime:
    """Nobody waits for GitHub's times."""
    return VirtualTime(time.time())


def singles(github: StandInGitHub, clock: VirtualTime, number: int) -> list[GitHubApp]:
    """So many Apps, each by itself."""
    keys = {str(n + 1): Secret(github.private_key(str(n + 1))) for n in range(number)}
    return [GitHubApp(github.url, app, key, clock=clock) for app, key in keys.items()]


def paced(github: StandInGitHub, clock: VirtualTime, each_minute: float, number: int = 1) -> GitHubApps:
    return GitHubApps(singles(github, clock, number), each_minute, clock=clock)


def are_refused(github: StandInGitHub, clock: VirtualTime, apps: GitHubApps, names: Sequence[str]) -> None:
    """All of these, while GitHub is shut; it is open again after that."""
    github.limits.refused = 1.0
    for name in names:
        with pytest.raises(Throttled):
            apps.mint(SCOPE, name, LABELS)
    github.limits.refused = 0.0
    clock.pause(1.1)  # GitHub says `retry-after: 1`


def test_registrations_that_come_together_are_no_more_than_github_takes_in_a_minute(
    github: StandInGitHub, clock: VirtualTime
) -> None:
    github.limits.mints_a_minute = 3
    apps = paced(github, clock, 3)

    assert minted(apps, 20) == 3
    with pytest.raises(Throttled, match="its turn is in") as told:
        apps.mint(SCOPE, "tests-s-99", LABELS)

    assert told.value.until is not None and time.time() < told.value.until <= time.time() + 60.0
    assert sum(path.endswith("/generate-jitconfig") for _, path in github.calls) == 3, "GitHub had nothing to refuse"


def test_every_app_has_a_pace_of_its_own_and_whoever_can_soonest_registers(github: StandInGitHub, clock: VirtualTime) -> None:
    github.limits.mints_a_minute = 2

    assert minted(paced(github, clock, 6, number=3), 20) == 6
    assert len(github.state.runners) == 6


@pytest.mark.parametrize("shut", [1, 2])
def test_apps_that_were_shut_out_are_on_trial_only_where_no_other_may(
    github: StandInGitHub, clock: VirtualTime, shut: int
) -> None:
    each = singles(github, clock, 2)
    apps = GitHubApps(each, 100, clock=clock)
    for app in each[:shut]:
        app.shut(place_of(SCOPE))
    clock.pause(SHUT_OUT_S + 1.0)

    told = apps.registrations(SCOPE)

    assert (told.on_trial, told.left == 1) == ((True, True) if shut == 2 else (False, False))


def test_who_waits_for_a_registration_is_before_new_machines_until_it_has_it(github: StandInGitHub, clock: VirtualTime) -> None:
    apps = paced(github, clock, 10)
    assert minted(apps, 2) == 2
    are_refused(github, clock, apps, ["tests-s-8", "tests-s-8"])

    waiting = apps.registrations(SCOPE)
    assert (waiting.left, "wait for already" in waiting.why) == (9, True)
    assert apps.mint(SCOPE, "tests-s-8", LABELS) is not None
    assert (apps.registrations(SCOPE).left or 0) > 10


def test_who_got_its_registration_from_another_process_is_waited_for_no_longer_than_a_lease(
    github: StandInGitHub, clock: VirtualTime
) -> None:
    apps = paced(github, clock, 5)
    assert minted(apps, 20) == 5
    with pytest.raises(Throttled):
        apps.mint(SCOPE, "tests-s-8", LABELS)

    assert apps.registrations(SCOPE).left == 3, "this one, and the first that was refused"
    clock.pause(60.0 + MORE_S)
    assert (apps.registrations(SCOPE).left or 0) > 5


def test_what_github_is_not_even_asked_for_uses_up_no_turn(github: StandInGitHub, clock: VirtualTime) -> None:
    """A minute's turns, all refused here while GitHub is shut for a second: when it opens they are still to be had."""
    apps = paced(github, clock, 40)
    assert minted(apps, 1) == 1
    are_refused(github, clock, apps, [f"tests-s-{at + 5}" for at in range(50)])
    asked = len(github.calls)

    assert asked < 20, "the others were refused here"
    assert minted(apps, 60) >= 40 - asked


def test_where_only_one_app_is_installed_it_may_what_an_app_may(github: StandInGitHub, clock: VirtualTime) -> None:
    apps = paced(github, clock, 9, number=3)
    for app in ("2", "3"):
        github.uninstalled.add(app)

    assert minted(apps, 20) == 9


def test_of_apps_that_may_not_now_the_soonest_says_when(github: StandInGitHub, clock: VirtualTime) -> None:
    """The first one's hour is spent, the second one's turn comes within a minute."""
    github.limits.hourly[REGISTRATIONS] = 3
    first, second = singles(github, clock, 2)
    assert [first.mint(SCOPE, f"alone-s-{at}", LABELS) is not None for at in range(2)] == [True, True]
    apps = GitHubApps([first, second], 2, clock=clock)
    assert minted(apps, 20) == 3

    with pytest.raises(Throttled) as told:
        apps.mint(SCOPE, "tests-s-99", LABELS)

    assert told.value.until is not None and clock.now() < told.value.until <= clock.now() + 60.0
