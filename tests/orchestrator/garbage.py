"""What tests of the garbage collection share: ticks one after another, and a machine that no record knows."""

from __future__ import annotations

from simulation.world import World

STRANGER = "i-0123456789abcdef0"


def cleaned(world: World, *after_s: float) -> World:
    """Ticks, so long after one another."""
    for pause_s in after_s or (0.0,):
        world.clock.at += pause_s
        world.turns.on_tick()
    return world


def stranger(world: World, launch_id: str = "l-unknown", instance_id: str = STRANGER) -> None:
    """A machine with our tags that no record knows."""
    world.compute.instances[instance_id], world.compute.launched_by[instance_id] = "running", launch_id
