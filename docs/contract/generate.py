"""Writes the JSON Schema of each document of the contract, from the types in `agent.contract`, beside this file.

They describe what we write. Readers are more tolerant: unknown fields are ignored, and `job_id` may also be a number.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from agent.contract.config import RunnerConfig
from agent.contract.messages import BootstrapFailed, Busy, FinalWord, Interrupting, Started
from agent.contract.secret import Secret

HERE = Path(__file__).parent
DIALECT = "https://json-schema.org/draft/2020-12/schema"
DOCUMENTS: dict[str, type[Any]] = {
    "runner-config": RunnerConfig,
    "started": Started,
    "busy": Busy,
    "interrupting": Interrupting,
    "final-word": FinalWord,
    "bootstrap-failed": BootstrapFailed,
}
NOTICES = ("started", "busy", "interrupting", "bootstrap-failed")
"""Documents with a status of their own, always written: it is how a reader tells them apart."""


def schema(name: str) -> dict[str, Any]:
    """The schema of the document `name`."""
    kind = DOCUMENTS[name]
    (reference,), components = msgspec.json.schema_components([kind], schema_hook=_as_text, ref_template="#/$defs/{name}")
    made = json.loads(json.dumps({"$schema": DIALECT, "title": name, **reference, "$defs": components}))
    if name in NOTICES:
        own = made["$defs"][kind.__name__]
        own["properties"]["status"] = {"const": own["properties"]["status"]["default"]}
        own["required"] = [*own["required"], "status"]
    for component in made["$defs"].values():
        component["description"] = " ".join(component["description"].split())
    return dict(made)


def text(name: str) -> str:
    """The file's content."""
    return json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"


def _as_text(kind: type[Any]) -> dict[str, str]:
    if kind is Secret:
        return {"type": "string"}
    raise NotImplementedError(kind)


if __name__ == "__main__":
    for document in DOCUMENTS:
        (HERE / f"{document}.schema.json").write_text(text(document), encoding="utf-8")
