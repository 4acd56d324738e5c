"""Supervised fine-tuning on structured traces, on TRL's SFTTrainer."""
