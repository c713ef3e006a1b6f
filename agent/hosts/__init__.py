"""The bodies an agent can wake up in; each knows who it is, what it is told, and how it is left."""
