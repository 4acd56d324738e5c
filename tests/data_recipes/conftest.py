"""Small row files that recipes read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TASKS = ("math", "counting", "grounding", "pointing")
ANSWERS = {
    "math": {"value": "4,656"},
    "counting": {"value": 3},
    "grounding": {"boxes": [[1, 2, 20, 30]], "frame": "pixel"},
    "pointing": {"box": [1, 2, 20, 30], "frame": "pixel"},
}


def write_source(path: Path, rows: int, *, images: bool = True, seed: int = 0) -> Path:
    """A .jsonl of rows that cycle through four tasks, each with its own image next to the file."""
    (path.parent / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    with path.open("w") as file:
        for i in range(rows):
            task = TASKS[i % 4]
            row = {"id": f"r{i}", "task": task, "answer": ANSWERS[task], "source": "made"}
            row["prompt"] = [{"role": "user", "content": [{"type": "text", "text": f"Question {i}?"}]}]
            if images:
                name = f"images/{path.stem}-{i}.png"
                Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(path.parent / name)
                row["images"] = [name]
                row["prompt"][0]["content"].insert(0, {"type": "image"})
            file.write(json.dumps(row) + "\n")
    return path


@pytest.fixture
def source(tmp_path):
    """60 good rows with images."""
    return write_source(tmp_path / "data" / "rows.jsonl", 60)
