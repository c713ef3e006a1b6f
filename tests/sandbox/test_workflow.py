"""A workflow file becomes a plan, or a refusal that names file, line and what is supported instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sandbox.local import EXAMPLE
from sandbox.plan import PlannedJob, Workflow
from sandbox.runner.shells import SUPPORTED
from sandbox.workflow import Unsupported, read_workflow
from sandbox.workflow.jobs import CALL, JOB, STRATEGY
from sandbox.workflow.reader import TOP
from sandbox.workflow.steps import STEP


def plan(directory: Path, text: str) -> Workflow:
    path = directory / "w.yml"
    path.write_text(text, encoding="utf-8")
    return read_workflow(path)


def one(directory: Path, job: str = "", step: str = "run: echo") -> PlannedJob:
    """The plan of one job with these further lines; its only step may be another."""
    extra = "".join(f"    {line}\n" for line in job.splitlines())
    runs_on = "" if "runs-on" in job else "    runs-on: fast\n"
    (job_,) = plan(directory, f"jobs:\n  build:\n{runs_on}{extra}    steps:\n      - {{{step}}}\n").jobs
    return job_


def refusal(directory: Path, text: str) -> tuple[int, str]:
    """The line and the sentence of the refusal; the file is always named."""
    with pytest.raises(Unsupported) as refused:
        plan(directory, text)
    file, line, sentence = str(refused.value).split(":", 2)
    assert file == str(directory / "w.yml")
    return int(line), sentence.strip()


# What is supported


def test_a_file_with_every_supported_key_is_read(tmp_path: Path) -> None:
    found = plan(tmp_path, EVERYTHING)

    (job,) = [job for job in found.jobs if job.key == "all"]
    assert (found.name, found.env) == ("whole", {"A": "1"})
    assert (job.name, job.labels, job.needs, job.condition) == ("All of it", ("self-hosted", "fast"), ("first",), "always()")
    assert (job.env, job.outputs, job.timeout_minutes) == ({"B": "2"}, {"o": "${{ steps.s.outputs.o }}"}, 5.0)
    assert job.steps[0] == {
        "name": "Say", "id": "s", "if": "success()", "run": "echo", "env": {"C": "3"}, "shell": "sh", "working-directory": "sub",
        "timeout-minutes": 0.5, "continue-on-error": True,
    }  # fmt: skip
    assert job.steps[1] == {"uses": "actions/checkout@v4"}


EVERYTHING = """
name: whole
run-name: a run
on: {push: {branches: [main]}}
env: {A: 1}
defaults: {run: {shell: bash, working-directory: top}}
permissions: {contents: read}
concurrency: {group: one, cancel-in-progress: true}
jobs:
  first: {runs-on: x, steps: [{run: echo}]}
  all:
    name: All of it
    runs-on: [self-hosted, fast]
    needs: first
    if: always()
    strategy: {fail-fast: false, max-parallel: 2}
    env: {B: 2}
    defaults: {run: {working-directory: job}}
    outputs: {o: "${{ steps.s.outputs.o }}"}
    timeout-minutes: 5
    permissions: {contents: read}
    steps:
      - {name: Say, id: s, if: success(), run: echo, env: {C: 3}, shell: sh, working-directory: sub, timeout-minutes: 0.5,
         continue-on-error: true}
      - {uses: actions/checkout@v4, with: {fetch-depth: 0}}
"""


def test_the_example_is_three_jobs_of_which_one_waits() -> None:
    assert [(job.key, job.needs) for job in read_workflow(EXAMPLE).jobs] == [("build", ()), ("test", ("build",)), ("broken", ())]


@pytest.mark.parametrize(
    ("runs_on", "labels"),
    [
        ("fast", ("fast",)), ("[self-hosted, fast]", ("self-hosted", "fast")), ("{labels: fast}", ("fast",)),
        ("{group: Default, labels: [a, b]}", ("a", "b")),
    ],
)  # fmt: skip
def test_labels_are_one_or_a_list_or_those_of_a_group(runs_on: str, labels: tuple[str, ...], tmp_path: Path) -> None:
    assert one(tmp_path, f"runs-on: {runs_on}").labels == labels


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("true", "true"), ("True", "true"), ("false", "false"), ("yes", "yes"), ("off", "off"),
        ("1", "1"), ("1.5", "1.5"), ("1.50", "1.5"),
        ("~", ""), ("", ""),
        ('"true"', "true"), ("text", "text"), ("2026-01-31", "2026-01-31"), ("'${{ github.sha }}'", "${{ github.sha }}"),
    ],
)  # fmt: skip
def test_a_value_of_env_becomes_text_as_github_writes_it(written: str, read: str, tmp_path: Path) -> None:
    """Source: actions/runner's YamlObjectReader reads YAML 1.2 core: `yes` is a text, `1.50` is the number 1.5."""
    assert one(tmp_path, f"env:\n  X: {written}").env == {"X": read}


def test_the_jobs_defaults_go_before_the_workflows_and_the_steps_before_both(tmp_path: Path) -> None:
    text = """
defaults: {run: {shell: sh, working-directory: top}}
jobs:
  build:
    runs-on: fast
    defaults: {run: {working-directory: job}}
    steps: [{run: a}, {run: b, working-directory: step, shell: bash}, {uses: c}]
"""
    steps = plan(tmp_path, text).jobs[0].steps

    assert steps == (
        {"shell": "sh", "working-directory": "job", "run": "a"},
        {"shell": "bash", "working-directory": "step", "run": "b"},
        {"uses": "c"},
    )


def test_an_anchor_may_be_used_again(tmp_path: Path) -> None:
    text = """
jobs:
  a: {runs-on: fast, env: &shared {X: "1"}, steps: &steps [{run: echo}]}
  b: {runs-on: fast, env: *shared, steps: *steps}
"""
    a, b = plan(tmp_path, text).jobs

    assert (b.env, b.steps) == (a.env, a.steps) == ({"X": "1"}, ({"run": "echo"},))


def test_without_a_name_the_file_gives_it(tmp_path: Path) -> None:
    assert plan(tmp_path, "jobs:\n  a: {runs-on: x, steps: [{run: echo}]}\n").name == "w"


@pytest.mark.parametrize(("needs", "read"), [("a", ("a",)), ("[a, b]", ("a", "b")), ("[]", ())])
def test_needs_is_one_job_or_a_list(needs: str, read: tuple[str, ...], tmp_path: Path) -> None:
    jobs = "".join(f"  {key}: {{runs-on: x, steps: [{{run: echo}}]}}\n" for key in "ab")

    found = plan(tmp_path, f"jobs:\n{jobs}  c: {{runs-on: x, needs: {needs}, steps: [{{run: echo}}]}}\n")

    assert found.jobs[2].needs == read


# The matrix


@pytest.mark.parametrize(
    ("matrix", "combinations"),
    [
        ("{a: [1, 2], b: [x]}", [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}]),
        ("{a: [1, 2], b: [x, y], exclude: [{a: 1, b: y}]}", [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}]),
        ("{a: [1, 2], b: [x, y], exclude: [{a: 1}]}", [{"a": 2, "b": "x"}, {"a": 2, "b": "y"}]),
        ("{a: [1, 2], include: [{a: 1, c: z}]}", [{"a": 1, "c": "z"}, {"a": 2}]),
        ("{a: [1, 2], include: [{c: z}]}", [{"a": 1, "c": "z"}, {"a": 2, "c": "z"}]),
        ("{a: [1], include: [{a: 3}]}", [{"a": 1}, {"a": 3}]),
        ("{include: [{a: 1}, {a: 2}]}", [{"a": 1}, {"a": 2}]),
        ("{a: [true, false]}", [{"a": True}, {"a": False}]),
    ],
)
def test_a_matrix_is_every_combination_less_the_excluded_with_the_included(
    matrix: str, combinations: list[dict[str, Any]], tmp_path: Path
) -> None:
    jobs = plan(tmp_path, f"jobs:\n  a:\n    runs-on: x\n    strategy: {{matrix: {matrix}}}\n    steps: [{{run: echo}}]\n").jobs

    assert [job.matrix for job in jobs] == combinations


def test_the_documentations_example_of_include_gives_its_six_combinations(tmp_path: Path) -> None:
    """Source: "Running variations of jobs in a workflow", GitHub docs, "Expanding or adding matrix configurations"."""
    matrix = """{fruit: [apple, pear], animal: [cat, dog], include: [{color: green}, {color: pink, animal: cat},
      {fruit: apple, shape: circle}, {fruit: banana}, {fruit: banana, animal: cat}]}"""

    jobs = plan(tmp_path, f"jobs:\n  a:\n    runs-on: x\n    strategy: {{matrix: {matrix}}}\n    steps: [{{run: echo}}]\n").jobs

    assert [job.matrix for job in jobs] == [
        {"fruit": "apple", "animal": "cat", "color": "pink", "shape": "circle"},
        {"fruit": "apple", "animal": "dog", "color": "green", "shape": "circle"},
        {"fruit": "pear", "animal": "cat", "color": "pink"},
        {"fruit": "pear", "animal": "dog", "color": "green"},
        {"fruit": "banana"},
        {"fruit": "banana", "animal": "cat"},
    ]


def test_the_jobs_of_a_matrix_are_named_and_labelled_by_their_values(tmp_path: Path) -> None:
    text = 'jobs:\n  a:\n    runs-on: ["size-${{ matrix.n }}"]\n    strategy: {matrix: {n: [1, 2]}}\n    steps: [{run: echo}]\n'

    assert [(job.name, job.labels) for job in plan(tmp_path, text).jobs] == [("a (1)", ("size-1",)), ("a (2)", ("size-2",))]


def test_a_name_that_speaks_of_the_matrix_is_each_jobs_own(tmp_path: Path) -> None:
    text = """jobs:
  a:
    name: on ${{ matrix.n }}
    runs-on: x
    strategy: {matrix: {n: [1, 2]}}
    steps: [{run: echo}]
"""
    assert [job.name for job in plan(tmp_path, text).jobs] == ["on 1", "on 2"]


@pytest.mark.parametrize(
    "matrix",
    ['"${{ fromJSON(\'{\\"n\\": [1, 2]}\') }}"', "{n: \"${{ fromJSON('[1, 2]') }}\"}", "{n: [1, \"${{ fromJSON('2') }}\"]}"],
)
def test_an_expression_that_needs_no_context_is_taken_apart_before_the_run(matrix: str, tmp_path: Path) -> None:
    text = f"jobs:\n  a:\n    runs-on: x\n    strategy: {{matrix: {matrix}}}\n    steps: [{{run: echo}}]\n"

    assert [job.name for job in plan(tmp_path, text).jobs] == ["a (1)", "a (2)"]


def test_a_name_without_expressions_is_followed_by_the_values_of_the_matrix(tmp_path: Path) -> None:
    text = "jobs:\n  a: {name: Build, runs-on: x, strategy: {matrix: {n: [1, true]}}, steps: [{run: echo}]}\n"

    assert [job.name for job in plan(tmp_path, text).jobs] == ["Build (1)", "Build (true)"]


def test_labels_by_json_are_known_before_the_run_unless_they_name_another_job(tmp_path: Path) -> None:
    assert one(tmp_path, 'runs-on: ${{ fromJSON(\'["a", "b"]\') }}').labels == ("a", "b")
    assert one(tmp_path, "runs-on: [a, '${{ vars.B }}']").runs_on == ("a", "${{ vars.B }}")


def test_what_an_action_would_be_given_may_be_anything_for_it_is_not_run(tmp_path: Path) -> None:
    step = "uses: a/b@v1, name: Say, if: \"secrets.X != ''\", env: {X: '${{ secrets.X }}'}, with: {y: '${{ secrets.Y }}'}"

    assert one(tmp_path, step=step).steps == ({"name": "Say", "uses": "a/b@v1"},)


@pytest.mark.parametrize("shell", ["bash", "sh", "python", "perl {0}", "bash -x {0} again"])
def test_a_shell_with_a_place_for_the_script_is_taken_for_steps_and_defaults(shell: str, tmp_path: Path) -> None:
    own = one(tmp_path, step=f"run: echo, shell: '{shell}'")
    shared = one(tmp_path, f"defaults: {{run: {{shell: '{shell}'}}}}")

    assert [job.steps[0]["shell"] for job in (own, shared)] == [shell, shell]


@pytest.mark.parametrize(
    ("line", "left_out"),
    [
        ("container: node:20", ("container node:20",)), ("container: {image: node:20}", ("container node:20",)),
        ("services: {db: {image: postgres}, cache: {image: redis}}", ("service db", "service cache")),
        ("environment: production", ("environment production",)), ("", ()),
    ],
)  # fmt: skip
def test_containers_services_and_environments_are_left_out_and_named(
    line: str, left_out: tuple[str, ...], tmp_path: Path
) -> None:
    assert one(tmp_path, line).left_out == left_out


# What is refused


EVERY_FAULT = """
name: ${{ secrets.A }}
trigger: push
defaults: {run: {shell: cmd}}
jobs:
  a:
    runs-on: windows-latest
    snapshot: x
    needs: z
    strategy: {matrix: 3}
    env: {X: "${{ shout('a') }}"}
    steps:
      - {run: a, uses: b}
      - {run: echo, shell: pwsh, retry: 1}
  b: {runs-on: x}
  c: {steps: echo}
"""


def test_everything_that_is_not_supported_is_told_at_once_in_the_order_of_the_lines(tmp_path: Path) -> None:
    path = tmp_path / "w.yml"
    path.write_text(EVERY_FAULT, "utf-8")

    with pytest.raises(Unsupported) as refused:
        read_workflow(path)

    lines = [line.removeprefix(f"{path}:") for line in str(refused.value).splitlines()]
    assert [int(line.partition(":")[0]) for line in lines] == [2, 3, 4, 7, 7, 8, 10, 11, 13, 14, 14, 15, 16]


def test_what_stands_once_and_is_used_twice_is_told_once(tmp_path: Path) -> None:
    text = "jobs:\n  a: {runs-on: x, steps: &s [{run: a, retry: 1}]}\n  b: {runs-on: x, steps: *s}\n"

    assert refusal(tmp_path, text)[1].count("retry") == 1


@pytest.mark.parametrize(
    ("text", "line", "key", "where", "supported"),
    [
        ("on: push\nsecrets: {}\njobs: {}\n", 2, "secrets", "the workflow", TOP),
        ("jobs:\n  a:\n    runs-on: x\n    snapshot: s\n    steps: []\n", 4, "snapshot", "job `a`", JOB),
        ("jobs:\n  a:\n    uses: o/r/w.yml@v1\n    env: {}\n", 4, "env", "job `a`", CALL),
        ("jobs:\n  a:\n    runs-on: x\n    steps:\n      - run: x\n        retry: 3\n", 6, "retry", "a step", STEP),
        ("jobs:\n  a:\n    runs-on: x\n    strategy:\n      order: x\n    steps: []\n", 5, "order", "strategy", STRATEGY),
        ("defaults:\n  job: {}\njobs: {}\n", 2, "job", "defaults", {"run"}),
        ("defaults:\n  run:\n    user: x\njobs: {}\n", 3, "user", "defaults.run", {"shell", "working-directory"}),
    ],
)
def test_an_unknown_key_is_refused_at_its_line_with_the_supported_ones(
    text: str, line: int, key: str, where: str, supported: set[str], tmp_path: Path
) -> None:
    listed = ", ".join(sorted(supported))

    assert refusal(tmp_path, text) == (line, f"`{key}` is not supported in {where} (supported: {listed})")


JOB_LINES = "jobs:\n  a:\n    runs-on: x\n"
EXPRESSIONS = [
    ("hashFiles()", "hashFiles() takes 1 or more arguments"), ("shout('a')", "there is no function shout()"),
    ("contains('a')", "takes 2 arguments"), ("case(true, 1)", "takes 3 or more"),
    ("case(true, 1, false, 2)", "pairs of a condition and a value, then a default"),
    ("secrets.TOKEN", "the context secrets is not supported: the sandbox keeps no secrets, not even GITHUB_TOKEN; use vars"),
    ("other.x", "the context other is not supported; supported are github, env, vars, inputs, matrix, strategy, needs"),
    ("github.sha ==", "ends too early"),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "told"), EXPRESSIONS)
def test_an_unsupported_expression_is_refused_at_its_line(expression: str, told: str, tmp_path: Path) -> None:
    line, sentence = refusal(tmp_path, f'{JOB_LINES}    steps:\n      - run: ok\n      - run: "echo ${{{{ {expression} }}}}"\n')

    assert line == 6
    assert told in sentence


@pytest.mark.parametrize(
    "step",
    [
        '{run: "${{ fancy.x }} ${{ frob(secrets.T) || ! }} ${{ join() }}"}',
        "{run: echo, if: fancy.x && frob(secrets.T) && join() &&}",
    ],
)
def test_everything_in_one_text_that_is_not_supported_is_told_at_once(step: str, tmp_path: Path) -> None:
    with pytest.raises(Unsupported) as caught:
        plan(tmp_path, f"jobs:\n  a:\n    runs-on: x\n    steps:\n      - {step}\n")

    told = str(caught.value).splitlines()
    assert all(":5: " in line for line in told)
    for what in ("context fancy", "context secrets", "function frob()", "join() takes"):
        assert len([line for line in told if what in line]) == 1, told
    assert len(told) == 5  # and what cannot be read


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("env: {X: '@'}\njobs:\n  a: {runs-on: x, steps: []}\n", 1),
        (f"{JOB_LINES}    env:\n      X: '@'\n    steps: []\n", 5),
        (f"{JOB_LINES}    outputs:\n      X: '@'\n    steps: []\n", 5),
        (f"{JOB_LINES}    name: '@'\n    steps: []\n", 4),
        (f"{JOB_LINES}    if: '@'\n    steps: []\n", 4),
        ("jobs:\n  a:\n    runs-on: ['@']\n    steps: []\n", 3),
        (f"{JOB_LINES}    steps:\n      - name: '@'\n        run: x\n", 5),
        (f"{JOB_LINES}    steps:\n      - run: x\n        if: '@'\n", 6),
        (f"{JOB_LINES}    steps:\n      - run: x\n        env: {{X: '@'}}\n", 6),
        (f"{JOB_LINES}    steps:\n      - run: x\n        working-directory: '@'\n", 6),
        (f"{JOB_LINES}    strategy: {{matrix: {{n: ['@']}}}}\n    steps: []\n", 4),
        (f"{JOB_LINES}    steps:\n      - run: x\n        timeout-minutes: '@'\n", 6),
    ],
    ids=[
        "env",
        "job env",
        "outputs",
        "name",
        "if",
        "runs-on",
        "step name",
        "step if",
        "step env",
        "directory",
        "matrix",
        "minutes",
    ],
)
def test_expressions_are_read_wherever_one_may_stand(place: str, line: int, tmp_path: Path) -> None:
    assert refusal(tmp_path, place.replace("@", "${{ secrets.X }}"))[0] == line


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("", 1, "expected a mapping with `jobs:`"),
        ("- a\n", 1, "expected a mapping with `jobs:`"),
        ("name: x\n", 1, "there is no `jobs:`"),
        ("name: x\njobs: []\n", 2, "expected a mapping for jobs"),
        ("jobs:\n  a: echo\n", 2, "expected a mapping for job `a`"),
        ("jobs:\n  a:\n    steps: []\n", 3, "job `a` has no `runs-on:`"),
        ("jobs:\n  a:\n    runs-on: x\n", 3, "job `a` has no `steps:`"),
        (f"{JOB_LINES}    steps: echo\n", 4, "expected a list of steps"),
        (f"{JOB_LINES}    steps:\n      - echo\n", 5, "expected a mapping for a step"),
        (f"{JOB_LINES}    steps:\n      - name: x\n", 5, "expected either `run:` or `uses:` in a step"),
        (f"{JOB_LINES}    steps:\n      - {{run: x, uses: y}}\n", 5, "expected either `run:` or `uses:` in a step"),
        (f"{JOB_LINES}    steps:\n      - {{run: x, shell: pwsh}}\n", 5,
         f"shell `pwsh` is not supported (supported: {SUPPORTED})"),
        ("defaults:\n  run:\n    shell: perl\njobs: {}\n", 3, f"shell `perl` is not supported (supported: {SUPPORTED})"),
        (f"{JOB_LINES}    timeout-minutes: soon\n    steps: []\n", 4, "expected a number of minutes, found `soon`"),
        (f"{JOB_LINES}    timeout-minutes: 0\n    steps: []\n", 4, "expected a number of minutes, found `0`"),
        (f"{JOB_LINES}    timeout-minutes: true\n    steps: []\n", 4, "expected a number of minutes, found `true`"),
        ("jobs:\n  a:\n    runs-on: []\n    steps: []\n", 3, "expected a label, or a list of labels, in `runs-on:`"),
        (f"{JOB_LINES}    steps:\n      - {{run: x, continue-on-error: maybe}}\n", 5,
         "expected true, false or an expression in `continue-on-error:`, found `maybe`"),
        (f"{JOB_LINES}    continue-on-error: 3\n    steps: []\n", 4,
         "expected true, false or an expression in `continue-on-error:`, found `3`"),
        (f"{JOB_LINES}    strategy:\n      max-parallel: 0\n    steps: []\n", 5,
         "expected a whole number from 1 in `max-parallel:`, found `0`"),
        (f"{JOB_LINES}    concurrency: {{cancel-in-progress: true}}\n    steps: []\n", 4, "expected `group:` in concurrency"),
        (f"{JOB_LINES}    concurrency: {{group: g, queue: many}}\n    steps: []\n", 4,
         "expected single or max in `queue:`, found `many`"),
        ("jobs:\n  a:\n    runs-on: [self-hosted, windows]\n    steps: []\n", 3,
         "the label `windows` asks for another system: every machine here runs Linux"),
        ("jobs:\n  a:\n    runs-on: macos-14\n    steps: []\n", 3,
         "the label `macos-14` asks for another system: every machine here runs Linux"),
        ("jobs:\n  a:\n    runs-on: \"${{ fromJSON('x') }}\"\n    steps: []\n", 3, "fromJSON() expected JSON, found 'x'"),
        (f"{JOB_LINES}    strategy:\n      matrix: \"${{{{ fromJSON('x') }}}}\"\n    steps: []\n", 5,
         "fromJSON() expected JSON, found 'x'"),
        ("jobs:\n  a:\n    uses: other.yml\n", 3,
         "expected ./.github/workflows/<file> or <owner>/<repository>/<path>@<ref> in `uses:`, found `other.yml`"),
        ("jobs:\n  a:\n    runs-on: {group: Default}\n    steps: []\n", 3,
         "expected a label, or a list of labels, in `runs-on:`"),
        ("jobs:\n  a:\n    runs-on: {group: big, labels: [x]}\n    steps: []\n", 3,
         "the runner group `big` is not served: machines register in the group `Default`, so none is given this job"),
        (f"{JOB_LINES}    env:\n      X: [1]\n    steps: []\n", 5, "expected a single value"),
        (f"{JOB_LINES}    strategy:\n      matrix: x\n    steps: []\n", 5,
         "expected a mapping for the matrix, found `x` (supported: lists, include, exclude)"),
        (f"{JOB_LINES}    strategy:\n      matrix: {{n: 1}}\n    steps: []\n", 5,
         "expected a list for `n` (supported: lists, include, exclude)"),
    ],
)  # fmt: skip
def test_what_is_malformed_is_refused_at_its_line(text: str, line: int, told: str, tmp_path: Path) -> None:
    assert refusal(tmp_path, text) == (line, told)


@pytest.mark.parametrize(
    "text",
    [
        f"{JOB_LINES}    strategy: {{matrix: {{include: x}}}}\n    steps: []\n",
        f"{JOB_LINES}    strategy: {{matrix: {{include: [x]}}}}\n    steps: []\n",
        f"{JOB_LINES}    strategy: {{matrix: {{n: [1], exclude: 3}}}}\n    steps: []\n",
        f"{JOB_LINES}    strategy: {{matrix: {{n: [1], exclude: [x]}}}}\n    steps: []\n",
        f"{JOB_LINES}    needs: {{b: c}}\n    steps: []\n",
        f"{JOB_LINES}    needs: 3\n    steps: []\n",
        f"{JOB_LINES}    if: [a]\n    steps: []\n",
        "jobs:\n  a:\n    runs-on: 3.5\n    steps: {}\n",
        "jobs:\n  ? [a]\n  : {runs-on: x, steps: []}\n",
        f"{JOB_LINES}    env: !!python/name:os.system\n    steps: []\n",
        f"{JOB_LINES}    env: {{X: !secret y}}\n    steps: []\n",
    ],
    ids=["include text", "include of texts", "exclude number", "exclude of texts", "needs map", "needs number", "if list",
         "label number",
         "key list", "python tag", "unknown tag"],
)  # fmt: skip
def test_whatever_is_wrong_is_a_refusal_and_never_a_traceback(text: str, tmp_path: Path) -> None:
    line, sentence = refusal(tmp_path, text)

    assert line > 0
    assert sentence


@pytest.mark.parametrize("count", [0, 257])
def test_a_matrix_makes_1_to_256_jobs(count: int, tmp_path: Path) -> None:
    values = ", ".join(str(n) for n in range(count))

    line, sentence = refusal(tmp_path, f"{JOB_LINES}    strategy:\n      matrix: {{n: [{values}]}}\n    steps: []\n")

    assert sentence == f"a matrix makes 1 to 256 jobs, this one {count}"
    assert line in (4, 5)


@pytest.mark.parametrize(
    ("needs", "told"),
    [
        ({"a": "[z]"}, "job `a` needs `z`, and there is no such job"),
        ({"a": "a"}, "these jobs wait for each other: a"),
        ({"a": "b", "b": "a", "c": "[]"}, "these jobs wait for each other: a, b"),
        ({"a": "[]", "b": "[a, d]", "c": "b", "d": "c"}, "these jobs wait for each other: b, c, d"),
    ],
)
def test_needs_that_can_never_be_met_are_refused(needs: dict[str, str], told: str, tmp_path: Path) -> None:
    jobs = "".join(f"  {key}: {{runs-on: x, needs: {needed}, steps: [{{run: echo}}]}}\n" for key, needed in needs.items())

    line, sentence = refusal(tmp_path, f"name: x\njobs:\n{jobs}")

    assert sentence == told
    assert line >= 2


@pytest.mark.parametrize(
    ("text", "line"),
    [("jobs:\n  a: [\n", 3), ("jobs:\n\ta: b\n", 2), ("a: b: c\n", 1), ("jobs: *unknown\n", 1), ("a: 1\n...\nb: 'x\n", 3)],
)  # fmt: skip
def test_what_is_not_yaml_is_refused_at_its_line(text: str, line: int, tmp_path: Path) -> None:
    found, sentence = refusal(tmp_path, text)

    assert sentence.startswith("not YAML: ")
    assert abs(found - line) <= 1


def test_a_key_written_twice_is_refused(tmp_path: Path) -> None:
    """Source: GitHub refuses such a file: "'run' is already defined"."""
    line, sentence = refusal(tmp_path, f"{JOB_LINES}    steps:\n      - run: a\n        run: b\n")

    assert (line, "`run`" in sentence) == (6, True)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"nowhere\.yml: expected a workflow file: No such file"):
        read_workflow(tmp_path / "nowhere.yml")


def test_a_file_that_is_not_text_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "w.yml").write_bytes(b"jobs:\n  \xff\xfe\n")

    with pytest.raises(Unsupported, match=r"w\.yml"):
        read_workflow(tmp_path / "w.yml")
