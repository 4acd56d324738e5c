"""Supervised fine-tuning on structured traces: rows about the same media are packed together and share them."""
