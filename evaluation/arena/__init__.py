"""Pairwise judgements of answers to open questions, and ratings from them (`python -m evaluation.arena`)."""
