"""Names and keys: the same wish always has the same name, and no two wishes share one."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.store.naming import (
    NAME_LIMIT,
    OPEN_LAUNCHES,
    Scope,
    machine_kind,
    place_of,
    registration_name,
    repository_key,
    repository_of,
    session_of,
    set_key,
)

SESSION = "s-0123456789abcdef-7"


@given(st.lists(st.text(max_size=8), max_size=5), st.randoms())
def test_a_label_set_is_the_same_in_any_order_and_case(labels: list[str], chance: object) -> None:
    shuffled = sorted(labels, key=lambda _: chance.random())  # type: ignore[attr-defined]

    same = set_key("octo", "widgets", 1, tuple(labels))

    assert same == set_key("Octo", "WIDGETS", 1, tuple(label.casefold() for label in shuffled))
    assert same not in (set_key("octo", "widgets", 2, tuple(labels)), set_key("octo", "gadgets", 1, tuple(labels)))


def test_a_label_that_is_named_twice_is_no_other_label_set() -> None:
    assert set_key("octo", "widgets", 1, ("a", "b", "A")) == set_key("octo", "widgets", 1, ("b", "a"))


def test_no_two_label_sets_share_a_key() -> None:
    scopes = [("octo", "widgets", 1), ("octo", "widgets", 11), ("octo", "widgets1", 1), ("octo", "", 1), ("octowidgets", "", 1)]
    labels = [(), ("1",), ("a", "b"), ("ab",), ("a b",), ("a,b",), ("a",), ("b",)]

    keys = {set_key(owner, repo, group, asked) for (owner, repo, group), asked in itertools.product(scopes, labels)}

    assert len(keys) == len(scopes) * len(labels)
    assert not keys & {OPEN_LAUNCHES, repository_key("octo/widgets"), "waitlist", "repositories", "stack", "circuits"}


@pytest.mark.parametrize(("repo", "written"), [("Widgets", "Octo/Widgets"), ("", "Octo")])
def test_a_scope_is_named_as_written_for_people_and_without_case_for_keys(repo: str, written: str) -> None:
    scope = Scope("3", "Octo", repo)

    assert (repository_of(scope), place_of(scope)) == (written, written.casefold())


def test_a_repository_has_one_key_however_it_is_written() -> None:
    assert repository_key("Octo/Widgets") == repository_key("octo/widgets") == "repository/octo/widgets"
    assert repository_key("octo/") == repository_key("octo") != repository_key("octo/widgets")


def test_machines_count_apart_by_what_was_asked_for_and_by_their_image() -> None:
    kinds = {machine_kind(spec, image) for spec, image in itertools.product(("amd64", "arm64"), ("t:1", "t:2", ""))}

    assert len(kinds) == 6


@pytest.mark.parametrize("stack", ["tests", "x", "a-s-b", "s" * 43, "s" * 44, "s" * 100])
def test_a_long_stacks_name_is_shortened_and_the_sessions_never(stack: str) -> None:
    name = registration_name(stack, SESSION)

    assert len(name) == min(NAME_LIMIT, len(stack) + 1 + len(SESSION))
    assert name.endswith(f"-{SESSION}") and stack.startswith(name.removesuffix(f"-{SESSION}"))


@pytest.mark.parametrize("stack", ["tests", "a-s-b", "s" * 44, "s" * 100])
def test_a_runners_name_leads_back_to_its_session_for_its_own_stack_alone(stack: str) -> None:
    name = registration_name(stack, SESSION)

    assert session_of(stack, name) == SESSION
    assert [session_of(other, name) for other in ("other", "", f"x{stack}", stack.upper())] == [""] * 4


@pytest.mark.parametrize("name", ["", "tests", "tests-", SESSION, "somebody-else", "TESTS-s-1", "other-tests-s-1", "testss-1"])
def test_a_runner_that_is_none_of_ours_leads_nowhere(name: str) -> None:
    assert session_of("tests", name) == ""
