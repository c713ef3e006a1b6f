"""Twins of the place where configurations lie, and of SQS queues."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.errors import ServiceFailed
from orchestrator.ports import Received
from simulation.calls import Calls, call


class MemoryConfigurations:
    """Configurations (services): what is there is never overwritten. `stacks` says whose each is, as a tag would."""

    def __init__(self, calls: Calls | None = None, stack_id: str = "tests") -> None:
        self._calls, self.stack_id = calls or Calls(), stack_id
        self.values: dict[str, str] = {}
        self.stacks: dict[str, str] = {}
        self.replaces_late = False
        """As SSM, where a name that was deleted may not be used at once."""

    @call("configurations.put")
    def put(self, instance_id: str, value: str) -> bool:
        """False if there is another one."""
        fresh = self.values.get(instance_id, value) == value
        self.values.setdefault(instance_id, value)
        self.stacks.setdefault(instance_id, self.stack_id)
        return fresh

    def replace(self, instance_id: str, value: str) -> bool:
        """Write it at once, or in a while."""
        self.delete(instance_id)
        return not self.replaces_late and self.put(instance_id, value)

    @call("configurations.exists")
    def exists(self, instance_id: str) -> bool:
        """Whether the configuration is there."""
        return instance_id in self.values

    @call("configurations.delete")
    def delete(self, instance_id: str) -> None:
        """Gone already is success."""
        self.values.pop(instance_id, None)
        self.stacks.pop(instance_id, None)

    @call("configurations.instances")
    def instances(self) -> Iterator[str]:
        """The instances that have one, by tag."""
        return iter([instance_id for instance_id, stack in self.stacks.items() if stack == self.stack_id])


class MemoryQueue:
    """Queue (ports): at least once, without repetition of one deduplication id."""

    def __init__(self, calls: Calls | None = None) -> None:
        self._calls = calls or Calls()
        self._messages: dict[str, Received] = {}
        self._in_flight: set[str] = set()
        self._seen: set[str] = set()
        self._serial = 0
        self.refuses, self.age = False, 0.0

    @call("queue.send")
    def send(self, body: str, group: str, deduplication: str) -> None:
        """Keep the message: durable on return."""
        if self.refuses:
            raise ServiceFailed("sqs:SendMessage", "ServiceUnavailable")
        if deduplication not in self._seen:
            self._seen.add(deduplication)
            self.put(body)

    def put(self, body: str, sender: str = "") -> None:
        """A message from somebody else."""
        self._serial += 1
        receipt = f"receipt-{self._serial}"
        self._messages[receipt] = Received(body, receipt, sender)

    @call("queue.receive")
    def receive(self, wait_s: int) -> list[Received]:
        """Up to ten that nobody holds."""
        found = [message for receipt, message in self._messages.items() if receipt not in self._in_flight][:10]
        self._in_flight |= {message.receipt for message in found}
        return found

    @call("queue.delete")
    def delete(self, receipt: str) -> None:
        """Delete the message: done with it."""
        self._messages.pop(receipt, None)

    def depth(self) -> int:
        """How many messages wait."""
        return len(self._messages)

    def age_s(self) -> float:
        """The age of the oldest, as the test says."""
        return self.age

    def forget(self) -> None:
        """Empty, and as if nothing had ever been sent."""
        self._messages.clear()
        self._in_flight.clear()
        self._seen.clear()

    def time_out(self) -> None:
        """What was received and not deleted comes again."""
        self._in_flight.clear()

    @property
    def bodies(self) -> list[str]:
        """The bodies of the messages that lie in it."""
        return [message.body for message in self._messages.values()]
