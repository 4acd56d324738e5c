"""The model: Qwen2.5 ViT + MLP projector + causal LM, and the conversion of rows to its input tensors."""

from vlm.torch_companions import adapt_torch_companions

# Must run before anything imports torchvision or torchaudio (transformers' processors do).
adapt_torch_companions()
