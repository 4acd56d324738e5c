"""Search at inference time, on any rollout engine."""
