"""moto, quicker: its answers are the same as its own."""

from __future__ import annotations

from typing import Any

import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2.models import EC2Backend

from sandbox.quick import Dispatcher, quicken

ASKED: list[dict[str, list[str]] | None] = [
    None, {"resource-id": ["i-1"]}, {"resource-id": ["i-1", "i-2", "i-1"]}, {"resource-id": ["i-9"]}, {"resource-id": ["i-*"]},
    {"resource-id": ["i-1"], "key": ["stack"]}, {"key": ["stack"]}, {"resource-id": ["subnet-1"]},
]  # fmt: skip


@pytest.fixture(scope="module")
def backend() -> Any:
    made = EC2Backend("us-east-1", DEFAULT_ACCOUNT_ID)
    for number in range(3):
        made.create_tags([f"i-{number}", f"subnet-{number}"], {"stack": "sandbox", "number": str(number)})
    return made


@pytest.mark.parametrize("filters", ASKED, ids=str)
def test_tags_are_told_as_moto_tells_them(backend: Any, filters: dict[str, list[str]] | None) -> None:
    own = EC2Backend.describe_tags(backend, filters=filters)
    quicken(backend)

    assert sorted(map(str, backend.describe_tags(filters=filters))) == sorted(map(str, own))


def test_tags_that_come_later_are_told_too(backend: Any) -> None:
    quicken(backend)
    backend.create_tags(["i-7"], {"stack": "later"})

    assert [told["value"] for told in backend.describe_tags(filters={"resource-id": ["i-7"]})] == ["later"]


@pytest.mark.parametrize(
    "host", [None, "moto_api", "dynamodb", "ec2.us-east-1.amazonaws.com", "bucket.s3.us-east-1.amazonaws.com"]
)
def test_a_service_is_found_by_its_host_as_moto_finds_it(host: str | None) -> None:
    quick = Dispatcher()

    assert [quick.get_backend_for_host(host) for _ in range(2)] == [super(Dispatcher, quick).get_backend_for_host(host)] * 2
