"""Traces and captions by a teacher model behind an OpenAI-compatible endpoint."""
