"""A synthetic world of coloured shapes, small enough for a model of a million parameters to learn in minutes."""
