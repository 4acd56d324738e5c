"""Reading answers: what a model wrote, and the ground truth."""
