"""Verifiable rewards, plugin loading and the task router."""
