"""Runs whose jobs lose their machines: what is told of each of them, by GitHub and by the machine."""

from __future__ import annotations

import msgspec

from orchestrator.jobs.webhook import JobEvent
from simulation.examples import an_event
from simulation.world import World

RUN = "octo/widgets/7"
"""The key of the run of all these jobs."""


def running(world: World, *names: str) -> None:
    """A run of these jobs, each on a machine of its own."""
    world.github.attempts["7"] = 1
    for number, name in enumerate(names, 1):
        told = {"job_id": str(number), "name": name}
        world.told(an_event(**told))
        session = next(s for s in world.sessions if not s.bound_job)
        happens(world, an_event("in_progress", runner_name=session.registration_name, **told))


def happens(world: World, event: JobEvent) -> None:
    """GitHub's state changes, and it tells us."""
    world.github.jobs[event.job_id] = event
    world.told(event)


def ends(world: World, name: str, conclusion: str = "failure") -> None:
    """GitHub says so of the job of this name, in its latest attempt."""
    told = max((job for job in world.github.jobs.values() if job.name == name), key=lambda job: job.run_attempt)
    happens(world, msgspec.structs.replace(told, action="completed", conclusion=conclusion, at=world.clock.at))


def is_taken_away(world: World, name: str) -> None:
    """The machine of this job says that EC2 takes it, and is gone."""
    job = next(job for job in world.records.jobs() if job.name == name)
    session = next(s for s in world.sessions if s.bound_job == job.job_id)
    world.hear_the_end("interrupted", session=session, reason="spot_notice")
    world.compute.instances[session.instance_id] = "terminated"


def reruns(world: World) -> list[tuple[str, str]]:
    """What GitHub was asked to run again until some time from now: runs, each with a job or with nothing for all of it."""
    world.ticks(until_s=90.0)
    return world.github.reruns


def run_again(world: World) -> JobEvent:
    """A job lost its machine; its second attempt, which nobody has told us of yet."""
    running(world, "build")
    is_taken_away(world, "build")
    ends(world, "build")
    reruns(world)
    (again,) = [job for job in world.github.jobs.values() if job.run_attempt == 2]
    return again
