"""What decides how many machines there are, launches them, and hears how each ended. Start reading at turns.py."""
