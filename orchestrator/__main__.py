"""`python -m orchestrator`."""

from orchestrator.commands.cli import main

main()
