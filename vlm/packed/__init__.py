"""Packed sequences: continuations of shared prefixes without padding, each prefix computed once."""
