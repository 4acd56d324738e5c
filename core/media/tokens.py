"""Tokens that stand for media in the vocabulary of Qwen's vision-language models."""

IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"
MEDIA_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", IMAGE, VIDEO)
"""A policy must never sample them, and no text of a row may hold them."""
