"""What DynamoDB does and moto does not: a transaction is done once for its token, and an index shows some rows late.

Transactions are taken apart here, item by item, while nobody else writes: moto copies all tables for each, so that a thousand jobs
would take it an hour.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from typing import Any

from sandbox.faults import Faults

Answer = tuple[str, list[tuple[str, str]], bytes]
Ask = Callable[[str, dict[str, Any]], Answer]
"""One call of that name to the tables behind."""
TOKEN_S = 600.0
"""For how long a token is known. Source: TransactWriteItems in the DynamoDB API reference, ClientRequestToken: ten minutes."""
VERBS = {"Put": "PutItem", "Delete": "DeleteItem", "Update": "UpdateItem"}
MISMATCH = "IdempotentParameterMismatchException"
KEYS = ("id", "row")
Name = tuple[str, str, str]
"""Table, id, row."""
LATELY_S = 60.0
"""No index is as late as that."""
NEVER = math.inf
"""When an item is due that has no deadline."""


class Store:
    """In front of moto's tables; one call at a time."""

    def __init__(self) -> None:
        self._done: dict[str, tuple[float, str, Answer]] = {}
        self._written: dict[Name, list[tuple[float, float | None]]] = {}
        """Of each item, when it was written lately, and when it was due before; None: there was none."""
        self._due: dict[Name, float] = {}
        """When each is due, of items that were put."""

    def called(self, name: str, asked: dict[str, Any], call: Callable[[], Answer], faults: Faults, ask: Ask) -> Answer:
        """The answer to one call of DynamoDB."""
        if name == "TransactWriteItems":
            whole = all(set(one) <= set(VERBS) for one in asked.get("TransactItems", []))
            return self._once(asked, (lambda: _transacted(asked, ask)) if whole else call, faults.clock())
        if name == "Query" and asked.get("IndexName") and faults.unseen_s:
            return self._late(asked, call(), faults)
        answer = call()
        if name in VERBS.values() and answer[0].startswith("200"):
            self._noted(asked, faults.clock())
        return answer

    def _once(self, asked: dict[str, Any], call: Callable[[], Answer], now: float) -> Answer:
        """The same token and words give the first answer again, if that was a success; other words are refused."""
        token = str(asked.get("ClientRequestToken", ""))
        words = hashlib.sha256(json.dumps(asked.get("TransactItems"), sort_keys=True).encode()).hexdigest()
        self._done = {known: one for known, one in self._done.items() if now - one[0] < TOKEN_S}
        if token in self._done:
            _, first, answer = self._done[token]
            return answer if first == words else _refused(MISMATCH, "the token was used with other items within ten minutes")
        answer = call()
        if answer[0].startswith("200"):
            for one in asked.get("TransactItems", []):
                for told in one.values():
                    self._noted(told, now)
            if token:
                self._done[token] = (now, words, answer)
        return answer

    def _noted(self, asked: dict[str, Any], now: float) -> None:
        item = asked.get("Item") or asked.get("Key")
        if not isinstance(item, dict) or not all(name in item for name in KEYS):
            return
        key = _key(asked["TableName"], item)
        if "Item" not in asked and "UpdateExpression" not in asked:  # it was deleted
            self._due.pop(key, None)
            self._written.pop(key, None)
            return
        lately = [one for one in self._written.get(key, []) if now - one[0] < LATELY_S]
        self._written[key] = [*lately, (now, self._due.get(key))]
        if "Item" in asked:
            self._due[key] = float(item["due"]["N"]) if "due" in item else NEVER

    def _late(self, asked: dict[str, Any], answer: Answer, faults: Faults) -> Answer:
        """As the index knew it a moment ago: without what is new, or was due later than is asked for."""
        if not answer[0].startswith("200"):
            return answer
        now = faults.clock()
        young = {key: [one for one in writes if now - one[0] < faults.unseen_s] for key, writes in self._written.items()}
        self._written = {key: writes for key, writes in young.items() if writes}
        told = json.loads(answer[2])
        before = float(asked.get("ExpressionAttributeValues", {}).get(":before", {}).get("N", NEVER))
        hidden = {key for key, ((_, due), *_) in self._written.items() if due is None or due > before}
        kept = [item for item in told["Items"] if _key(asked["TableName"], item) not in hidden]
        faults.counted("answers that lag", len(kept) < len(told["Items"]))
        content = json.dumps({**told, "Items": kept, "Count": len(kept)}).encode()
        headers = [one for one in answer[1] if one[0].lower() not in ("content-length", "x-amz-crc32")]
        return answer[0], headers, content


def _transacted(asked: dict[str, Any], ask: Ask) -> Answer:
    """All items, or none: what was done before one was refused is undone. Source: TransactWriteItems, DynamoDB API reference."""
    items = [(verb, told) for one in asked["TransactItems"] for verb, told in one.items()]
    undo: list[tuple[str, dict[str, Any]]] = []
    for at, (verb, told) in enumerate(items):
        place = {"TableName": told["TableName"], "Key": told.get("Key") or {name: told["Item"][name] for name in KEYS}}
        before = json.loads(ask("GetItem", {**place, "ConsistentRead": True})[2]).get("Item")
        status, headers, content = ask(VERBS[verb], told)
        if not status.startswith("200"):
            for name, back in reversed(undo):
                ask(name, back)
            return _cancelled(json.loads(content), at, len(items)) or (status, headers, content)
        undo.append(("PutItem", {"TableName": told["TableName"], "Item": before}) if before else ("DeleteItem", place))
    return "200 OK", [("Content-Type", "application/x-amz-json-1.0"), ("Content-Length", "2")], b"{}"


def _cancelled(told: dict[str, Any], at: int, number: int) -> Answer | None:
    """If a condition was not met; every other refusal is told as it is."""
    if not str(told.get("__type", "")).endswith("ConditionalCheckFailedException"):
        return None
    reasons = [{"Code": "None"} for _ in range(number)]
    reasons[at] = {"Code": "ConditionalCheckFailed", "Message": "The conditional request failed"}
    codes = ", ".join(reason["Code"] for reason in reasons)
    message = f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]"
    return _refused("TransactionCanceledException", message, CancellationReasons=reasons)


def _key(table: str, item: dict[str, Any]) -> Name:
    return table, str(item[KEYS[0]].get("S")), str(item[KEYS[1]].get("S"))


def _refused(code: str, message: str, **more: Any) -> Answer:
    told = json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "Message": message, **more}).encode()
    return "400 Bad Request", [("Content-Type", "application/x-amz-json-1.0"), ("Content-Length", str(len(told)))], told
