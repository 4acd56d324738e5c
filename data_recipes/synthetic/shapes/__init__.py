"""A synthetic world of coloured shapes that a model of a million parameters can learn in minutes."""
