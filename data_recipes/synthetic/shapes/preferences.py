"""Preference pairs of captions of the shapes world, whose truth is known: concise and right, against wrong or rambling.

    python -m data_recipes.synthetic.shapes.preferences OUT --train 1500 --test 150 --seed 0

OUT gets `train.jsonl`, `test.jsonl` and `media/`: for every scene one pair of each kind.

| kind | chosen | rejected |
|---|---|---|
| `wrong` | the caption | the caption with the colour or shape of one thing changed |
| `rambling` | the caption | the caption, wrapped in words that say nothing |
| `wrong_but_short` | the caption, rambling | a wrong caption, concise |

A wrong caption is itself the caption of a possible scene of the same split, and is drawn so that the pair is as likely the other way
round: without the image nobody can do better than chance on `wrong`. In `rambling` the longer response loses, in `wrong_but_short`
it wins. Test scenes are held out by content, also from the training rows of `data_recipes.synthetic.shapes.write`.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from core.rows import Row, write_rows
from data_recipes.synthetic.hold_out import is_held_out
from data_recipes.synthetic.shapes.scenes import CELL, COLOURS, SHAPES, Look, Scene, draw, random_scene
from data_recipes.synthetic.shapes.tasks import caption

QUESTION = "Describe the picture."
RAMBLINGS = (
    "well, let me see, there may be {} and so on, as anyone can see.",
    "it is hard to say, but one could say {} or something like that, more or less.",
    "so, looking at the picture for a while, again and again, i would say {}",
)
RIGHT_SHARE, RAMBLING_SHARE = 0.25, 0.5
SOURCE = {"dataset": "shapes captions", "licence": "CC0-1.0 (generated)"}


def write_preferences(out: str | Path, *, train: int, test: int, seed: int = 0, cell_px: int = CELL) -> Path:
    """Write both splits, of so many scenes with cells of `cell_px` pixels, and return the folder."""
    out = Path(out)
    (out / "media").mkdir(parents=True, exist_ok=True)
    for split, scenes in (("train", train), ("test", test)):
        write_rows(
            _rows(out, split, scenes, random.Random(f"{split}-{seed}"), Look(cell_px=cell_px)),
            out / f"{split}.jsonl",
        )
    return out


def _rows(out: Path, split: str, scenes: int, rng: random.Random, look: Look) -> Iterator[Row]:
    for number in range(scenes):
        scene, wrong = _scene_and_wrong_caption(rng, look, held_out=split == "test")
        path = (out / "media" / f"{split}-{number:05d}.png").resolve()
        draw(scene.rows, scene.columns, scene.things, scene.cell_px).save(path)
        right, rambling = caption(scene), rng.choice(RAMBLINGS).format(caption(scene))
        for kind, chosen, rejected in (
            ("wrong", right, wrong),
            ("rambling", right, rambling),
            ("wrong_but_short", rambling, wrong),
        ):
            content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
            yield {
                "id": f"{split}-{number:05d}-{kind}",
                "task": "chat",
                "kind": kind,
                "prompt": [{"role": "user", "content": content}],
                "images": [str(path)],
                "videos": [],
                "chosen": chosen,
                "rejected": rejected,
                "source": SOURCE,
            }


def _scene_and_wrong_caption(rng: random.Random, look: Look, *, held_out: bool) -> tuple[Scene, str]:
    """A scene of the split and the caption of another one, in which one thing has another colour or shape.

    Scenes are drawn anew until both belong to the split, and a change is drawn from equally many for every scene: the two are as
    likely in the other order.
    """
    while True:
        scene = random_scene(rng, look)
        place = rng.randrange(len(scene.things))
        thing = scene.things[place]
        changes = [replace(thing, colour=c) for c in COLOURS if c != thing.colour]
        changes += [replace(thing, shape=s) for s in SHAPES if s != thing.shape]
        changed = rng.choice(changes)
        if changed.name in {other.name for other in scene.things}:
            continue
        other = replace(scene, things=(*scene.things[:place], changed, *scene.things[place + 1 :]))
        if all(is_held_out(caption(one)) == held_out for one in (scene, other)):
            return scene, caption(other)


def candidates(right: str, count: int, rng: random.Random) -> list[tuple[str, float]]:
    """Captions as a mediocre policy might write them, with what each is worth: 1 for the right caption, 0.5 for the right one in many
    words, 0 for one in which one to three things are wrong, however it is worded."""
    found = []
    for _ in range(count):
        names = [word for word in right.split() if "-" in word and len(word) > 1]
        text, is_right = right, rng.random() < RIGHT_SHARE
        for name in [] if is_right else rng.sample(names, min(len(names), rng.randint(1, 3))):
            others = [f"{c}-{s}" for c in COLOURS for s in SHAPES if f"{c}-{s}" not in text]
            text = text.replace(name, rng.choice(others))
        rambles = rng.random() < RAMBLING_SHARE
        worth = (0.5 if rambles else 1.0) if is_right else 0.0
        found.append((rng.choice(RAMBLINGS).format(text) if rambles else text, worth))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=1500, help="scenes to train on, with three pairs each")
    parser.add_argument("--test", type=int, default=150, help="held-out scenes")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    out = write_preferences(args.out, train=args.train, test=args.test, seed=args.seed)
    print(f"{args.train * 3:,} pairs to train on and {args.test * 3:,} held out: {out}")


if __name__ == "__main__":
    main()
