"""Training images changed at random, with the coordinates of their rows; refused where it would make a text wrong."""
