"""`${{ … }}` as far as the sandbox goes: contexts, literals, operators, parentheses, functions, indexes and `.*`.

Source of the semantics (loose equality, case-folded strings, operands as results): "Expressions" in the GitHub Actions docs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from sandbox.runner.functions import STATUS, ExpressionError, as_text, called, equal, number

CONTEXTS = ("github", "env", "vars", "inputs", "matrix", "strategy", "needs", "job", "jobs", "steps", "runner")
NO_SECRETS = "the context secrets is not supported: the sandbox keeps no secrets, not even GITHUB_TOKEN; use vars, or env"
_TOKEN = re.compile(
    r"\s*(?:(?P<string>'(?:[^']|'')*')|(?P<number>-?\d+(?:\.\d+)?)|(?P<name>[A-Za-z_][A-Za-z0-9_-]*)"
    r"|(?P<op>==|!=|<=|>=|&&|\|\||[!<>().\[\],*]))"
)
_INNER = r"(?:'(?:[^']|'')*'|[^'}]|\}(?!\}))*"
"""Of an expression: braces within a string do not end it."""
_TEMPLATE = re.compile(rf"\$\{{\{{({_INNER}|.*?)\}}\}}", re.S)
_WHOLE = re.compile(rf"\s*\$\{{\{{({_INNER})\}}\}}\s*", re.S)


def render(text: str, contexts: Mapping[str, Any], status: Mapping[str, bool] | None = None) -> str:
    """`text` with every `${{ }}` replaced by its value as a string."""
    return _TEMPLATE.sub(lambda match: as_text(evaluate(match.group(1), contexts, status)), text)


def evaluated(text: str, contexts: Mapping[str, Any]) -> Any:
    """The value of a text that is one expression and nothing else; of any other text, the text rendered."""
    whole = _WHOLE.fullmatch(text)
    return evaluate(whole[1], contexts) if whole else render(text, contexts)


def condition(text: str, contexts: Mapping[str, Any], status: Mapping[str, bool]) -> bool:
    """An `if:`; without a status function in it, `success()` is implied."""
    expression = _TEMPLATE.sub(lambda part: f"({part.group(1)})", text)
    explicit = any(re.search(rf"\b{name}\s*\(", expression) for name in STATUS)
    holds = truthy(evaluate(expression, contexts, status)) if expression.strip() else True
    return holds if explicit else holds and status["success"]


def check(text: str, *, bare: bool = False) -> frozenset[str]:
    """The contexts that the expressions in `text` name. Raises: ExpressionError with the first thing that is not supported."""
    named, wrong = examined(text, bare=bare)
    if wrong:
        raise ExpressionError(wrong[0])
    return named


def examined(text: str, *, bare: bool = False) -> tuple[frozenset[str], list[str]]:
    """The contexts that the expressions in `text` name (or `text` itself, if `bare`), and all that is not supported in them."""
    parts = [match.group(1) for match in _TEMPLATE.finditer(text)]
    if bare:
        parts = [_TEMPLATE.sub(lambda part: f"({part.group(1)})", text)]
    parsers = [_Parser(part, None, None) for part in parts]
    for parser in parsers:
        try:
            parser.parse()
        except ExpressionError as error:
            parser.wrong.append(str(error))
    return frozenset().union(*(parser.named for parser in parsers)), [what for parser in parsers for what in parser.wrong]


def evaluate(expression: str, contexts: Mapping[str, Any], status: Mapping[str, bool] | None = None) -> Any:
    """The value of one expression without its braces."""
    return _Parser(expression, contexts, status).parse()


def truthy(value: Any) -> bool:
    """GitHub's truth: false, 0, '' and null are not."""
    return value not in (None, False, 0, "")


class _Parser:
    """Recursive descent; `contexts` None: check only."""

    def __init__(self, text: str, contexts: Mapping[str, Any] | None, status: Mapping[str, bool] | None) -> None:
        self._text, self._contexts, self._status = text, contexts, status
        self._tokens: list[tuple[str, str]] = []
        self._at = 0
        self.named: set[str] = set()
        """The contexts met so far."""
        self.wrong: list[str] = []
        """What was met so far that is not supported, where this is a check; elsewhere the first is raised."""

    def parse(self) -> Any:
        """The value of the whole expression. Raises: ExpressionError."""
        self._tokens = self._read(self._text)
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
        left = self._ordered()
        while (operator := self._take("==", "!=")) is not None:
            same = equal(left, self._ordered())
            left = same if operator == "==" else not same
        return left

    def _ordered(self) -> Any:
        left = self._negated()
        while (operator := self._take("<", "<=", ">", ">=")) is not None:
            right = self._negated()
            texts = isinstance(left, str) and isinstance(right, str)
            first, second = (left.lower(), right.lower()) if texts else (number(left), number(right))
            left = {"<": first < second, "<=": first <= second, ">": first > second, ">=": first >= second}[operator]
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
            value = self._called(name)
        elif name not in CONTEXTS:
            told = f"the context {name} is not supported; supported are {', '.join(CONTEXTS)}"
            value = self._not_supported(ExpressionError(NO_SECRETS if name == "secrets" else told))
        else:
            self.named.add(name)
            value = (self._contexts or {}).get(name, {})
        while (opened := self._take(".", "[")) is not None:
            value = _every(value) if opened == "." and self._take("*") else _member(value, self._key(opened))
        return value

    def _called(self, name: str) -> Any:
        arguments: list[Any] = []
        while not self._take(")"):
            if arguments:
                self._expect(",")
            arguments.append(self._either())
        if name.lower() in STATUS:
            if arguments:
                raise ExpressionError(f"{name}() takes no arguments here")
            return True if name.lower() == "always" else (self._status or {}).get(name.lower(), True)
        folder = self._contexts["github"].get("workspace") if self._contexts and "github" in self._contexts else None
        try:
            return called(name, arguments, known=self._contexts is not None, workspace=folder)
        except ExpressionError as error:
            return self._not_supported(error)

    def _not_supported(self, error: ExpressionError) -> Any:
        """Noted, with an empty value in its place. Raises: ExpressionError, where this is no check."""
        if self._contexts is not None:
            raise error
        self.wrong.append(str(error))
        return {}

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


def _every(value: Any) -> list[Any]:
    """`.*`: all values of an object, or all of a list."""
    return list(value.values()) if isinstance(value, Mapping) else list(value) if isinstance(value, list) else []


def _member(value: Any, name: str) -> Any:
    if isinstance(value, list):  # an index, or the same member of each (after `.*`)
        if name.isascii() and name.isdigit():
            return value[int(name)] if int(name) < len(value) else None
        return [found for one in value if (found := _member(one, name)) is not None]
    if not isinstance(value, Mapping):
        return None
    folded = {str(key).lower(): found for key, found in value.items()}
    return folded.get(name.lower())
