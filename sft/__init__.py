"""Structured traces and cross-entropy training on them."""
