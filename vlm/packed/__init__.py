"""Packed sequences: prompts and their completions without padding, each prompt computed once."""
