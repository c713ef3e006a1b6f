"""Machines of one fleet as processes of their own, all with the same release to offer at the same moment."""

from __future__ import annotations

import multiprocessing
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from agent.adapters.aws.clients import Clients
from agent.adapters.aws.s3 import S3Objects
from agent.adapters.aws.signing import Region
from agent.adapters.http import MetadataService
from agent.runner.cache import ReleaseCache

READY_S = 600.0


def offer(machines: int, environment: dict[str, str], bucket: str, version: str, archive: Path, sha256: str) -> list[bool]:
    """For each machine, whether it was the one that stored the release. They look first, then wait for each other."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.agent.uploaders", "boto3"])
    barrier, answers = context.Barrier(machines), context.Queue()
    told = (barrier, answers, environment, bucket, version, archive, sha256)
    processes = [context.Process(target=_machine, args=told, daemon=True) for _ in range(machines)]
    for process in processes:
        process.start()
    try:
        return [answers.get(timeout=READY_S) for _ in processes]
    finally:
        for process in processes:
            process.join(10)
            process.kill()


def _machine(
    barrier: Barrier, answers: Any, environment: dict[str, str], bucket: str, version: str, archive: Path, sha256: str
) -> None:
    clients = Clients(Region(environment, MetadataService({})))
    cache = ReleaseCache(S3Objects(clients, bucket), "x64")
    assert cache.find(version) is None
    barrier.wait(READY_S)
    answers.put(cache.store(version, archive, sha256))
