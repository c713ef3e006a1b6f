"""moto, quicker where a thousand machines are too many for it: the same answers, found without looking through everything.

It looks through the tags of all resources for those of one, through its own folders for each call's service, through its own
classes for each call's method, sorts a table's every item for each query, and looks in each attribute of an item for each of the
ten types under each spelling. And what it forgets: the architecture of an image.
"""

from __future__ import annotations

import copy
import os
import random
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from typing import Any

from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT  # type: ignore[attr-defined]
from moto.core import errors, responses, utils
from moto.core.serialize import SERVICE_SPECIFIC_SERIALIZERS, JSONSerializer
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table
from moto.ec2.models import EC2Backend, ec2_backends
from moto.ec2.models.tags import TagBackend
from moto.server import DomainDispatcherApplication, create_backend_app  # type: ignore[attr-defined]

os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
"""moto makes 1,300 images of Amazon's whenever its EC2 begins anew. Source: moto/settings.py."""
_METHODS, _SPELLED = cache(utils.method_names_from_class), cache(utils.camelcase_to_underscores)
_ERRORS = cache(errors.ErrorLookupFactory)
"""What moto works out for each call though it is the same for each: a class's methods, an action's name as a method's, a
service's errors."""
_WILD = frozenset("*?[]\\")
"""Of an id that is a pattern: moto's own way answers it."""


class Dispatcher(DomainDispatcherApplication):
    """moto's services as one WSGI application."""

    def __init__(self) -> None:
        SERVICE_SPECIFIC_SERIALIZERS["dynamodb"] = {"json": AttributeSerializer}
        for module, name, remembered in (
            (responses, "method_names_from_class", _METHODS),
            (responses, "camelcase_to_underscores", _SPELLED),
            (errors, "ErrorLookupFactory", _ERRORS),
        ):
            setattr(module, name, remembered)
        super().__init__(create_backend_app)
        self._backend_of = cache(super().get_backend_for_host)

    def get_backend_for_host(self, host: str | None) -> Any:
        """Which service a host's name means: always the same one."""
        return self._backend_of(host)


class AttributeSerializer(JSONSerializer):
    """moto's own, but an attribute's value that already is as DynamoDB tells it is told as it is."""

    def _serialize_type_structure(self, serialized: Any, value: Any, shape: Any, key: str) -> None:
        if key and shape.name == "AttributeValue" and _is_as_told(value):
            self._default_serialize(serialized, value, shape, key)
        else:
            super()._serialize_type_structure(serialized, value, shape, key)


def _is_as_told(value: Any) -> bool:
    """Whether it is a text, a number, a truth, or a map or list of such, under the one name of its type."""
    if not isinstance(value, dict) or len(value) != 1:
        return False
    ((kind, told),) = value.items()
    if kind == "M":
        return isinstance(told, dict) and all(map(_is_as_told, told.values()))
    if kind == "L":
        return isinstance(told, list) and all(map(_is_as_told, told))
    return type(told) is {"S": str, "N": str, "BOOL": bool}.get(kind)


def quicken(ec2: Any) -> None:
    """Give this backend of moto's a quicker `describe_tags`. A reset takes it away again."""

    def describe_tags(filters: dict[str, list[str]] | None = None) -> Any:
        """As moto does it, from tags by resource."""
        wanted = filters.get("resource-id") if filters is not None and set(filters) == {"resource-id"} else None
        if wanted is None or any(_WILD & set(one) for one in wanted):
            return EC2Backend.describe_tags(ec2, filters=filters)
        return [told for one in dict.fromkeys(wanted) if one in ec2.tags for told in _only(ec2, one)]

    ec2.describe_tags = describe_tags


class _Tables:
    """As much of a backend as a query asks: one table, that knows of no other items than those with these hash keys."""

    def __init__(self, table: Table, wanted: Iterable[tuple[str, dict[str, str]]]) -> None:
        self._table = copy.copy(table)
        keys = {name: next(iter(told.items())) for name, told in wanted}
        there: dict[Any, Any] = dict(table.items)
        if table.hash_key_attr in keys:
            own = DynamoType(dict([keys[table.hash_key_attr]]))
            there = {own: there[own]} if own in there else {}
        self._table.items = defaultdict(dict, {key: _with(keys, of) for key, of in there.items()})

    def get_table(self, _: str) -> Table:
        """The one table, whatever name is asked for."""
        return self._table


def _with(keys: dict[str, tuple[str, str]], of: dict[Any, Any]) -> dict[Any, Any]:
    found = {}
    for row, item in list(of.items()):
        told = [item.attrs.get(name) for name in keys]
        if [one and (one.type, one.value) for one in told] == list(keys.values()):
            found[row] = item
    return found


def quicken_queries(dynamodb: Any) -> None:
    """Give this backend of moto's a quicker `query`. A reset takes it away again."""

    def query(table_name: str, *told: Any, hash_key_conditions: Any = None, **more: Any) -> Any:
        """As moto does it, from one partition."""
        table = dynamodb.get_table(table_name)
        texts = hash_key_conditions and all(list(value) == ["S"] for _, value in hash_key_conditions)
        seen = _Tables(table, hash_key_conditions) if texts and table.has_range_key else dynamodb
        own: Any = DynamoDBBackend.query  # which asks its backend for the table, and for nothing else
        return own(seen, table_name, *told, hash_key_conditions=hash_key_conditions, **more)

    dynamodb.query = query


def _only(ec2: EC2Backend, resource_id: str) -> Any:
    """moto's own answer, of a backend that knows no other resource."""
    alone = TagBackend()
    alone.tags[resource_id] = ec2.tags[resource_id]
    return alone.describe_tags(filters={"resource-id": [resource_id]})


def registered_image(ec2: Any, architecture: str) -> str:
    """Registers an image for `architecture` (`x86_64`, `arm64`) with a moto of this process; returns its id."""
    name = f"runs-fleet-{random.getrandbits(32):08x}"
    image_id = str(ec2.register_image(Name=name, Architecture=architecture)["ImageId"])
    ec2_backends[ACCOUNT][ec2.meta.region_name].amis[image_id].architecture = architecture
    return image_id
