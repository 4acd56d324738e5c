"""Checkpoints in lmms-eval, for the long tail of benchmarks: any of its tasks runs on them (`python -m evaluation.lmms`)."""
