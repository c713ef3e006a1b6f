"""Where configurations are laid down: the twin, SSM and S3 keep the same promises."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agent.contract.names import config_object, instance_of_object, parameter_name
from orchestrator.adapters.aws import Clients
from orchestrator.adapters.configurations import WRITTEN_WITHIN_S, S3Configurations, SsmConfigurations
from orchestrator.errors import ServiceFailed, Throttled
from orchestrator.ports import Configurations
from sandbox.cloud import Cloud
from sandbox.instances import Idle
from sandbox.rates import Rates
from sandbox.world import CloudClients
from simulation.clock import MORNING, VirtualTime
from simulation.services import MemoryConfigurations
from tests.conftest import Moto

CLIENTS = Clients()
"""Made when first needed, which is inside a test; the AWS they reach is one for the process."""
OURS, ROLE, BUCKET = "i-0a1", "AROAEXAMPLEROLEID", "config"
Make = Callable[[str], Configurations]
"""Of a stack; all share one store."""


@pytest.fixture(params=["twin", "ssm", "s3"])
def make(request: pytest.FixtureRequest, moto: Moto) -> Make:
    """Makes the configurations of a stack, of each kind of store."""
    if request.param == "ssm":
        return lambda stack: SsmConfigurations(CLIENTS, stack, 1000.0)
    if request.param == "s3":
        CLIENTS.get("s3").create_bucket(Bucket=BUCKET)
        return lambda stack: S3Configurations(CLIENTS, stack, BUCKET, ROLE)
    shared = MemoryConfigurations()

    def twin(stack: str) -> Configurations:
        made = MemoryConfigurations(stack_id=stack)
        made.values, made.stacks = shared.values, shared.stacks
        return made

    return twin


def test_it_is_there_once_it_is_laid_down_and_not_before(make: Make) -> None:
    configurations = make("tests")
    before = configurations.exists(OURS)

    made = configurations.put(OURS, "secret")

    assert (before, made, configurations.exists(OURS)) == (False, True, True)
    assert not configurations.exists(OURS[:-1])


def test_r7_what_is_there_is_not_overwritten_not_even_by_another_stack(make: Make) -> None:
    make("tests").put(OURS, "first")

    assert (make("tests").put(OURS, "second"), make("other").put(OURS, "third")) == (False, False)
    assert list(make("other").instances()) == []


def test_exactly_the_same_is_as_good_as_laid_down(make: Make) -> None:
    make("tests").put(OURS, "first")

    assert make("tests").put(OURS, "first")


def test_what_is_replaced_is_never_what_was_there_before(make: Make) -> None:
    configurations = make("tests")
    configurations.put(OURS, "first")

    replaced = configurations.replace(OURS, "second")

    assert replaced is configurations.exists(OURS)
    assert configurations.put(OURS, "second")


def test_it_may_be_deleted_twice_and_laid_down_again(make: Make) -> None:
    configurations = make("tests")
    configurations.put(OURS, "first")

    configurations.delete(OURS)
    configurations.delete(OURS)

    assert not configurations.exists(OURS)
    assert configurations.put(OURS, "second")


def test_those_of_this_stack_are_listed_and_no_others_over_all_pages(make: Make) -> None:
    make("other").put("i-0b", "theirs")
    mine = [f"i-{number:04x}" for number in range(60)]
    for instance_id in mine:
        make("tests").put(instance_id, "secret")

    assert sorted(make("tests").instances()) == mine


def test_a_parameter_carries_the_tags_that_its_readers_policy_asks_for(moto: Moto) -> None:
    SsmConfigurations(CLIENTS, "tests").put(OURS, "secret")

    name, ssm = parameter_name(OURS), CLIENTS.get("ssm")
    told = ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=name)["TagList"]
    stored = ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]
    tags = {tag["Key"]: tag["Value"] for tag in told}
    assert tags == {"InstanceId": OURS, "runs-fleet:managed": "true", "runs-fleet:stack": "tests"}
    assert (stored["Value"], stored["Type"]) == ("secret", "SecureString")


def test_an_object_lies_where_only_its_own_instance_may_read(moto: Moto) -> None:
    CLIENTS.get("s3").create_bucket(Bucket=BUCKET)
    S3Configurations(CLIENTS, "tests", BUCKET, ROLE).put(OURS, "secret")

    stored: dict[str, Any] = CLIENTS.get("s3").get_object(Bucket=BUCKET, Key=f"configs/{ROLE}:{OURS}/config")

    assert (stored["Body"].read(), stored["ServerSideEncryption"]) == (b"secret", "AES256")


def test_what_else_lies_in_the_bucket_is_nobodys_configuration(moto: Moto) -> None:
    s3 = CLIENTS.get("s3")
    s3.create_bucket(Bucket=BUCKET)
    for key in ("runners/2.300.0/x64/archive", f"configs/{ROLE}:somebody/config", f"configs/AROAOTHER:{OURS}/config"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"", Metadata={"stack": "tests"})

    assert list(S3Configurations(CLIENTS, "tests", BUCKET, ROLE).instances()) == []


def test_a_bucket_that_is_not_there_is_a_failure_in_our_words(moto: Moto) -> None:
    nowhere = S3Configurations(CLIENTS, "tests", "nowhere", ROLE)

    for act in (lambda: nowhere.put(OURS, "x"), lambda: nowhere.delete(OURS), lambda: list(nowhere.instances())):
        with pytest.raises(ServiceFailed, match="NoSuchBucket"):
            act()


@pytest.mark.parametrize("key", ["configs/AROAX:i-0a/config/", "configs/AROAX:i-0a", "AROAX:i-0a/config", "configs/i-0a/config"])
def test_only_a_whole_key_names_an_instance(key: str) -> None:
    assert instance_of_object(key) == ""
    assert instance_of_object(config_object("AROAX:i-0a")) == "i-0a"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """The sandbox's AWS, whose machines do nothing."""
    up = Cloud(tmp_path, Idle()).start()
    yield up
    up.stop()


def test_ssm_is_written_to_no_faster_than_it_takes_it(cloud: Cloud) -> None:
    clock = VirtualTime()
    cloud.faults.rates = Rates(clock=clock.monotonic_s)
    configurations = SsmConfigurations(CloudClients(cloud), "tests", 3.0, clock)

    assert all(configurations.put(f"i-{n:017x}", "secret") for n in range(8))
    assert (cloud.calls["PutParameter"], cloud.faults.seen["calls beyond the published rates"]) == (8, 0)


def test_what_ssm_refuses_as_too_fast_is_written_all_the_same(cloud: Cloud) -> None:
    """As when other replicas write, too."""
    seconds = itertools.count(step=0.1)
    cloud.faults.rates = Rates(clock=lambda: next(seconds))
    configurations = SsmConfigurations(CloudClients(cloud), "tests", 1000.0)

    with ThreadPoolExecutor(8) as pool:
        laid = list(pool.map(lambda n: configurations.put(f"i-{n:017x}", "secret"), range(8)))

    refused = cloud.faults.seen["calls beyond the published rates"]
    assert laid == [True] * 8 and cloud.calls["PutParameter"] == 8 + refused
    assert refused > 0


def test_an_ssm_that_takes_nothing_at_all_is_given_up_within_a_lease(cloud: Cloud) -> None:
    clock = VirtualTime()
    cloud.faults.throttled = 1.0

    with pytest.raises(Throttled, match="PutParameter"):
        SsmConfigurations(CloudClients(cloud), "tests", 3.0, clock).put(OURS, "secret")

    assert 0.0 < clock.at - MORNING - WRITTEN_WITHIN_S < 1.0
