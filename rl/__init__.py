"""Fully on-policy reinforcement learning: the loop, its objective and its update."""
