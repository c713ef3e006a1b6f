"""What the machines' role may change of another machine's, by the policy of docs/permissions.md, at an AWS that checks policies.

MiniStack knows neither policy variables nor the condition key `s3:if-none-match`, and calls a log stream by its group's name:
their values are put in as AWS would. Which request carries that header is up to the test; that S3 obeys it, the emulator shows.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from sandbox.stack import free_port

pytestmark = [pytest.mark.attack, pytest.mark.long]
MINISTACK = Path(sys.prefix) / "ministack" / "bin" / "ministack"
"""`make attack-test` puts it there."""
ACCOUNT, REGION, QUEUE = "000000000000", "us-east-1", "termination"
PLACES = {
    "CONFIG_BUCKET": "config", "LOGS_BUCKET": "logs",
    "TERMINATION_QUEUE_ARN": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{QUEUE}",
}  # fmt: skip
MINE, OTHERS = "i-0123456789abcdef0", "i-0fedcba9876543210"
CHECKOUT = Path(__file__).resolve().parents[2]


class Emulator:
    """An AWS with the machines' role, and what the fleet keeps in it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.owner = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        self._role = self.client("iam").create_role(RoleName="machines", AssumeRolePolicyDocument=document)["Role"]
        self.role_id = self._role["RoleId"]
        s3 = self.client("s3")
        for bucket in ("config", "logs"):
            s3.create_bucket(Bucket=bucket)
        self.queue_url = self.client("sqs").create_queue(QueueName=QUEUE)["QueueUrl"]
        self.client("logs").create_log_group(logGroupName="/runs-fleet/agent")

    def client(self, service: str, **credentials: str) -> Any:
        return boto3.client(service, endpoint_url=self._url, region_name=REGION, **(credentials or self.owner))

    def machine(self, instance_id: str = MINE, *, only_creates: bool = True) -> dict[str, str]:
        """Credentials of a machine's role. `only_creates`: what it writes carries `If-None-Match: *`."""
        policy = json.dumps(as_evaluated(machines_policy(), f"{self.role_id}:{instance_id}", only_creates=only_creates))
        self.client("iam").put_role_policy(RoleName="machines", PolicyName="machines", PolicyDocument=policy)
        assumed = self.client("sts").assume_role(RoleArn=self._role["Arn"], RoleSessionName=instance_id)["Credentials"]
        return {
            "aws_access_key_id": assumed["AccessKeyId"], "aws_secret_access_key": assumed["SecretAccessKey"],
            "aws_session_token": assumed["SessionToken"],
        }  # fmt: skip


def machines_policy() -> dict[str, Any]:
    """As docs/permissions.md has it."""
    text = (CHECKOUT / "docs" / "permissions.md").read_text("utf-8")
    found = re.search(r"## The machines' role.*?```json\n(.*?)```", text, re.S)
    assert found is not None
    written = found[1]
    for placeholder, value in PLACES.items():
        written = written.replace(placeholder, value)
    policy: dict[str, Any] = json.loads(written)
    return policy


def as_evaluated(policy: dict[str, Any], user_id: str, *, only_creates: bool) -> dict[str, Any]:
    """The policy with the caller's own values, and without statements whose condition on the header does not hold."""
    kept = []
    for statement in policy["Statement"]:
        condition = dict(statement.get("Condition", {}))
        asked = condition.pop("Null", {}).get("s3:if-none-match")
        if asked is not None and (asked == "false") != only_creates:
            continue
        kept.append(
            {**{k: v for k, v in statement.items() if k != "Condition"}, **({"Condition": condition} if condition else {})}
        )
    filled = json.dumps({**policy, "Statement": kept}).replace("${aws:userid}", user_id)
    evaluated: dict[str, Any] = json.loads(filled.replace(":log-group:/runs-fleet/agent:*", ":log-group:/runs-fleet/agent"))
    return evaluated


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    assert MINISTACK.exists(), f"{MINISTACK} is missing: run these tests with `make attack-test`, which installs it"
    port, log = free_port(), tmp_path_factory.mktemp("ministack") / "log"
    environment = {"PATH": os.environ["PATH"], "HOME": str(log.parent), "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port)}
    with log.open("wb") as said:
        process = subprocess.Popen([MINISTACK], env={**environment, "AUTH": "true"}, stdout=said, stderr=said)
    try:
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield Emulator(f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


def refused(call: Any, **arguments: Any) -> str:
    """The code of a refusal; empty: it was allowed."""
    try:
        call(**arguments)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


DENIED = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "403"}


@pytest.mark.parametrize(
    ("bucket", "key"), [("config", "runners/2.336.0/x64/r.tar.gz"), ("logs", "runner-logs/1/2/i-1/Worker.log.gz")]
)
def test_what_is_stored_is_overwritten_by_no_machine(bucket: str, key: str, aws: Emulator) -> None:
    aws.client("s3").put_object(Bucket=bucket, Key=key, Body=b"the true one")

    plainly = refused(aws.client("s3", **aws.machine(only_creates=False)).put_object, Bucket=bucket, Key=key, Body=b"forged")
    machine = aws.client("s3", **aws.machine())
    politely = refused(machine.put_object, Bucket=bucket, Key=key, Body=b"forged", IfNoneMatch="*")
    new = refused(machine.put_object, Bucket=bucket, Key=key + "-new", Body=b"mine", IfNoneMatch="*")

    assert (plainly in DENIED, politely, new) == (True, "PreconditionFailed", "")
    assert aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read() == b"the true one"


@pytest.mark.parametrize("bucket", ["config", "logs"])
def test_nothing_is_deleted_and_no_policy_of_a_bucket_is_changed(bucket: str, aws: Emulator) -> None:
    aws.client("s3").put_object(Bucket=bucket, Key="runners/kept", Body=b"kept")
    s3 = aws.client("s3", **aws.machine())

    assert refused(s3.delete_object, Bucket=bucket, Key="runners/kept") in DENIED
    assert refused(s3.put_bucket_policy, Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": []})) in DENIED
    assert refused(s3.put_object_tagging, Bucket=bucket, Key="runners/kept", Tagging={"TagSet": []}) in DENIED
    assert aws.client("s3").get_object(Bucket=bucket, Key="runners/kept")["Body"].read() == b"kept"


def test_of_the_agent_s_bundle_a_machine_reads_and_writes_nothing(aws: Emulator) -> None:
    aws.client("s3").put_object(Bucket="config", Key="agent/bundle.tar.gz", Body=b"ours")
    s3 = aws.client("s3", **aws.machine())

    assert s3.get_object(Bucket="config", Key="agent/bundle.tar.gz")["Body"].read() == b"ours"
    assert refused(s3.put_object, Bucket="config", Key="agent/bundle.tar.gz", Body=b"forged", IfNoneMatch="*") in DENIED
    assert refused(s3.put_object, Bucket="config", Key="agent/other.tar.gz", Body=b"forged", IfNoneMatch="*") in DENIED


def test_each_machine_reads_its_own_configuration_alone(aws: Emulator) -> None:
    for instance_id in (MINE, OTHERS):
        aws.client("s3").put_object(Bucket="config", Key=f"configs/{aws.role_id}:{instance_id}/config", Body=b"secret")
    s3 = aws.client("s3", **aws.machine(MINE))

    assert not refused(s3.get_object, Bucket="config", Key=f"configs/{aws.role_id}:{MINE}/config")
    assert refused(s3.get_object, Bucket="config", Key=f"configs/{aws.role_id}:{OTHERS}/config") in DENIED
    for instance_id in (MINE, OTHERS):
        key = f"configs/{aws.role_id}:{instance_id}/config"
        assert refused(s3.put_object, Bucket="config", Key=key, Body=b"forged", IfNoneMatch="*") in DENIED
    assert refused(s3.list_objects_v2, Bucket="config", Prefix="configs/") in DENIED
    assert not refused(s3.list_objects_v2, Bucket="config", Prefix="runners/")


def test_diagnostics_of_others_are_not_read(aws: Emulator) -> None:
    aws.client("s3").put_object(Bucket="logs", Key="runner-logs/1/2/i-1/Worker.log.gz", Body=b"theirs")
    s3 = aws.client("s3", **aws.machine())

    assert refused(s3.get_object, Bucket="logs", Key="runner-logs/1/2/i-1/Worker.log.gz") in DENIED
    assert refused(s3.list_objects_v2, Bucket="logs") in DENIED


def test_messages_are_sent_and_neither_received_nor_deleted(aws: Emulator) -> None:
    sqs = aws.client("sqs", **aws.machine())

    assert not refused(sqs.send_message, QueueUrl=aws.queue_url, MessageBody="{}")
    assert refused(sqs.receive_message, QueueUrl=aws.queue_url) in DENIED
    assert refused(sqs.purge_queue, QueueUrl=aws.queue_url) in DENIED
    assert refused(sqs.delete_message, QueueUrl=aws.queue_url, ReceiptHandle="any") in DENIED


def test_log_lines_are_appended_and_nothing_is_read_or_deleted(aws: Emulator) -> None:
    group, theirs = "/runs-fleet/agent", f"{OTHERS}/7"
    aws.client("logs").create_log_stream(logGroupName=group, logStreamName=theirs)
    logs = aws.client("logs", **aws.machine())
    line = {"timestamp": int(time.time() * 1000), "message": "a false line"}

    assert not refused(logs.put_log_events, logGroupName=group, logStreamName=theirs, logEvents=[line])
    assert refused(logs.get_log_events, logGroupName=group, logStreamName=theirs) in DENIED
    assert refused(logs.delete_log_stream, logGroupName=group, logStreamName=theirs) in DENIED
    assert refused(logs.delete_log_group, logGroupName=group) in DENIED
    assert refused(logs.create_log_group, logGroupName="/another/group") in DENIED


def test_the_role_reaches_nothing_else(aws: Emulator) -> None:
    role = aws.machine()

    assert refused(aws.client("iam", **role).list_roles) in DENIED
    assert refused(aws.client("s3", **role).list_buckets) in DENIED
    assert refused(aws.client("sqs", **role).list_queues) in DENIED
    assert refused(aws.client("dynamodb", **role).list_tables) in DENIED
    assert refused(aws.client("ssm", **role).get_parameter, Name="/runs-fleet/secrets/webhook") in DENIED
