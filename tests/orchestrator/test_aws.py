"""Queues, parameters and machines on AWS."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from orchestrator.adapters.aws import Clients, Ec2Api, SqsQueue, SsmParameters
from orchestrator.errors import NoCapacity, ServiceFailed, Unanswered
from orchestrator.planning import launch_request
from orchestrator.strategies.ec2 import Ec2Strategy
from tests.conftest import Moto
from tests.orchestrator.memory import a_job, some_settings

CLIENTS = Clients()
"""Made when first needed, which is inside a test; the AWS they reach is one for the process."""
NAME = "/runs-fleet/runners/i-1/config"


def queue_of(name: str, **attributes: str) -> SqsQueue:
    return SqsQueue(CLIENTS, CLIENTS.get("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])


def strategy() -> tuple[Ec2Strategy, str]:
    """The strategy, and a request that this AWS can fulfil."""
    ec2 = CLIENTS.get("ec2")
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    template = {"ImageId": "ami-0123456789abcdef0", "InstanceType": "m7i.large"}
    ec2.create_launch_template(LaunchTemplateName="runs-fleet-runner-amd64", LaunchTemplateData=template)
    request = launch_request(some_settings(subnet_ids=(subnet,)), a_job(), "s-1", 1234.0)
    return Ec2Strategy(Ec2Api(CLIENTS)), request


def instances_of() -> list[dict[str, Any]]:
    return [i for r in CLIENTS.get("ec2").describe_instances()["Reservations"] for i in r["Instances"]]


def test_a_fifo_queue_takes_a_repeated_message_once_and_keeps_its_group(moto: Moto) -> None:
    queue = queue_of("main.fifo", FifoQueue="true")

    queue.send("first", "job-1", "same")
    queue.send("again", "job-1", "same")
    queue.send("second", "job-2", "other")

    assert [message.body for message in queue.receive(0)] == ["first", "second"]


def test_a_standard_queue_takes_every_message(moto: Moto) -> None:
    queue = queue_of("termination")

    queue.send("a", "group", "same")
    queue.send("b", "group", "same")

    assert sorted(message.body for message in queue.receive(0)) == ["a", "b"]


@pytest.mark.parametrize(("name", "wanted"), [("main.fifo", ("job-1", "same")), ("termination", (None, None))])
def test_group_and_deduplication_are_said_to_a_fifo_queue_alone(moto: Moto, name: str, wanted: tuple[str | None, ...]) -> None:
    fifo = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
    queue_of(name, **fifo).send("a", "job-1", "same")

    url = CLIENTS.get("sqs").get_queue_url(QueueName=name)["QueueUrl"]
    (message,) = CLIENTS.get("sqs").receive_message(QueueUrl=url, AttributeNames=["All"])["Messages"]

    told = message["Attributes"]
    assert (told.get("MessageGroupId"), told.get("MessageDeduplicationId")) == wanted


def test_a_message_is_there_again_until_it_is_deleted(moto: Moto) -> None:
    queue = queue_of("termination", VisibilityTimeout="0")
    queue.send("a", "", "")
    queue.receive(0)
    (again,) = queue.receive(0)

    queue.delete(again.receipt)

    assert queue.receive(0) == []


def test_a_message_carries_the_queues_word_for_who_sent_it(moto: Moto) -> None:
    queue = queue_of("termination")
    queue.send("a", "", "")

    (message,) = queue.receive(0)

    assert message.sender


def test_a_queue_that_is_not_there_is_a_failure_in_our_words(moto: Moto) -> None:
    with pytest.raises(ServiceFailed, match="sqs:SendMessage"):
        SqsQueue(CLIENTS, f"{moto.url}/123456789012/nowhere").send("a", "", "")


def test_a_service_that_does_not_answer_is_told_apart_from_one_that_refuses(moto: Moto) -> None:
    os.environ["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"

    with pytest.raises(Unanswered, match="NoAnswer"):
        SsmParameters(Clients()).exists(NAME)


def test_a_parameter_is_there_once_it_is_put_and_not_before(moto: Moto) -> None:
    parameters = SsmParameters(CLIENTS)
    before = parameters.exists(NAME)

    made = parameters.put(NAME, "secret", "i-1", "tests")

    assert (before, made, parameters.exists(NAME)) == (False, True, True)


def test_a_parameter_that_is_there_is_not_overwritten(moto: Moto) -> None:
    parameters = SsmParameters(CLIENTS)
    parameters.put(NAME, "first", "i-1", "tests")

    made = parameters.put(NAME, "second", "i-1", "tests")

    stored = CLIENTS.get("ssm").get_parameter(Name=NAME, WithDecryption=True)["Parameter"]
    assert (made, stored["Value"], stored["Type"]) == (False, "first", "SecureString")


def test_a_parameter_carries_the_tags_that_its_readers_policy_asks_for(moto: Moto) -> None:
    SsmParameters(CLIENTS).put(NAME, "secret", "i-1", "tests")

    told = CLIENTS.get("ssm").list_tags_for_resource(ResourceType="Parameter", ResourceId=NAME)["TagList"]

    tags = {tag["Key"]: tag["Value"] for tag in told}
    assert tags == {"InstanceId": "i-1", "runs-fleet:managed": "true", "runs-fleet:stack": "tests"}


def test_a_parameter_may_be_deleted_twice(moto: Moto) -> None:
    parameters = SsmParameters(CLIENTS)
    parameters.put(NAME, "secret", "i-1", "tests")

    parameters.delete(NAME)
    parameters.delete(NAME)

    assert not parameters.exists(NAME)


def test_a_parameter_whose_name_only_begins_alike_is_another(moto: Moto) -> None:
    parameters = SsmParameters(CLIENTS)
    parameters.put(NAME + "s", "secret", "i-1", "tests")

    assert not parameters.exists(NAME)


def test_a_launch_makes_one_tagged_instance(moto: Moto) -> None:
    compute, request = strategy()

    identity = compute.launch(request)

    (instance,) = instances_of()
    tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
    assert instance["InstanceId"] == identity
    assert (tags["runs-fleet:session-id"], tags["runs-fleet:stack"]) == ("s-1", "tests")


def test_a_replay_finds_the_instance_by_its_tag(moto: Moto) -> None:
    compute, request = strategy()

    launched = [compute.launch(request) for _ in range(3)]

    assert len(set(launched)) == len(instances_of()) == 1


def test_a_session_whose_instance_is_dead_gets_no_second_one(moto: Moto) -> None:
    compute, request = strategy()
    identity = compute.launch(request)
    compute.terminate(identity)

    assert compute.launch(request) == identity and len(instances_of()) == 1


def test_the_state_of_an_unknown_instance_is_absent_and_hides_no_other(moto: Moto) -> None:
    compute, request = strategy()
    identity = compute.launch(request)

    assert compute.states([identity, "i-0123456789abcdef0"]) == {identity: "running"}


def test_no_instances_have_no_states(moto: Moto) -> None:
    assert strategy()[0].states([]) == {}


def test_an_instance_may_be_terminated_twice_and_an_unknown_one_is_gone_already(moto: Moto) -> None:
    compute, request = strategy()
    identity = compute.launch(request)

    for doomed in (identity, identity, "i-0123456789abcdef0"):
        compute.terminate(doomed)

    assert compute.states([identity]) == {identity: "terminated"}


def test_a_template_that_is_not_there_is_a_failure_and_no_lack_of_capacity(moto: Moto) -> None:
    with pytest.raises(ServiceFailed, match="ec2:CreateFleet"):
        Ec2Strategy(Ec2Api(CLIENTS)).launch(launch_request(some_settings(), a_job(), "s-1", 0.0))


class Answers:
    """An EC2 (strategies) that answers CreateFleet as told; `lost`: the instance is made, the answer never comes."""

    def __init__(self, answer: dict[str, Any], *, lost: bool = False) -> None:
        self.answer, self.lost = answer, lost
        self.made: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.asked: list[int] = []

    def create_fleet(self, request: str) -> dict[str, Any]:
        self.requests.append(request)
        for group in self.answer.get("Instances", []):
            self.made += [{"InstanceId": identity, "State": {"Name": "pending"}} for identity in group["InstanceIds"]]
        if self.lost:
            raise Unanswered("ec2:CreateFleet")
        return self.answer

    def describe(self, filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self.asked += [len(wanted["Values"]) for wanted in filters]
        return self.made

    def terminate(self, instance_id: str) -> None:
        raise ServiceFailed("ec2:TerminateInstances", "RequestLimitExceeded")


REQUEST = json.dumps({"ClientToken": "s-1"})
INSTANCE = {"Instances": [{"InstanceIds": ["i-1"]}]}
ERRORS = {
    "Errors": [
        {"ErrorCode": "InsufficientInstanceCapacity", "ErrorMessage": "none left"},
        {"ErrorCode": "InsufficientInstanceCapacity", "ErrorMessage": "none left"},
        {"ErrorCode": "UnfulfillableCapacity", "ErrorMessage": "too dear"},
    ]
}


def test_an_answer_with_an_instance_and_errors_is_an_instance() -> None:
    assert Ec2Strategy(Answers({**ERRORS, **INSTANCE})).launch(REQUEST) == "i-1"


def test_an_answer_without_an_instance_says_each_reason_once() -> None:
    with pytest.raises(NoCapacity) as refusal:
        Ec2Strategy(Answers({"Instances": [], **ERRORS})).launch(REQUEST)

    said = "InsufficientInstanceCapacity: none left; UnfulfillableCapacity: too dear"
    assert str(refusal.value) == f"EC2 launched nothing: {said}"


def test_an_answer_with_nothing_in_it_is_no_capacity() -> None:
    with pytest.raises(NoCapacity, match="gave no reason"):
        Ec2Strategy(Answers({})).launch(REQUEST)


def test_an_instance_whose_answer_was_lost_is_found() -> None:
    ec2 = Answers(INSTANCE, lost=True)

    assert Ec2Strategy(ec2).launch(REQUEST) == "i-1"
    assert ec2.requests == [REQUEST]


def test_an_answer_that_was_lost_without_an_instance_stays_unknown() -> None:
    with pytest.raises(Unanswered):
        Ec2Strategy(Answers({}, lost=True)).launch(REQUEST)


def test_of_two_instances_of_one_session_the_living_one_counts() -> None:
    ec2 = Answers({})
    ec2.made = [{"InstanceId": "i-dead", "State": {"Name": "terminated"}}, {"InstanceId": "i-2", "State": {"Name": "running"}}]

    assert Ec2Strategy(ec2).launch(REQUEST) == "i-2"


def test_a_termination_that_was_refused_is_told() -> None:
    with pytest.raises(ServiceFailed, match="RequestLimitExceeded"):
        Ec2Strategy(Answers({})).terminate("i-1")


def test_no_question_holds_more_values_than_a_filter_may() -> None:
    ec2 = Answers({})

    Ec2Strategy(ec2).states(f"i-{number}" for number in range(450))

    assert ec2.asked == [200, 200, 50]
