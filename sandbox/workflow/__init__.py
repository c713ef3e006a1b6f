"""A workflow file becomes a plan of jobs, or a refusal that names every line it cannot do and what is supported, before anything runs."""

from sandbox.workflow.nodes import Unsupported
from sandbox.workflow.reader import read_workflow

__all__ = ["Unsupported", "read_workflow"]
