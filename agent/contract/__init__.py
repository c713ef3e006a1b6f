"""The words the agent and the orchestrator share; the agent owns them, neither may change one silently."""

CONTRACT_VERSION = 1
"""The version both sides write. Additions keep it; a changed meaning would raise it."""
