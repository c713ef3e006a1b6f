"""Variables read one after the other: what is wrong is collected in words, and no key is ever quoted."""

from __future__ import annotations

import base64
import textwrap

import jwt
import pytest

from orchestrator.environment import Environment, plain_pem
from simulation.examples import PEM
from tests.orchestrator.githubs import foreign_key


def of(records_only: bool = False, **variables: str) -> Environment:
    """An environment of these variables, named without the prefix."""
    return Environment({f"RUNS_FLEET_{name}": value for name, value in variables.items()}, records_only=records_only)


@pytest.mark.parametrize(("raw", "found"), [("x", "x"), (" x y ", "x y"), ("", "usual"), (" \n", "usual")])
def test_text_is_stripped_and_an_empty_one_is_the_default(raw: str, found: str) -> None:
    environment = of(NAME=raw)

    assert (environment.text("NAME", "usual"), environment.problems) == (found, [])


def test_a_variable_without_our_prefix_is_not_ours() -> None:
    assert Environment({"NAME": "x", "RUNS_FLEET_": "y"}).text("NAME", "usual") == "usual"


def test_what_must_be_there_is_a_problem_that_says_what_is_expected() -> None:
    environment = of(BLANK=" ", THERE="here")

    found = [environment.required(name, "a word") for name in ("BLANK", "THERE", "ABSENT")]

    assert found == ["", "here", ""]
    assert environment.problems == [f"RUNS_FLEET_{name} is missing: expected a word" for name in ("BLANK", "ABSENT")]


def test_parts_of_a_list_are_stripped_and_empty_ones_left_out() -> None:
    assert of(LIST=" a ,, b c,").listed("LIST") == ("a", "b c")
    assert of().listed("LIST") == ()


@pytest.mark.parametrize("raw", ["", " , ,"])
def test_a_list_without_a_part_is_missing_where_one_is_required(raw: str) -> None:
    environment = of(LIST=raw)

    assert environment.listed("LIST", required=True) == ()
    assert environment.problems == ["RUNS_FLEET_LIST is missing: expected a comma-separated list"]


def test_for_who_looks_at_records_nothing_is_required_but_what_is_there_is_read() -> None:
    environment = of(records_only=True, THERE="x", NUMBER="many")

    assert (environment.required("ABSENT", "a word"), environment.required("THERE", "a word")) == ("", "x")
    assert (environment.listed("LIST", required=True), environment.pem("KEY")) == ((), "")
    assert environment.problems == []
    assert environment.number("NUMBER", 4.0) == 4.0 and len(environment.problems) == 1, "what is wrong is wrong for him too"


@pytest.mark.parametrize(("raw", "found"), [("", 7.0), ("0.5", 0.5), ("10", 10.0), ("1e1", 10.0), (" 2 ", 2.0)])
def test_a_number_may_be_each_of_its_bounds(raw: str, found: float) -> None:
    environment = of(NUMBER=raw)

    assert (environment.number("NUMBER", 7.0, least=0.5, most=10.0), environment.problems) == (found, [])


@pytest.mark.parametrize("raw", ["0.49", "10.01", "many", "nan", "inf", "-1", "1,5"])
def test_any_other_number_is_a_problem_with_its_bounds_and_the_default_stands_in(raw: str) -> None:
    environment = of(NUMBER=raw)

    assert environment.number("NUMBER", 7.0, least=0.5, most=10.0) == 7.0
    assert environment.problems == [f"RUNS_FLEET_NUMBER: expected a number from 0.5 to 10, found {raw!r}"]


@pytest.mark.parametrize(("raw", "whole"), [("3", True), ("3.0", True), ("3.5", False)])
def test_a_whole_number_has_no_fraction(raw: str, whole: bool) -> None:
    environment = of(NUMBER=raw)

    assert environment.number("NUMBER", 1.0, whole=True) == (3.0 if whole else 1.0)
    told = [f"RUNS_FLEET_NUMBER: expected a whole number from 1e-09 to 999999999, found {raw!r}"]
    assert environment.problems == ([] if whole else told)


@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize(("raw", "found"), [("true", True), ("FALSE", False), ("False", False), ("", None)])
def test_a_switch_is_read_without_case_and_is_its_default_if_nothing_is_said(raw: str, found: bool | None, default: bool) -> None:
    environment = of(SWITCH=raw)

    assert environment.switch("SWITCH", default=default) is (default if found is None else found)
    assert environment.problems == []


@pytest.mark.parametrize("raw", ["1", "yes", "off", "perhaps"])
def test_a_switch_that_is_neither_is_a_problem(raw: str) -> None:
    environment = of(SWITCH=raw)
    environment.switch("SWITCH", default=False)

    assert environment.problems == [f"RUNS_FLEET_SWITCH: expected true or false, found {raw!r}"]


def test_of_some_words_the_first_is_the_default_and_no_other_is_taken() -> None:
    environment = of(SECOND="b", OTHER="B")

    found = [environment.one_of(name, ("a", "b")) for name in ("ABSENT", "SECOND", "OTHER")]

    assert found[:2] == ["a", "b"]
    assert environment.problems == ["RUNS_FLEET_OTHER: expected a or b, found 'B'"]


def test_a_key_is_read_plain_and_as_base64() -> None:
    assert plain_pem(PEM) == plain_pem(base64.b64encode(PEM.encode()).decode()) == PEM
    assert of(KEY=base64.b64encode(PEM.encode()).decode()).pem("KEY") == PEM


def stored(key: str) -> list[str]:
    """A key as files, base64, shells and secret stores hand it on."""
    packed = base64.b64encode(key.encode()).decode()
    wrapped = "\n".join(textwrap.wrap(packed, 76))
    return [
        key, key.strip(), *(key.replace("\n", end) for end in ("\r\n", "\\n", "\\r\\n", " ")), f'"{key}"',
        packed, wrapped, wrapped.replace("\n", "\r\n"), wrapped.replace("\n", "\\n"), packed.rstrip("="), f" {packed}\n",
        base64.urlsafe_b64encode(key.encode()).decode(), base64.b64encode(key.replace("\n", "\\n").encode()).decode(),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(15))
def test_a_key_signs_in_whatever_form_a_secret_store_keeps_it(number: int) -> None:
    key = foreign_key().reveal()

    read = plain_pem(stored(key)[number])

    assert read == key
    assert jwt.encode({"iss": "1"}, read, algorithm="RS256")


@pytest.mark.parametrize("raw", ["hush-hush!", "aHVzaA==", "/////w==", "hush hush", "LS0tLS1CRUdJTg=\n="])
def test_what_is_no_key_is_a_problem_that_does_not_quote_it(raw: str) -> None:
    environment = of(KEY=raw)

    assert environment.pem("KEY") == ""
    (problem,) = environment.problems
    assert problem.startswith("RUNS_FLEET_KEY: expected a PEM file, plain or as base64; found ") and raw not in problem
    with pytest.raises(ValueError, match=r"."):
        plain_pem(raw)


def test_a_missing_key_is_one_problem_and_not_two() -> None:
    environment = of(KEY=" ")

    assert environment.pem("KEY") == ""
    assert environment.problems == ["RUNS_FLEET_KEY is missing: expected the App's private key, base64 of the PEM file"]


def test_all_problems_are_kept_in_the_order_in_which_they_are_found() -> None:
    environment = of(A="x", B="y")
    environment.number("A", 1.0)
    environment.switch("B", default=True)
    environment.required("C", "something")

    assert [problem.split()[0].rstrip(":") for problem in environment.problems] == [f"RUNS_FLEET_{name}" for name in "ABC"]
