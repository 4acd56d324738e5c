"""Launch scripts, their configurations and how these are loaded."""
