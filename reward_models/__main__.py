"""Measure a reward model on preference rows.

    python -m reward_models evaluate MODEL --rows pairs.jsonl [--other-images] [--device cuda:0] [--adapter file.py:function]

MODEL is the folder of a checkpoint of reward_model.py, of a text sequence classifier with one label, or what the adapter takes.
Prints accuracy with its 95 % interval by source, task and kind, and where the longer response wins or loses; `--json FILE` writes
everything, with the calibration curve. `--other-images` gives every row the images of another one: accuracy that does not fall to
chance on what only the images tell is a leak.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, pstdev

from core.pairs import check_pair
from core.processes.explained import explained
from core.rows import read_rows


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "python -m reward_models", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["evaluate"])
    parser.add_argument("model")
    parser.add_argument("--rows", type=Path, required=True, help="preference rows")
    parser.add_argument("--limit", type=int, help="only the first N rows")
    parser.add_argument("--other-images", action="store_true", help="give every row another one's images")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--adapter", help="function that loads another kind of reward model")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measures here")
    arguments = parser.parse_args(argv)
    with explained():
        evaluate(arguments)


def evaluate(arguments: argparse.Namespace) -> None:
    """Print the table, and write the measures where they are asked for."""
    from reward_models.evaluation import score_pairs, table, with_other_images
    from reward_models.measures import measures
    from reward_models.reward import ADAPTERS
    from reward_models.scoring import load_scorer

    rows = read_rows(arguments.rows, limit=arguments.limit, check=check_pair)
    if arguments.other_images:
        kept = with_other_images(rows)
        print(f"{len(kept)} of {len(rows)} rows, each with the images of another one")
        rows = kept
    adapter = ADAPTERS.load(arguments.adapter) if arguments.adapter else None
    scorer = load_scorer(arguments.model, device=arguments.device, dtype=arguments.dtype, adapter=adapter)
    pairs = score_pairs(scorer, rows)
    found = measures(pairs)
    print(table(found))
    scores = [score for pair in pairs for score in (pair.chosen, pair.rejected)]
    print(f"scores: mean {fmean(scores):.4g}, std {pstdev(scores):.4g}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
