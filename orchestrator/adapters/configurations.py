"""Where configurations are laid down: parameters in SSM, or objects in S3 where SSM's three writes a second are too few."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Iterator

from agent.contract.names import CONFIG_OBJECTS, config_object, instance_of, instance_of_object, parameter_name
from orchestrator.adapters.aws import Clients, pages, translated
from orchestrator.adapters.clock import THE_MACHINES
from orchestrator.errors import ServiceFailed, Throttled
from orchestrator.ports import Timepiece

TAKEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
ABSENT = frozenset({"NoSuchKey", "NotFound", "404"})


WRITTEN_WITHIN_S = 40.0
"""For how long a write that is throttled is tried again at once: well within a lease, and within what an agent waits."""


class SsmConfigurations:
    """Configurations (services) as SecureStrings. Source: the Systems Manager API reference."""

    def __init__(self, clients: Clients, stack_id: str, writes_per_second: float = 3.0, clock: Timepiece = THE_MACHINES) -> None:
        """`writes_per_second`: what SSM takes; who comes when more are under way waits for his turn."""
        self._clients, self._stack_id, self._every_s = clients, stack_id, 1.0 / writes_per_second
        self._next_s, self._turns, self._clock = 0.0, threading.Lock(), clock

    def put(self, instance_id: str, value: str) -> bool:
        """Tags and overwriting exclude each other; a tag-scoped policy needs the tags, so nothing is ever overwritten."""
        name = parameter_name(instance_id)
        tags = {"InstanceId": instance_id, "runs-fleet:managed": "true", "runs-fleet:stack": self._stack_id}
        until_s = self._clock.monotonic_s() + WRITTEN_WITHIN_S
        while True:
            self._wait()
            try:
                with translated(f"ssm:PutParameter {name}"):
                    self._clients.get("ssm").put_parameter(
                        Name=name, Value=value, Type="SecureString", Tags=[{"Key": key, "Value": t} for key, t in tags.items()]
                    )
            except ServiceFailed as error:
                if error.code == "ParameterAlreadyExists":
                    return self._is(name, value)
                if not isinstance(error, Throttled) or self._clock.monotonic_s() > until_s:
                    raise
                continue  # other replicas write, too
            return True

    def replace(self, instance_id: str, value: str) -> bool:
        """Never at once. Source: DeleteParameter, Systems Manager API reference: 30 seconds until the name may be used again."""
        self.delete(instance_id)
        return False

    def _is(self, name: str, value: str) -> bool:
        """Whether exactly this is there. Raises: ServiceFailed: it cannot be read, or is gone already."""
        with translated(f"ssm:GetParameter {name}"):
            found = self._clients.get("ssm").get_parameter(Name=name, WithDecryption=True)
        return hmac.compare_digest(str(found["Parameter"]["Value"]).encode(), value.encode())

    def _wait(self) -> None:
        """For our turn: as many a second as SSM takes, so that a hundred launched at once need not fail and come again."""
        with self._turns:
            turn_s = max(self._clock.monotonic_s(), self._next_s)
            self._next_s = turn_s + self._every_s
        self._clock.pause(max(0.0, turn_s - self._clock.monotonic_s()))

    def exists(self, instance_id: str) -> bool:
        """Whether the instance's parameter exists, asked by a filter on its name."""
        name = parameter_name(instance_id)
        with translated(f"ssm:DescribeParameters {name}"):
            wanted = [{"Key": "Name", "Option": "Equals", "Values": [name]}]
            return bool(self._clients.get("ssm").describe_parameters(ParameterFilters=wanted)["Parameters"])

    def delete(self, instance_id: str) -> None:
        """Delete the instance's configuration; one that is gone already is a success."""
        name = parameter_name(instance_id)
        try:
            with translated(f"ssm:DeleteParameter {name}"):
                self._clients.get("ssm").delete_parameter(Name=name)
        except ServiceFailed as error:
            if error.code != "ParameterNotFound":
                raise

    def instances(self) -> Iterator[str]:
        """By the stack's tag, all pages, without reading any secret."""
        wanted = [{"Key": "tag:runs-fleet:stack", "Option": "Equals", "Values": [self._stack_id]}]
        found = self._clients.get("ssm").get_paginator("describe_parameters").paginate(ParameterFilters=wanted)
        for page in pages("ssm:DescribeParameters", found):
            yield from filter(None, (instance_of(str(one["Name"])) for one in page["Parameters"]))


class S3Configurations:
    """Configurations (services) as objects, each under the name that AWS gives its machine; `role_id` is its role's, `AROA…`."""

    def __init__(self, clients: Clients, stack_id: str, bucket: str, role_id: str) -> None:
        self._clients, self._stack_id, self._bucket, self._role_id = clients, stack_id, bucket, role_id

    def put(self, instance_id: str, value: str) -> bool:
        """If there is none. Source: "Conditional writes" of the S3 user guide."""
        key = self._key(instance_id)
        try:
            with translated(f"s3:PutObject {self._bucket}/{key}"):
                self._clients.get("s3").put_object(
                    Bucket=self._bucket, Key=key, Body=value.encode(), IfNoneMatch="*", ContentType="application/json",
                    ServerSideEncryption="AES256", Metadata={"stack": self._stack_id},
                )  # fmt: skip
        except ServiceFailed as error:
            if error.code in TAKEN:
                return self._is(key, value)
            raise
        return True

    def replace(self, instance_id: str, value: str) -> bool:
        """Write the parameter at once, whether it is there or not."""
        self.delete(instance_id)
        return self.put(instance_id, value)

    def has_bucket(self) -> bool:
        """Whether the bucket is there. Raises: ServiceFailed."""
        try:
            with translated(f"s3:ListBucket {self._bucket}"):
                self._clients.get("s3").list_objects_v2(Bucket=self._bucket, Prefix=f"{CONFIG_OBJECTS}/", MaxKeys=1)
        except ServiceFailed as error:
            if error.code == "NoSuchBucket":
                return False
            raise
        return True

    def _is(self, key: str, value: str) -> bool:
        """Whether exactly this is there. Raises: ServiceFailed: it cannot be read, or is gone already."""
        with translated(f"s3:GetObject {self._bucket}/{key}"):
            found = self._clients.get("s3").get_object(Bucket=self._bucket, Key=key)["Body"].read()
        return hmac.compare_digest(found, value.encode())

    def exists(self, instance_id: str) -> bool:
        """Whether the parameter is there, by its metadata."""
        return self._stack_of(self._key(instance_id)) is not None

    def delete(self, instance_id: str) -> None:
        """S3 does not say whether there was one."""
        key = self._key(instance_id)
        with translated(f"s3:DeleteObject {self._bucket}/{key}"):
            self._clients.get("s3").delete_object(Bucket=self._bucket, Key=key)

    def instances(self) -> Iterator[str]:
        """All pages; whose stack it is stands in each object's metadata. They are few: each is deleted once it was read."""
        prefix = f"{CONFIG_OBJECTS}/{self._role_id}:"
        listed = self._clients.get("s3").get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        for page in pages(f"s3:ListBucket {self._bucket}", listed):
            for one in page.get("Contents", []):
                instance_id = instance_of_object(str(one["Key"]))
                if instance_id and self._stack_of(one["Key"]) == self._stack_id:
                    yield instance_id

    def _stack_of(self, key: str) -> str | None:
        """The stack in the parameter's tags; None: it is not there."""
        try:
            with translated(f"s3:GetObject {self._bucket}/{key}"):
                found = self._clients.get("s3").head_object(Bucket=self._bucket, Key=key)
        except ServiceFailed as error:
            if error.code in ABSENT:
                return None
            raise
        return str(found.get("Metadata", {}).get("stack", ""))

    def _key(self, instance_id: str) -> str:
        return config_object(f"{self._role_id}:{instance_id}")
