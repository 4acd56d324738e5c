"""python -m evaluation.arena --config arena.yaml: checkpoints and endpoints against each other, judged in pairs."""

from __future__ import annotations

from collections.abc import Sequence

from core.config import load_config
from core.processes.explained import explained
from evaluation.arena.config import ArenaConfig


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; see `core.config.load_config` for overrides."""
    config, dry_run = load_config(ArenaConfig, argv)
    if dry_run:
        return
    with explained():
        from evaluation.arena.run import run  # after the config is known to be right

        run(config)


if __name__ == "__main__":
    main()
