"""Contact sheet of all synthetic worlds: one line per world, with one example of each kind of question.

python -m data_recipes.synthetic.preview OUT.png --difficulty 0.5 --seed 0
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from core.rows import Row
from data_recipes.contact_sheet import contact_sheet
from data_recipes.records import Format, SourceError
from data_recipes.synthetic.worlds import FORMATS


def sheet(difficulty: float, seed: int) -> Image.Image:
    """One line of cards per world; one that this machine cannot make is left out with a message."""
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for world in FORMATS:
            try:
                rows.append(_rows(world, Path(folder), difficulty, seed))
            except SourceError as error:
                print(f"left out: {error}")
        lines = [contact_sheet(examples, columns=len(examples)) for examples in rows if examples]
    image = Image.new("RGB", (max(line.width for line in lines), sum(line.height for line in lines)), "white")
    y = 0
    for line in lines:
        image.paste(line, (0, y))
        y += line.height
    return image


def _rows(world: Format, folder: Path, difficulty: float, seed: int) -> list[Row]:
    kinds = world.options.model_fields["kinds"].default
    options: Any = world.options(rows=len(kinds), difficulty=difficulty, seed=seed)  # type: ignore[call-arg]
    made = [row for record in world.read(folder, options) for row in world.convert(record, options)]
    return [_with_places(row) for row in made if isinstance(row, dict) and (row["images"] or row["videos"])]


def _with_places(row: Row) -> Row:
    """The row with the boxes that its world records for answers that are not boxes, so that they are drawn as well."""
    boxes = [*(row.get("boxes") or ()), *([row["target_box"]] if row.get("target_box") else [])]
    answer = row["answer"]
    return (
        row if not boxes or {"box", "boxes"} & set(answer) else row | {"answer": {**answer, "boxes": boxes}}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--difficulty", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    sheet(args.difficulty, args.seed).save(args.out)
    print(args.out)


if __name__ == "__main__":
    main()
