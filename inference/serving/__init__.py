"""Search behind an OpenAI-compatible endpoint."""
