"""Episodes in the report: each turn with the image it looked at, its box and its attention, and the tables by turn."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from evaluation.episodes import study
from evaluation.page.chains import overlay, turn_views
from evaluation.page.pictures import MediaStore, Picture
from evaluation.report import write_report
from tests.evaluation.test_episodes import FOUR

HOSTILE = "<script>document.title='owned'</script>"
SIZE = (120, 90)


def turn(text: str, box=None, source="original_image", tool="zoom", **more) -> dict:
    """A turn as the evaluation writes it; with a box it zooms."""
    call = {"name": tool, "arguments": {"bbox_2d": [0, 0, 1, 1], "source": source}}
    zoomed = {
        "call": call,
        "details": {"source": source, "box": box},
        "observation": "Here: [image]",
        "box_logprob": -0.25,
    }
    plain = {"call": None, "details": {}, "observation": "", "box_logprob": None}
    so_far = {"answer": "<answer>left", "reward": 0.0, "logprob": -1.5}
    return {"text": text, "tokens": 4, "error": None, "so_far": so_far, **(zoomed if box else plain), **more}


def record(folder, row: str, turns: list[dict], **more) -> dict:
    return {
        "checkpoint": "rl", "mode": "turns", "row_id": row, "task": "search", "prompt": "Which way? [image]", "tokens": 9,
        "images": [str(folder / "picture.png")], "videos": [], "answer": {"value": "up"}, "completion": "x", "finish": "stop",
        "reward": 1.0, "components": {}, "in_grammar": True, "over_turn": None, "turns": turns, **more,
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A picture whose quarters are red, green, blue and white."""
    pixels = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    pixels[:45, :60], pixels[:45, 60:], pixels[45:, :60], pixels[45:, 60:] = (
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        255,
    )
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path


def pictures(media: MediaStore) -> list[Image.Image]:
    uris = [re.search(r"base64,([^\"]+)\"", str(one))[1] for one in media.definitions]
    return [Image.open(io.BytesIO(base64.b64decode(uri))).convert("RGB") for uri in uris]


def test_a_zoom_into_a_zoom_is_drawn_on_the_region_it_was_made_in(folder):
    media = MediaStore(10**6)
    turns = [
        turn("green", [60, 0, 120, 90]),
        turn("white", [10, 50, 60, 90], "observation_1"),
        turn("<answer>up</answer>"),
    ]
    views = turn_views(record(folder, "a", turns), (), media)
    assert [one["image"] for one in views] == ["original_image", "observation_1", "observation_2"]
    whole, right, corner = pictures(media)
    assert (whole.size, right.size, corner.size) == (SIZE, (60, 90), (50, 40))
    assert right.getpixel((5, 5)) == (0, 255, 0) and corner.getpixel((20, 20)) == (255, 255, 255)
    assert 'viewBox="0 0 60 90"' in views[1]["figure"]
    assert '<rect class="model line" x="10" y="50" width="50" height="40"/>' in views[1]["figure"]
    assert "rect" not in views[2]["figure"]
    assert views[0]["facts"] == [
        "box: mean log-prob −0.25",
        "answer if it had to stop here: <answer>left (reward 0.00, mean log-prob −1.50)",
    ]


def test_a_failed_call_shows_nothing_and_shifts_nothing(folder):
    failed = turn("bad", error="no such image", details={}, call={"name": "zoom", "arguments": {}})
    turns = [failed | {"observation": "failed"}, turn("zoom", [0, 0, 60, 45]), turn("end")]
    views = turn_views(record(folder, "a", turns), (), MediaStore(10**6))
    assert [one["image"] for one in views] == ["original_image", "original_image", "observation_1"]
    assert views[0]["error"] == "no such image"


def test_of_several_images_calls_name_each_and_a_turn_without_one_looks_at_the_last(folder):
    two = {"images": [str(folder / "picture.png")] * 2}
    turns = [turn("first", [0, 0, 9, 9]), turn("second", [0, 0, 9, 9], "original_image_2"), turn("end")]
    views = turn_views(record(folder, "a", turns, **two), (), MediaStore(10**6))
    assert [one["image"] for one in views] == ["original_image", "original_image_2", "observation_2"]
    (only,) = turn_views(record(folder, "a", [turn("at once")], **two), (), MediaStore(10**6))
    assert only["image"] == "original_image_2" and only["figure"]


def test_images_of_other_tools_are_numbered_and_said_not_to_be_kept(folder):
    turns = [
        turn("map", [0, 0, 9, 9], tool="radar"),
        turn("zoom", [0, 0, 9, 9], "observation_1"),
        turn("look", [0, 0, 60, 45]),
        turn("end"),
    ]
    views = turn_views(record(folder, "a", turns), (), MediaStore(10**6))
    assert [one["image"] for one in views] == [
        "original_image",
        "observation_1",
        "original_image",
        "observation_3",
    ]
    assert views[1]["missing"] == "this image is not kept in the run's files" and views[3]["figure"]


def test_attention_covers_the_picture_and_is_strongest_where_it_is_largest():
    layer = str(overlay([[0.0, 0.1], [0.2, 0.05]], Picture("m0", 120, 90, None, "")))
    assert 'width="120" height="90"' in layer
    image = Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)\"", layer)[1])))
    alpha = np.asarray(image)[..., 3].astype(int)
    assert alpha[0, 0] == 0 and alpha[1, 0] == alpha.max() and abs(alpha[0, 1] - alpha.max() / 2) <= 1


def run_with_episodes(folder, records: list[dict], maps: list[dict]):
    found = study(FOUR, [1, 3, 8])
    scores = {"overall": {"mean": 0.5, "ci95": [0.2, 0.8], "n": 4, "in_grammar": 1.0, "unscored": 0}}
    evaluation = {
        "settings": {"max_tokens": 9, "samples": 0, "hardware": "2 cores"},
        "checkpoints": {
            name: {"greedy": scores | {"tasks": {"search": scores["overall"]}}, "sampled": None}
            for name in ("sft", "rl")
        },
        "differences": [],
        "episodes": {name: {"rows": found} for name in ("sft", "rl")},
        "data_sets": [
            {"data_set": "coco", "model": "detr", "rows": 7, "images": 5, "reward": {"mean": None, "ci95": None, "n": 0},
             "detection": {"mAP": 0.4217, "AP50": 0.6, "recall": {"5": {"mean": 0.33}}, "ndcg": {}, "not_asked": 0},
             "images_per_s": 2.5, "peak_memory_gib": 1.25, "seconds": 2.0, "hardware": "2 cores"},
        ],
    }  # fmt: skip
    (folder / "eval.json").write_text(json.dumps(evaluation))
    for name, lines in (("eval_rollouts.jsonl", records), ("attention.jsonl", maps)):
        (folder / name).write_text("".join(json.dumps(one) + "\n" for one in lines))
    return write_report(folder).read_text()


def test_the_page_has_the_chosen_episodes_with_maps_and_what_a_model_writes_is_text(folder):
    turns = [turn(f"I zoom {HOSTILE}", [60, 0, 120, 45]), turn("<answer>up</answer>")]
    heat = {"image": "original_image", "share": 0.25, "grid": [[0.1, 0.05], [0.05, 0.05]]}
    records = [record(folder, "chosen", turns), record(folder, "other", turns)]
    records.append(record(folder, "chosen", [turn("no")], checkpoint="sft", finish="over_turn", over_turn="turns"))  # fmt: skip
    maps = [
        {"checkpoint": name, "row_id": "chosen", "turns": some}
        for name, some in (("rl", [heat, None]), ("sft", [heat]))
    ]
    page = run_with_episodes(folder, records, maps)
    chains = page.split('id="chains"')[1].split("</section>")[0]
    assert chains.count("<article") == 2 and "row other" not in chains
    assert chains.count('class="heat"') == 2 and chains.count("25 % of its attention lies on this image") == 2
    assert "over its budget of turns" in chains and "ended by the policy" in chains
    assert HOSTILE not in page and "&lt;script&gt;" in chains


def test_without_maps_the_first_rows_are_shown(folder):
    records = [record(folder, str(i), [turn("end")]) for i in range(5)]
    page = run_with_episodes(folder, records, [])
    assert page.count('class="group chain"') == 3 and 'class="heat"' not in page


def test_the_page_has_the_tables_by_data_set_budget_and_turn(folder):
    page = run_with_episodes(folder, [], [])
    tables = page.split('id="tables"')[1].split("</section>")[0]
    assert "0.422" in tables and "0.330" in tables and "2.50" in tables and "1.2 GiB" in tables
    budgets, turns = tables.split("Episodes by budget of turns")[2], tables.split("Episodes turn by turn")[2]
    assert "&lt;= 3" in budgets and "0.50 [" in budgets
    assert "answer so far" in turns and "worth" in turns and "+0.67" in turns
    assert "Reward by budget of turns: rows" in tables
