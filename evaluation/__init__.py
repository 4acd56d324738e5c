"""Evaluation of checkpoints: metrics, tables and the HTML run report."""
