"""A JIT config small enough for a standard SSM parameter, and back to the same bytes.

GitHub's blob is base64 around JSON around base64 around files, most of it an RSA key: about 4,100 characters where the
standard tier ends at 4,096. Taking the inner layers of base64 off before compressing brings it to about 2,200.

Packed form: base64(gzip(JSON list of strings)). Joined, with every string at an odd position base64-encoded, the list is
the decoded blob. Whatever cannot be taken apart and put together again unchanged stays in an even position.
Source: the 4,096 limit, "Parameter Store tiers" in the Systems Manager user guide; the blob's layers, actions/runner
`Runner.Listener` (`jitconfig`).
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import re
import zlib

from agent.contract.errors import ContractError, Problem
from agent.contract.secret import Secret

UNPACKED_LIMIT_BYTES = 1 << 20
"""No honest blob is larger; a packed one that grows beyond this is refused before it fills the memory."""
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "inverseQ"})
"""The secret numbers of an RSA key, as `.credentials_rsaparams` names them."""
_VALUE = re.compile(r'(?<=:")[A-Za-z0-9+/]{16,}={0,2}(?=")|(?<=: ")[A-Za-z0-9+/]{16,}={0,2}(?=")')


def pack(blob: str) -> str:
    """The packed form of `blob`; `unpack` gives back exactly `blob`.

    Raises: ContractError if `blob` is not canonical base64 of UTF-8 text.
    """
    outer = _decoded(blob, "jit_config")
    pieces, at = [], 0
    for match in _VALUE.finditer(outer):
        inner = _reversible(match.group())
        if inner is not None:
            pieces += [outer[at : match.start()], inner]
            at = match.end()
    pieces.append(outer[at:])
    packed = gzip.compress(json.dumps(pieces, ensure_ascii=False).encode(), 9, mtime=0)
    return base64.b64encode(packed).decode()


def unpack(packed: str) -> str:
    """The blob as GitHub issued it, from its packed form.

    Raises: ContractError if `packed` is anything but what `pack` writes; no part of it is in the message.
    """
    try:
        inflater = zlib.decompressobj(wbits=31)
        text = inflater.decompress(base64.b64decode(packed, validate=True), UNPACKED_LIMIT_BYTES)
        if inflater.unconsumed_tail:
            raise _refusal("jit_config_gz", f"unpacks to more than {UNPACKED_LIMIT_BYTES} bytes")
        if not inflater.eof or inflater.unused_data:
            raise _refusal("jit_config_gz", "is cut off, or holds more than one gzip member")
        pieces = json.loads(text)
        if not isinstance(pieces, list) or not all(isinstance(piece, str) for piece in pieces):
            raise _refusal("jit_config_gz", "expected a JSON list of strings inside")
        outer = "".join(_wrapped(piece) if at % 2 else piece for at, piece in enumerate(pieces))
        return base64.b64encode(outer.encode()).decode()
    except (ValueError, TypeError, AttributeError, RecursionError, zlib.error) as error:
        if isinstance(error, ContractError):
            raise
        raise _refusal("jit_config_gz", "expected base64 of gzip of a JSON list of strings") from error


def secrets_within(blob: str) -> tuple[Secret, ...]:
    """The blob and every private part of it, so that none of them can slip into a log on its own."""
    found = [Secret(blob)]
    try:
        for inner in json.loads(_decoded(blob, "jit_config")).values():
            found.append(Secret(inner))
            values = json.loads(base64.b64decode(inner))
            found += [Secret(value) for name, value in values.items() if name in _PRIVATE and isinstance(value, str)]
    except (ValueError, TypeError, AttributeError):
        return tuple(found)
    return tuple(found)


def _decoded(blob: str, field: str) -> str:
    try:
        raw = base64.b64decode(blob, validate=True)
        text = raw.decode()
    except (binascii.Error, ValueError) as error:
        raise _refusal(field, "expected base64 of UTF-8 text, as generate-jitconfig returns it") from error
    if base64.b64encode(raw).decode() != blob:
        raise _refusal(field, "expected canonical base64 without line breaks")
    return text


def _reversible(value: str) -> str | None:
    try:
        inner = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return inner if _wrapped(inner) == value else None


def _wrapped(inner: str) -> str:
    return base64.b64encode(inner.encode()).decode()


def _refusal(field: str, complaint: str) -> ContractError:
    return ContractError("the JIT config", (Problem(field, complaint),))
