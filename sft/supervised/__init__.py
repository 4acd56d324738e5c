"""What SFT and the training of reward models have in common: settings, a step's gradient, and the run around the steps."""
