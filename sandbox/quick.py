"""moto, quicker where a thousand machines are too many for it: the same answers, found without looking through everything.

It looks through the tags of all resources for those of one, and through its own folders for each call's service.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from moto.ec2.models import EC2Backend
from moto.ec2.models.tags import TagBackend
from moto.server import DomainDispatcherApplication, create_backend_app  # type: ignore[attr-defined]

_WILD = frozenset("*?[]\\")
"""Of an id that is a pattern: moto's own way answers it."""


class Dispatcher(DomainDispatcherApplication):
    """moto's services as one WSGI application."""

    def __init__(self) -> None:
        super().__init__(create_backend_app)
        self._backend_of = cache(super().get_backend_for_host)

    def get_backend_for_host(self, host: str | None) -> Any:
        """Which service a host's name means: always the same one."""
        return self._backend_of(host)


def quicken(ec2: Any) -> None:
    """Give this backend of moto's a quicker `describe_tags`. A reset takes it away again."""

    def describe_tags(filters: dict[str, list[str]] | None = None) -> Any:
        wanted = filters.get("resource-id") if filters is not None and set(filters) == {"resource-id"} else None
        if wanted is None or any(_WILD & set(one) for one in wanted):
            return EC2Backend.describe_tags(ec2, filters=filters)
        return [told for one in dict.fromkeys(wanted) if one in ec2.tags for told in _only(ec2, one)]

    ec2.describe_tags = describe_tags


def _only(ec2: EC2Backend, resource_id: str) -> Any:
    """moto's own answer, of a backend that knows no other resource."""
    alone = TagBackend()
    alone.tags[resource_id] = ec2.tags[resource_id]
    return alone.describe_tags(filters={"resource-id": [resource_id]})
