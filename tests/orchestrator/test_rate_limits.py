"""What GitHub says of its limits is believed, and what is left is kept for registrations."""

from __future__ import annotations

import pytest

from orchestrator.jobs.rate_limits import AHEAD, NOTICES_A_MINUTE, Budgets, Need
from orchestrator.retry_policy import PAUSE_S

NOW = 1_000_000.0
ACCOUNT = "3"


def headers(remaining: int, limit: int = 1000, resource: str = "core", reset_in_s: float = 600.0) -> dict[str, str]:
    return {
        "x-ratelimit-limit": str(limit), "x-ratelimit-remaining": str(remaining), "x-ratelimit-reset": str(NOW + reset_in_s),
        "x-ratelimit-resource": resource,
    }  # fmt: skip


@pytest.mark.parametrize("need", Need)
def test_what_github_has_not_told_of_is_not_refused(need: Need) -> None:
    budgets = Budgets()

    assert (budgets.refused(ACCOUNT, need, NOW), budgets.left(ACCOUNT, need, NOW)) == (None, None)


@pytest.mark.parametrize(
    ("remaining", "may"),
    [
        (1000, {*Need}),
        (251, {*Need}),
        (250, {*Need} - {Need.LOOKING, Need.NOTICE}),
        (50, {Need.REGISTRATION}),
        (1, {Need.REGISTRATION}),
        (0, set()),
    ],
)
def test_the_less_is_left_the_more_urgent_a_call_must_be(remaining: int, may: set[Need]) -> None:
    budgets = Budgets()
    for need in Need:
        budgets.told(ACCOUNT, need, 200, headers(remaining), NOW)

    assert {need for need in Need if budgets.refused(ACCOUNT, need, NOW) is None} == may
    assert {need for need in Need if budgets.left(ACCOUNT, need, NOW)} == may


@pytest.mark.parametrize(
    ("used", "passed_s", "may"),
    [(49, 0.0, True), (51, 0.0, False), (290, 900.0, True), (310, 900.0, False), (600, 2000.0, True), (760, 3500.0, False)],
)
def test_what_can_wait_takes_what_an_even_pace_leaves_over(used: int, passed_s: float, may: bool) -> None:
    """Else it would use up in the first half of the hour what registrations need in the second."""
    budgets = Budgets()
    for need in Need:
        budgets.told(ACCOUNT, need, 200, headers(1000 - used, reset_in_s=3600.0 - passed_s), NOW)

    until = budgets.refused(ACCOUNT, Need.LOOKING, NOW)

    assert (until is None, bool(budgets.left(ACCOUNT, Need.LOOKING, NOW))) == (may, may)
    assert until is None or budgets.refused(ACCOUNT, Need.LOOKING, until) is None, "then it may"
    assert budgets.refused(ACCOUNT, Need.REGISTRATION, NOW) is budgets.refused(ACCOUNT, Need.WORK, NOW) is None


@pytest.mark.parametrize(("jobs", "looks"), [(3600, 1400), (3000, 2000)])
def test_registrations_of_a_whole_hour_are_served_however_much_is_to_be_looked_at(jobs: int, looks: int) -> None:
    """An App's 5,000 calls, counted minute by minute, beside a backfill that would take all of them."""
    budgets, left, served, looked = Budgets(), 5000, 0, 0
    for minute in range(60):
        now = NOW + 60.0 * minute

        def called(need: Need, at: float) -> bool:
            nonlocal left
            if budgets.refused(ACCOUNT, need, at) is not None:
                return False
            left -= 1
            told = {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": str(left), "x-ratelimit-reset": str(NOW + 3600.0)}
            budgets.told(ACCOUNT, need, 200, told, at)
            return True

        looked += sum(called(Need.LOOKING, now) for _ in range(400))
        served += sum(called(Need.REGISTRATION, now) for _ in range(jobs // 60))

    assert served == jobs
    assert 0.5 * looks <= looked <= looks


def test_registrations_may_have_a_budget_of_their_own() -> None:
    budgets = Budgets()
    budgets.told(ACCOUNT, Need.LOOKING, 200, headers(0), NOW)
    budgets.told(ACCOUNT, Need.REGISTRATION, 201, headers(70, 10_000, "actions_runner_registration"), NOW)

    assert budgets.left(ACCOUNT, Need.REGISTRATION, NOW) == 70
    assert budgets.refused(ACCOUNT, Need.LOOKING, NOW) == NOW + 600.0


def test_another_installation_has_another_budget() -> None:
    budgets = Budgets()
    budgets.told(ACCOUNT, Need.WORK, 200, headers(0), NOW)

    assert budgets.refused("4", Need.WORK, NOW) is None


def test_a_budget_is_full_again_when_github_said_it_would_be() -> None:
    budgets = Budgets()
    budgets.told(ACCOUNT, Need.WORK, 200, headers(0), NOW)

    assert budgets.refused(ACCOUNT, Need.WORK, NOW + 599.0) == NOW + 600.0
    assert budgets.refused(ACCOUNT, Need.WORK, NOW + 600.0) is None


@pytest.mark.parametrize(
    ("status", "told", "until"),
    [
        (403, {**headers(900), "retry-after": "30"}, NOW + 30.0),
        (429, {"retry-after": "5"}, NOW + 5.0),
        (429, {}, NOW + PAUSE_S),
        (403, headers(0), NOW + 600.0),
        (403, headers(900), None),  # a permission that is missing, not a limit
        (403, {"retry-after": "soon"}, None),
        (200, {**headers(0), "retry-after": "30"}, None),
    ],
)
def test_g3_whether_a_403_is_a_limit_is_told_by_its_headers(status: int, told: dict[str, str], until: float | None) -> None:
    assert Budgets().told(ACCOUNT, Need.WORK, status, told, NOW) == until


def test_a_secondary_limit_that_says_nothing_but_its_name_is_waited_out_longer_each_time() -> None:
    budgets = Budgets()
    waits = [budgets.told(ACCOUNT, Need.WORK, 403, headers(900), NOW, limited=True) for _ in range(6)]

    budgets.told(ACCOUNT, Need.WORK, 200, headers(900), NOW)
    after_a_success = budgets.told(ACCOUNT, Need.WORK, 403, headers(900), NOW + 1000.0, limited=True)

    assert waits == [NOW + s for s in (60.0, 120.0, 240.0, 480.0, 900.0, 900.0)]
    assert after_a_success == NOW + 1060.0


def test_before_any_answer_told_of_registrations_the_scarcest_resource_counts() -> None:
    budgets = Budgets()
    core, own = ({"limit": 5000, "remaining": left, "reset": NOW + 600.0} for left in (3, 9000))

    budgets.read(ACCOUNT, {"core": core, "actions_runner_registration": own, "search": core})
    early = budgets.left(ACCOUNT, Need.REGISTRATION, NOW)
    budgets.told(ACCOUNT, Need.REGISTRATION, 201, headers(8999, 10_000, "actions_runner_registration"), NOW)

    assert (early, budgets.left(ACCOUNT, Need.REGISTRATION, NOW)) == (3, 8999)


def test_g1_nothing_at_all_is_asked_before_the_time_that_github_named() -> None:
    budgets = Budgets()
    budgets.told(ACCOUNT, Need.LOOKING, 403, {**headers(900), "retry-after": "30"}, NOW)
    budgets.told(ACCOUNT, Need.LOOKING, 403, {"retry-after": "1"}, NOW)

    assert {budgets.refused(ACCOUNT, need, NOW + 29.0) for need in Need} == {NOW + 30.0}
    assert budgets.left(ACCOUNT, Need.REGISTRATION, NOW + 29.0) == 0
    assert budgets.refused(ACCOUNT, Need.REGISTRATION, NOW + 30.0) is None


@pytest.mark.parametrize(
    ("remaining", "until_s"),
    [
        (250, 3_600.0),
        (100, 3_600.0),
        (900, 3_600.0 - 3_600.0 * (0.9 + AHEAD) + 1.0),
        (400, 3_600.0 - 3_600.0 * (0.4 + AHEAD) + 1.0),
    ],
)
def test_a_call_that_can_wait_is_told_when_that_much_is_left_over(remaining: int, until_s: float) -> None:
    budgets = Budgets()
    budgets.told(ACCOUNT, Need.LOOKING, 200, headers(remaining, reset_in_s=3_600.0), NOW)

    until = budgets.refused(ACCOUNT, Need.LOOKING, NOW)

    assert (until is None) if until_s < 1.0 else (until is not None and until - NOW == pytest.approx(until_s, abs=0.01))


@pytest.mark.attack
def test_notices_are_posted_more_slowly_than_github_allows_content_to_be_created() -> None:
    budgets, now, posted = Budgets(), NOW, []
    while now < NOW + 3_600.0:
        until = budgets.refused(ACCOUNT, Need.NOTICE, now)
        if until is None:
            budgets.told(ACCOUNT, Need.NOTICE, 201, {}, now)
            posted.append(now)
        now = now + 0.01 if until is None else until

    assert NOTICES_A_MINUTE <= len([at for at in posted if at < NOW + 60.0]) <= 40
    assert 100 <= len(posted) <= 250
    assert budgets.refused(ACCOUNT, Need.LOOKING, NOW) is None and budgets.refused("another", Need.NOTICE, NOW) is None


@pytest.mark.attack
@pytest.mark.parametrize("headers_told", [{"retry-after": "60"}, {}])
def test_a_limit_that_notices_earned_closes_notices_and_nothing_else_and_any_other_closes_all(
    headers_told: dict[str, str],
) -> None:
    budgets = Budgets()
    budgets.told(ACCOUNT, Need.NOTICE, 403, headers_told, NOW, limited=True)
    closed_first = {need for need in Need if budgets.refused(ACCOUNT, need, NOW + 1.0) is not None}
    left = budgets.left(ACCOUNT, Need.REGISTRATION, NOW + 1.0)
    budgets.told(ACCOUNT, Need.WORK, 403, headers_told, NOW + 1.0, limited=True)

    assert closed_first == {Need.NOTICE} and left != 0
    assert {need for need in Need if budgets.refused(ACCOUNT, need, NOW + 2.0) is not None} == {*Need}
    assert budgets.refused(ACCOUNT, Need.NOTICE, NOW + 90.0) is None
