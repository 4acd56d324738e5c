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
        from core.files.hub.paths import TRAIN
        from data_recipes.hub_rows import rows_of_hub
        from pretraining.loop import train

        sources = {f"data.sources.{kind}": source for kind, source in config.data.sources.items()}
        rows_of_hub({f"{name}.rows": source.rows for name, source in sources.items()}, TRAIN)
        rows_of_hub({f"{name}.eval_rows": source.eval_rows for name, source in sources.items()})
        train(config)


if __name__ == "__main__":
    main()
