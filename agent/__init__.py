"""The on-instance agent: one machine, one job, one life. Start reading at lifecycle.py."""
