"""The sandbox's `${{ }}` as tables. Source of every row: "Expressions" in the GitHub Actions docs."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.runner.expressions import check, condition, evaluate, evaluated, render, truthy
from sandbox.runner.functions import ExpressionError, as_text

CONTEXTS: dict[str, Any] = {
    "github": {"ref": "refs/heads/main", "run_id": 7, "event": {"pull_request": {"draft": False}}},
    "env": {"NAME": "World", "EMPTY": ""},
    "matrix": {"os": "linux", "node-version": 20, "ratio": 1.5, "flag": True, "nothing": None},
    "steps": {"made": {"outputs": {"path": "/tmp/x"}, "outcome": "failure"}},
    "needs": {"first": {"result": "success", "outputs": {"n": "3"}}},
    "runner": {"os": "Linux"},
}
GREEN = {"success": True, "failure": False, "cancelled": False}
RED = {"success": False, "failure": True, "cancelled": False}
CANCELLED = {"success": False, "failure": False, "cancelled": True}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("'text'", "text"), ("'it''s'", "it's"), ("''", ""), ("1", 1), ("-2.5", -2.5), ("true", True), ("null", None),
        ("github.ref", "refs/heads/main"), ("github['ref']", "refs/heads/main"), ("github.REF", "refs/heads/main"),
        ("github.event.pull_request.draft", False), ("github.nothing", None), ("github.nothing.deeper", None),
        ("matrix.node-version", 20), ("steps.made.outputs.path", "/tmp/x"), ("steps['made'].outcome", "failure"),
        ("needs.first.outputs.n", "3"), ("matrix['no' ]", None), ("runner.os", "Linux"),
    ],
)  # fmt: skip
def test_literals_and_contexts_have_these_values(expression: str, value: object) -> None:
    assert evaluate(expression, CONTEXTS) == value


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("'a' == 'A'", True), ("'a' != 'b'", True), ("1 == '1'", True),
        ("0 == ''", True), ("null == 0", True), ("null == ''", True),
        ("true == 1", True), ("false == 0", True), ("true == 'true'", False), ("'abc' == 0", False), ("'abc' != 0", True),
        ("matrix.node-version == 20", True), ("matrix.flag == true", True), ("env.NOTHING == null", True),
    ],
)  # fmt: skip
def test_values_are_compared_loosely_and_text_without_its_case(expression: str, value: bool) -> None:
    assert evaluate(expression, CONTEXTS) is value


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("'a' && 'b'", "b"), ("'' && 'b'", ""), ("'a' || 'b'", "a"),
        ("'' || 'b'", "b"), ("!''", True), ("!'x'", False), ("!!1", True),
        ("true || false && false", True), ("(true || false) && false", False),
        ("!true == false", True), ("!(true == false)", True),
        ("1 == 1 && 2 == 2", True), ("'' || null || 'last'", "last"), ("matrix.os == 'linux' && 'yes' || 'no'", "yes"),
    ],
)  # fmt: skip
def test_operators_bind_in_githubs_order_and_give_back_an_operand(expression: str, value: object) -> None:
    assert evaluate(expression, CONTEXTS) == value


@pytest.mark.parametrize(
    ("value", "holds"),
    [(None, False), (False, False), (0, False), (0.0, False), ("", False), ("0", True), ("false", True), ({}, True), ([], True)]
)  # fmt: skip
def test_only_false_zero_nothing_and_the_empty_text_do_not_hold(value: object, holds: bool) -> None:
    assert truthy(value) is holds


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (True, "true"), (False, "false"), (3.0, "3"), (1.5, "1.5"), (20, "20"), ({}, "Object"), ([], "Array")],
)
def test_values_are_written_as_github_writes_them(value: object, text: str) -> None:
    assert as_text(value) == text


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("plain", "plain"), ("Hello ${{ env.NAME }}!", "Hello World!"), ("${{env.NAME}}${{ env.NAME }}", "WorldWorld"),
        ("a${{ env.MISSING }}b", "ab"), ("${{ matrix.flag }} ${{ matrix.ratio }} ${{ 2 }}", "true 1.5 2"),
        ("$HOME ${x} {{ y }}", "$HOME ${x} {{ y }}"),
        ("${{ 'a'\n == 'a' }}", "true"),
    ],
)  # fmt: skip
def test_text_keeps_all_but_its_expressions(text: str, rendered: str) -> None:
    assert render(text, CONTEXTS) == rendered


@pytest.mark.parametrize(
    ("text", "green", "red", "cancelled"),
    [
        ("success()", True, False, False),
        ("failure()", False, True, False),
        ("cancelled()", False, False, True),
        ("always()", True, True, True),
        ("${{ always() }}", True, True, True),
        ("!cancelled()", True, True, False),
        ("success() || failure()", True, True, False),
        ("env.NAME == 'World'", True, False, False),
        ("${{ env.NAME == 'other' }}", False, False, False),
        ("failure() && steps.made.outcome == 'failure'", False, True, False),
        ("${{ env.NAME }} == 'World'", True, False, False),
        ("", True, False, False),
    ],
)
def test_a_condition_implies_success_unless_it_asks_for_the_status(text: str, green: bool, red: bool, cancelled: bool) -> None:
    assert [condition(text, CONTEXTS, status) for status in (GREEN, RED, CANCELLED)] == [green, red, cancelled]


@pytest.mark.parametrize(
    "text",
    [
        "${{ secrets.TOKEN }}", "${{ hashFiles() }}", "${{ join() }}", "${{ shout('a') }}", "${{ success(1) }}",
        "${{ }}", "${{ 'open }}",
        "${{ github. }}", "${{ github.ref == }}", "${{ (1 }}", "${{ a b }}", "${{ github['x' }}", "${{ 1 2 }}", "${{ other.x }}",
    ],
)  # fmt: skip
def test_what_is_not_supported_is_refused_before_anything_runs(text: str) -> None:
    with pytest.raises(ExpressionError):
        check(text)


def test_a_refusal_names_what_is_supported() -> None:
    with pytest.raises(ExpressionError, match="other is not supported; supported are github, env, vars, inputs, matrix"):
        check("${{ other.x }}")


def test_secrets_are_refused_with_what_to_use_in_their_place() -> None:
    with pytest.raises(ExpressionError, match="keeps no secrets, not even GITHUB_TOKEN; use vars, or env"):
        check("${{ secrets.GITHUB_TOKEN }}")


def test_the_check_gives_the_contexts_that_a_text_names() -> None:
    assert check("${{ needs.a.outputs.b }}-${{ matrix.c && fromJSON(vars.D) }} needs.e") == {"needs", "matrix", "vars"}


@pytest.mark.parametrize("text", ["echo ${{ github.ref }}", "no expression (", "${{ steps.x.outputs.y != '' && !matrix.z }}"])
def test_what_is_supported_passes_the_check(text: str) -> None:
    check(text)


def test_a_bare_condition_is_checked_as_an_expression() -> None:
    with pytest.raises(ExpressionError):
        check("shout('x')", bare=True)


@pytest.mark.parametrize("text", ["${{ env.NAME == 'World' }} && ${{ matrix.flag }}", "${{ '}}' }}", "${{ true }} ${{ true }}"])
def test_a_condition_that_passed_the_check_can_be_decided(text: str) -> None:
    with contextlib.suppress(ExpressionError):
        check(text, bare=True)

        try:
            condition(text, CONTEXTS, GREEN)
        except ExpressionError as error:
            raise AssertionError(f"{text!r} passed the check, then: {error}") from error


@given(st.text(st.sampled_from("ab'1.=!&|()[] \n{}$githubenv-"), max_size=30))
def test_anything_else_is_a_value_or_an_expression_error(text: str) -> None:
    with contextlib.suppress(ExpressionError):
        evaluate(text, CONTEXTS, GREEN)


@given(st.text(max_size=30))
def test_any_text_survives_as_a_literal(text: str) -> None:
    quoted = text.replace("'", "''")

    assert evaluate(f"'{quoted}'", {}) == text


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("contains('Hello world', 'WORLD')", True),
        ("contains(fromJSON('[\"a\", \"b\"]'), 'B')", True), ("contains('a', 'b')", False),
        ("startsWith('Hello', 'he')", True), ("endsWith('Hello', 'LO')", True), ("STARTSWITH('a', 'b')", False),
        ("format('{{Hello {0} {1} {0}!}}', 'Mona', 7)", "{Hello Mona 7 Mona!}"), ("join(fromJSON('[1, 2]'))", "1,2"),
        ("case(1 == 2, 'a', 1 == 1, 'b', 'c')", "b"), ("case(false, 'a', 'c')", "c"), ("CASE(true, 'a', 'c')", "a"),
        ("join(fromJSON('[\"a\", \"b\"]'), ' ')", "a b"), ("join('a', ' ')", "a"), ("toJSON(matrix.flag)", "true"),
        ("fromJSON('{\"a\": [1, 2]}').a[1]", 2), ("fromJSON('[{\"n\": 1}, {\"n\": 2}]').*.n", [1, 2]), ("fromJSON('true')", True),
        ("1 < 2", True), ("'B' > 'a'", True), ("2 >= '2'", True), ("'x' < 1", False), ("steps.*.outcome", ["failure"]),
    ],
)  # fmt: skip
def test_functions_comparisons_and_filters_have_githubs_values(expression: str, value: object) -> None:
    check(f"${{{{ {expression} }}}}")
    assert evaluate(expression, CONTEXTS) == value


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("shout('a')", "there is no function shout()"),
        ("contains('a')", "contains() takes 2 arguments, not 1"), ("format()", "format() takes 1 or more arguments, not 0"),
        ("success('a')", "takes no arguments"),
    ],
)  # fmt: skip
def test_a_function_that_is_not_there_or_is_called_otherwise_is_named(expression: str, told: str) -> None:
    with pytest.raises(ExpressionError, match=re.escape(told)):
        check(f"${{{{ {expression} }}}}")


def test_what_is_no_json_and_what_has_no_value_is_said_when_it_is_evaluated() -> None:
    with pytest.raises(ExpressionError, match=r"expected JSON, found '\{'"):
        evaluate("fromJSON('{')", CONTEXTS)
    with pytest.raises(ExpressionError, match=r"no value for \{1\}"):
        evaluate("format('{1}', 'a')", CONTEXTS)
    with pytest.raises(ExpressionError, match=r"expected a condition that is true or false, found '1'"):
        evaluate("case(1, 'a', 'b')", CONTEXTS)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${{ fromJSON('[1, 2]') }}", [1, 2]), (" ${{ matrix.os }} ", "linux"),
        ("${{ matrix.os }}-${{ matrix.os }}", "linux-linux"),
        ("x", "x"),
    ],
)  # fmt: skip
def test_a_text_that_is_one_expression_has_its_value(text: str, value: object) -> None:
    assert evaluated(text, CONTEXTS) == value
