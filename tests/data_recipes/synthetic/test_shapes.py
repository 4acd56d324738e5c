"""The shapes world is reproducible; correct traces are always right, and habit traces sometimes."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from core.rows import read_rows
from data_recipes.synthetic.shapes.scenes import (
    CELL,
    COLOURS,
    Clip,
    Thing,
    draw,
    random_clip,
    random_scene,
    write_clip,
)
from data_recipes.synthetic.shapes.tasks import EXAMPLES, HABITS, random_view
from data_recipes.synthetic.shapes.write import World, write_world
from rewards.config import RewardsConfig
from rewards.router import Router
from rewards.stages import render
from vlm.media import load_video

SMALL = World(sft_rows=70, rl_rows=14, test_rows=42)
REWARDS = RewardsConfig.model_validate(
    {
        "tasks": {
            "math": "math",
            "counting": "counting",
            "choice": "choice",
            "grounding": "giou",
            "pointing": "point_in_box",
            "temporal": "temporal_iou",
        }
    }
)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("world")
    write_world(out, SMALL, progress=False)
    return out


def test_same_seed_writes_the_same_bytes_and_another_seed_does_not(world, tmp_path):
    write_world(tmp_path / "again", SMALL, progress=False)
    write_world(tmp_path / "other", World(sft_rows=70, rl_rows=14, test_rows=42, seed=1), progress=False)
    files = sorted(p.relative_to(world) for p in world.rglob("*") if p.is_file())
    assert files == sorted(
        p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file()
    )
    for file in files:
        assert (world / file).read_bytes() == (tmp_path / "again" / file).read_bytes(), file
    assert (world / "sft.jsonl").read_text() != (tmp_path / "other" / "sft.jsonl").read_text()


def test_rows_follow_the_contract_and_their_answers_are_readable_by_the_rewards(world):
    with Router(REWARDS) as router:
        for split, size in (("sft", 70), ("rl", 14), ("test", 42)):
            rows = read_rows(world / f"{split}.jsonl")
            assert len(rows) == size
            router.check_rows(rows)
            assert all(
                (row["trace"] is not None) == (split == "sft")
                for row in (r | {"trace": r.get("trace")} for r in rows)
            )


def test_right_traces_score_one_and_habitual_ones_score_one_only_sometimes():
    rng = random.Random(0)
    kinds = list(EXAMPLES) * 40
    examples = [EXAMPLES[kind](rng, random_view(kind, rng)) for kind in kinds]
    rows = [{"id": str(i), "task": e.task, "prompt": [], "answer": e.answer} for i, e in enumerate(examples)]
    with Router(REWARDS) as router:
        right = router.score(rows, [render(e.trace) for e in examples])
        habitual = router.score(rows, [render(e.habit_trace) for e in examples])
    assert [score.reward for score in right] == [1.0] * len(rows)
    for kind in EXAMPLES:
        rewards = [h.reward for h, k in zip(habitual, kinds, strict=True) if k == kind]
        assert sum(rewards) / len(rewards) < 0.7, kind
        assert all(score.in_grammar for score in habitual)


def test_no_test_row_shows_what_a_training_row_shows(world):
    def contents(split: str) -> set[str]:
        rows = [json.loads(line) for line in (world / f"{split}.jsonl").read_text().splitlines()]
        return {_pixels(world, row) or row["prompt"][0]["content"][-1]["text"] for row in rows}

    assert not contents("test") & (contents("sft") | contents("rl"))
    assert len(contents("test")) == 42


def test_data_card_counts_what_was_written(world):
    card = json.loads((world / "data_card.json").read_text())
    rows = [json.loads(line) for line in (world / "sft.jsonl").read_text().splitlines()]
    assert card["rows"]["sft"] == {t: sum(r["task"] == t for r in rows) for t in card["rows"]["sft"]}
    assert set(card["habits"]) == set(HABITS) == set(EXAMPLES)
    for kind, entry in card["habits"].items():
        of_kind = [row["habitual"] for row in rows if row["kind"] == kind]
        assert entry["share_of_sft_traces"] == pytest.approx(sum(of_kind) / len(of_kind), abs=1e-3)


def test_boxes_bound_what_is_drawn():
    rng = random.Random(1)
    for _ in range(20):
        scene = random_scene(rng)
        image = draw(scene.rows, scene.columns, scene.things)
        assert image.size == (scene.columns * CELL, scene.rows * CELL)
        for thing in scene.things:
            x1, y1, x2, y2 = thing.box
            assert image.getpixel(((x1 + x2) // 2, (y1 + y2) // 2)) == COLOURS[thing.colour]
            assert image.getpixel((x1, y1)) == image.getpixel((x2 - 1, y2 - 1)) == (245, 245, 245)


def test_clips_decode_to_what_was_drawn(tmp_path):
    clip = Clip(1, 2, 5, (Thing("red", "square", 0, 0, 1, 2), Thing("blue", "circle", 0, 1, 2, 4)))
    write_clip(clip, tmp_path / "clip.mp4")
    video = load_video(tmp_path / "clip.mp4")
    assert video.frames.shape == (10, CELL, 2 * CELL, 3) and video.fps == 2.0 and video.duration == 5.0
    for frame in range(10):
        for thing in clip.things:
            x, y = (thing.box[0] + thing.box[2]) // 2, (thing.box[1] + thing.box[3]) // 2
            seen = thing.first <= frame // 2 <= thing.last
            expected = COLOURS[thing.colour] if seen else (245, 245, 245)
            assert abs(video.frames[frame, y, x].astype(int) - expected).max() < 12


def test_things_in_a_clip_are_seen_within_it():
    rng = random.Random(2)
    for _ in range(200):
        clip = random_clip(rng)
        assert all(0 <= t.first <= t.last < clip.seconds for t in clip.things)


def test_impossible_worlds_are_refused(tmp_path):
    with pytest.raises(ValueError, match="habit_share must be between 0 and 1, got 1.5"):
        write_world(tmp_path, World(habit_share=1.5), progress=False)


def _pixels(world: Path, row: dict) -> str:
    media = row["images"] + row["videos"]
    return "".join((world / medium).read_bytes().hex() for medium in media)
