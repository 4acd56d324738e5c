"""Write the shapes world as rows: SFT traces of mixed quality, RL prompts, and held-out rows, with a data card.

    python -m data_recipes.shapes.write OUT --sft-rows 8000 --rl-rows 700 --test-rows 420 --seed 0

OUT holds `sft.jsonl` (with traces), `rl.jsonl` and `test.jsonl` (without), `media/` `corpus.txt` (texts a tokenizer can be
trained on) and `data_card.json`. The same
arguments write the same bytes. A question about a scene is held out by its content, so no test row can be a training row.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from dataclasses import dataclass
from hashlib import blake2b
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_recipes.shapes.scenes import draw, write_clip
from data_recipes.shapes.tasks import EXAMPLES, HABITS, Example, caption, clip_caption
from rewards.stages import render

DEFAULT_HABIT_SHARE = 0.5
HELD_OUT = 4  # one in so many contents is test-only
# What takes longest to learn is shown most often in SFT; RL and test rows go through the kinds in turn.
SFT_SHARES = {
    "math": 2,
    "text_math": 2,
    "counting": 1,
    "choice": 1,
    "grounding": 2,
    "pointing": 2,
    "temporal": 2,
}


@dataclass(frozen=True)
class World:
    """How much of the world to write. habit_share: share of SFT traces that follow the task's bad habit, 0 to 1."""

    sft_rows: int = 8000
    rl_rows: int = 700
    test_rows: int = 420
    habit_share: float = DEFAULT_HABIT_SHARE
    seed: int = 0


def write_world(out: str | Path, world: World, *, progress: bool = True) -> dict[str, Any]:
    """Write the three splits under `out` and return the data card."""
    if not 0 <= world.habit_share <= 1:
        raise ValueError(f"habit_share must be between 0 and 1, got {world.habit_share}")
    out = Path(out)
    (out / "media").mkdir(parents=True, exist_ok=True)
    counts: dict[str, dict[str, int]] = {}
    habits: Counter[str] = Counter()
    sizes = {"sft": world.sft_rows, "rl": world.rl_rows, "test": world.test_rows}
    with tqdm(total=sum(sizes.values()), desc="shapes", unit="row", disable=not progress) as bar:
        for split, size in sizes.items():
            counts[split] = _write_split(out, split, size, world, habits, bar)
    (out / "corpus.txt").write_text("\n".join(corpus(world.seed)) + "\n")
    card = _card(world, counts, habits)
    (out / "data_card.json").write_text(json.dumps(card, indent=2) + "\n")
    return card


def kinds_of(split: str) -> list[str]:
    """Kinds of question in the order in which the rows of a split go through them, again and again."""
    if split != "sft":
        return list(EXAMPLES)
    return [kind for turn in range(max(SFT_SHARES.values())) for kind in EXAMPLES if SFT_SHARES[kind] > turn]


def corpus(seed: int = 0, examples: int = 2000) -> list[str]:
    """Texts of the world (questions, right and habitual traces) that a tokenizer can be trained on."""
    rng = random.Random(f"corpus-{seed}")
    texts = []
    for i in range(examples):
        example = EXAMPLES[list(EXAMPLES)[i % len(EXAMPLES)]](rng)
        texts += [example.question, render(example.trace), render(example.habit_trace)]
    return texts


def _write_split(
    out: Path, split: str, size: int, world: World, habits: Counter[str], bar: tqdm
) -> dict[str, int]:
    rng = random.Random(f"{split}-{world.seed}")
    kinds = kinds_of(split)
    seen: set[str] = set()
    counts: Counter[str] = Counter()
    with (out / f"{split}.jsonl").open("w") as file:
        for index in range(size):
            kind = kinds[index % len(kinds)]
            example = _fresh(kind, split, rng, seen)
            row = _row(example, kind, f"{split}-{index:05d}", out)
            if split == "sft":
                habitual = rng.random() < world.habit_share
                habits[kind] += habitual
                row["trace"] = example.habit_trace if habitual else example.trace
                row["habitual"] = habitual
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            counts[example.task] += 1
            bar.update()
    return dict(counts)


def _fresh(kind: str, split: str, rng: random.Random, seen: set[str]) -> Example:
    """The next example whose content belongs to this side of the hold-out; test rows are all different."""
    for _ in range(10_000):
        example = EXAMPLES[kind](rng)
        content = example.question + (
            caption(example.scene) if example.scene else clip_caption(example.clip) if example.clip else ""
        )
        digest = blake2b(content.encode(), digest_size=8)
        if (int.from_bytes(digest.digest(), "big") % HELD_OUT == 0) != (split == "test"):
            continue
        if split != "test":
            return example
        if content not in seen:
            seen.add(content)
            return example
    raise ValueError(
        f"{split}: no further {kind} question differs from the {len(seen)} there are; ask for fewer rows"
    )


def _row(example: Example, kind: str, name: str, out: Path) -> dict[str, Any]:
    """The row in the contract's format; its image or clip is written beside it."""
    content: list[dict[str, str]] = []
    row: dict[str, Any] = {"id": name, "task": example.task, "kind": kind, "images": [], "videos": []}
    if example.scene is not None:
        scene = example.scene
        path = Path("media") / f"{name}.png"
        draw(scene.rows, scene.columns, scene.things).save(out / path)
        row["images"] = [str(path)]
        content.append({"type": "image"})
    if example.clip is not None:
        path = Path("media") / f"{name}.mp4"
        write_clip(example.clip, out / path)
        row["videos"] = [str(path)]
        content.append({"type": "video"})
    content.append({"type": "text", "text": example.question})
    row |= {"prompt": [{"role": "user", "content": content}], "answer": example.answer}
    return row | {"source": "shapes (synthetic, CC0-1.0)"}


def _card(world: World, counts: dict[str, dict[str, int]], habits: Counter[str]) -> dict[str, Any]:
    per_kind = Counter(islice(cycle(kinds_of("sft")), world.sft_rows))
    return {
        "name": "shapes",
        "description": "Coloured shapes on a grid of 28 px cells; stills, clips of 5 or 6 s at 2 fps, and plain sums.",
        "licence": "CC0-1.0 (generated)",
        "seed": world.seed,
        "rows": counts,
        "held_out": f"by content: one question in {HELD_OUT} is test-only; test rows are all different",
        "habits": {
            kind: {
                "habit": HABITS[kind],
                "share_of_sft_traces": round(habits[kind] / max(1, per_kind[kind]), 3),
            }
            for kind in EXAMPLES
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--sft-rows", type=int, default=World.sft_rows)
    parser.add_argument("--rl-rows", type=int, default=World.rl_rows)
    parser.add_argument("--test-rows", type=int, default=World.test_rows)
    parser.add_argument("--habit-share", type=float, default=World.habit_share)
    parser.add_argument("--seed", type=int, default=World.seed)
    args = vars(parser.parse_args())
    out = args.pop("out")
    card = write_world(out, World(**args))
    print(
        f"{out}: " + ", ".join(f"{split} {sum(rows.values())} rows" for split, rows in card["rows"].items())
    )


if __name__ == "__main__":
    main()
