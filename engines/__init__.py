"""Rollout engines: vLLM in this process, and transformers as the reference."""
