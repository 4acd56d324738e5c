"""What SFT and RL training share: optimizer, schedule, master weights, and steps that are not finite."""
