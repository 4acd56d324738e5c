"""SFT on structured traces: `accelerate launch sft.py --config launch/configs/….yaml [key=value …] [--dry-run]`."""

from __future__ import annotations

from core.config import load_config
from core.processes.explained import explained
from sft.config import SFTConfig


def main() -> None:
    config, dry_run = load_config(SFTConfig)
    if dry_run:
        return
    with explained():
        from core.files.hub.paths import TRAIN
        from data_recipes.hub_rows import rows_of_hub
        from sft.loop import train  # after the config is known to be right: importing torch takes seconds

        rows_of_hub({"data.rows": config.data.rows}, TRAIN)
        rows_of_hub({"data.eval_rows": config.data.eval_rows})
        train(config)


if __name__ == "__main__":
    main()
