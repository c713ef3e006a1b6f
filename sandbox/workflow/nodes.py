"""The nodes of a YAML file with their lines, and the list of everything in it that the sandbox does not do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from sandbox.runner.expressions import examined
from sandbox.runner.functions import as_text

EXPRESSION = "${{"


class Unsupported(ValueError):
    """A file asks for something the sandbox does not do; the message has a line `file:line: what (supported: …)` for each."""


class Complaints:
    """Everything that is wrong with a workflow and the workflows it calls."""

    def __init__(self) -> None:
        self._found: dict[tuple[Path, int, str], None] = {}

    def add(self, path: Path, line: int, what: str) -> None:
        """Keep one complaint; the same one twice (an anchor that is used again) counts once."""
        self._found[path, line, what] = None

    def __len__(self) -> int:
        return len(self._found)

    def insist_on_none(self) -> None:
        """Raises: Unsupported with all of them, file by file in the order in which they were read, each file from its top."""
        files = list(dict.fromkeys(path for path, _, _ in self._found))
        ordered = sorted(self._found, key=lambda one: (files.index(one[0]), one[1]))
        if ordered:
            raise Unsupported("\n".join(f"{path}:{line}: {what}" for path, line, what in ordered))


class Nodes:
    """Reads the nodes of one file. What it cannot take becomes a complaint, and something harmless stands in its place."""

    def __init__(self, path: Path, complaints: Complaints) -> None:
        self.path, self._complaints = path, complaints

    @property
    def complaints(self) -> int:
        """How many there are so far."""
        return len(self._complaints)

    def root(self) -> yaml.MappingNode | None:
        """The whole file; None if that was complained of.

        Raises: Unsupported if there is no such file.
        """
        try:
            root = yaml.compose(self.path.read_text(encoding="utf-8"), Loader=_Loader)
        except OSError as error:
            raise Unsupported(f"{self.path}: expected a workflow file: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise Unsupported(f"{self.path}: expected a workflow file in UTF-8: {error}") from error
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = mark.line + 1 if mark else 1
            self._complaints.add(self.path, line, f"not YAML: {getattr(error, 'problem', error)}")
            return None
        if isinstance(root, yaml.MappingNode):
            return root
        self._complaints.add(self.path, root.start_mark.line + 1 if root else 1, "expected a mapping with `jobs:`")
        return None

    def complain(self, node: yaml.Node, what: str) -> None:
        """Note what is wrong at this node."""
        self._complaints.add(self.path, node.start_mark.line + 1, what)

    def mapping(self, node: yaml.Node, allowed: frozenset[str] | None, where: str) -> dict[str, yaml.Node]:
        """The node as a mapping with allowed keys only."""
        if not isinstance(node, yaml.MappingNode):
            self.complain(node, f"expected a mapping for {where}")
            return {}
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.complain(key, f"expected a single value as a key in {where}")
                continue
            name = str(key.value)
            if name in found:
                self.complain(key, f"`{name}` is already defined in {where}")
            elif allowed is not None and name not in allowed:
                self.complain(key, f"`{name}` is not supported in {where} (supported: {', '.join(sorted(allowed))})")
            else:
                found[name] = value
        return found

    def value(self, node: yaml.Node) -> Any:
        """The node as plain values; None if it is none."""
        try:
            return _Loader("").construct_object(node, deep=True)
        except yaml.YAMLError as error:
            self.complain(node, str(error))
            return None

    def texts(self, node: yaml.Node | None, where: str) -> dict[str, str]:
        """The node as a mapping of texts."""
        if node is None:
            return {}
        return {name: self.text(value) for name, value in self.mapping(node, None, where).items()}

    def text(self, node: yaml.Node) -> str:
        """The node as a text; its expressions are checked."""
        if not isinstance(node, yaml.ScalarNode):
            self.complain(node, "expected a single value")
            return ""
        raw = self.value(node)
        text = as_text(raw) if raw is None or isinstance(raw, (bool, float)) else str(node.value)
        self.checked(node, text)
        return text

    def checked(self, node: yaml.Node, text: str, *, bare: bool = False) -> frozenset[str]:
        """The contexts that the expressions of a text name; all that is not supported in them is complained of."""
        named, wrong = examined(text, bare=bare)
        for what in wrong:
            self.complain(node, what)
        return frozenset() if wrong else named

    def contexts_below(self, node: yaml.Node) -> frozenset[str] | None:
        """The contexts that the expressions at and below the node name; None: there is no expression."""
        if isinstance(node, yaml.ScalarNode):
            text = str(node.value)
            return self.checked(node, text) if EXPRESSION in text else None
        children = [child for part in node.value for child in (part if isinstance(part, tuple) else (part,))]
        found = [named for child in children if (named := self.contexts_below(child)) is not None]
        return frozenset().union(*found) if found else None

    def condition(self, node: yaml.Node | None) -> str:
        """The expression of an `if`."""
        if node is None:
            return "success()"
        if not isinstance(node, yaml.ScalarNode):
            self.complain(node, "expected an expression in `if:`")
            return "success()"
        self.checked(node, str(node.value), bare=True)
        return str(node.value)

    def truth(self, node: yaml.Node | None, where: str, default: str = "false") -> str:
        """`true`, `false`, or an expression that gives one of them."""
        if node is None:
            return default
        raw, written = self.value(node), str(node.value)
        if isinstance(raw, bool):
            return as_text(raw)
        if isinstance(raw, str) and EXPRESSION in raw:
            self.checked(node, raw)
            return raw
        self.complain(node, f"expected true, false or an expression in `{where}:`, found `{written}`")
        return default

    def minutes(self, node: yaml.Node | None, default: float) -> float | str:
        """A time limit in minutes, or an expression that gives it."""
        if node is None:
            return default
        value = self.value(node)
        if isinstance(value, str) and EXPRESSION in value:
            self.checked(node, value)
            return value
        if not isinstance(value, (int, float)) or isinstance(value, bool) or value <= 0:
            self.complain(node, f"expected a number of minutes, found `{node.value}`")
            return default
        return float(value)

    def names(self, node: yaml.Node | None, where: str) -> tuple[str, ...]:
        """A list of names, or one name."""
        if node is None:
            return ()
        value = self.value(node)
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            self.complain(node, f"expected the name of a job, or a list of names, in `{where}:`")
            return ()
        return tuple(listed)


class _Loader(yaml.SafeLoader):
    """YAML 1.2 as GitHub reads it: `yes`, `no`, `on` and `off` are texts."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
