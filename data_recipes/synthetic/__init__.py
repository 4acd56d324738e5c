"""Synthetic data: images and videos made on the spot, with exact answers."""
