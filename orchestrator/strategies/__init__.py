"""One file per compute strategy; they do not know each other."""
