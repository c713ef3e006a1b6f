"""The word `local` of the `runs-fleet` command: only what the command line takes. Every other word loads this module too."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = Path(__file__).parent / "example.yml"


def local(
    workflow: Annotated[Path | None, typer.Argument(help="A workflow file; default: an example of three jobs.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running and print where.")] = False,
    faults: Annotated[
        str,
        typer.Option(
            "--faults",
            help="Faults to switch on, comma-separated; `storm` and `hostile`: most at once; `list`: print their names.",
        ),
    ] = "",
    seed: Annotated[int, typer.Option(help="With faults: what decides which machine is hit, and when.")] = 0,
    var: Annotated[
        list[str] | None,
        typer.Option("--var", metavar="NAME=VALUE", help="A variable of the workflow's context `vars`; may be repeated."),
    ] = None,
    config_source: Annotated[str, typer.Option(help="Where configurations are stored: `ssm` or `s3`.")] = "ssm",
) -> None:
    """Run the jobs of WORKFLOW on this machine with emulated AWS and GitHub, and check that nothing is left."""
    try:
        from sandbox.chaos import KNOWN, WORKFLOW, read_faults
        from sandbox.screen import show
    except ImportError as error:
        raise SystemExit(f"runs-fleet local is not available: {error}; pip install 'runs-fleet[sandbox]'") from error
    if faults == "list":
        print(KNOWN)
        return
    try:
        wrong = read_faults(faults)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    if config_source not in ("ssm", "s3"):
        raise SystemExit(f"--config-source: expected ssm or s3, found {config_source!r}")
    for given in var or []:
        if not given.partition("=")[0] or "=" not in given:
            raise SystemExit(f"--var: expected NAME=VALUE, found {given!r}")
    variables = {name: value for name, _, value in (given.partition("=") for given in var or [])}
    path = workflow or (WORKFLOW if wrong else EXAMPLE)
    raise SystemExit(
        show(
            path,
            variables=variables,
            keep=keep,
            faults=wrong,
            seed=seed or (time.time_ns() % 100_000 if "random-kills" in wrong else 5),
            config_source=config_source,
        )
    )
