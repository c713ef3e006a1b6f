"""A whole life in no time: the acceptance of the rule that every wait goes through a port."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path

import pytest

from agent.contract.messages import Status
from agent.phases import Phase
from simulation.agent_inbox import refused
from simulation.agent_runner import busy_for_ever, job
from simulation.agent_world import VirtualWorld, config_text, release_archive, unbake

SIX_HOURS_S = 6 * 3_600.0
NOT_THERE = refused("ParameterNotFound", "ssm:GetParameter")


def fetching_world(root: Path, *, configured_after_s: float, release_takes_s: float) -> VirtualWorld:
    """Pinned, nothing baked in: the release comes from GitHub while the configuration is still awaited."""
    world = VirtualWorld(root, RUNNER_VERSION="2.336.0")
    unbake(world.runner_dir)
    archive = release_archive()
    world.web.publish(archive)
    world.web.bytes_per_s = len(archive) / release_takes_s
    world.parameters.answers = [(0.0, NOT_THERE), (configured_after_s, config_text())]
    return world


def test_a_life_of_six_hours_is_simulated_to_its_end_and_leaves_no_thread(tmp_path: Path) -> None:
    threads_before = threading.active_count()
    world = fetching_world(tmp_path, configured_after_s=40.0, release_takes_s=30.0)
    world.processes.plan = busy_for_ever()

    ended = world.live()

    assert ended.age_s > SIX_HOURS_S
    assert (ended.exit_code, ended.word.status) == (0, Status.TIMEOUT)
    assert threading.active_count() == threads_before


def test_no_thread_is_ever_started_not_even_a_short_one(tmp_path: Path) -> None:
    started: list[str] = []
    threading.setprofile(lambda *_: started.append(threading.current_thread().name))
    try:
        fetching_world(tmp_path, configured_after_s=40.0, release_takes_s=30.0).live()
    finally:
        threading.setprofile(None)

    assert started == []


@pytest.mark.parametrize(("configured_after_s", "release_takes_s"), [(40.0, 30.0), (5.0, 60.0), (50.0, 50.0)])
def test_the_configuration_and_the_release_are_waited_for_side_by_side(
    tmp_path: Path, configured_after_s: float, release_takes_s: float
) -> None:
    world = fetching_world(tmp_path, configured_after_s=configured_after_s, release_takes_s=release_takes_s)

    phases_ms = world.live().word.phases_ms

    longer_ms = 1000 * max(configured_after_s, release_takes_s)
    assert longer_ms <= phases_ms["to_exec"] <= longer_ms + 6_000
    assert phases_ms["configuration"] >= 1000 * configured_after_s
    assert phases_ms["release"] >= 1000 * release_takes_s


def test_a_job_of_five_hours_and_fifty_nine_minutes_ends_as_itself(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = job(lasts_s=SIX_HOURS_S - 66.0)

    ended = world.live()

    assert (ended.exit_code, ended.word.status, ended.word.duration_seconds) == (0, Status.SUCCESS, 21_540)


def test_rq11_the_phases_of_a_life_come_in_their_order_each_once(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)

    world.live()

    assert world.journal.phases == list(Phase)


def test_the_safety_of_the_machine_is_looked_at_every_thirty_seconds_of_a_long_job(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = job(lasts_s=3_600.0)
    world.live()

    *looks, after = world.meters.looks
    gaps = [round(later - earlier, 6) for earlier, later in pairwise(looks)]
    assert set(gaps) == {30.0} and after > looks[-1]
    assert len(looks) == 3_606 // 30 + 1
