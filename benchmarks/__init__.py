"""Side-by-side measurements; each prints a ratio or a rate and ends with a JSON line."""
