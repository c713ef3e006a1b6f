"""`config.sh`: an ephemeral runner is registered with a token."""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from sandbox.runner.terminal import say
from sandbox.runner.wire import Refused, exchange


def configure(root: Path, arguments: list[str]) -> int:
    """`config.sh`: register with a token, ephemeral, and write the three files."""
    given = options(arguments)
    if (root / ".runner").exists():
        say("Cannot configure the runner because it is already configured. To reconfigure the runner, run 'config.cmd remove' or './config.sh remove' first.", sys.stderr)  # fmt: skip
        return 1
    parts = urlsplit(given.get("url", ""))
    api = "https://api.github.com" if parts.hostname == "github.com" else f"{parts.scheme}://{parts.netloc}/api/v3"
    say("# Authentication")
    try:
        body = json.dumps({"url": given.get("url"), "runner_event": "register"}).encode()
        headers = {"Authorization": f"RemoteAuth {given.get('token', '')}", "Content-Type": "application/json"}
        _, grant = exchange("POST", f"{api}/actions/runner-registration", body, headers)
        say("√ Connected to GitHub")
        say("# Runner Registration")
        wanted = {
            "url": given.get("url"), "name": given.get("name", os.uname().nodename), "ephemeral": "ephemeral" in given,
            "updates_disabled": "disableupdate" in given, "labels": labels(given), "group": given.get("runnergroup", ""),
            "replace": "replace" in given,
        }  # fmt: skip
        headers = {"Authorization": f"Bearer {grant['token']}", "Content-Type": "application/json"}
        _, made = exchange("POST", f"{api}/actions/runners/register", json.dumps(wanted).encode(), headers)
    except Refused as error:
        name = given.get("name", "")
        if error.status == 409:
            say("A runner exists with the same name")
            say(f"A runner exists with the same name {name}.", sys.stderr)
        else:
            word = {404: "NotFound", 401: "Unauthorized", 403: "Forbidden"}.get(error.status, str(error.status))
            say(f"Http response code: {word} from 'POST {api}/actions/runner-registration' (Request Id: stand-in)", sys.stderr)
            say(str(error), sys.stderr)
        return 1
    except OSError as error:
        say(str(error), sys.stderr)
        return 1
    for file, content in made["files"].items():
        (root / file).write_bytes(b"\xef\xbb\xbf" + base64.b64decode(content))
    say("√ Runner successfully added")
    say("# Runner settings")
    say("√ Settings Saved.")
    return 0


def labels(options: dict[str, str]) -> list[str]:
    """The labels that the runner is registered with."""
    own = [label for label in options.get("labels", "").split(",") if label]
    machine = {"x86_64": "X64", "aarch64": "ARM64"}.get(os.uname().machine, "X64")
    return own if "no-default-labels" in options else ["self-hosted", "Linux", machine, *own]


def options(arguments: list[str]) -> dict[str, str]:
    """`--name value` and flags; any of them may come from ACTIONS_RUNNER_INPUT_*, which is then removed."""
    options: dict[str, str] = {}
    for name in [name for name in os.environ if name.upper().startswith("ACTIONS_RUNNER_INPUT_")]:
        options[name[len("ACTIONS_RUNNER_INPUT_") :].lower()] = os.environ.pop(name)
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            value = words.pop(0) if words and not words[0].startswith("-") else "true"
            options[word[2:].lower()] = value
    return options
