"""All synthetic worlds: valid rows, traces that score 1, and the same bytes from any process in any order."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core.rows import check_row
from data_recipes.checks.validate import Validation, make_check
from data_recipes.readers import FORMATS
from data_recipes.records import Rejected
from data_recipes.synthetic import worlds
from data_recipes.synthetic.shapes.write import World, write_world
from environments.gui.chromium import NAMES as BROWSERS
from rewards.config import RewardsConfig
from rewards.router import Router
from rewards.stages import THINK, parse, render
from vlm.media import load_image, load_video

NAMES = [
    f.name
    for f in worlds.FORMATS
    if not f.name.startswith("synthetic_gui") or any(map(shutil.which, BROWSERS))
]
TASKS = {
    "math": "math",
    "counting": "counting",
    "choice": "choice",
    "grounding": "giou",
    "detection": "box_set",
    "pointing": "point_in_box",
    "temporal": "temporal_iou",
    "ocr": "exact_text",
    "search": "exact_text",
    "action": "action",
}
REWARDS = RewardsConfig.model_validate({"tasks": TASKS})
PROGRAM = """
import json, runpy, sys
from pathlib import Path
test = runpy.run_path(sys.argv[1])
print(json.dumps(test["fingerprint"](Path(sys.argv[2]), backwards=True)))
"""
# Small media, so that the tests are quick; the knobs of difficulty are left as they are.
SMALL: dict[str, dict] = {
    "synthetic_search": {"width": 1000, "height": 750, "max_pixels": 28 * 28 * 150, "signs": 24},
    "synthetic_gui": {"questions": 1, "sizes": [[800, 600], [390, 700]], "scales": [1.0, 1.5]},
    "synthetic_gui_tasks": {"changes": 1, "sizes": [[800, 600]], "scales": [1.0]},
    "synthetic_events": {"seconds": 12},
    "synthetic_grounding": {"width": 360, "height": 280, "unit": 12},
    "synthetic_counting": {"width": 256, "height": 256, "unit": 12},
}


def made(name: str, folder: Path, backwards: bool = False, **options) -> list[dict]:
    """Rows of a world, one per kind unless told otherwise, in the order of their index."""
    world = FORMATS[name]
    options = {"rows": len(world.options.model_fields["kinds"].default)} | SMALL.get(name, {}) | options
    typed = world.options(**options)
    records = list(world.read(folder, typed))
    rows = [
        row for record in (records[::-1] if backwards else records) for row in world.convert(record, typed)
    ]
    return rows[::-1] if backwards else rows


def fingerprint(folder: Path, backwards: bool = False) -> dict[str, str]:
    """Hash of the rows and media files of every world."""
    hashes = {}
    for name in NAMES:
        digest = hashlib.sha256()
        for row in made(name, folder / name, backwards, difficulty=0.6, seed=3):
            media = [Path(p) for p in row["images"] + row["videos"]]
            digest.update(json.dumps(row | {"images": [], "videos": []}).encode())
            for path in media:
                digest.update(path.name.encode() + path.read_bytes())
        hashes[name] = digest.hexdigest()
    return hashes


# what tasks on screens are worth is an environment's word (tests/environments/test_gui_environment.py)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "synthetic_gui_tasks"])
@pytest.mark.parametrize("difficulty", [0.0, 1.0])
def test_rows_are_valid_and_their_traces_are_worth_one(name, difficulty, tmp_path):
    rows = [check_row(row, tmp_path) for row in made(name, tmp_path / "media", difficulty=difficulty)]
    check = make_check(Validation(rewards={"ocr": "exact_text", "search": "exact_text"}, need_answer=True))
    for row in rows:
        check(row)
        assert row["source"]["licence"] == "CC0-1.0"
    texts = [render(r["trace"]) if isinstance(r["trace"], dict) else _staged(r["trace"]) for r in rows]
    with Router(REWARDS) as router:
        router.check_rows(rows)
        assert [s.reward for s in router.score(rows, texts)] == [1.0] * len(rows)


def _staged(dialogue: list[dict]) -> str:
    """The final answer of a dialogue as a conclusion, so that one router judges all rows."""
    answer = parse(dialogue[-1]["content"], THINK).conclusion
    assert answer, dialogue[-1]
    return render({"summary": "s", "caption": "c", "reasoning": "r", "conclusion": answer})


def test_two_processes_make_the_same_bytes_in_any_order(tmp_path):
    here = fingerprint(tmp_path / "here")
    command = [sys.executable, "-c", PROGRAM, __file__, str(tmp_path / "there")]
    root = Path(__file__).parents[3]
    there = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert there.returncode == 0, there.stderr
    assert json.loads(there.stdout) == here


def test_files_that_are_there_are_not_written_again(tmp_path):
    def made_at() -> dict[Path, int]:
        made("synthetic_counting", tmp_path, rows=3)
        return {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}

    assert made_at() == made_at() and len(list(tmp_path.iterdir())) == 3


def test_seeds_and_splits_make_other_rows(tmp_path):
    def pictures(**options) -> list[str]:
        return [row["images"][0] for row in made("synthetic_grounding", tmp_path, **options)]

    some = pictures() + pictures(seed=1) + pictures(split="validation") + pictures(split="test")
    assert len(set(some)) == len(some)


def test_fewer_rows_are_the_first_of_more(tmp_path):
    few, many = (made("synthetic_counting", tmp_path, rows=n) for n in (2, 5))
    assert many[:2] == few


def test_what_test_rows_show_is_in_no_training_row(tmp_path):
    def shown(split: str, seed: int) -> set[bytes]:
        rows = made(
            "synthetic_shapes", tmp_path, rows=100, difficulty=0.0, split=split, seed=seed, kinds=["counting"]
        )
        return {Path(row["images"][0]).read_bytes() for row in rows}

    train = shown("train", 0) | shown("train", 1)
    assert not shown("test", 0) & train


def test_impossible_worlds_are_refused(tmp_path):
    with pytest.raises(Rejected, match="field 'options': expected options that allow for kind"):
        made("synthetic_events", tmp_path, rows=1, kinds=["nth"], seconds=4, align_s=1.0)
    with pytest.raises(ValueError, match="seen_px: expected a detail of at least 8 pixels"):
        made("synthetic_search", tmp_path, rows=1, max_pixels=28 * 28 * 900)
    with pytest.raises(ValueError, match="align_s: expected a multiple of one frame's 0.125 s"):
        made("synthetic_events", tmp_path, rows=1, align_s=0.3)


def test_norm1000_boxes_are_pixels_over_the_image_size(tmp_path):
    for name in ("synthetic_grounding", "synthetic_ocr"):
        pixel, norm = (made(name, tmp_path, difficulty=0.3, frame=f) for f in ("pixel", "norm1000"))
        for a, b in zip(pixel, norm, strict=True):
            for box, scaled in zip(a["answer"].get("boxes", []), b["answer"].get("boxes", []), strict=True):
                exact = [v * 1000 / side for v, side in zip(box, a["image_size"] * 2, strict=True)]
                assert np.abs(np.subtract(scaled, exact)).max() <= 0.5


def test_difficulty_zero_of_the_shapes_is_the_demos_world(tmp_path):
    for row in made("synthetic_shapes", tmp_path, rows=21, difficulty=0.0):
        if row["images"]:
            assert load_image(row["images"][0]).size == (84, 56)
        if row["videos"]:
            assert load_video(row["videos"][0]).frames.shape[1:3] == (28, 56)


def test_the_demos_world_is_as_it_was(tmp_path):
    """Rows and decoded pixels (not bytes of files, which change with releases of zlib and x264)."""
    write_world(tmp_path, World(sft_rows=70, rl_rows=14, test_rows=42), progress=False)
    digest = hashlib.sha256()
    for name in ("sft.jsonl", "rl.jsonl", "test.jsonl", "corpus.txt", "data_card.json"):
        digest.update((tmp_path / name).read_bytes())
    for path in sorted((tmp_path / "media").glob("*.png")):
        digest.update(load_image(path).tobytes())
    assert digest.hexdigest() == "0cafa651545d215d81a2fc2352512069e52bf9276a865a61d7ab7d5b2ef6b28e"
