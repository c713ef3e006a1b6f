"""Hosts: what the agent runs on. Each provides the instance's identity, its notices and its termination."""
