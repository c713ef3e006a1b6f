"""Renews `github.json`: the part of GitHub's published OpenAPI description that the stand-in answers.

npm pack @octokit/openapi@23.0.2
python tests/sandbox/openapi/refresh.py octokit-openapi-23.0.2.tgz
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

RUNNERS = "/repos/{owner}/{repo}/actions/runners"
OPERATIONS = (
    ("get", "/app"),
    ("get", "/app/hook/config"),
    ("post", "/app/installations/{installation_id}/access_tokens"),
    ("get", "/repos/{owner}/{repo}/installation"),
    ("post", f"{RUNNERS}/generate-jitconfig"),
    ("post", f"{RUNNERS}/registration-token"),
    ("get", RUNNERS),
    ("get", f"{RUNNERS}/{{runner_id}}"),
    ("delete", f"{RUNNERS}/{{runner_id}}"),
    ("get", "/repos/{owner}/{repo}/actions/jobs/{job_id}"),
    ("get", "/repos/{owner}/{repo}/actions/runs/{run_id}/jobs"),
    ("post", "/repos/{owner}/{repo}/actions/runs/{run_id}/cancel"),
    ("get", "/repos/{owner}/{repo}/actions/runs"),
    ("get", "/repos/{owner}/{repo}/actions/runs/{run_id}"),
    ("post", "/repos/{owner}/{repo}/actions/runs/{run_id}/rerun-failed-jobs"),
    ("post", "/repos/{owner}/{repo}/actions/jobs/{job_id}/rerun"),
    ("post", "/repos/{owner}/{repo}/check-runs"),
    ("get", "/rate_limit"),
    ("get", "/app/hook/deliveries"),
    ("post", "/app/hook/deliveries/{delivery_id}/attempts"),
    ("get", "/repos/{owner}/{repo}/releases/latest"),
    ("get", "/repos/{owner}/{repo}/releases/tags/{tag}"),
)
PROSE = frozenset({"description", "title", "example", "examples", "deprecated", "externalDocs", "readOnly", "writeOnly"})
TARGET = Path(__file__).parent / "github.json"


def main(package: Path) -> int:
    """Read the package, write `github.json` beside this file."""
    raw = package.read_bytes()
    with tarfile.open(package) as tar:
        about = json.load(_member(tar, "package/package.json"))
        description = json.load(_member(tar, "package/generated/api.github.com.json"))
    trimmed = trim(description)
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(raw).digest()).decode()
    source = {"name": about["name"], "version": about["version"], "license": about["license"], "integrity": integrity}
    TARGET.write_text(json.dumps({"source": source, **trimmed}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    sys.stdout.write(f"{TARGET}: {TARGET.stat().st_size} bytes from {about['name']} {about['version']}\n")
    return 0


def trim(description: dict[str, Any]) -> dict[str, Any]:
    """The operations above and the components they reach, as JSON Schema 2020-12."""
    paths: dict[str, Any] = {}
    for method, path in OPERATIONS:
        at = description["paths"][path]
        paths.setdefault(path, {})[method] = _operation(at[method], at.get("parameters", []), description)
    schemas: dict[str, Any] = {}
    wanted = _references(paths)
    while wanted:
        name = wanted.pop()
        schemas[name] = _translated(description["components"]["schemas"][name])
        wanted |= _references(schemas[name]) - set(schemas)
    return {"paths": paths, "components": {"schemas": schemas}}


def _operation(operation: dict[str, Any], shared: list[Any], description: dict[str, Any]) -> dict[str, Any]:
    """Parameters by place, the request's schema, and each status with its schema (null: no JSON body)."""
    parameters = [_found(parameter, description) for parameter in [*shared, *operation.get("parameters", [])]]
    kept: dict[str, Any] = {
        "query": {p["name"]: _translated(p["schema"]) for p in parameters if p["in"] == "query"},
        "path": {p["name"]: _translated(p["schema"]) for p in parameters if p["in"] == "path"},
        "responses": {
            status: _schema(_found(answer, description))
            for status, answer in operation["responses"].items()
            if not status.startswith("3")
        },
    }
    if "requestBody" in operation:
        body = operation["requestBody"]
        kept["request"] = {"required": body.get("required", False), "schema": _schema(body)}
    return kept


def _schema(holder: dict[str, Any]) -> Any:
    content = holder.get("content", {}).get("application/json")
    return None if content is None else _translated(content["schema"])


def _found(part: dict[str, Any], description: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in part:
        return part
    found: Any = description
    for word in part["$ref"].removeprefix("#/").split("/"):
        found = found[word]
    return dict(found)


def _translated(schema: Any) -> Any:
    """OpenAPI 3.0's dialect as JSON Schema: `nullable` becomes a type, prose and extensions go."""
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Any] = {}
    for word, value in schema.items():
        translate = _WORDS.get(word)
        if translate is not None:
            kept[word] = translate(value)
        elif word not in PROSE and word != "nullable" and not word.startswith("x-"):
            kept[word] = value
    if schema.get("nullable"):
        return _or_null(kept)
    return kept


def _each(schemas: dict[str, Any]) -> dict[str, Any]:
    return {name: _translated(schema) for name, schema in schemas.items()}


def _all(schemas: list[Any]) -> list[Any]:
    return [_translated(schema) for schema in schemas]


_WORDS: dict[str, Callable[[Any], Any]] = {
    "properties": _each, "items": _translated, "additionalProperties": _translated, "not": _translated,
    "allOf": _all, "anyOf": _all, "oneOf": _all,
}  # fmt: skip


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    if isinstance(schema.get("type"), str) and not schema.keys() & {"allOf", "anyOf", "oneOf"}:
        extended = {**schema, "type": [schema["type"], "null"]}
        if "enum" in schema and None not in schema["enum"]:
            extended["enum"] = [*schema["enum"], None]
        return extended
    return {"anyOf": [schema, {"type": "null"}]}


def _references(part: Any) -> set[str]:
    if isinstance(part, dict):
        own = {part["$ref"].rpartition("/")[2]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*(_references(value) for value in part.values()))
    if isinstance(part, list):
        return set().union(*(_references(value) for value in part))
    return set()


def _member(tar: tarfile.TarFile, name: str) -> Any:
    found = tar.extractfile(name)
    if found is None:
        raise SystemExit(f"expected {name} in the package of @octokit/openapi")
    return found


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
