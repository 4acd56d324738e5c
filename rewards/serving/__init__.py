"""Everything that finds, calls, isolates or serves reward functions."""
