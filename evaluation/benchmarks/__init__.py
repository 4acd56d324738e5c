"""Official benchmarks by their official rules, one declarative file each in `tasks/` (`python -m evaluation.benchmarks`)."""
