"""Reward models of captions in the shapes world, where the truth is known: held-out accuracy, and whether they look at the image.

    python -m benchmarks.reward_model --model runs/demo/sft/final [--out runs/reward_model] [--seed 0]

Trains the multimodal reward model from an SFT checkpoint of the demo, and the text-only one from its language model, on the same
pairs (`data_recipes.synthetic.shapes.preferences`), the text-only one on the same prompts without their image. Prints accuracy with its
95 % interval by kind of pair, and that of the multimodal model when every row has the image of another one: on `wrong` pairs, which
only the image decides, it must fall to chance, where the text-only model always is.

Then each model chooses the best of n captions of a mediocre policy for every held-out scene (`evaluation/best_of_n.py`), and the truth of
its choice shows how far it can be trusted: a right caption is worth 1, or 0.5 in many words, a wrong one 0.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.pairs import check_pair
from core.rows import Row, read_rows, write_rows
from data_recipes.synthetic.shapes.preferences import candidates, write_preferences
from evaluation.best_of_n import BestOfNConfig, markdown, study
from reward_models.evaluation import score_pairs, with_other_images
from reward_models.measures import measures
from reward_models.questions import Question
from reward_models.scoring import Scorer, load_scorer

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "launch/configs/reward_model_demo.yaml"
KINDS = ("wrong", "rambling", "wrong_but_short")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="SFT checkpoint of the demo")
    parser.add_argument("--out", type=Path, default=Path("runs/reward_model"))
    parser.add_argument("--train", type=int, default=4000, help="scenes to train on, three pairs each")
    parser.add_argument("--test", type=int, default=150, help="held-out scenes")
    parser.add_argument("--candidates", type=int, default=32, help="captions of a scene to choose from")
    parser.add_argument("--seed", type=int, default=0)
    args, overrides = parser.parse_known_args()
    data = write_preferences(args.out / "data", train=args.train, test=args.test, seed=args.seed)
    without_images(data)
    results, chosen = {}, []
    for kind, suffix in (("multimodal", ""), ("text", "_text")):
        files = [data / f"{split}{suffix}.jsonl" for split in ("train", "test")]
        train(kind, args.model, *files, args.out / kind, [f"seed={args.seed}", *overrides])
        rows = read_rows(files[1], check=check_pair)
        scorer = load_scorer(str(args.out / kind / "final"), device="cpu")
        results[kind] = measures(score_pairs(scorer, rows))
        chosen += choices(scorer, kind, rows, args.candidates)
        if kind == "multimodal":
            results["multimodal, other images"] = measures(score_pairs(scorer, with_other_images(rows)))
    best_of_n = study(chosen, BestOfNConfig(proxy="reward_model", verified="truth"))
    (args.out / "results.json").write_text(
        json.dumps({"accuracy": results, "best_of_n": best_of_n}, indent=1) + "\n"
    )
    print("\n" + table(results) + "\n\n" + markdown(best_of_n))


def choices(scorer: Scorer, name: str, rows: Sequence[Row], count: int) -> list[dict[str, Any]]:
    """Captions for every scene with the model's reward and the truth, as records of an evaluation."""
    rng, records = random.Random(0), []
    for row in (row for row in rows if row["kind"] == "wrong"):
        captions = candidates(row["chosen"], count, rng)
        verdicts = scorer.judge([Question(row, text) for text, _ in captions])
        for verdict, (text, worth) in zip(verdicts, captions, strict=True):
            if not isinstance(verdict, float):
                raise SystemExit(f"row {row['id']!r}: caption {text!r}: {verdict}")
            components = {"reward_model": scorer.card.reward(verdict), "truth": worth}
            record = {"mode": "sampled", "checkpoint": name, "row_id": row["id"], "task": row["task"]}
            records.append(record | {"components": components})
    return records


def without_images(data: Path) -> None:
    """The same pairs for a model that reads text alone."""
    for split in ("train", "test"):
        rows = read_rows(data / f"{split}.jsonl", check=check_pair)
        bare = [row | {"images": [], "prompt": [_bare(message) for message in row["prompt"]]} for row in rows]
        write_rows(bare, data / f"{split}_text.jsonl")


def _bare(message: Mapping[str, Any]) -> dict[str, Any]:
    return {**message, "content": [part for part in message["content"] if part["type"] == "text"]}


def train(kind: str, model: Path, rows: Path, held_out: Path, out: Path, overrides: list[str]) -> None:
    command = [
        sys.executable,
        str(ROOT / "reward_model.py"),
        f"--config={CONFIG}",
        f"kind={kind}",
        f"model.path={model}",
    ]
    command += [
        f"data.rows={rows}",
        f"data.eval_rows={held_out}",
        f"output_dir={out}",
        "resume=never",
        *overrides,
    ]
    if subprocess.run(command, cwd=ROOT).returncode:
        raise SystemExit("training failed; its message is above")


def table(results: Mapping[str, Any]) -> str:
    """Accuracy by kind of pair, one line per model."""
    lines = [f"{'':28}" + "".join(f"{name:>24}" for name in ("all", *KINDS))]
    for name, found in results.items():
        cells = [found, *(found["by_kind"][kind] for kind in KINDS)]
        lines.append(f"{name:28}" + "".join(f"{_cell(cell):>24}" for cell in cells))
    return "\n".join(lines)


def _cell(one: Mapping[str, Any]) -> str:
    return f"{one['accuracy']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"


if __name__ == "__main__":
    main()
