"""The Hugging Face Hub: what configs name as `owner/name`."""
