"""On-policy distillation: a teacher's log-probs of the tokens that the policy sampled."""
