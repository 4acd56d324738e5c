"""One stage of training on documents: `accelerate launch pretrain.py --config launch/configs/….yaml [key=value …] [--dry-run]`."""

from __future__ import annotations

from core.config import load_config
from core.processes.explained import explained
from pretraining.config import PretrainConfig


def main() -> None:
    config, dry_run = load_config(PretrainConfig)
    if dry_run:
        return
    with explained():
        # after the config is known to be right: importing torch takes seconds
        from pretraining.loop import train

        train(config)


if __name__ == "__main__":
    main()
