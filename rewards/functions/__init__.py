"""Reward functions, one file per kind of answer."""
