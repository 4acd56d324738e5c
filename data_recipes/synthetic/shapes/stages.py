"""The shapes world as the kinds of data of the four training stages, each with held-out rows: documents and instruction rows.

    python -m data_recipes.synthetic.shapes.stages OUT --rows 2000 --held-out 64 --seed 0

| file | a row |
|---|---|
| captions.jsonl | a picture, then what is in every cell of it |
| interleaved.jsonl | two or three pictures, each announced, described, and compared with the one before |
| text.jsonl | worked sums, without pictures |
| instruction.jsonl | a question and a correct trace in the four stages |
| long.jsonl | eight pictures, then questions about them with their answers |

Beside each stands `held_out_….jsonl`, and in all corpus.txt, for training a tokenizer. Held out by content: no scene and
no sum of the held-out rows is in the others.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from core.rows import write_rows
from data_recipes.synthetic.hold_out import is_held_out
from data_recipes.synthetic.shapes.scenes import CELL, Look, Scene, draw, random_scene
from data_recipes.synthetic.shapes.tasks import EXAMPLES, caption, describe
from data_recipes.synthetic.shapes.write import corpus

T = TypeVar("T")
SOURCE = "shapes (synthetic, CC0-1.0)"
QUESTIONS = ("math", "counting", "choice", "grounding", "pointing")  # about a picture
LONG = 8
"""Pictures of a long document."""


@dataclass
class Pictures:
    """Draws scenes and sums of one split, and writes the pictures."""

    out: Path
    name: str
    held_out: bool
    rng: random.Random
    look: Look
    number: Iterator[int] = field(default_factory=count)

    def scene(self) -> tuple[Scene, str]:
        """A scene of the split, and the file of its picture."""
        scene = self.drawn(lambda: random_scene(self.rng, self.look), describe)
        path = self.out / "media" / f"{self.name}-{next(self.number):06d}.png"
        draw(scene.rows, scene.columns, scene.things, scene.cell_px).save(path)
        return scene, str(path)

    def drawn(self, draw_one: Callable[[], T], content: Callable[[T], str]) -> T:
        """The next draw that belongs to the split."""
        while is_held_out(content(one := draw_one())) != self.held_out:
            pass
        return one


def captions(pictures: Pictures) -> dict[str, Any]:
    scene, path = pictures.scene()
    return _document([{"type": "image"}, _text(f"\n{caption(scene)}")], [path])


def interleaved(pictures: Pictures) -> dict[str, Any]:
    parts, paths, before = [], [], None
    for number in range(1, pictures.rng.randint(2, 3) + 1):
        scene, path = pictures.scene()
        parts += [_text(f"Picture {number}:"), {"type": "image"}, _text(f"\n{caption(scene)}")]
        if before is not None:
            shown, earlier = len(scene.things), len(before.things)
            word = "as many" if shown == earlier else "more" if shown > earlier else "fewer"
            parts.append(
                _text(f" It shows {shown} shapes, {word} {'as' if word == 'as many' else 'than'} before.")
            )
        parts.append(_text("\n\n"))
        paths.append(path)
        before = scene
    return _document(parts, paths)


def text(pictures: Pictures) -> dict[str, Any]:
    lines = []
    for _ in range(pictures.rng.randint(2, 6)):
        example = pictures.drawn(lambda: EXAMPLES["text_math"](pictures.rng), lambda e: e.question)
        lines.append(f"{example.question}\n{example.trace['reasoning']} {example.trace['conclusion']}")
    return _document([_text("\n\n".join(lines))], [])


def instruction(pictures: Pictures) -> dict[str, Any]:
    scene, path = pictures.scene()
    example = EXAMPLES[pictures.rng.choice(QUESTIONS)](pictures.rng, scene)
    content = [{"type": "image"}, _text(example.question)]
    return {
        "task": example.task,
        "prompt": [{"role": "user", "content": content}],
        "images": [path],
        "answer": example.answer,
        "trace": example.trace,
        "source": SOURCE,
    }


def long(pictures: Pictures) -> dict[str, Any]:
    parts, paths, scenes = [], [], []
    for number in range(1, LONG + 1):
        scene, path = pictures.scene()
        parts += [_text(f"Picture {number}:"), {"type": "image"}, _text("\n")]
        paths.append(path)
        scenes.append(scene)
    for number in pictures.rng.sample(range(1, LONG + 1), 4):
        parts.append(_text(f"\nPicture {number}: {caption(scenes[number - 1])}"))
    return _document(parts, paths)


KINDS: dict[str, Callable[[Pictures], dict[str, Any]]] = {
    "captions": captions,
    "interleaved": interleaved,
    "text": text,
    "instruction": instruction,
    "long": long,
}


def write_stages(out: str | Path, *, rows: int, held_out: int, seed: int = 0, cell_px: int = CELL) -> None:
    """Write `rows` training rows and `held_out` held-out ones of every kind under `out`; the same arguments, the same bytes."""
    out = Path(out).resolve()
    (out / "media").mkdir(parents=True, exist_ok=True)
    for kind, make in KINDS.items():
        for name, size in ((kind, rows), (f"held_out_{kind}", held_out)):
            rng = random.Random(f"{name}-{seed}")
            pictures = Pictures(out, name, name != kind, rng, Look(cell_px=cell_px))
            write_rows(
                ({"id": f"{name}-{i:06d}"} | make(pictures) for i in range(size)), out / f"{name}.jsonl"
            )
    words = ["Picture 1: It shows 3 shapes, more than before, fewer than before, as many as before."]
    (out / "corpus.txt").write_text("\n".join([*corpus(seed, cell_px=cell_px), *words * 50]) + "\n")


def _document(parts: list[dict[str, str]], images: list[str]) -> dict[str, Any]:
    return {"task": "document", "document": parts, "images": images, "source": SOURCE}


def _text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=2000, help="training rows of each kind")
    parser.add_argument("--held-out", type=int, default=64, help="held-out rows of each kind")
    parser.add_argument("--cell-px", type=int, default=CELL, help="side of a cell; best one visual token")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    write_stages(args.out, rows=args.rows, held_out=args.held_out, seed=args.seed, cell_px=args.cell_px)
    print(f"{args.out}: {args.rows} rows and {args.held_out} held-out ones of {', '.join(KINDS)}")


if __name__ == "__main__":
    main()
