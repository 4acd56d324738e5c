"""Supervised fine-tuning on structured traces, on TRL's SFTTrainer."""

import vlm  # noqa: F401  adapts torchvision to a CPU torch, before transformers and TRL import it
