"""Does training add ability, or sharpen what was there? pass@k, maj@k and mean@k of several checkpoints, and what they write."""
