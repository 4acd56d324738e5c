"""Write the shapes world as rows: SFT traces of mixed quality, RL prompts, and held-out rows, with a data card.

    python -m data_recipes.synthetic.shapes.write OUT --sft-rows 30000 --rl-rows 1400 --test-rows 420 --seed 0

OUT gets `sft.jsonl` (with traces), `rl.jsonl` and `test.jsonl` (without), `media/`, `corpus.txt` (texts for training a
tokenizer) and `data_card.json`. The same arguments always write the same bytes. Test rows are held out by content: no
training row shows the same scene, clip or sum.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from data_recipes.synthetic.hold_out import HELD_OUT, is_held_out
from data_recipes.synthetic.shapes.scenes import CELL, Clip, Look, Scene, draw, write_clip
from data_recipes.synthetic.shapes.tasks import EXAMPLES, HABITS, Example, describe, random_view
from rewards.stages import render

T = TypeVar("T")
DEFAULT_HABIT_SHARE = 0.6
QUESTIONS_PER_VIEW = 4  # in SFT
# Kinds that take longest to learn are the most frequent in SFT; RL and test rows cycle through all kinds.
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
    """What to write. habit_share: share of SFT traces that follow the task's bad habit, 0 to 1. cell_px: side of a cell in
    pixels; a cell should be one visual token of the model (28 px in Qwen2.5-VL, 32 in Qwen3-VL)."""

    sft_rows: int = 30_000
    rl_rows: int = 1400
    test_rows: int = 420
    habit_share: float = DEFAULT_HABIT_SHARE
    cell_px: int = CELL
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
    (out / "corpus.txt").write_text("\n".join(corpus(world.seed, cell_px=world.cell_px)) + "\n")
    card = _card(world, counts, habits)
    (out / "data_card.json").write_text(json.dumps(card, indent=2) + "\n")
    return card


def kinds_of(split: str) -> list[str]:
    """Kinds of question in the order that the rows of a split cycle through."""
    if split != "sft":
        return list(EXAMPLES)
    return [kind for turn in range(max(SFT_SHARES.values())) for kind in EXAMPLES if SFT_SHARES[kind] > turn]


def corpus(seed: int = 0, examples: int = 2000, cell_px: int = CELL) -> list[str]:
    """Texts of the world (questions, correct and habitual traces) for training a tokenizer."""
    rng = random.Random(f"corpus-{seed}")
    texts = []
    for i in range(examples):
        kind = list(EXAMPLES)[i % len(EXAMPLES)]
        example = EXAMPLES[kind](rng, random_view(kind, rng, Look(cell_px=cell_px)))
        texts += [example.question, render(example.trace), render(example.habit_trace)]
    return texts


def _write_split(
    out: Path, split: str, size: int, world: World, habits: Counter[str], bar: tqdm
) -> dict[str, int]:
    rng = random.Random(f"{split}-{world.seed}")
    views = _Views(out, split, rng, Look(cell_px=world.cell_px))
    counts: Counter[str] = Counter()
    with (out / f"{split}.jsonl").open("w") as file:
        for index, kind in enumerate(islice(cycle(kinds_of(split)), size)):
            example, media = views.ask(kind)
            row = _row(example, kind, f"{split}-{index:05d}", media)
            if split == "sft":
                habitual = rng.random() < world.habit_share
                habits[kind] += habitual
                row["trace"] = example.habit_trace if habitual else example.trace
                row["habitual"] = habitual
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            counts[example.task] += 1
            bar.update()
    return dict(counts)


class _Views:
    """Scenes and clips of one split with their files; in SFT several questions share one.

    Held out by content: no training row has a scene, clip or sum that test rows may have. Test rows never repeat one.
    """

    def __init__(self, out: Path, split: str, rng: random.Random, look: Look):
        self._out, self._split, self._rng, self._look = out, split, rng, look
        self._seen: set[str] = set()
        self._shown: dict[
            type, tuple[Any, str, int]
        ] = {}  # the present scene and clip, their files, questions left

    def ask(self, kind: str) -> tuple[Example, str | None]:
        """A question and the file of its scene or clip."""
        if kind == "text_math":
            return self._fresh(
                kind, lambda: EXAMPLES[kind](self._rng), lambda example: example.question
            ), None
        medium: type = Clip if kind == "temporal" else Scene
        view, path, left = self._shown.get(medium, (None, "", 0))
        if not left:
            view = self._fresh(kind, lambda: _view(kind, self._rng, self._look), describe)
            path = self._write(view)
            left = QUESTIONS_PER_VIEW if self._split == "sft" else 1
        self._shown[medium] = (view, path, left - 1)
        return EXAMPLES[kind](self._rng, view), path

    def _fresh(self, kind: str, draw: Callable[[], T], content_of: Callable[[T], str]) -> T:
        """The next draw that belongs to this split; for test rows, one that did not occur before."""
        for _ in range(10_000):
            drawn = draw()
            content = content_of(drawn)
            if is_held_out(content) != (self._split == "test"):
                continue
            if self._split != "test" or content not in self._seen:
                self._seen.add(content)
                return drawn
        raise ValueError(
            f"{self._split}: found no {kind} content beyond the {len(self._seen)} already used; ask for fewer rows"
        )

    def _write(self, view: Scene | Clip) -> str:
        suffix = "png" if isinstance(view, Scene) else "mp4"
        path = f"media/{self._split}-{len(self._seen):05d}.{suffix}"
        if isinstance(view, Scene):
            draw(view.rows, view.columns, view.things, view.cell_px).save(self._out / path)
        else:
            write_clip(view, self._out / path)
        return path


def _view(kind: str, rng: random.Random, look: Look) -> Scene | Clip:
    view = random_view(kind, rng, look)
    assert view is not None, f"{kind} is asked about nothing"
    return view


def _row(example: Example, kind: str, name: str, path: str | None) -> dict[str, Any]:
    """The row, in the project's row format (docs/data_format.md)."""
    content: list[dict[str, str]] = [{"type": "text", "text": example.question}]
    row: dict[str, Any] = {"id": name, "task": example.task, "kind": kind, "images": [], "videos": []}
    if path is not None:
        medium = "video" if kind == "temporal" else "image"
        row[f"{medium}s"] = [path]
        content.insert(0, {"type": medium})
    row |= {"prompt": [{"role": "user", "content": content}], "answer": example.answer}
    return row | {"source": "shapes (synthetic, CC0-1.0)"}


def _card(world: World, counts: dict[str, dict[str, int]], habits: Counter[str]) -> dict[str, Any]:
    per_kind = Counter(islice(cycle(kinds_of("sft")), world.sft_rows))
    return {
        "name": "shapes",
        "description": f"Coloured shapes on a grid of {world.cell_px} px cells; stills, clips of 5 or 6 s at 2 fps, and plain sums.",
        "licence": "CC0-1.0 (generated)",
        "seed": world.seed,
        "rows": counts,
        "held_out": f"by content: one scene, clip or sum in {HELD_OUT} is test-only, and asked about once",
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
    parser.add_argument("--cell-px", type=int, default=World.cell_px)
    parser.add_argument("--seed", type=int, default=World.seed)
    args = vars(parser.parse_args())
    out = args.pop("out")
    card = write_world(out, World(**args))
    print(
        f"{out}: " + ", ".join(f"{split} {sum(rows.values())} rows" for split, rows in card["rows"].items())
    )


if __name__ == "__main__":
    main()
