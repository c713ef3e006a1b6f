"""Workflows that call others of their repository: inputs, outputs, levels. Source: "Reuse workflows", GitHub docs."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.workflow import Unsupported, read_workflow
from sandbox.workflow.reader import root_of
from tests.sandbox.dispatched import Dispatched

CALLED = """
on:
  workflow_call:
    inputs: {target: {type: string, required: true}, count: {type: number, default: 3}, dry: {type: boolean}}
    outputs: {made: {value: "${{ jobs.make.outputs.made }}-${{ inputs.target }}"}}
env: {OWN: called}
jobs:
  make:
    runs-on: x
    outputs: {made: "${{ steps.s.outputs.made }}"}
    env: {SEEN: "${{ inputs.target }} ${{ inputs.count }} ${{ inputs.dry }} ${{ vars.V }}"}
    steps: [{id: s, run: echo}]
  check: {needs: make, runs-on: x, steps: [{run: echo}]}
"""
CALLER = """
env: {OURS: caller}
jobs:
  first: {runs-on: x, outputs: {to: "${{ steps.s.outputs.to }}"}, steps: [{id: s, run: echo}]}
  ship:
    needs: first
    uses: ./.github/workflows/called.yml
    with: {target: "${{ needs.first.outputs.to }}"}
    secrets: inherit
  after: {needs: ship, runs-on: x, env: {GOT: "${{ needs.ship.outputs.made }}"}, steps: [{run: echo}]}
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Its folder of workflows, where `called.yml` lies."""
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    (folder / "called.yml").write_text(CALLED, "utf-8")
    return folder


def refusal(path: Path, text: str) -> list[str]:
    path.write_text(text, "utf-8")
    with pytest.raises(Unsupported) as refused:
        read_workflow(path)
    return [line.replace(f"{path.parent}/", "") for line in str(refused.value).splitlines()]


def test_a_called_workflows_jobs_run_in_the_place_of_the_call_with_its_inputs_and_hand_outputs_back(repository: Path) -> None:
    up = Dispatched(repository, CALLER, V="v")
    up.end("first", to="prod")
    assert up.named("queued") == ["ship / make"]
    assert up.contexts("ship / make")["env"] == {"OWN": "called", "SEEN": "prod 3 false v"}

    up.end("ship / make", made="app")
    assert up.named("pending") == ["after"]
    up.end("ship / check")

    assert up.contexts("after")["env"] == {"OURS": "caller", "GOT": "app-prod"}
    up.end("after")
    assert (up.run.status, up.run.conclusion) == ("completed", "success")


def test_a_failure_in_the_called_workflow_fails_the_call(repository: Path) -> None:
    up = Dispatched(repository, CALLER)
    up.end("first", to="prod")

    up.end("ship / make", conclusion="failure")

    assert up.ends() == {"first": "success", "ship / make": "failure", "ship / check": "skipped", "after": "skipped"}
    assert up.run.conclusion == "failure"


def test_a_call_whose_condition_does_not_hold_has_no_jobs(repository: Path) -> None:
    up = Dispatched(repository, CALLER.replace("needs: first\n", "needs: first\n    if: false\n"))

    up.end("first")

    assert up.ends() == {"first": "success", "after": "skipped"}


def test_the_calls_of_a_matrix_each_have_jobs_of_their_own(repository: Path) -> None:
    text = """
jobs:
  ship:
    strategy: {matrix: {to: [a, b]}, max-parallel: 1}
    uses: ./.github/workflows/called.yml
    with: {target: "${{ matrix.to }}", count: 1, dry: true}
"""
    up = Dispatched(repository, text, V="v")
    assert up.contexts("ship (a) / make")["env"]["SEEN"] == "a 1 true v"
    assert up.named("queued") == ["ship (a) / make"]

    up.end("ship (a) / make", "ship (a) / check")

    assert up.named("queued") == ["ship (b) / make"]


def test_a_failed_call_cancels_the_jobs_of_the_other_calls_of_its_matrix(repository: Path) -> None:
    text = "jobs:\n  ship: {strategy: {matrix: {to: [a, b]}}, uses: ./.github/workflows/called.yml, with: {target: x}}\n"
    up = Dispatched(repository, text)

    up.end("ship (a) / make", conclusion="failure")

    assert up.ends() == {
        "ship (a) / make": "failure", "ship (a) / check": "skipped",
        "ship (b) / make": "cancelled", "ship (b) / check": "cancelled",
    }  # fmt: skip


def test_a_value_of_another_type_than_its_input_fails_the_call_with_the_reason(repository: Path) -> None:
    up = Dispatched(repository, CALLER.replace("with: {", 'with: {dry: "${{ needs.first.outputs.to }}", '))

    up.end("first", to="maybe")

    assert up.job("ship").reason == "input `dry` takes true or false, found `maybe`"
    assert (up.ends(), up.run.conclusion) == ({"first": "success", "after": "skipped"}, "failure")


def test_a_job_of_a_called_workflow_that_is_run_again_takes_along_what_needs_the_call(repository: Path) -> None:
    up = Dispatched(repository, CALLER)
    up.end("first", to="prod")
    up.end("ship / make", made="app")
    up.end("ship / check", conclusion="failure")

    up.state.rerun(up.run.id)
    assert (up.named("queued"), up.named("pending"), up.run.status) == (["ship / check"], ["after"], "in_progress")
    up.end("ship / check")

    assert up.named("queued") == ["after"]
    assert up.contexts("after")["env"]["GOT"] == "app-prod"


def test_a_call_that_needs_a_job_that_is_run_again_begins_anew(repository: Path) -> None:
    up = Dispatched(repository, CALLER)
    up.end("first", to="prod")
    up.end("ship / make", "ship / check", "after")

    up.state.rerun(up.run.id, up.job("first").id)
    assert [job.plan.name for job in up.run.jobs] == ["first", "after"]
    up.end("first", to="test")

    assert up.named("queued") == ["ship / make"]
    assert up.contexts("ship / make")["env"]["SEEN"].startswith("test ")


def test_a_cancelled_run_ends_the_jobs_of_its_calls(repository: Path) -> None:
    up = Dispatched(repository, CALLER)
    up.end("first", to="prod")

    up.state.cancel(up.run.id)

    assert up.ends() == {"first": "success", "ship / make": "cancelled", "ship / check": "cancelled", "after": "cancelled"}
    assert up.run.status == "completed"


def test_a_workflow_of_another_repository_is_passed_over_and_what_needs_it_runs(repository: Path) -> None:
    text = """
jobs:
  lint: {uses: octo/shared/.github/workflows/lint.yml@v1, with: {anything: 1}}
  after: {needs: lint, runs-on: x, steps: [{run: echo}]}
"""
    up = Dispatched(repository, text)

    assert (up.ends(), up.named("queued")) == ({"lint": "skipped", "after": None}, ["after"])
    up.end("after")
    assert up.run.conclusion == "success"


# What is refused


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("{}", "main.yml:3: called.yml requires the input `target`: expected it in `with:`"),
        ("{target: a, colour: red}", "main.yml:4: called.yml has no input `colour` (supported: count, dry, target)"),
        ("{target: a, dry: 'no'}", "main.yml:4: input `dry` takes true or false, found `no`"),
        (
            "{target: '${{ secrets.X }}'}",
            "main.yml:4: the context secrets is not supported: the sandbox keeps no secrets, not even",
        ),
        ("{target: a, count: many}", "main.yml:4: input `count` takes a number, found `many`"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_at_their_line(given: str, told: str, repository: Path) -> None:
    text = f"jobs:\n  ship:\n    uses: ./.github/workflows/called.yml\n    with: {given}\n"

    (line,) = refusal(repository / "main.yml", text)
    assert line.startswith(told)


def test_a_default_of_another_type_than_its_input_is_refused(repository: Path) -> None:
    text = "on: {workflow_dispatch: {inputs: {n: {type: number, default: many}}}}\njobs: {}\n"

    assert refusal(repository / "main.yml", text) == ["main.yml:1: input `n` takes a number, found `many`"]


def test_a_default_may_be_an_expression(repository: Path) -> None:
    (repository / "called.yml").write_text(CALLED.replace("default: 3", 'default: "${{ fromJSON(vars.N) }}"'), "utf-8")

    up = Dispatched(repository, CALLER, N="8")
    up.end("first", to="prod")

    assert up.contexts("ship / make")["env"]["SEEN"].split()[1] == "8"


def test_complaints_of_the_caller_and_of_the_called_are_told_at_once_each_with_its_file(repository: Path) -> None:
    (repository / "called.yml").write_text(
        "on: workflow_call\njobs:\n  a:\n    runs-on: windows-latest\n    steps: []\n", "utf-8"
    )

    told = refusal(repository / "main.yml", "jobs:\n  ship:\n    uses: ./.github/workflows/called.yml\n    retry: 3\n")

    files = [line.split(": ")[0].rpartition("/")[2] for line in told]
    assert files == ["main.yml:4", "called.yml:4"]


def test_a_workflow_that_is_not_made_to_be_called_is_refused(repository: Path) -> None:
    (repository / "called.yml").write_text("on: push\njobs:\n  a: {runs-on: x, steps: []}\n", "utf-8")

    (told,) = refusal(repository / "main.yml", "jobs:\n  ship:\n    uses: ./.github/workflows/called.yml\n")

    assert told.endswith("called.yml:1: expected `on: workflow_call`: another workflow calls this one")


def test_a_path_without_a_file_is_refused_at_its_line(repository: Path) -> None:
    (told,) = refusal(repository / "main.yml", "jobs:\n  ship:\n    uses: ./.github/workflows/none.yml\n")

    assert told.startswith("main.yml:3: expected a workflow file at ") and told.endswith("none.yml")


def test_a_workflow_that_calls_itself_is_refused(repository: Path) -> None:
    text = "on: workflow_call\njobs:\n  ship:\n    uses: ./.github/workflows/main.yml\n"

    assert refusal(repository / "main.yml", text) == [
        "main.yml:4: `./.github/workflows/main.yml` calls itself, directly or by another workflow"
    ]


@pytest.mark.parametrize(("levels", "is_read"), [(10, True), (11, False)])
def test_ten_levels_of_workflows_are_read_and_no_more(levels: int, is_read: bool, repository: Path) -> None:
    for level in range(1, levels):
        text = f"on: workflow_call\njobs:\n  a:\n    uses: ./.github/workflows/{level + 1}.yml\n"
        (repository / f"{level}.yml").write_text(text, "utf-8")
    (repository / f"{levels}.yml").write_text("on: workflow_call\njobs:\n  a: {runs-on: x, steps: []}\n", "utf-8")

    if is_read:
        assert len(list(read_workflow(repository / "1.yml").every_job())) == 1
    else:
        (told,) = refusal(repository / "1.yml", (repository / "1.yml").read_text("utf-8"))
        assert told.endswith("10.yml:4: expected at most 10 levels of workflows that call each other")


@pytest.mark.parametrize(
    ("file", "marker", "root"),
    [(".github/workflows/w.yml", None, "."), ("deep/w.yml", ".git", "."), ("deep/w.yml", None, "deep")],
)
def test_the_repository_begins_where_git_or_its_workflows_lie(file: str, marker: str | None, root: str, tmp_path: Path) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    if marker:
        (tmp_path / marker).mkdir()

    assert root_of(path) == tmp_path / root
