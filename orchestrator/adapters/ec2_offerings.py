"""What EC2 offers here: instance types, the zones they are offered in, and what they cost on demand."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from orchestrator.adapters.aws import Clients, pages
from orchestrator.compute.ec2.catalogue import InstanceType, instance_type, rows
from orchestrator.errors import ServiceFailed

PRICES_REGION = "us-east-1"
"""The price list is served from a few regions only. Source: "AWS Price List Query API endpoints"."""
SOLD = {
    "operatingSystem": "Linux", "tenancy": "Shared", "preInstalledSw": "NA", "capacitystatus": "Used",
    "licenseModel": "No License required",
}  # fmt: skip
"""What tells a type's plain on-demand price from its dozens of others. Source: the attributes of AmazonEC2 in the price list."""


GENERAL = [{"Name": "instance-type", "Values": ["c*", "m*", "r*", "t*"]}, {"Name": "bare-metal", "Values": ["false"]}]


SYSTEMS = ["Linux/UNIX", "Linux/UNIX (Amazon VPC)"]


class Ec2Offerings:
    """Three lists, each read whole. `region` is ours; without `priced` nobody is asked for prices."""

    def __init__(self, clients: Clients, region: str, zones: Iterable[str], *, priced: bool) -> None:
        self._clients, self._region, self._zones, self._priced = clients, region, tuple(zones), priced

    def types(self) -> tuple[InstanceType, ...]:
        """Every type of the general families that is offered in one of our zones. Raises: ServiceFailed."""
        ec2, offered = self._clients.get("ec2"), self._offered()
        described = ec2.get_paginator("describe_instance_types").paginate(Filters=GENERAL)
        found = rows(one for page in pages("ec2:DescribeInstanceTypes", described) for one in page["InstanceTypes"])
        prices, spot = dict(self._prices()) if self._priced else {}, self._spot_prices()
        known = (instance_type(row) for row in found)
        return tuple(
            replace(it, usd=prices.get(it.name, 0.0), spot_usd=spot.get(it.name, 0.0), zones=tuple(sorted(offered[it.name])))
            for it in known
            if it.name in offered
        )

    def _offered(self) -> dict[str, set[str]]:
        wanted = [{"Name": "location", "Values": list(self._zones)}]
        listed = self._clients.get("ec2").get_paginator("describe_instance_type_offerings")
        found: dict[str, set[str]] = defaultdict(set)
        for page in pages("ec2:DescribeInstanceTypeOfferings", listed.paginate(LocationType="availability-zone", Filters=wanted)):
            for one in page["InstanceTypeOfferings"]:
                found[one["InstanceType"]].add(one["Location"])
        return found

    def _spot_prices(self) -> dict[str, float]:
        """Of now, in the cheapest of our zones: a history that starts now has only that. Source: DescribeSpotPriceHistory.

        They only order what is asked for: where they cannot be had, what EC2 offers is known all the same.
        """
        with contextlib.suppress(ServiceFailed):
            return self._spot_prices_of_now()
        return {}

    def _spot_prices_of_now(self) -> dict[str, float]:
        listed = self._clients.get("ec2").get_paginator("describe_spot_price_history")
        zones = [{"Name": "availability-zone", "Values": list(self._zones)}]
        found: dict[str, float] = {}
        now = datetime.now(UTC)
        for page in pages(
            "ec2:DescribeSpotPriceHistory", listed.paginate(StartTime=now, ProductDescriptions=SYSTEMS, Filters=zones)
        ):
            for one in page["SpotPriceHistory"]:
                name, usd = one["InstanceType"], float(one["SpotPrice"])
                found[name] = min(usd, found.get(name, usd))
        return found

    def _prices(self) -> Iterator[tuple[str, float]]:
        sold = {**SOLD, "regionCode": self._region}
        wanted = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in sold.items()]
        listed = self._clients.get("pricing", PRICES_REGION).get_paginator("get_products")
        for page in pages("pricing:GetProducts", listed.paginate(ServiceCode="AmazonEC2", Filters=wanted)):
            yield from (price for product in page["PriceList"] if (price := _price(json.loads(product))) is not None)


def _price(product: dict[str, Any]) -> tuple[str, float] | None:
    """Type and dollars an hour; None where there is none. Source: "Reading the service price list file"."""
    name = product.get("product", {}).get("attributes", {}).get("instanceType", "")
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term.get("priceDimensions", {}).values():
            usd = float(dimension.get("pricePerUnit", {}).get("USD", 0.0))
            if name and usd and dimension.get("unit") == "Hrs":
                return name, usd
    return None
