"""Concurrency groups: one member runs, one waits, a new one takes its place. Source: "Concurrency", GitHub Actions docs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sandbox.dispatched import Dispatched


def jobs_of_one_group(*groups: str) -> str:
    return "jobs:\n" + "".join(
        f"  {key}: {{runs-on: x, concurrency: {group}, steps: [{{run: echo}}]}}\n"
        for key, group in zip("abcd", groups, strict=False)
    )


IN_A_GROUP = "concurrency: @\njobs:\n  a: {runs-on: x, steps: [{run: echo}]}\n  b: {needs: a, runs-on: x, steps: [{run: echo}]}\n"


def test_jobs_of_one_group_run_one_after_another_whatever_the_case_of_its_name(tmp_path: Path) -> None:
    up = Dispatched(tmp_path, jobs_of_one_group("deploy", "{group: Deploy}"))
    assert (up.named("queued"), up.named("pending")) == (["a"], ["b"])

    up.end("a", conclusion="failure")

    assert up.named("queued") == ["b"]


def test_a_new_member_takes_the_place_of_the_one_that_waits(tmp_path: Path) -> None:
    up = Dispatched(tmp_path, jobs_of_one_group("deploy", "deploy", "deploy"))

    assert up.ends() == {"a": None, "b": "cancelled", "c": None}
    assert up.job("b").reason == "a newer one took its place in the concurrency group deploy"
    up.end("a")
    assert up.named("queued") == ["c"]


def test_members_that_wait_in_line_take_their_turns_in_order(tmp_path: Path) -> None:
    up = Dispatched(tmp_path, jobs_of_one_group(*["{group: deploy, queue: max}"] * 3))

    order = [up.named("queued")]
    for name in "ab":
        up.end(name)
        order.append(up.named("queued"))

    assert order == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize("cancels", ["true", "\"${{ github.ref == 'refs/heads/main' }}\""])
def test_a_member_that_cancels_ends_the_one_that_runs_and_goes_on_when_it_is_over(cancels: str, tmp_path: Path) -> None:
    group = f"{{group: deploy, cancel-in-progress: {cancels}}}"
    text = (
        jobs_of_one_group("deploy", group).replace("b: {", "b: {needs: first, ") + "  first: {runs-on: x, steps: [{run: echo}]}\n"
    )
    up = Dispatched(tmp_path, text)
    up.take("a")

    up.end("first")

    assert (up.state.renew(up.job("a").id), up.named("pending")) == (True, ["b"])
    up.end("a", conclusion="cancelled")
    assert up.named("queued") == ["b"]


def test_groups_of_different_names_do_not_wait_for_each_other(tmp_path: Path) -> None:
    text = """
jobs:
  a: {runs-on: x, concurrency: "to-${{ matrix.n }}", strategy: {matrix: {n: [1, 2]}}, steps: [{run: echo}]}
"""
    assert Dispatched(tmp_path, text).named("queued") == ["a (1)", "a (2)"]


@pytest.mark.parametrize("group", ["ci", "ci-${{ github.ref }}", "{group: ci, cancel-in-progress: false}"])
def test_runs_of_one_group_run_one_after_another(group: str, tmp_path: Path) -> None:
    text = IN_A_GROUP.replace("@", group)
    up = Dispatched(tmp_path, text)
    second = up.begin(text.replace("ci", "CI"))
    up.end("a")
    assert (up.named("queued"), up.named("queued", second), second.status) == (["b"], [], "queued")

    up.end("b")

    assert up.named("queued", second) == ["a"]


def test_a_run_that_cancels_ends_the_run_before_it(tmp_path: Path) -> None:
    text = IN_A_GROUP.replace("@", "{group: ci, cancel-in-progress: true}")
    up = Dispatched(tmp_path, text)

    second = up.begin(text)

    assert up.ends() == {"a": "cancelled", "b": "cancelled"}
    assert up.named("queued", second) == ["a"]


def test_a_run_that_waits_goes_on_when_the_one_before_it_is_cancelled(tmp_path: Path) -> None:
    text = IN_A_GROUP.replace("@", "ci")
    up = Dispatched(tmp_path, text)
    second = up.begin(text)

    up.state.cancel(up.run.id)

    assert up.named("queued", second) == ["a"]


def test_a_run_that_was_cancelled_while_it_waited_is_in_nobodys_way(tmp_path: Path) -> None:
    text = IN_A_GROUP.replace("@", "ci")
    up = Dispatched(tmp_path, text)
    second = up.begin(text)

    up.state.cancel(second.id)
    up.end("a", "b")

    assert (up.run.status, second.conclusion) == ("completed", "cancelled")
    assert up.named("queued", up.begin(text)) == ["a"]


def test_a_job_in_the_group_of_its_own_run_is_cancelled_for_neither_could_end(tmp_path: Path) -> None:
    up = Dispatched(tmp_path, "concurrency: one\n" + jobs_of_one_group("ONE"))

    assert up.ends() == {"a": "cancelled"}
    assert "held by the run that it belongs to" in up.job("a").reason
