"""What every program stands on: run folders, checkpoints, locks, signals, paths. Imports nothing else of this project."""

from core.processes.threads import sleep_while_waiting

# Must run before anything imports torch, and every program imports this package first.
sleep_while_waiting()
