"""Score checkpoints on held-out rows: mean reward and answered-in-grammar rate by task, with 95 % intervals.

python evaluate.py --config launch/configs/….yaml
python evaluate.py --config … --dry-run          # resolve and print the config, check it, stop
"""

from __future__ import annotations

from collections.abc import Sequence

from core.config import load_config
from core.processes.explained import explained
from evaluation.config import EvaluationConfig


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; see `core.config.load_config` for overrides."""
    config, dry_run = load_config(EvaluationConfig, argv)
    if dry_run:
        return
    with explained():
        from data_recipes.hub_rows import rows_of_hub
        from evaluation.run import (
            evaluate,  # after the config is known to be right: importing torch takes seconds
        )

        rows_of_hub({"rows": config.rows})
        evaluate(config)
        if config.pass_at_k:
            from evaluation.pass_at_k.run import write_pass_at_k

            write_pass_at_k(config)
        if config.best_of_n:
            from evaluation.best_of_n import write_best_of_n

            write_best_of_n(config)


if __name__ == "__main__":
    main()
