"""Interference between tasks: measured by the gradients of each, and what is done about it."""
