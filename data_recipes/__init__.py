"""Rows: readers, operations and synthetic worlds."""
