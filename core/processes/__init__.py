"""The processes of a run: how they were launched, what they exchange, how they stop, and what is reported when they hang."""
