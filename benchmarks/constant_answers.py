"""Rewards of a model that answers every grounding question with the same box, compared with nearly correct boxes.

    python -m benchmarks.constant_answers [--data FOLDER]

FOLDER (default ../shared/data beside the repository, or $ONSIGHT_SHARED/data) holds public photographs with true boxes in Pascal
VOC's format: `raccoon` (one large animal, usually in the middle) and `bccd` (blood cells, one box each). Each true box is one row.
The table shows the mean reward of fixed boxes, of the best fixed box on a grid of tenths of the image (chosen by the true boxes),
and of the true box shifted by 5 and 10 % of its sides. The last line is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewards.functions.grounding import giou_reward, iou_above_centre_reward, iou_reward
from rewards.geometry.overlap import Box

REWARDS: dict[str, Callable[..., float | None]] = {
    "giou": giou_reward,
    "iou": iou_reward,
    "iou_above_centre": iou_above_centre_reward,
}
FIXED: dict[str, Box] = {  # as fractions of the image's sides
    "the whole image": (0.0, 0.0, 1.0, 1.0),
    "the centred 70 % box": (0.15, 0.15, 0.85, 0.85),
    "the centred half": (0.25, 0.25, 0.75, 0.75),
    "ten times the image": (-4.5, -4.5, 5.5, 5.5),
}
SHIFTS = (0.05, 0.1)
CHOSEN_ON = 60


@dataclass(frozen=True)
class Row:
    """One true box in pixels, and the (width, height) of its image."""

    size: tuple[float, float]
    true: Box

    def earns(self, reward: Callable[..., float | None], box: Box) -> float | None:
        """The reward for answering this row with a box in pixels."""
        answer: dict[str, Any] = {"box": list(self.true), "frame": "pixel", "image_size": list(self.size)}
        return reward(str(list(box)), answer)

    def scaled(self, box: Box) -> Box:
        """A box in fractions of the image's sides, converted to pixels of this image."""
        width, height = self.size
        return box[0] * width, box[1] * height, box[2] * width, box[3] * height

    def shifted(self, share: float) -> Box:
        """The true box, shifted towards the middle of the image by a fraction of its sides."""
        dx = share * (self.true[2] - self.true[0]) * (1 if self.true[0] + self.true[2] < self.size[0] else -1)
        dy = share * (self.true[3] - self.true[1]) * (1 if self.true[1] + self.true[3] < self.size[1] else -1)
        return self.true[0] + dx, self.true[1] + dy, self.true[2] + dx, self.true[3] + dy


def read_voc(folder: Path) -> list[Row]:
    """One row for each valid box in a folder of Pascal VOC annotations."""
    rows = []
    for path in sorted(folder.glob("*.xml")):
        root = ElementTree.parse(path).getroot()
        size = tuple(float(root.findtext(f"size/{side}") or 0) for side in ("width", "height"))
        for item in root.iter("bndbox"):
            x1, y1, x2, y2 = (float(item.findtext(name) or 0) for name in ("xmin", "ymin", "xmax", "ymax"))
            if min(size) > 0 and x1 < x2 and y1 < y2:
                rows.append(Row((size[0], size[1]), (x1, y1, x2, y2)))
    if not rows:
        raise ValueError(f"{folder}: expected annotations in Pascal VOC's format with boxes, got none")
    return rows


def mean(values: Sequence[float | None]) -> float:
    """Mean of the values that apply; NaN if none does."""
    given = [value for value in values if value is not None]
    return sum(given) / len(given) if given else float("nan")


def best_fixed(rows: Sequence[Row], reward: Callable[..., float | None]) -> float:
    """Mean reward of the best box on a grid of tenths of the image (at least three tenths wide and high).

    The box is chosen on at most CHOSEN_ON evenly spaced rows and evaluated on all.
    """
    sides = [(i / 10, j / 10) for i, j in itertools.combinations(range(11), 2) if j - i >= 3]
    boxes = [(x1, y1, x2, y2) for (x1, x2), (y1, y2) in itertools.product(sides, sides)]
    some = rows[:: -(-len(rows) // CHOSEN_ON)]
    best = max(boxes, key=lambda box: mean([row.earns(reward, row.scaled(box)) for row in some]))
    return mean([row.earns(reward, row.scaled(best)) for row in rows])


def measure(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Mean reward of every kind of answer, by reward."""
    result = {
        name: {
            key: mean([row.earns(reward, row.scaled(box)) for row in rows]) for key, reward in REWARDS.items()
        }
        for name, box in FIXED.items()
    }
    result["the best fixed box"] = {key: best_fixed(rows, reward) for key, reward in REWARDS.items()}
    for share in SHIFTS:
        result[f"the true box shifted by {100 * share:.0f} %"] = {
            key: mean([row.earns(reward, row.shifted(share)) for row in rows])
            for key, reward in REWARDS.items()
        }
    return result


def main(argv: list[str] | None = None) -> int:
    """Print a table for each data set."""
    default = Path(os.environ.get("ONSIGHT_SHARED", Path(__file__).parents[2] / "shared")) / "data"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=default, help="folder of the data sets")
    folder = parser.parse_args(argv).data
    results = {}
    for name, files in (("raccoon", "annotations"), ("bccd", "Annotations")):
        rows = read_voc(folder / name / files)
        applies = mean([float(row.earns(iou_above_centre_reward, row.true) is not None) for row in rows])
        results[name] = measure(rows)
        print(f"{name}: {len(rows)} boxes, {100 * applies:.0f} % of them judged by iou_above_centre\n")
        print(f"| answer | {' | '.join(REWARDS)} |\n|---|{'---:|' * len(REWARDS)}")
        for answer, means in results[name].items():
            print(f"| {answer} | {' | '.join(f'{value:.2f}' for value in means.values())} |")
        print()
    print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
