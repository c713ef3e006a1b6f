"""What EC2 offers here: the types, their zones, and their prices if money is limited."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from orchestrator.adapters.aws import Clients
from orchestrator.adapters.ec2_offerings import SOLD, Ec2Offerings
from orchestrator.compute.ec2.catalogue import SNAPSHOT, InstanceType, fitting, instance_type, rows, shipped_types, snapshot
from orchestrator.errors import ServiceFailed, Throttled
from orchestrator.store.request import MachineRequest
from tests.answering import Answering, Asked
from tests.conftest import Moto

SHIPPED = shipped_types()
ZONES = ("us-east-1a", "us-east-1b")


class Patient(Clients):
    """Clients that wait long and ask EC2 once: its list of all types is some megabytes, which take their time."""

    def __init__(self) -> None:
        self.listed: dict[str, list[dict[str, Any]]] = {}

    def get(self, service: str, region: str | None = None) -> Any:
        """A client of its own for each call."""
        client = boto3.client(service, region_name=region, config=Config(read_timeout=300))
        return client if service == "pricing" else Asking(client, self.listed)


class Asking:
    """A client whose lists are kept: list and what was wanted -> pages. When it was asked makes no difference."""

    def __init__(self, client: Any, listed: dict[str, list[dict[str, Any]]]) -> None:
        self._client, self._listed, self._name = client, listed, ""

    def get_paginator(self, name: str) -> Asking:
        """The list of this name."""
        self._name = name
        return self

    def paginate(self, **wanted: Any) -> list[dict[str, Any]]:
        """Its pages."""
        key = json.dumps([self._name, {name: value for name, value in wanted.items() if name != "StartTime"}])
        if key not in self._listed:
            self._listed[key] = list(self._client.get_paginator(self._name).paginate(**wanted))
        return self._listed[key]


def product(name: str, usd: str, unit: str = "Hrs") -> str:
    """As the price list has it."""
    dimension = {"unit": unit, "pricePerUnit": {"USD": usd}}
    terms = {"OnDemand": {"X.Y": {"priceDimensions": {"X.Y.Z": dimension}}}}
    return json.dumps({"product": {"attributes": {"instanceType": name}}, "terms": terms})


class Prices:
    """The price list: two pages."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        pages = [[product("m7i.large", "0.1008"), product("c7i.large", "0.0000")], [product("c7i.xlarge", "0.1785"), "{}"]]

        def answer(asked: Asked) -> tuple[int, bytes]:
            told = json.loads(asked.body)
            self.asked.append(told)
            at = int(told.get("NextToken", 0))
            more = {"NextToken": "1"} if at == 0 else {}
            return 200, json.dumps({"FormatVersion": "aws_v1", "PriceList": pages[at], **more}).encode()

        self.server = Answering(answer)


@pytest.fixture
def prices(monkeypatch: pytest.MonkeyPatch) -> Iterator[Prices]:
    """The price list, where the process's own environment finds it."""
    made = Prices()
    monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", made.server.url)
    yield made
    made.server.stop()


@dataclass(frozen=True)
class Unpriced:
    """What was told where money is not limited, and what the price list was asked meanwhile. `clients` have EC2's lists."""

    types: tuple[InstanceType, ...]
    asked: list[dict[str, Any]]
    clients: Patient

    @property
    def described(self) -> list[dict[str, Any]]:
        """Each type as EC2 describes it."""
        return [one for pages in self.clients.listed.values() for page in pages for one in page.get("InstanceTypes", ())]


@pytest.fixture(scope="module")
def unpriced(moto_server: str) -> Iterator[Unpriced]:
    """Asked for once: the list of all types is some megabytes."""
    price_list, clients = Prices(), Patient()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {**Moto(moto_server).environment, "AWS_ENDPOINT_URL_PRICING": price_list.server.url}.items():
            environment.setenv(name, value)
        yield Unpriced(Ec2Offerings(clients, "us-east-1", ZONES, priced=False).types(), price_list.asked, clients)
    price_list.server.stop()


def test_types_come_with_the_zones_they_are_offered_in_and_with_their_price(
    moto: Moto, prices: Prices, unpriced: Unpriced
) -> None:
    types = {it.name: it for it in Ec2Offerings(unpriced.clients, "us-east-1", ZONES, priced=True).types()}

    assert (types["m7i.large"].cpus, types["m7i.large"].ram_gib, types["m7i.large"].usd) == (2, 8.0, 0.1008)
    assert (types["c7i.xlarge"].usd, types["c7i.large"].usd) == (0.1785, 0.0)
    assert all(it.zones and set(it.zones) <= set(ZONES) for it in types.values())
    told = {one["Field"]: one["Value"] for one in prices.asked[0]["Filters"]}
    assert told == {**SOLD, "regionCode": "us-east-1"} and len(prices.asked) == 2


def test_a_catalogue_is_made_of_what_ec2_describes(unpriced: Unpriced) -> None:
    assert [instance_type(row) for row in rows(unpriced.described)] == list(snapshot(SNAPSHOT.read_text("utf-8")))


def test_spot_prices_are_those_of_the_cheapest_zone(unpriced: Unpriced) -> None:
    assert {it.spot_usd for it in unpriced.types if it.name in ("m7i.large", "c7i.large")} == {0.00001}, "moto has one for all"


def test_without_a_limit_of_money_nobody_is_asked_for_prices(unpriced: Unpriced) -> None:
    assert unpriced.types and not unpriced.asked and {it.usd for it in unpriced.types} == {0.0}


def test_the_shipped_catalogue_knows_the_same_types_as_one_asked_for(unpriced: Unpriced) -> None:
    """moto's types are a copy of EC2's: what is asked for serves what the shipped one serves."""
    for ask in (MachineRequest(), MachineRequest(cpu_min=8, cpu_max=16), MachineRequest(families=("r7i",))):
        assert {it.name for it in fitting(unpriced.types, ask)} <= {it.name for it in fitting(SHIPPED, ask)}
        assert fitting(unpriced.types, ask)


MACHINE = {
    "VCpuInfo": {"DefaultVCpus": 2}, "MemoryInfo": {"SizeInMiB": 8192}, "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
}  # fmt: skip
LISTS: dict[str, list[dict[str, Any]]] = {
    "describe_instance_types": [
        {"InstanceTypes": [{**MACHINE, "InstanceType": "m7i.large"}]},
        {"InstanceTypes": [{**MACHINE, "InstanceType": "m6i.large"}]},
    ],
    "describe_instance_type_offerings": [
        {"InstanceTypeOfferings": [{"InstanceType": "m7i.large", "Location": "us-east-1b"}]},
        {"InstanceTypeOfferings": [{"InstanceType": "m7i.large", "Location": "us-east-1a"}]},
    ],
    "describe_spot_price_history": [
        {"SpotPriceHistory": [{"InstanceType": "m7i.large", "SpotPrice": price} for price in prices]}
        for prices in (["0.05", "0.03"], ["0.04"])
    ],
    "get_products": [{"PriceList": []}],
}  # fmt: skip
"""EC2's lists, page by page: two types of which one is offered, in two zones."""


class Listed(Clients):
    """Clients whose lists a test writes; `failing` is refused with a code."""

    def __init__(self, failing: str = "", code: str = "", lists: dict[str, list[dict[str, Any]]] = LISTS) -> None:
        self.failing, self.code, self.lists = failing, code, lists
        self.wanted: dict[str, dict[str, Any]] = {}

    def get(self, service: str, region: str | None = None) -> Any:
        """Itself: it stands for the client of every service."""
        return self

    def get_paginator(self, name: str) -> Any:
        """The list of this name."""
        return Listing(self, name)


class Listing:
    """One list: its first page comes, and then the error, if there is to be one."""

    def __init__(self, of: Listed, name: str) -> None:
        self.of, self.name = of, name

    def paginate(self, **wanted: Any) -> Iterator[dict[str, Any]]:
        """Page by page."""
        self.of.wanted[self.name] = wanted
        for page in self.of.lists[self.name]:
            yield page
            if self.name == self.of.failing:
                raise ClientError({"Error": {"Code": self.of.code, "Message": "no"}}, self.name)


def test_of_several_prices_on_spot_the_lowest_counts_and_a_type_offered_nowhere_here_is_left_out() -> None:
    clients = Listed()
    (only,) = Ec2Offerings(clients, "us-east-1", ZONES, priced=True).types()

    assert (only.name, only.spot_usd, only.usd, only.zones) == ("m7i.large", 0.03, 0.0, ZONES)
    assert clients.wanted["describe_spot_price_history"]["Filters"] == [{"Name": "availability-zone", "Values": list(ZONES)}]
    assert clients.wanted["describe_instance_type_offerings"]["Filters"] == [{"Name": "location", "Values": list(ZONES)}]


def test_prices_on_spot_that_cannot_be_had_keep_nobody_from_knowing_what_is_offered() -> None:
    clients = Listed("describe_spot_price_history", "UnauthorizedOperation")
    (only,) = Ec2Offerings(clients, "us-east-1", ZONES, priced=False).types()

    assert (only.name, only.spot_usd, only.zones) == ("m7i.large", 0.0, ZONES)


@pytest.mark.parametrize("failing", ["describe_instance_types", "describe_instance_type_offerings", "get_products"])
def test_half_a_list_is_no_list(failing: str) -> None:
    with pytest.raises(ServiceFailed, match="UnauthorizedOperation"):
        Ec2Offerings(Listed(failing, "UnauthorizedOperation"), "us-east-1", ZONES, priced=True).types()
    with pytest.raises(Throttled):
        Ec2Offerings(Listed(failing, "RequestLimitExceeded"), "us-east-1", ZONES, priced=True).types()


def test_a_price_by_another_unit_or_of_a_product_without_a_type_is_no_price() -> None:
    odd = [product("m7i.large", "9", "Quantity"), product("", "9"), json.dumps({"terms": {"OnDemand": {}}})]
    for listed, usd in ((odd, 0.0), ([*odd, product("m7i.large", "0.1")], 0.1)):
        clients = Listed(lists={**LISTS, "get_products": [{"PriceList": listed}]})
        (only,) = Ec2Offerings(clients, "us-east-1", ZONES, priced=True).types()

        assert only.usd == usd
