"""Metrics, tables and the HTML run report."""
