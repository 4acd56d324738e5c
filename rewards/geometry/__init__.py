"""Boxes, points and spans: overlap and coordinate frames."""
