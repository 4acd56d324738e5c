"""Training on mixtures at size: documents of text and images streamed from shards, in stages from a projector to long context."""
