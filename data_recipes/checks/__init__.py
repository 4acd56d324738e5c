"""Whether a row is fit to be kept."""
