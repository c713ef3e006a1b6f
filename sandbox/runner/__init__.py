"""A stand-in for GitHub's runner: the same files, process tree, lines, exit codes and answers to signals.

It really executes `run:` steps. What it claims of the real one is taken from actions/runner 2.336.0 and tested as tables.
Everything here that runs inside the release uses the standard library alone.
"""
