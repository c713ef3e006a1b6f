"""The schemas in docs/contract are those of the types, and our documents keep to them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest

DOCS = Path(__file__).parents[2] / "docs" / "contract"
GOLDEN = Path(__file__).parent / "golden"
NAMES = ("runner-config", "started", "busy", "interrupting", "final-word", "bootstrap-failed")


def loaded(name: str) -> Any:
    return json.loads((DOCS / f"{name}.schema.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """docs/contract/generate.py, which is no package."""
    spec = importlib.util.spec_from_file_location("contract_schemas", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_in_docs_is_current(name: str, generator: ModuleType) -> None:
    written = (DOCS / f"{name}.schema.json").read_text("utf-8")

    assert written == generator.text(name), "run: python docs/contract/generate.py"


def test_every_document_of_the_contract_has_a_schema_and_nothing_else_has(generator: ModuleType) -> None:
    assert set(generator.DOCUMENTS) == set(NAMES)
    assert {path.name for path in DOCS.glob("*.schema.json")} == {f"{name}.schema.json" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_is_one(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(loaded(name))


@pytest.mark.parametrize(
    ("document", "name"),
    [
        ("seed/config", "runner-config"),
        ("seed/final-word", "final-word"),
        ("v1/config-token", "runner-config"),
        ("v1/config-jit", "runner-config"),
        ("v1/config-jit-gz", "runner-config"),
        ("v1/config-least", "runner-config"),
        ("v1/started", "started"),
        ("v1/busy", "busy"),
        ("v1/interrupting", "interrupting"),
        ("v1/final-word", "final-word"),
        ("v1/final-word-before-configuration", "final-word"),
        ("v1/bootstrap-failed", "bootstrap-failed"),
    ],
)
def test_every_golden_document_keeps_to_its_schema(document: str, name: str) -> None:
    jsonschema.validate(json.loads((GOLDEN / f"{document}.json").read_text("utf-8")), loaded(name))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("runner-config", {"org": 1}),
        ("runner-config", {"labels": "x64"}),
        ("final-word", {"status": "fine"}),
        ("final-word", {"exit_code": "0"}),
        ("started", {"status": "busy"}),
        ("busy", {"instance_id": None}),
    ],
)
def test_a_wrong_document_does_not(name: str, change: dict[str, Any]) -> None:
    good = "seed/config" if name == "runner-config" else f"v1/{name}"
    document = json.loads((GOLDEN / f"{good}.json").read_text("utf-8")) | change

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, loaded(name))
