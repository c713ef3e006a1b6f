"""Decide what a `runs-on` asks of us, if anything."""

from __future__ import annotations

from collections.abc import Callable

MARKER = "runs-fleet"
_ARM = frozenset({"arm64", "aarch64"})


def is_ours(labels: tuple[str, ...], aliased: Callable[[str], bool]) -> bool:
    """Whether any label carries our marker (`runs-fleet`, `runs-fleet=…`, `runs-fleet/…`) or an alias of it."""
    return any(_is_marker(label) or aliased(label) for label in labels)


def architecture(labels: tuple[str, ...]) -> str:
    """`arm64` where a marker (`…/arch=arm64`) or a plain label asks for it, else `amd64`."""
    words = {label.lower() for label in labels}
    for label in labels:
        if _is_marker(label):
            words |= {part.removeprefix("arch=").lower() for part in label.split("/")[1:]}
    return "arm64" if words & _ARM else "amd64"


def _is_marker(label: str) -> bool:
    folded = label.lower()
    return folded == MARKER or folded.startswith((f"{MARKER}=", f"{MARKER}/"))
