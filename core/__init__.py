"""What every program stands on: run folders, checkpoints, locks, signals, paths. Imports nothing else of this project."""
