"""A virtual world: one twin for each port of the agent and of the orchestrator, one clock, nothing real.

A twin has state and keeps the rules of what it stands for; the conformance suites in `tests/` judge twins and adapters alike.
What a twin is to answer otherwise is scripted (`calls.py`), never patched in. Nothing of the product imports this package.
"""
