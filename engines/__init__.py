"""Rollout engines: vLLM in the trainer's process, and transformers as the reference."""

from core.torch_companions import adapt_torch_companions

adapt_torch_companions()  # before a module of this package imports transformers or vLLM
