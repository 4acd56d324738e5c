"""Reward models: trained on preference pairs, measured on held-out ones, and run as rewards."""
