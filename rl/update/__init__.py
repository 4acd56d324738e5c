"""The policy-gradient update over packed groups."""
