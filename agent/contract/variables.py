"""The environment variables that both sides read begin with one prefix; what nobody reads is warned of in the same way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

PREFIX = "RUNS_FLEET_"
LIKE = 0.7
"""How alike two names are, of 1, so that one may have been meant for the other."""


def unknown_names(environment: Mapping[str, str], known: Iterable[str], whose: str, page: str) -> list[str]:
    """A warning for each variable with our prefix that is not in `known` (names without it), with the most similar one there is.

    `whose`: the side that would have read it; `page`: the page that lists its settings.
    """
    names = list(known)
    strange = sorted(name for name in environment if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in names)
    return [f"{name} is not a setting of the {whose}, and does nothing: {_hint(name, names, page)}" for name in strange]


def _hint(name: str, known: list[str], page: str) -> str:
    import difflib  # rarely needed, and the agent's start is measured

    near = difflib.get_close_matches(name.removeprefix(PREFIX), known, n=1, cutoff=LIKE)
    return f"did you mean {PREFIX}{near[0]}?" if near else f"{page} lists those there are"
