"""Whether the SQS queues are of the kind that their messages need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from agent.contract.variables import PREFIX
from orchestrator.readiness import Fault

VISIBILITY_S = 30
"""Seconds for which a received message is left to whoever received it: a turn that waits for AWS takes half of it."""
RETENTION_S = 3600
"""Seconds for which a message nobody takes is kept at least: an orchestrator that is replaced, or repaired, takes minutes."""


def faults_of_queue(setting: str, url: str, found: Mapping[str, str] | None, *, fifo: bool) -> Iterator[Fault]:
    """`found`: `Attributes` of GetQueueAttributes' answer, None: there is no such queue. `fifo`: what it has to be."""
    setting = PREFIX + setting
    kind = "a FIFO queue" if fifo else "a standard queue"
    name = (url.rpartition("/")[2] or "runs-fleet").removesuffix(".fifo") + (".fifo" if fifo else "")
    attributes = f"VisibilityTimeout={VISIBILITY_S}" + (",FifoQueue=true" if fifo else "")
    create = f"aws sqs create-queue --queue-name {name} --attributes {attributes}, and name its URL in {setting}"
    if found is None:
        yield Fault(setting=setting, found=f"no queue {url}", expected=kind, remedy=create, holds=True)
        return
    is_fifo = found.get("FifoQueue", "false") == "true"
    if is_fifo != fifo:
        is_one = "a FIFO queue" if is_fifo else "a standard queue"
        yield Fault(setting=setting, found=f"{url} is {is_one}", expected=kind, remedy=create, holds=True)
    for attribute, least in (("VisibilityTimeout", VISIBILITY_S), ("MessageRetentionPeriod", RETENTION_S)):
        value = int(found.get(attribute, least))
        if value < least:
            remedy = f"aws sqs set-queue-attributes --queue-url {url} --attributes {attribute}={least}"
            yield Fault(
                setting=setting, found=f"{url} has {attribute}={value}", expected=f"{least} seconds or more", remedy=remedy
            )


def faults_of_names(names: Mapping[str, str]) -> Iterator[Fault]:
    """`names`: each table's name and each queue's URL by its setting."""
    for name, number in Counter(names.values()).items():
        if number > 1:
            shared = [PREFIX + setting for setting, one in names.items() if one == name]
            yield Fault(
                setting=shared[-1], found=f"{name} is named by {' and '.join(shared)}", expected="one of its own for each",
                remedy=f"create another one and name it in {shared[-1]}", holds=True,
            )  # fmt: skip
