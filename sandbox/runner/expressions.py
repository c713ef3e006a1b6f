"""`${{ … }}` as far as the sandbox goes: contexts, literals, `== != && || !`, parentheses and the status functions.

Source of the semantics (loose equality, case-folded strings, operands as results): "Expressions" in the GitHub Actions docs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

CONTEXTS = ("github", "env", "matrix", "steps", "needs", "runner")
FUNCTIONS = ("success", "failure", "always", "cancelled")
_TOKEN = re.compile(
    r"\s*(?:(?P<string>'(?:[^']|'')*')|(?P<number>-?\d+(?:\.\d+)?)|(?P<name>[A-Za-z_][A-Za-z0-9_-]*)"
    r"|(?P<op>==|!=|&&|\|\||[!().\[\],]))"
)
_TEMPLATE = re.compile(r"\$\{\{(.*?)\}\}", re.S)


class ExpressionError(ValueError):
    """An expression outside what the sandbox supports, or malformed."""


def render(text: str, contexts: Mapping[str, Any], status: Mapping[str, bool] | None = None) -> str:
    """`text` with every `${{ }}` replaced by its value as a string."""
    return _TEMPLATE.sub(lambda match: as_text(evaluate(match.group(1), contexts, status)), text)


def condition(text: str, contexts: Mapping[str, Any], status: Mapping[str, bool]) -> bool:
    """An `if:`; without a status function in it, `success()` is implied."""
    expression = _TEMPLATE.sub(lambda part: f"({part.group(1)})", text)
    explicit = any(re.search(rf"\b{name}\s*\(", expression) for name in FUNCTIONS)
    holds = truthy(evaluate(expression, contexts, status)) if expression.strip() else True
    return holds if explicit else holds and status["success"]


def check(text: str, *, bare: bool = False) -> None:
    """Raises: ExpressionError if any expression in `text` (or `text` itself, if `bare`) is not supported."""
    parts = [match.group(1) for match in _TEMPLATE.finditer(text)]
    if bare:
        parts = [_TEMPLATE.sub(lambda part: f"({part.group(1)})", text)]
    for part in parts:
        _Parser(part, None, None).parse()


def evaluate(expression: str, contexts: Mapping[str, Any], status: Mapping[str, bool] | None = None) -> Any:
    """The value of one expression without its braces."""
    return _Parser(expression, contexts, status).parse()


def truthy(value: Any) -> bool:
    """GitHub's truth: false, 0, '' and null are not."""
    return value not in (None, False, 0, "")


def as_text(value: Any) -> str:
    """How a value is written into a string."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if not isinstance(value, (dict, list)) else "Object" if isinstance(value, dict) else "Array"


class _Parser:
    """Recursive descent; `contexts` None: check only."""

    def __init__(self, text: str, contexts: Mapping[str, Any] | None, status: Mapping[str, bool] | None) -> None:
        self._text, self._contexts, self._status = text, contexts, status
        self._tokens = self._read(text)
        self._at = 0

    def parse(self) -> Any:
        """The value of the whole expression. Raises: ExpressionError."""
        value = self._either()
        if self._at < len(self._tokens):
            raise ExpressionError(f"cannot read {self._text.strip()!r} from {self._tokens[self._at][1]!r} on")
        return value

    @staticmethod
    def _read(text: str) -> list[tuple[str, str]]:
        tokens, at = [], 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None:
                raise ExpressionError(f"cannot read {text.strip()!r} at {text[at:].strip()[:10]!r}")
            kind = match.lastgroup or ""
            tokens.append((kind, match.group(kind)))
            at = match.end()
        return tokens

    def _take(self, *operators: str) -> str | None:
        if self._at < len(self._tokens) and self._tokens[self._at] in [("op", op) for op in operators]:
            self._at += 1
            return self._tokens[self._at - 1][1]
        return None

    def _either(self) -> Any:
        return self._chain(self._both, "||", lambda left, right: left if truthy(left) else right)

    def _both(self) -> Any:
        return self._chain(self._compared, "&&", lambda left, right: right if truthy(left) else left)

    def _compared(self) -> Any:
        left = self._negated()
        while (operator := self._take("==", "!=")) is not None:
            equal = _equal(left, self._negated())
            left = equal if operator == "==" else not equal
        return left

    def _chain(self, part: Callable[[], Any], operator: str, join: Callable[[Any, Any], Any]) -> Any:
        left = part()
        while self._take(operator):
            left = join(left, part())
        return left

    def _negated(self) -> Any:
        return not truthy(self._negated()) if self._take("!") else self._value()

    def _value(self) -> Any:
        if self._take("("):
            value = self._either()
            self._expect(")")
            return value
        if self._at >= len(self._tokens):
            raise ExpressionError(f"{self._text.strip()!r} ends too early")
        kind, token = self._tokens[self._at]
        self._at += 1
        if kind == "string":
            return token[1:-1].replace("''", "'")
        if kind == "number":
            return float(token)
        if kind == "name":
            return self._named(token)
        raise ExpressionError(f"cannot read {self._text.strip()!r} at {token!r}")

    def _named(self, name: str) -> Any:
        if name in ("true", "false", "null"):
            return {"true": True, "false": False, "null": None}[name]
        if self._take("("):
            self._expect(")")
            if name not in FUNCTIONS:
                raise ExpressionError(f"the function {name}() is not supported; supported are {', '.join(FUNCTIONS)}")
            return True if name == "always" else (self._status or {}).get(name, True)
        if name not in CONTEXTS:
            raise ExpressionError(f"the context {name} is not supported; supported are {', '.join(CONTEXTS)}")
        value: Any = (self._contexts or {}).get(name, {})
        while (opened := self._take(".", "[")) is not None:
            value = _member(value, self._key(opened))
        return value

    def _key(self, opened: str) -> str:
        if self._at >= len(self._tokens):
            raise ExpressionError(f"{self._text.strip()!r} ends too early")
        if opened == ".":
            kind, token = self._tokens[self._at]
            self._at += 1
            if kind != "name":
                raise ExpressionError(f"expected a name after '.' in {self._text.strip()!r}")
            return token
        value = as_text(self._either())
        self._expect("]")
        return value

    def _expect(self, operator: str) -> None:
        if not self._take(operator):
            raise ExpressionError(f"expected {operator!r} in {self._text.strip()!r}")


def _member(value: Any, name: str) -> Any:
    if not isinstance(value, Mapping):
        return None
    folded = {str(key).lower(): found for key, found in value.items()}
    return folded.get(name.lower())


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        return left.lower() == right.lower()
    if type(left) is type(right):
        return bool(left == right)
    return _number(left) == _number(right)


def _number(value: Any) -> float:
    if value is None or value == "":
        return 0.0
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
