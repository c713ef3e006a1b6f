"""AWS for the orchestrator: DynamoDB records, SQS queues, SSM parameters, EC2. Errors come out as ServiceFailed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import boto3
import msgspec
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from orchestrator.errors import Conflict, ServiceFailed, Unanswered
from orchestrator.model import Job, Session, SessionState
from orchestrator.ports import Received

Record = TypeVar("Record", Job, Session)
CONNECT_S, READ_S = 5.0, 15.0
LONG_POLL_READ_S = 30.0
"""Longer than any long poll: a header time-out below it would look like a broken queue."""


class Clients:
    """One client per service, made when first needed."""

    def __init__(self, session: boto3.session.Session | None = None) -> None:
        """`session` may be one that has already loaded what its clients need."""
        self._session = session or boto3.session.Session()
        self._made: dict[str, Any] = {}

    def get(self, service: str) -> Any:
        """The client; three tries of its own for what is safe to repeat."""
        if service not in self._made:
            read_s = LONG_POLL_READ_S if service == "sqs" else READ_S
            config = Config(connect_timeout=CONNECT_S, read_timeout=read_s, retries={"total_max_attempts": 3, "mode": "standard"})
            self._made[service] = self._session.client(service, config=config)
        return self._made[service]


@contextlib.contextmanager
def translated(action: str) -> Iterator[None]:
    """botocore's errors in our words."""
    try:
        yield
    except ClientError as error:
        told = error.response.get("Error", {})
        raise ServiceFailed(action, str(told.get("Code")), str(told.get("Message", ""))[:300]) from error
    except BotoCoreError as error:
        raise Unanswered(action, str(error)) from error


class DynamoRecords:
    """Records (ports): one table for jobs, one for sessions, each keyed by its id."""

    def __init__(self, clients: Clients, jobs_table: str, sessions_table: str) -> None:
        self._clients, self._jobs, self._sessions = clients, jobs_table, sessions_table

    def job(self, job_id: str) -> Job | None:
        """Read consistently."""
        return self._read(self._jobs, {"job_id": job_id}, Job)

    def save_job(self, job: Job) -> Job:
        """Conditional on the version read."""
        saved: Job = self._write(self._jobs, job)
        return saved

    def session(self, session_id: str) -> Session | None:
        """Read consistently."""
        return self._read(self._sessions, {"session_id": session_id}, Session)

    def save_session(self, session: Session) -> Session:
        """Conditional on the version read."""
        saved: Session = self._write(self._sessions, session)
        return saved

    def open_sessions(self) -> Iterable[Session]:
        """All pages; a table of sessions that are removed some time after their end stays small enough for this."""
        closed = {":closed": {"S": SessionState.CLOSED.value}}
        names = {"#state": "state"}
        wanted = {"FilterExpression": "#state <> :closed", "ExpressionAttributeValues": closed, "ExpressionAttributeNames": names}
        return self._scan(self._sessions, Session, **wanted)

    def jobs(self) -> Iterable[Job]:
        """All pages."""
        return self._scan(self._jobs, Job)

    def sessions(self) -> Iterable[Session]:
        """All pages."""
        return self._scan(self._sessions, Session)

    def _read(self, table: str, key: dict[str, str], kind: type[Record]) -> Record | None:
        with translated(f"dynamodb:GetItem on {table}"):
            wanted = {name: {"S": value} for name, value in key.items()}
            answer = self._clients.get("dynamodb").get_item(TableName=table, Key=wanted, ConsistentRead=True)
        return _record(answer["Item"], kind) if "Item" in answer else None

    def _write(self, table: str, record: Any) -> Any:
        newer = msgspec.structs.replace(record, version=record.version + 1)
        extra: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(version)"}
        if record.version:
            extra = {"ConditionExpression": "version = :read", "ExpressionAttributeValues": {":read": {"N": str(record.version)}}}
        try:
            with translated(f"dynamodb:PutItem on {table}"):
                self._clients.get("dynamodb").put_item(TableName=table, Item=_item(newer), **extra)
        except ServiceFailed as error:
            if error.code == "ConditionalCheckFailedException":
                raise Conflict(f"{table}: somebody wrote since version {record.version} was read") from error
            raise
        return newer

    def _scan(self, table: str, kind: type[Record], **extra: Any) -> list[Record]:
        with translated(f"dynamodb:Scan on {table}"):
            pages = self._clients.get("dynamodb").get_paginator("scan").paginate(TableName=table, ConsistentRead=True, **extra)
            return [_record(item, kind) for page in pages for item in page["Items"]]


class SqsQueue:
    """Queue (ports)."""

    def __init__(self, clients: Clients, url: str) -> None:
        self._clients, self._url = clients, url

    def send(self, body: str, group: str, deduplication: str) -> None:
        """FIFO parameters for a FIFO queue only."""
        fifo = {"MessageGroupId": group, "MessageDeduplicationId": deduplication} if self._url.endswith(".fifo") else {}
        with translated("sqs:SendMessage"):
            self._clients.get("sqs").send_message(QueueUrl=self._url, MessageBody=body, **fifo)

    def receive(self, wait_s: int) -> list[Received]:
        """A long poll."""
        with translated("sqs:ReceiveMessage"):
            answer = self._clients.get("sqs").receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=wait_s, AttributeNames=["SenderId"]
            )
        return [
            Received(m["Body"], m["ReceiptHandle"], m.get("Attributes", {}).get("SenderId", ""))
            for m in answer.get("Messages", [])
        ]

    def delete(self, receipt: str) -> None:
        """After the work is done, never before."""
        with translated("sqs:DeleteMessage"):
            self._clients.get("sqs").delete_message(QueueUrl=self._url, ReceiptHandle=receipt)


class SsmParameters:
    """Parameters (ports)."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def put(self, name: str, value: str, instance_id: str, stack_id: str) -> bool:
        """Tags and overwriting exclude each other; a tag-scoped policy needs the tags, so nothing is ever overwritten."""
        tags = {"InstanceId": instance_id, "runs-fleet:managed": "true", "runs-fleet:stack": stack_id}
        try:
            with translated(f"ssm:PutParameter {name}"):
                self._clients.get("ssm").put_parameter(
                    Name=name, Value=value, Type="SecureString", Tags=[{"Key": key, "Value": text} for key, text in tags.items()]
                )
        except ServiceFailed as error:
            if error.code == "ParameterAlreadyExists":
                return False
            raise
        return True

    def exists(self, name: str) -> bool:
        """Without reading the secret."""
        with translated(f"ssm:DescribeParameters {name}"):
            wanted = [{"Key": "Name", "Option": "Equals", "Values": [name]}]
            return bool(self._clients.get("ssm").describe_parameters(ParameterFilters=wanted)["Parameters"])

    def delete(self, name: str) -> None:
        """Gone already is success."""
        try:
            with translated(f"ssm:DeleteParameter {name}"):
                self._clients.get("ssm").delete_parameter(Name=name)
        except ServiceFailed as error:
            if error.code != "ParameterNotFound":
                raise


class Ec2Api:
    """The three EC2 calls the strategy makes."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def create_fleet(self, request: str) -> dict[str, Any]:
        """The stored request, unchanged."""
        with translated("ec2:CreateFleet"):
            return dict(self._clients.get("ec2").create_fleet(**json.loads(request)))

    def describe(self, filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Every instance that matches, all pages."""
        with translated("ec2:DescribeInstances"):
            pages = self._clients.get("ec2").get_paginator("describe_instances").paginate(Filters=filters)
            return [i for page in pages for reservation in page["Reservations"] for i in reservation["Instances"]]

    def terminate(self, instance_id: str) -> None:
        """One instance."""
        with translated(f"ec2:TerminateInstances {instance_id}"):
            self._clients.get("ec2").terminate_instances(InstanceIds=[instance_id])


def _item(record: Any) -> dict[str, Any]:
    """Absent instead of null or empty: an empty string must never become an index key."""
    plain = {k: v for k, v in msgspec.to_builtins(record).items() if v is not None and v not in ("", [])}
    serialize = TypeSerializer().serialize
    return {name: serialize(_decimal(value)) for name, value in plain.items()}


def _record(item: dict[str, Any], kind: type[Record]) -> Record:
    deserialize = TypeDeserializer().deserialize
    plain = {name: _plain(deserialize(value)) for name, value in item.items()}
    missing = {
        f.name: () if f.name == "labels" else "" for f in msgspec.structs.fields(kind) if f.required and f.name not in plain
    }
    return msgspec.convert({**missing, **plain}, kind)


def _decimal(value: Any) -> Any:
    from decimal import Decimal

    if isinstance(value, float):
        return Decimal(str(value))
    return {k: _decimal(v) for k, v in value.items()} if isinstance(value, dict) else value


def _plain(value: Any) -> Any:
    from decimal import Decimal

    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list) else value
