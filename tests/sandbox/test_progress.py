"""How a run goes on: matrices that another job decides, fail-fast, max-parallel, and failures that stop nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.dispatched import Dispatched

DECIDED = """
jobs:
  plan:
    runs-on: x
    outputs: {m: "${{ steps.s.outputs.m }}"}
    steps: [{id: s, run: echo}]
  build:
    needs: plan
    runs-on: "size-${{ matrix.size }}"
    strategy: {matrix: @}
    steps: [{run: echo}]
  after: {needs: build, runs-on: x, steps: [{run: echo}]}
"""
WHOLE, AXIS = '"${{ fromJSON(needs.plan.outputs.m) }}"', '{size: "${{ fromJSON(needs.plan.outputs.m) }}"}'


def matrix_of_four(text: str) -> str:
    return "jobs:\n  a:\n    runs-on: x\n    strategy:\n      matrix: {n: [1, 2, 3, 4]}\n" + text + "    steps: [{run: echo}]\n"


# A matrix that another job decides


@pytest.mark.parametrize(
    ("matrix", "output", "combinations"),
    [
        (WHOLE, {"size": [1, 2]}, [{"size": 1}, {"size": 2}]),
        (WHOLE, {"include": [{"size": 3}]}, [{"size": 3}]),
        (AXIS, [5, 6], [{"size": 5}, {"size": 6}]),
        ('{size: [1], include: "${{ fromJSON(needs.plan.outputs.m) }}"}', [{"size": 9}], [{"size": 1}, {"size": 9}]),
        ('{size: [1, 2], exclude: "${{ fromJSON(needs.plan.outputs.m) }}"}', [{"size": 1}], [{"size": 2}]),
        ('{size: [1, "${{ needs.plan.outputs.m }}"]}', 2, [{"size": 1}, {"size": "2"}]),
    ],
    ids=["whole", "whole with include", "axis", "include", "exclude", "value"],
)
def test_a_matrix_by_another_jobs_output_is_taken_apart_when_that_job_is_over(
    matrix: str, output: Any, combinations: list[dict[str, Any]], tmp_path: Path
) -> None:
    up = Dispatched(tmp_path, DECIDED.replace("@", matrix))
    assert up.named("pending") == ["build", "after"]

    up.end("plan", m=json.dumps(output))

    made = [job for job in up.run.jobs if job.plan.key == "build"]
    assert [(job.status, job.plan.matrix) for job in made] == [("queued", one) for one in combinations]
    assert [job.labels for job in made] == [(f"size-{one['size']}",) for one in combinations]


def test_the_jobs_of_such_a_matrix_are_named_and_counted_and_all_of_them_are_waited_for(tmp_path: Path) -> None:
    up = Dispatched(tmp_path, DECIDED.replace("@", AXIS))

    up.end("plan", m="[1, 2]")
    up.end("build (1)")

    assert up.contexts("build (2)")["strategy"] == {"fail-fast": True, "job-index": 1, "job-total": 2, "max-parallel": 2}
    assert up.named("pending") == ["after"]
    up.end("build (2)")
    assert up.named("queued") == ["after"]


@pytest.mark.parametrize(
    ("matrix", "output", "told"),
    [
        (WHOLE, "{", "fromJSON() expected JSON, found '{'"), (WHOLE, "[1]", "expected a mapping for the matrix, found `Array`"),
        (AXIS, "[]", "a matrix makes 1 to 256 jobs, this one 0"), (AXIS, "3", "expected a list for `size`"),
    ],
)  # fmt: skip
def test_an_output_that_makes_no_matrix_fails_the_job_with_the_reason(
    matrix: str, output: str, told: str, tmp_path: Path
) -> None:
    up = Dispatched(tmp_path, DECIDED.replace("@", matrix))

    up.end("plan", m=output)

    assert up.ends() == {"plan": "success", "build": "failure", "after": "skipped"}
    assert told in up.job("build").reason


def test_a_matrix_whose_job_is_skipped_stays_one_job(tmp_path: Path) -> None:
    up = Dispatched(tmp_path, DECIDED.replace("@", WHOLE))

    up.end("plan", conclusion="failure")

    assert up.ends() == {"plan": "failure", "build": "skipped", "after": "skipped"}


def test_a_matrix_by_variables_is_known_at_once(tmp_path: Path) -> None:
    text = 'jobs:\n  a: {runs-on: x, strategy: {matrix: {n: "${{ fromJSON(vars.SIZES) }}"}}, steps: [{run: echo}]}\n'

    assert Dispatched(tmp_path, text, SIZES="[1, 2]").named("queued") == ["a (1)", "a (2)"]


# Names and labels that are known when the job is due


def test_a_name_may_tell_the_place_in_the_matrix(tmp_path: Path) -> None:
    text = matrix_of_four("      max-parallel: 3\n").replace(
        "runs-on", "name: '${{ strategy.job-index }} of ${{ strategy.max-parallel }}'\n    runs-on"
    )

    assert Dispatched(tmp_path, text).named("queued") == ["0 of 3", "1 of 3", "2 of 3"]


def test_labels_may_be_written_out_beside_those_that_another_job_decides(tmp_path: Path) -> None:
    text = """
jobs:
  plan: {runs-on: x, outputs: {size: "${{ steps.s.outputs.size }}"}, steps: [{id: s, run: echo}]}
  use:
    name: for ${{ needs.plan.outputs.size }}
    needs: plan
    runs-on: [a, "runs-fleet/cpu=${{ needs.plan.outputs.size }}"]
    steps: []
"""
    up = Dispatched(tmp_path, text)

    up.end("plan", size="4")

    assert up.job("for 4").labels == ("a", "runs-fleet/cpu=4")


@pytest.mark.parametrize(
    ("output", "told"),
    [("[]", "its expression gives none"), ('["self-hosted", "Windows"]', "the label `Windows` asks for another")],
)
def test_labels_that_no_machine_here_could_serve_fail_the_job_with_the_reason(output: str, told: str, tmp_path: Path) -> None:
    text = """
jobs:
  plan: {runs-on: x, outputs: {on: "${{ steps.s.outputs.on }}"}, steps: [{id: s, run: echo}]}
  use: {needs: plan, runs-on: "${{ fromJSON(needs.plan.outputs.on) }}", steps: []}
"""
    up = Dispatched(tmp_path, text)

    up.end("plan", on=output)

    assert (up.ends()["use"], told in up.job("use").reason) == ("failure", True)


# fail-fast and max-parallel


def test_a_failure_cancels_the_rest_of_its_matrix(tmp_path: Path) -> None:
    up = Dispatched(tmp_path, matrix_of_four("") + "  other: {runs-on: x, steps: [{run: echo}]}\n")
    up.end("a (1)")
    up.take("a (2)")

    up.end("a (3)", conclusion="failure")

    assert up.ends() == {"a (1)": "success", "a (2)": None, "a (3)": "failure", "a (4)": "cancelled", "other": None}
    assert up.state.renew(up.job("a (2)").id) is True
    assert [up.job(f"a ({n})").reason for n in (1, 4)] == ["", "`a (3)` of the same matrix failed, and fail-fast is on"]


@pytest.mark.parametrize(
    "line", ["      fail-fast: false\n", "      fail-fast: ${{ vars.HASTY == 'yes' }}\n", "    continue-on-error: true\n"]
)
def test_without_fail_fast_the_others_go_on_after_a_failure(line: str, tmp_path: Path) -> None:
    up = Dispatched(tmp_path, matrix_of_four(line), HASTY="no")

    up.end("a (1)", conclusion="failure")

    assert up.named("queued") == ["a (2)", "a (3)", "a (4)"]


@pytest.mark.parametrize("most", ["2", "${{ fromJSON(vars.MOST) }}"])
def test_no_more_jobs_of_a_matrix_run_at_once_than_max_parallel_says(most: str, tmp_path: Path) -> None:
    up = Dispatched(tmp_path, matrix_of_four(f"      max-parallel: {most}\n"), MOST="2")
    assert (up.named("queued"), up.contexts("a (1)")["strategy"]["max-parallel"]) == (["a (1)", "a (2)"], 2)

    up.take("a (1)", "a (2)")
    up.end("a (2)")

    assert (up.named("in_progress"), up.named("queued"), up.named("pending")) == (["a (1)"], ["a (3)"], ["a (4)"])


@pytest.mark.parametrize(("given", "minutes"), [("7", 7.0), ("0.5", 0.5)])
def test_a_time_limit_may_be_an_expression(given: str, minutes: float, tmp_path: Path) -> None:
    text = "jobs:\n  a: {runs-on: x, timeout-minutes: '${{ fromJSON(vars.LIMIT) }}', steps: [{run: echo}]}\n"

    assert Dispatched(tmp_path, text, LIMIT=given).job("a").plan.timeout_minutes == minutes


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("timeout-minutes: '${{ vars.X }}'", "expected a number above 0 in `timeout-minutes:`, and `${{ vars.X }}` gives `soon`"),
        ("strategy: {max-parallel: '${{ vars.X }}'}", "expected a number above 0 in `max-parallel:`"),
        ("concurrency: '${{ fromJSON(vars.X) }}'", "fromJSON() expected JSON, found 'soon'"),
        ("concurrency: {group: g, cancel-in-progress: '${{ fromJSON(vars.X) }}'}", "fromJSON() expected JSON, found 'soon'"),
        ("continue-on-error: '${{ fromJSON(vars.X) }}'", "fromJSON() expected JSON, found 'soon'"),
        ("env: {A: '${{ fromJSON(vars.X) }}'}", "fromJSON() expected JSON, found 'soon'"),
        ("if: fromJSON(vars.X)", "fromJSON() expected JSON, found 'soon'"),
    ],
)
def test_an_expression_without_the_value_it_should_have_fails_the_job_with_the_reason(
    line: str, told: str, tmp_path: Path
) -> None:
    up = Dispatched(tmp_path, f"jobs:\n  a:\n    runs-on: x\n    {line}\n    steps: [{{run: echo}}]\n", X="soon")

    assert (up.ends(), up.run.conclusion) == ({"a": "failure"}, "failure")
    assert up.job("a").reason.startswith(told)


def test_a_group_of_the_run_without_a_value_fails_its_jobs_with_the_reason(tmp_path: Path) -> None:
    text = "concurrency: '${{ fromJSON(vars.X) }}'\njobs:\n  a: {runs-on: x, steps: [{run: echo}]}\n"
    up = Dispatched(tmp_path, text, X="soon")

    assert (up.ends(), up.run.status, up.job("a").reason) == (
        {"a": "failure"}, "completed", "fromJSON() expected JSON, found 'soon'",
    )  # fmt: skip


# Failures that stop nothing


def test_a_failure_counts_for_all_that_need_the_job_also_by_others(tmp_path: Path) -> None:
    """Source: "Expressions", GitHub Actions docs: `failure()` is true if any ancestor fails."""
    text = """
jobs:
  a: {runs-on: x, steps: [{run: echo}]}
  b: {needs: a, runs-on: x, steps: [{run: echo}]}
  c: {needs: b, if: failure(), runs-on: x, steps: [{run: echo}]}
  d: {needs: b, runs-on: x, steps: [{run: echo}]}
"""
    up = Dispatched(tmp_path, text)

    up.end("a", conclusion="failure")

    assert (up.named("queued"), up.ends()["b"], up.ends()["d"]) == (["c"], "skipped", "skipped")


TOLERANT = """
jobs:
  shaky:
    runs-on: x
    continue-on-error: @
    steps: [{run: echo}]
  after: {needs: shaky, runs-on: x, env: {HOW: "${{ needs.shaky.result }}"}, steps: [{run: echo}]}
"""


@pytest.mark.parametrize("written", ["true", "${{ vars.SHAKY == 'yes' }}"])
def test_a_failure_that_is_tolerated_fails_neither_the_run_nor_what_needs_the_job(written: str, tmp_path: Path) -> None:
    up = Dispatched(tmp_path, TOLERANT.replace("@", written), SHAKY="yes")

    up.end("shaky", conclusion="failure")

    assert (up.named("queued"), up.contexts("after")["env"]) == (["after"], {"HOW": "success"})
    up.end("after")
    assert (up.ends(), up.run.conclusion) == ({"shaky": "failure", "after": "success"}, "success")


@pytest.mark.parametrize("written", ["false", "${{ vars.SHAKY == 'yes' }}"])
def test_a_failure_that_is_not_tolerated_fails_both(written: str, tmp_path: Path) -> None:
    up = Dispatched(tmp_path, TOLERANT.replace("@", written), SHAKY="no")

    up.end("shaky", conclusion="failure")

    assert (up.ends(), up.run.conclusion) == ({"shaky": "failure", "after": "skipped"}, "failure")


def test_a_value_of_the_matrix_may_decide_which_failure_is_tolerated(tmp_path: Path) -> None:
    text = matrix_of_four("      fail-fast: false\n    continue-on-error: ${{ matrix.n == 2 }}\n")
    tolerated, fatal = Dispatched(tmp_path, text), Dispatched(tmp_path, text)

    for up, broken in ((tolerated, "a (2)"), (fatal, "a (3)")):
        up.end(broken, conclusion="failure")
        up.end(*up.named("queued"))

    assert (tolerated.run.conclusion, fatal.run.conclusion) == ("success", "failure")


# Contexts


def test_the_variables_and_the_inputs_defaults_are_there(tmp_path: Path) -> None:
    text = """
on:
  workflow_dispatch:
    inputs: {level: {type: choice, default: low}, count: {type: number}, dry: {type: boolean, default: true}}
jobs:
  a: {runs-on: x, env: {V: "${{ vars.COLOUR }}-${{ inputs.level }}-${{ inputs.count }}-${{ inputs.dry }}"}, steps: [{run: echo}]}
"""
    up = Dispatched(tmp_path, text, COLOUR="red")

    assert up.contexts("a")["env"] == {"V": "red-low-0-true"}
    assert up.contexts("a")["github"]["event_name"] == "workflow_dispatch"


def test_a_push_has_no_inputs(tmp_path: Path) -> None:
    text = (
        "on: {push: {}, workflow_dispatch: {inputs: {level: {default: low}}}}\njobs:\n  a: {runs-on: x, steps: [{run: echo}]}\n"
    )

    contexts = Dispatched(tmp_path, text).contexts("a")

    assert (contexts["inputs"], contexts["github"]["event_name"]) == ({}, "push")
