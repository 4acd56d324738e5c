"""The model: Qwen2.5-ViT + MLP projector + causal LM, and how rows become its tensors."""

from vlm.torchvision_ops import declare_torchvision_ops

# Must run before anything imports torchvision (transformers' video processor does).
declare_torchvision_ops()
