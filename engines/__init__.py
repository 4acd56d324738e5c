"""Rollout engines: vLLM in the trainer's process, and transformers as the reference."""
