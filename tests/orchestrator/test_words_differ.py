"""The agent's word and GitHub's: where they differ, the orchestrator says so."""

from __future__ import annotations

import pytest

from simulation.examples import an_event
from simulation.world import World


def ended(status: str, conclusion: str, *, agent_first: bool) -> World:
    world = World()
    world.told(an_event())
    session = world.sessions[-1]
    taken = an_event("in_progress", runner_name=session.registration_name)
    over = an_event("completed", runner_name=session.registration_name, conclusion=conclusion)
    world.told(taken)
    if agent_first:
        world.hear_the_end(status, session=session)
        world.told(over)
    else:
        world.told(over)
        world.hear_the_end(status, session=session)
    return world


@pytest.mark.parametrize("agent_first", [True, False])
@pytest.mark.parametrize(
    ("status", "conclusion", "differ"),
    [
        ("success", "success", False), ("success", "neutral", False), ("success", "skipped", False),
        ("failure", "failure", False),
        ("failure", "cancelled", False), ("timeout", "failure", False), ("success", "failure", True),
        ("success", "cancelled", True),
        ("success", "timed_out", True), ("failure", "success", True),
    ],
)  # fmt: skip
def test_a_difference_between_the_agents_word_and_githubs_is_said(
    status: str, conclusion: str, differ: bool, agent_first: bool
) -> None:
    world = ended(status, conclusion, agent_first=agent_first)

    said = world.journal.of("job.words_differ")
    assert len(said) == differ
    assert all((one["agent"], one["github"]) == (status, conclusion) for one in said)
