"""Embedded AWS: moto on loopback, and in front of it what moto lacks and a fleet needs.

Added here: a CreateFleet that is idempotent by its token, the launch template's user-data and shutdown behaviour on fleet
instances, instances that really boot and really go, who it was that called, bad behaviour (`faults.py`, `rates.py`), tokens of transactions
(`store.py`), and conditional writes of which one wins (`ordered.py`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs

import boto3
import botocore.loaders
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

from sandbox.aws_models import keep
from sandbox.faults import SLOW, Faults
from sandbox.front import Front, refusal
from sandbox.imds import access_key
from sandbox.instances import Idle, Instances
from sandbox.serialized_writes import SerializedWrites

REGION = "us-east-1"
END_OF_FLEET = b"</CreateFleetResponse>"
EMPTY_FLEET = (
    b'<CreateFleetResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><fleetId>fleet-0</fleetId>'
    b"<fleetInstanceSet></fleetInstanceSet>" + END_OF_FLEET
)
ACCOUNT = "123456789012"  # moto's
TRIES = 100
"""Of what must happen, though the faults is bad."""
CHANGED = "EC2 Instance State-change Notification"
CREDENTIALS = {"aws_access_key_id": "AKIASANDBOX", "aws_secret_access_key": "sandbox-secret-key"}
_FLEET = re.compile(rb"<fleetId>([^<]+)</fleetId>")
_INSTANCE_ID = re.compile(rb"<instanceId>(i-[0-9a-f]+)</instanceId>")
_RESERVATION = re.compile(rb"<item>\s*<reservationId>.*?(?=<item>\s*<reservationId>|</reservationSet>)", re.S)
_INSTANCE = re.compile(rb"<(?:item|instanceId)>(i-[0-9a-f]+)</")


@cache
def _models() -> Any:
    """botocore's descriptions of the services, read once for the process: EC2's alone takes longer than a job."""
    return botocore.loaders.create_loader()


def _session() -> botocore.session.Session:
    """A session that shares nothing with others but the descriptions of the services."""
    session = botocore.session.get_session()
    session.register_component("data_loader", _models())
    return session


class Bodies(Protocol):
    """Whatever boots when EC2 launches."""

    machines: dict[str, Any]

    def boot(self, instance_id: str, user_data: str) -> None:
        """Boot the instance, which exists now."""

    def end(self, instance_id: str) -> None:
        """An instance was terminated."""

    def stop(self) -> None:
        """End all machines of this cloud."""

    def console(self, instance_id: str) -> str:
        """What the machine printed."""

    def runner_name(self, instance_id: str) -> str:
        """The name of the runner that is registered there; empty: none is."""

    def kill_agent(self, instance_id: str) -> bool:
        """SIGKILL to the agent alone; whether there was one."""


class Cloud:
    """Start it, and there is an AWS at `url` whose instances are processes on this machine."""

    def __init__(self, root: Path, instances: Bodies | None = None) -> None:
        """`instances` boots what EC2 launches; default: real processes below `root`."""
        self.url = ""
        self.instances: Bodies = instances or Instances(root / "instances", REGION, lambda: self.url, self._powered_off)
        self._server: Any = None
        self._fleets: dict[str, tuple[bytes, tuple[str, list[tuple[str, str]], bytes]]] = {}
        self._fleet_lock = threading.Lock()
        self._clients: dict[str, Any] = {}
        self._client_lock = threading.Lock()
        self._session: boto3.session.Session | None = None
        self._behaviour: dict[str, str] = {}
        self._of_fleet: dict[str, list[str]] = {}
        self._born: dict[bytes, float] = {}
        self.owners: dict[str, str] = {}
        """Of each access key that instances were given, the instance."""
        self.fleet_calls = 0
        self.calls: Counter[str] = Counter()
        """By the API's own names; S3's have none."""
        self.faults = Faults()
        self.permissions: set[tuple[str, str]] = set()
        """Who has needed which: the machines' role by its id, everybody else by his access key, and IAM's word for the call."""
        self.messages: list[str] = []
        """The body of every message that was ever sent to a queue."""
        self.events_queue_url = ""
        """Where EventBridge would put what happens to instances; empty: nobody listens."""

    def start(self) -> Cloud:
        """Serve on a free port of loopback."""
        keep()  # before moto: it makes sessions as it is imported
        from moto.dynamodb.models import dynamodb_backends
        from moto.ec2.models import ec2_backends
        from werkzeug.serving import make_server

        from sandbox.moto_speedups import Dispatcher, quicken, quicken_queries

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = make_server("127.0.0.1", 0, Front(SerializedWrites(Dispatcher()), self), threaded=True)
        self.url = f"http://127.0.0.1:{self._server.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True, name="cloud").start()
        urllib.request.urlopen(f"{self.url}/moto-api/reset", data=b"", timeout=30).close()  # moto's state is the process's
        quicken(ec2_backends[ACCOUNT][REGION])
        quicken_queries(dynamodb_backends[ACCOUNT][REGION])
        return self

    def stop(self) -> None:
        """Switch every machine off, then the cloud."""
        self.instances.stop()
        self._server.shutdown()

    def client(self, service: str) -> Any:
        """A client, made once for the process: making one costs more than most calls."""
        with self._client_lock:
            if service not in self._clients:
                config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=30)
                session = boto3.session.Session(**CREDENTIALS, region_name=REGION, botocore_session=_session())
                self._clients[service] = session.client(service, endpoint_url=self.url, config=config)
            return self._clients[service]

    def client_of(self, instance_id: str, service: str) -> Any:
        """A client that signs as that instance's role does."""
        keys = {"aws_access_key_id": access_key(instance_id), "aws_secret_access_key": "of-the-role"}
        with self._client_lock:  # a session is no place for several threads
            self._session = self._session or boto3.session.Session(region_name=REGION, botocore_session=_session())
            return self._session.client(service, endpoint_url=self.url, **keys)

    def create_fleet(self, body: bytes, call: Callable[[bytes], tuple[str, list[tuple[str, str]], bytes]]) -> Any:
        """The same token and arguments give the same answer; other arguments are refused. Source: EC2 idempotency."""
        token = parse_qs(body.decode()).get("ClientToken", [""])[0]
        with self._fleet_lock:
            self.fleet_calls += 1
            if token and token in self._fleets:
                stored_body, answer = self._fleets[token]
                return (
                    answer
                    if stored_body == body
                    else refusal("IdempotentParameterMismatch", "the token was used with other arguments")
                )
            fulfilled, errors = self.faults.of_fleet(body)
            answer = call(fulfilled) if fulfilled else ("200 OK", [("Content-Type", "text/xml")], EMPTY_FLEET)
            if errors:
                answer = (
                    answer[0],
                    answer[1],
                    answer[2].replace(END_OF_FLEET, f"<errorSet>{errors}</errorSet>".encode() + END_OF_FLEET),
                )
                answer = (answer[0], [h for h in answer[1] if h[0].lower() != "content-length"], answer[2])
            if answer[0].startswith("200"):
                if token:
                    self._fleets[token] = (body, answer)
                template = parse_qs(body.decode()).get(
                    "LaunchTemplateConfigs.1.LaunchTemplateSpecification.LaunchTemplateName", [""]
                )[0]
                made = [found.decode() for found in dict.fromkeys(_INSTANCE.findall(answer[2]))]
                if fleet := _FLEET.search(answer[2]):
                    self._of_fleet[fleet[1].decode()] = made
                for instance_id in made:
                    self.owners[access_key(instance_id)] = instance_id
                    self._born[instance_id.encode()] = self.faults.clock()
                    self._boot(instance_id, template)
            return answer

    def delete_fleets(self, body: bytes) -> bytes:
        """What it does to instant fleets: their instances go with them. Source: DeleteFleets in the EC2 API reference."""
        named = [values[0] for name, values in parse_qs(body.decode()).items() if name.startswith("FleetId")]
        for fleet in named:
            for instance_id in self._of_fleet.pop(fleet, ()):
                self._taken(instance_id)
        states = "<currentFleetState>deleted_terminating</currentFleetState><previousFleetState>active</previousFleetState>"
        items = "".join(f"<item><fleetId>{fleet}</fleetId>{states}</item>" for fleet in named)
        told = f"<successfulFleetDeletionSet>{items}</successfulFleetDeletionSet><unsuccessfulFleetDeletionSet/>"
        return f'<DeleteFleetsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">{told}</DeleteFleetsResponse>'.encode()

    def unseen(self, answer: bytes) -> bytes:
        """DescribeInstances without those that were made a moment ago. Source: "Eventual consistency", EC2 API reference."""
        now = self.faults.clock()
        young = {name for name, at in self._born.items() if now - at < self.faults.unseen_s}
        if not young:
            return answer
        self.faults.seen["answers that lag"] += 1
        return _RESERVATION.sub(lambda found: b"" if young & set(_INSTANCE_ID.findall(found[0])) else found[0], answer)

    def reclaim(self, instance_id: str, in_s: float) -> None:
        """EC2 takes a spot instance back: its metadata say so, EventBridge says so, and then it goes."""
        machine = self.instances.machines.get(instance_id)
        if machine is None:
            return
        self._told("EC2 Instance Rebalance Recommendation", instance_id, {})
        machine.metadata.spot_notice(in_s)
        self.faults.seen["machines reclaimed"] += 1
        self._told("EC2 Spot Instance Interruption Warning", instance_id, {"instance-action": "terminate"})
        timer = threading.Timer(in_s, self._taken, (instance_id,))
        timer.daemon = True
        timer.start()

    def terminated(self, answer: bytes) -> None:
        """EC2 accepted to terminate: the machines go."""
        for instance_id in dict.fromkeys(_INSTANCE.findall(answer)):
            self._told(CHANGED, instance_id.decode(), {"state": "shutting-down"})
            self.instances.end(instance_id.decode())
            self._told(CHANGED, instance_id.decode(), {"state": "terminated"})

    def _taken(self, instance_id: str) -> None:
        with contextlib.suppress(Exception):  # gone by itself meanwhile, or the cloud with it
            self._itself("terminate_instances", instance_id)

    def _state_of(self, instance_id: str) -> str:
        """By EC2's own knowledge: it is no list that shows late what was just made."""
        for _ in range(TRIES):
            if found := self._itself("describe_instances", instance_id)["Reservations"]:
                return str(found[0]["Instances"][0]["State"]["Name"])
            time.sleep(0.1)
        raise LookupError(instance_id)

    def _itself(self, action: str, instance_id: str) -> Any:
        """What EC2 does by itself, of one instance: nobody throttles that."""
        for left in reversed(range(TRIES)):
            try:
                return getattr(self.client("ec2"), action)(InstanceIds=[instance_id])
            except ClientError as error:
                if error.response["Error"]["Code"] != SLOW or not left:
                    raise
                time.sleep(0.05)
        return None

    def _told(self, kind: str, instance_id: str, detail: dict[str, str]) -> None:
        """As EventBridge puts it into a queue. Source: EC2 events in EventBridge, EC2 user guide."""
        if self.events_queue_url:
            at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            body = {
                "version": "0", "source": "aws.ec2", "account": ACCOUNT, "region": REGION, "time": at, "detail-type": kind,
                "resources": [f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{instance_id}"],
                "detail": {"instance-id": instance_id, **detail},
            }  # fmt: skip
            with contextlib.suppress(Exception):  # the cloud itself may be going down
                self.client("sqs").send_message(QueueUrl=self.events_queue_url, MessageBody=json.dumps(body))

    def _boot(self, instance_id: str, template: str) -> None:
        """What a real fleet takes over from its launch template and moto does not. Source: the moto notes in docs/operations.md."""
        import base64

        if isinstance(self.instances, Idle):
            self.instances.boot(instance_id, "")
            return
        ec2 = self.client("ec2")
        version = ec2.describe_launch_template_versions(LaunchTemplateName=template, Versions=["$Latest"])
        data = version["LaunchTemplateVersions"][0]["LaunchTemplateData"]
        behaviour = self._behaviour[instance_id] = data.get("InstanceInitiatedShutdownBehavior", "stop")
        ec2.modify_instance_attribute(InstanceId=instance_id, Attribute="instanceInitiatedShutdownBehavior", Value=behaviour)
        ec2.modify_instance_attribute(InstanceId=instance_id, UserData={"Value": data["UserData"].encode()})
        self.instances.boot(instance_id, base64.b64decode(data["UserData"]).decode())

    def _powered_off(self, instance_id: str) -> None:
        """An instance that switched itself off does what its shutdown behaviour says."""
        try:
            if self._state_of(instance_id) in ("terminated", "shutting-down"):
                return
            if self._behaviour.get(instance_id) == "terminate":
                self._told(CHANGED, instance_id, {"state": "shutting-down"})
                self._itself("terminate_instances", instance_id)
                self._told(CHANGED, instance_id, {"state": "terminated"})
            else:
                self._told(CHANGED, instance_id, {"state": "stopping"})
                self._itself("stop_instances", instance_id)
                self._told(CHANGED, instance_id, {"state": "stopped"})
        except Exception as error:  # noqa: BLE001 - the cloud itself may be going down
            logging.getLogger(__name__).debug("%s: %s", instance_id, error)
