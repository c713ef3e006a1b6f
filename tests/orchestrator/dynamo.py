"""Tables for tests: the twin in memory, and DynamoDB as moto answers."""

from __future__ import annotations

import pytest

from orchestrator.adapters.aws import Clients
from orchestrator.adapters.dynamodb import DynamoTables, table_definition
from orchestrator.ports import Tables
from simulation.clock import VirtualTime
from simulation.tables import MemoryTables

CLIENTS = Clients()
"""Made when first needed, which is inside a test; the AWS they reach is one for the process."""
KEEPERS = ("memory", "dynamodb")
"""Whoever keeps tables: the parameters of a fixture that returns `tables_of(request)`."""


def dynamo(clients: Clients = CLIENTS) -> DynamoTables:
    """Both tables of a stack, just made, in the DynamoDB that the clients reach."""
    for name in ("some-jobs", "some-sessions"):
        clients.get("dynamodb").create_table(**table_definition(name))
    return DynamoTables(clients, {"jobs": "some-jobs", "sessions": "some-sessions"})


def tables_of(request: pytest.FixtureRequest) -> Tables:
    """Empty tables of the keeper that the fixture's parameter names."""
    if request.param == "memory":
        return MemoryTables(VirtualTime())
    request.getfixturevalue("moto")
    return dynamo()
