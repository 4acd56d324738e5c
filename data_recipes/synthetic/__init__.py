"""Synthetic data: generated images and videos with exact answers."""
