"""WSGI in front of moto: what moto lacks, and bad behaviour, for each call that needs it."""

from __future__ import annotations

import io
import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol
from urllib.parse import parse_qs

from sandbox.faults import DENIED, DENIED_EC2, Faults
from sandbox.identity import Senders, caller_identity, key_of, permission, user_id
from sandbox.imds import ROLE_ID
from sandbox.store import Answer, Store


class Fleets(Protocol):
    """The cloud, as calls change it."""

    faults: Faults
    calls: Counter[str]
    permissions: set[tuple[str, str]]
    owners: dict[str, str]
    messages: list[str]

    def create_fleet(self, body: bytes, call: Callable[[bytes], tuple[str, list[tuple[str, str]], bytes]]) -> Any:
        """The answer to CreateFleet; `call` asks moto."""

    def delete_fleets(self, body: bytes) -> bytes:
        """The answer to DeleteFleets."""

    def unseen(self, answer: bytes) -> bytes:
        """DescribeInstances without those that were made a moment ago."""

    def terminated(self, answer: bytes) -> None:
        """EC2 accepted to terminate these."""


class Front:
    """WSGI in front of moto."""

    def __init__(self, behind: Any, cloud: Fleets) -> None:
        self._behind, self._cloud = behind, cloud
        self._tables, self._senders, self._store = threading.Lock(), Senders(), Store()
        self._laid: dict[str, float] = {}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        action = b""
        if "application/x-www-form-urlencoded" in environ.get("CONTENT_TYPE", ""):
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(body)
            found = re.search(rb"(?:^|&)Action=(\w+)", body)
            action = found.group(1) if found else b""
        name = action.decode() or environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        signed = environ.get("HTTP_AUTHORIZATION", "")
        asked = permission(signed, name, environ.get("REQUEST_METHOD", ""), environ.get("PATH_INFO", ""))
        who = self._caller(environ)
        self._cloud.permissions.add((ROLE_ID if who.startswith(ROLE_ID) else key_of(signed), asked))
        self._cloud.calls[name] += 1
        self._cloud.faults.dawdle(name)
        if code := self._cloud.faults.refused(name):
            return _sent(start_response, refusal(code, "Rate exceeded", _status_of(code, is_query=bool(action))))
        if action == b"CreateFleet":
            answer = self._cloud.create_fleet(body, lambda wanted: self._called(_with_body(environ, wanted)))
            if self._cloud.faults.happens("answers lost", self._cloud.faults.lost):
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return _sent(start_response, answer)
        if action == b"TerminateInstances":
            answer = self._called(environ)
            if answer[0].startswith("200"):
                self._cloud.terminated(answer[2])
            return _sent(start_response, answer)
        if action == b"DeleteFleets":
            return _sent(start_response, ("200 OK", [("Content-Type", "text/xml")], self._cloud.delete_fleets(body)))
        if action == b"DescribeInstances" and self._cloud.faults.unseen_s:
            return _sent(start_response, _without_length(self._called(environ), self._cloud.unseen))
        if action == b"GetCallerIdentity":
            return _sent(start_response, ("200 OK", [("Content-Type", "text/xml")], caller_identity(who)))
        if name == "SendMessage":
            message = _message(environ, body if action else b"")
            with self._senders.sending():
                answer = self._called(environ)
                if answer[0].startswith("200"):
                    self._senders.sent(answer[2], who)
                    self._cloud.messages.append(message)
            return _sent(start_response, answer)
        if name == "ReceiveMessage":
            status, headers, content = self._called(environ)
            received = self._senders.received if status.startswith("200") else bytes
            return _sent(start_response, _without_length((status, headers, content), received))
        if environ.get("HTTP_X_AMZ_TARGET", "").startswith("DynamoDB"):
            words = _read_json(environ)
            ask, faults = partial(self._asked, environ), self._cloud.faults
            with self._tables:  # one after the other: a transaction is several calls to moto
                return _sent(start_response, self._store.called(name, words, partial(self._called, environ), faults, ask))
        if name in ("PutParameter", "DeleteParameter", "DescribeParameters"):
            return _sent(start_response, self._parameters(name, environ))
        return self._behind(environ, start_response)  # type: ignore[no-any-return]

    def _asked(self, environ: dict[str, Any], name: str, told: dict[str, Any]) -> Answer:
        """Another call of DynamoDB, in the name of whoever made this one."""
        target = {"HTTP_X_AMZ_TARGET": f"DynamoDB_20120810.{name}"}
        return self._called({**_with_body(environ, json.dumps(told).encode()), **target})

    def _parameters(self, name: str, environ: dict[str, Any]) -> Answer:
        """SSM lists a parameter some time after it took it."""
        asked = _read_json(environ)
        answer = self._called(environ)
        faults, now = self._cloud.faults, self._cloud.faults.clock()
        if name == "PutParameter":
            self._laid[str(asked.get("Name"))] = now
            return answer
        young = {laid for laid, at in self._laid.items() if now - at < faults.unseen_s}
        if name != "DescribeParameters" or not young or not answer[0].startswith("200"):
            return answer

        def shown(content: bytes) -> bytes:
            """Send the answer's head on."""
            told = json.loads(content)
            kept = [one for one in told["Parameters"] if one["Name"] not in young]
            faults.counted("answers that lag", len(kept) < len(told["Parameters"]))
            return json.dumps({**told, "Parameters": kept}).encode()

        return _without_length(answer, shown)

    def _caller(self, environ: dict[str, Any]) -> str:
        return user_id(environ.get("HTTP_AUTHORIZATION", ""), self._cloud.owners)

    def _called(self, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
        told: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
            told.extend([status, headers])

        content = b"".join(self._behind(environ, start_response))
        return told[0], told[1], content


def _read_json(environ: dict[str, Any]) -> dict[str, Any]:
    """The body, which can be read again."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return dict(json.loads(body or b"{}"))


def _message(environ: dict[str, Any], form: bytes) -> str:
    """The body of a SendMessage, by either protocol."""
    return parse_qs(form.decode()).get("MessageBody", [""])[0] if form else str(_read_json(environ).get("MessageBody", ""))


def _without_length(answer: Answer, changed: Callable[[bytes], bytes]) -> Answer:
    status, headers, content = answer
    return status, [h for h in headers if h[0].lower() != "content-length"], changed(content)


def _sent(start_response: Any, answer: tuple[str, list[tuple[str, str]], bytes]) -> Iterable[bytes]:
    start_response(answer[0], answer[1])
    return [answer[2]]


def _status_of(code: str, *, is_query: bool) -> str:
    if code == DENIED_EC2:
        return "403 Forbidden"
    return "503 Service Unavailable" if is_query else "400 Bad Request"


def _with_body(environ: dict[str, Any], body: bytes) -> dict[str, Any]:
    return {**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}


def refusal(code: str, message: str, status: str = "400 Bad Request") -> tuple[str, list[tuple[str, str]], bytes]:
    if code in ("ThrottlingException", DENIED):
        told = json.dumps({"__type": code, "message": message}).encode()
        return status, [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(told)))], told
    text = f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors><RequestID>0</RequestID></Response>"
    return status, [("Content-Type", "text/xml"), ("Content-Length", str(len(text)))], text.encode()
