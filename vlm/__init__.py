"""The model: vision tower + MLP projector + causal LM, and the conversion of rows to its input tensors."""

from core.torch_companions import adapt_torch_companions

adapt_torch_companions()  # before a module of this package imports transformers or vLLM
