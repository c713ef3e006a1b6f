"""The world on one machine: an embedded cloud, a stand-in GitHub, a stand-in runner, and instances that are process groups."""
