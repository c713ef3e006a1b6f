"""What EC2 offers: asked for once a day, believed until it says otherwise, and priced if money is limited."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest

from orchestrator.adapters.aws import Clients
from orchestrator.adapters.market import SOLD, Market
from orchestrator.catalogue import AGAIN_S, FIRST_S, RENEWED_S, SNAPSHOT, Catalogue, fitting, snapshot
from orchestrator.errors import OrchestratorError, ServiceFailed
from orchestrator.labels import Ask
from orchestrator.planning import STEPS, launch_request
from orchestrator.services import Site
from tests.answering import Answering, Asked
from tests.conftest import Moto
from tests.orchestrator.memory import World, an_event, some_settings

SHIPPED = snapshot(SNAPSHOT.read_text("utf-8"))
ZONES = ("us-east-1a", "us-east-1b")


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
    made = Prices()
    monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", made.server.url)
    yield made
    made.server.stop()


def test_types_come_with_the_zones_they_are_offered_in_and_with_their_price(moto: Moto, prices: Prices) -> None:
    kinds = {kind.name: kind for kind in Market(Clients(boto3.session.Session()), "us-east-1", ZONES, priced=True).kinds()}

    assert (kinds["m7i.large"].cpus, kinds["m7i.large"].ram_gib, kinds["m7i.large"].usd) == (2, 8.0, 0.1008)
    assert (kinds["c7i.xlarge"].usd, kinds["c7i.large"].usd) == (0.1785, 0.0)
    assert all(kind.zones and set(kind.zones) <= set(ZONES) for kind in kinds.values())
    told = {one["Field"]: one["Value"] for one in prices.asked[0]["Filters"]}
    assert told == {**SOLD, "regionCode": "us-east-1"} and len(prices.asked) == 2


def test_spot_prices_are_those_of_the_cheapest_zone(moto: Moto) -> None:
    kinds = Market(Clients(boto3.session.Session()), "us-east-1", ZONES, priced=False).kinds()

    assert {kind.spot_usd for kind in kinds if kind.name in ("m7i.large", "c7i.large")} == {0.00001}, "moto has one for all"


@pytest.mark.parametrize(("step", "first"), [(0, "m7i.xlarge"), (2, "m6i.xlarge")])
def test_the_cheapest_in_its_market_is_named_first_and_one_without_a_price_last(step: int, first: str) -> None:
    known = {"m7i.xlarge": {"spot_usd": 0.01, "usd": 0.3}, "m6i.xlarge": {"spot_usd": 0.02, "usd": 0.2}}
    kinds = tuple(replace(kind, **known.get(kind.name, {})) for kind in fitting(SHIPPED, Ask(), "amd64"))
    site = Site({"amd64": ("t", "1")}, {"a": "subnet-1"})
    request = launch_request(
        some_settings(), site, Ask(), kinds, STEPS[step], launch_id="l-1", number=0, count=1, spec="s", expires_at=1.0
    )

    named = [one["InstanceType"] for one in json.loads(request)["LaunchTemplateConfigs"][0]["Overrides"]]
    assert named[0] == first and set(named[:2]) == set(known)
    assert named[2:] == [kind.name for kind in kinds if kind.name not in known][: len(named) - 2]


def test_without_a_limit_of_money_nobody_is_asked_for_prices(moto: Moto, prices: Prices) -> None:
    kinds = Market(Clients(boto3.session.Session()), "us-east-1", ZONES, priced=False).kinds()

    assert kinds and not prices.asked and {kind.usd for kind in kinds} == {0.0}


def test_the_shipped_catalogue_knows_the_same_types_as_one_asked_for(moto: Moto) -> None:
    """moto's types are a copy of EC2's: what is asked for serves what the shipped one serves."""
    asked = Market(Clients(boto3.session.Session()), "us-east-1", ZONES, priced=False).kinds()

    for ask in (Ask(), Ask(cpu_min=8, cpu_max=16), Ask(families=("r7i",))):
        assert {k.name for k in fitting(asked, ask, "amd64")} <= {k.name for k in fitting(SHIPPED, ask, "amd64")}
        assert fitting(asked, ask, "amd64")


def test_it_is_asked_once_a_day_and_sooner_if_it_did_not_answer() -> None:
    answers: list[Any] = [ServiceFailed("ec2", "Unavailable"), SHIPPED[:3], SHIPPED[:2]]

    def fresh() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    catalogue = Catalogue(SHIPPED, fresh)
    assert [catalogue.renew(at) for at in (1000.0, 999.0 + FIRST_S)] == [None, None], (
        "a process that begins has other things to do"
    )
    with pytest.raises(OrchestratorError):
        catalogue.renew(1000.0 + FIRST_S)
    assert tuple(catalogue) == SHIPPED

    began = 1000.0 + FIRST_S + AGAIN_S
    moments = [began - 1.0, began, began + 1.0, began + RENEWED_S - 1.0, began + RENEWED_S]
    assert [catalogue.renew(at) for at in moments] == [None, 3, None, None, 2]
    assert tuple(catalogue) == SHIPPED[:2]


def test_an_empty_answer_is_no_reason_to_serve_nobody() -> None:
    catalogue = Catalogue(SHIPPED, tuple, renew_at=1.0)

    assert catalogue.renew(1.0) == len(SHIPPED)


def test_a_type_is_asked_for_only_where_it_is_offered() -> None:
    kinds = fitting(SHIPPED, Ask(), "amd64")
    kinds = (replace(kinds[0], zones=("a",)), replace(kinds[1], zones=("a", "b")), *kinds[2:])
    site = Site({"amd64": ("t", "1")}, {"a": "subnet-1", "b": "subnet-2"})
    request = launch_request(
        some_settings(), site, Ask(), kinds, STEPS[0], launch_id="l-1", number=0, count=1, spec="s", expires_at=1.0
    )

    named = [(one["InstanceType"], one["SubnetId"]) for one in json.loads(request)["LaunchTemplateConfigs"][0]["Overrides"]]
    assert [subnet for kind, subnet in named if kind == kinds[0].name] == ["subnet-1"]
    assert [subnet for kind, subnet in named if kind == kinds[1].name] == ["subnet-1", "subnet-2"]


def test_what_is_heard_in_a_tick_decides_the_next_launch_and_a_failure_keeps_the_tick_from_nothing() -> None:
    world = World()
    few = tuple(kind for kind in SHIPPED if kind.name == "m7i.xlarge")
    answers: list[Any] = [few]
    world.turns.launching.catalogue.fresh = lambda: answers.pop()
    world.turns.on_tick()
    world.clock.at += FIRST_S
    world.turns.on_tick()
    world.told(an_event())

    overrides = world.compute.requests[0]["LaunchTemplateConfigs"][0]["Overrides"]
    assert {one["InstanceType"] for one in overrides} == {"m7i.xlarge"}
    world.clock.at += RENEWED_S
    assert world.turns.on_tick() == 0 and "sweep.unattended" in world.journal.names
