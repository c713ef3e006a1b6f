"""Hosts: what the agent runs on. Each provides the instance's identity, its notices and its termination."""

from __future__ import annotations

from collections.abc import Mapping

from agent.hosts.ec2 import Ec2Machine

HOSTS: Mapping[str, type[Ec2Machine]] = {"ec2": Ec2Machine}
"""What an agent can run on. A new host is its module and one line here."""
