"""Answer rows by greedy decoding, best-of-N and stage-level beam search, and compare what they gain and cost.

python -m inference --config launch/configs/….yaml
python -m inference --config … --dry-run          # resolve and print the config, check it, stop
"""

from __future__ import annotations

from collections.abc import Sequence

from core.config import load_config
from core.processes.explained import explained
from inference.config import InferenceConfig


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; see `core.config.load_config` for overrides."""
    config, dry_run = load_config(InferenceConfig, argv)
    if dry_run:
        return
    with explained():
        from inference.run import run  # after the config is known to be right: importing torch takes seconds

        run(config)


if __name__ == "__main__":
    main()
