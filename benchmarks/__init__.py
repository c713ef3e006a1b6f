"""How fast, against what, and why: every figure is a ratio to a named alternative, measured in the same run."""
