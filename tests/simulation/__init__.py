"""The agent's unmodified life in virtual time: six hours of it in milliseconds, without a thread."""
