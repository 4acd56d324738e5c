"""The search world: its dialogues, regions and signs are what its rows say."""

from __future__ import annotations

import json
import random
import re
from collections import Counter

import numpy as np
import pytest

from data_recipes.synthetic import search, signs
from data_recipes.synthetic.shapes.scenes import PALETTE
from environments.dialogue import GO_ON, pixels_of, shown
from rewards.geometry.frames import smart_resize
from tests.data_recipes.synthetic.made import made
from vlm.media import load_image

LARGE = {"width": 1000, "height": 750, "max_pixels": 28 * 28 * 150, "image_format": "png", "signs": 20}


@pytest.mark.parametrize("zooms", [1, 2])
def test_regions_of_the_dialogue_are_those_that_its_calls_name(tmp_path, zooms):
    for row in made("synthetic_search", tmp_path, rows=3, zooms=zooms, **LARGE):
        original, *regions = [load_image(path) for path in row["images"]]
        sources, offsets = {"original_image": original}, {"original_image": (0, 0)}
        calls = [
            re.search(r'"bbox_2d": (\[.*?\]), "source": "(\w+)"', t["content"])
            for t in row["trace"]
            if t["role"] == "assistant" and "<grounding>" in t["content"]
        ]
        assert len(calls) == len(regions) == zooms == row["turns"] - 1
        for number, (call, region_shown) in enumerate(zip(calls, regions, strict=True), 1):
            box = [float(v) for v in call[1].strip("[]").split(",")]
            assert all(0 <= v <= 1 for v in box)
            source = sources[call[2]]
            x1, y1, x2, y2 = pixels_of(box, source.size)
            crop = source.crop((x1, y1, x2, y2))
            left, top = offsets[call[2]]
            sources[f"observation_{number}"], offsets[f"observation_{number}"] = crop, (left + x1, top + y1)
            assert np.array_equal(np.asarray(shown(crop)), np.asarray(region_shown))
            assert region_shown.width * region_shown.height >= 39_000
        left, top = offsets[f"observation_{zooms}"]
        x1, y1, x2, y2 = row["target_box"]
        last = sources[f"observation_{zooms}"]
        assert left <= x1 and top <= y1 and x2 <= left + last.width and y2 <= top + last.height


def test_without_a_zoom_the_image_is_the_region_around_the_sign_and_one_turn_answers(tmp_path):
    for row in made("synthetic_search", tmp_path, rows=3, zooms=0, **LARGE):
        (region,), (turn,) = [load_image(path) for path in row["images"]], row["trace"]
        assert list(region.size) == row["image_size"] and row["turns"] == 1
        assert turn["content"].endswith(f"<answer>{row['answer']['value']}</answer>")
        question = row["prompt"][-1]["content"][-1]["text"]
        assert "this sign" in question and question.endswith(GO_ON)  # as after a region in a dialogue
        assert "<grounding>" not in turn["content"]
        x1, y1, x2, y2 = row["target_box"]
        assert x1 >= 0 and y1 >= 0 and x2 <= region.width <= 3 * (x2 - x1) and y2 <= region.height
        assert region.width * region.height >= 39_000  # as a zoom shows it
        dx1, dy1, dx2, dy2 = row["detail_box"]
        assert x1 < dx1 and y1 < dy1 and dx2 < x2 and dy2 < y2
        colour = re.search(r"This is the (\w+) \w+\.", turn["content"])[1]
        sign = np.asarray(region, float)[y1:y2, x1:x2]
        assert (np.abs(sign - PALETTE[colour]).max(axis=2) < 40).mean() > 0.3


def test_a_region_that_misses_shows_another_sign_and_the_next_turn_says_which(tmp_path):
    misses = Counter()
    for row in made("synthetic_search", tmp_path, rows=12, zooms=1, misses=2, **LARGE):
        turns = [turn["content"] for turn in row["trace"] if turn["role"] == "assistant"]
        asked = re.search(r"on the (\w+ \w+)", row["prompt"][-1]["content"][-1]["text"])[1]
        seen = [re.search(r"This is the (\w+ \w+)\.", text)[1] for text in turns[1:]]
        boxes = re.findall(r'"bbox_2d": (\[.*?\])', " ".join(turns))
        assert asked not in seen[:-1] and seen[-1] == asked and len(set(boxes)) == len(boxes) == len(seen)
        assert row["turns"] == len(row["images"]) == len(turns)
        for name, shown_region in zip(seen, map(load_image, row["images"][1:]), strict=True):
            colours = np.abs(np.asarray(shown_region, float) - PALETTE[name.split()[0]]).max(axis=2)
            assert (colours < 40).mean() > 0.05
        misses[len(seen) - 1] += 1
    assert set(misses) == {0, 1, 2}


def test_a_region_that_misses_is_told_from_the_sign_asked_about_in_one_turn(tmp_path):
    hits = []
    for row in made("synthetic_search", tmp_path, rows=12, zooms=0, misses=1, **LARGE):
        (region,), (turn,) = [load_image(path) for path in row["images"]], row["trace"]
        question = row["prompt"][-1]["content"][-1]["text"]
        asked = re.search(r"on the (\w+ \w+)", question)[1]
        seen = re.search(r"This is the (\w+ \w+)\.", turn["content"])[1]
        hits.append(seen == asked)
        answer = row["answer"]["value"] if hits[-1] else "unknown"
        assert turn["content"].endswith(f"<answer>{answer}</answer>") and question.endswith(GO_ON)
        said = f"I look for the {asked}. This is the {seen}. "
        assert f"<think>{said}{'' if hits[-1] else 'I have to look again.</think>'}" in turn["content"]
        x1, y1, x2, y2 = row["target_box"]  # of the sign in the region, as is detail_box
        colours = np.asarray(region, float)[y1:y2, x1:x2]
        assert (np.abs(colours - PALETTE[seen.split()[0]]).max(axis=2) < 40).mean() > 0.3
        dx1, dy1, dx2, dy2 = row["detail_box"]
        assert x1 < dx1 and y1 < dy1 and dx2 < x2 and dy2 < y2
    assert {True, False} == set(hits)


@pytest.mark.parametrize("alike", [0.0, 0.9])
def test_a_miss_looks_at_a_sign_of_the_same_colour_if_there_is_one(tmp_path, alike):
    same = []
    for row in made("synthetic_search", tmp_path, rows=8, zooms=1, misses=1, **LARGE, alike=alike):
        asked = re.search(r"on the (\w+) \w+", row["prompt"][-1]["content"][-1]["text"])[1]
        turns = [turn["content"] for turn in row["trace"] if turn["role"] == "assistant"]
        same += [re.search(r"This is the (\w+) ", text)[1] == asked for text in turns[1:-1]]
    assert len(same) > 1 and all(one == (alike > 0) for one in same)


def test_the_whole_image_is_answered_at_once_with_the_place_of_the_sign(tmp_path):
    options = {"at_once": True, "grid": 3} | LARGE | {"signs": 4, "sign_px": 100}
    for row in made("synthetic_search", tmp_path, rows=3, **options):
        (turn,), (image,) = row["trace"], row["images"]
        column, down = re.search(r"It is in ([a-c])(\d)\.", turn["content"]).groups()
        across = "abc".index(column) + 1
        x1, y1, x2, y2 = row["target_box"]
        assert (int((y1 + y2) / 2 / 250) + 1, int((x1 + x2) / 2 / (1000 / 3)) + 1) == (int(down), int(across))
        assert load_image(image).size == (1000, 750) and row["turns"] == 1
        assert turn["content"].endswith(f"<answer>{row['answer']['value']}</answer>")


def test_a_teacher_that_gives_up_says_where_the_sign_is_and_answers_unknown(tmp_path):
    (row,) = made("synthetic_search", tmp_path, rows=1, at_once=True, gives_up=True, **LARGE)
    (turn,) = row["trace"]
    assert re.search(r"It is (in|at) the [a-z ]+, too small to read\. I give up\.", turn["content"])
    assert turn["content"].endswith("<answer>unknown</answer>") and row["answer"]["value"] != "unknown"


def test_signs_of_one_colour_alone_are_asked_about(tmp_path):
    for row in made("synthetic_search", tmp_path, rows=6, asked=["cyan"], alike=0.0, trace=False, **LARGE):
        assert " on the cyan " in row["prompt"][-1]["content"][-1]["text"]
        image = np.asarray(load_image(row["images"][0]), float)
        x1, y1, x2, y2 = row["target_box"]
        cyan = np.abs(image - PALETTE["cyan"]).max(axis=2) < 30
        assert cyan[y1:y2, x1:x2].sum() > 0.98 * cyan.sum() > 0


def test_in_a_grid_signs_stand_in_the_middle_of_cells_and_the_trace_says_in_which(tmp_path):
    options = LARGE | {"signs": 6, "grid": 4, "sign_px": 100, "shapes": ["circle", "square"]}
    for row in made("synthetic_search", tmp_path, rows=6, zooms=1, box_digits=2, close=[0.0, 0.0], **options):
        width, height = row["image_size"]
        x1, y1, x2, y2 = row["target_box"]
        first = row["trace"][0]["content"]
        column, down = re.search(r"(?:circle|square)\. It is in ([a-d])(\d), too small", first).groups()
        middle = (("abcd".index(column) + 0.5) * width / 4, (int(down) - 0.5) * height / 4)
        assert (x1 + x2) / 2 == pytest.approx(middle[0], abs=1)
        assert (y1 + y2) / 2 == pytest.approx(middle[1], abs=1)
        box = [float(v) for v in re.search(r'"bbox_2d": \[(.*?)\]', first)[1].split(",")]
        square = [
            (middle[i % 2] + side) / (width, height)[i % 2] for i, side in enumerate((-50, -50, 50, 50))
        ]
        assert box == pytest.approx(square, abs=0.0051)  # two decimals


GRID = LARGE | {"signs": 6, "grid": 4, "sign_px": 100, "asked": ["orange"], "alike": 0.7, "roughness": 0.0}


def test_the_region_of_a_cell_does_not_depend_on_the_shape_of_its_sign(tmp_path):
    """Edges of 22.5 and 137.5 of 640 pixels: a pixel of a soft edge more or less would round to other decimals."""
    options = GRID | {"width": 640, "height": 640, "max_pixels": 128 * 128, "seen_px": 3.0, "sign_px": 115}
    boxes: dict[str, set[str]] = {}
    for row in made(
        "synthetic_search", tmp_path, rows=40, zooms=1, scan=True, box_digits=2, close=[0, 0], **options
    ):
        for turn in row["trace"]:
            if found := re.search(r"I zoom into (..)\..*\[(.*)\]", str(turn["content"])):
                boxes.setdefault(found[1], set()).add(found[2])
    assert len(boxes) > 8 and all(len(seen) == 1 for seen in boxes.values())


def cells_of(row: dict, colour: str) -> list[str]:
    """The cells of a 4 x 4 grid with a sign of a colour, row by row, as the pixels of the image show them."""
    image = np.asarray(load_image(row["images"][0]), float)
    height, width, _ = image.shape
    of_colour = np.abs(image - PALETTE[colour]).max(axis=2) < 30
    return [
        f"{'abcd'[column]}{line + 1}"
        for line in range(4)
        for column in range(4)
        if of_colour[
            line * height // 4 : (line + 1) * height // 4, column * width // 4 : (column + 1) * width // 4
        ].sum()
        > 500
    ]


def test_a_scan_names_the_cells_of_the_colour_and_looks_into_them_until_it_sees_the_sign(tmp_path):
    looks = []
    for row in made("synthetic_search", tmp_path, rows=8, zooms=1, scan=True, **GRID):
        turns = [turn["content"] for turn in row["trace"] if turn["role"] == "assistant"]
        asked = re.search(r"on the (\w+ \w+)", row["prompt"][-1]["content"][-1]["text"])[1]
        named = re.search(r"Orange signs are in ([a-d1-4, ]+), too small to read\. I zoom", turns[0])[
            1
        ].split(", ")
        assert named == cells_of(row, "orange")
        zoomed = [re.search(r" I zoom into (\w\d)\.", text)[1] for text in turns[:-1]]
        rests = [re.search(r"After ([a-d1-4, ]+) to go\.", text)[1].split(", ") for text in turns[1:-1]]
        assert zoomed == named[: len(zoomed)] and rests == [named[n:] for n in range(len(rests))]
        seen = [
            re.search(rf"I look for the {asked}\. This is the (\w+ \w+)\.", text)[1] for text in turns[1:]
        ]
        assert seen[-1] == asked and asked not in seen[:-1]
        looks.append(len(zoomed))
    assert len(set(looks)) > 1 and max(looks) > 2


def test_a_scan_that_does_not_zoom_names_the_cells_and_answers_or_gives_up(tmp_path):
    for gives_up in (False, True):
        for row in made(
            "synthetic_search", tmp_path, rows=4, at_once=True, scan=True, gives_up=gives_up, **GRID
        ):
            (turn,) = row["trace"]
            named = (
                re.search(r"Orange signs are in ([a-d1-4, ]+)", turn["content"])[1]
                .removesuffix(", ")
                .split(", ")
            )
            assert named == cells_of(row, "orange") and ("I give up." in turn["content"]) == gives_up
            said = "unknown" if gives_up else row["answer"]["value"]
            assert turn["content"].endswith(f"<answer>{said}</answer>")


def test_a_region_of_an_empty_cell_has_no_sign_and_the_trace_says_so(tmp_path):
    seen = Counter()
    for row in made("synthetic_search", tmp_path, rows=24, zooms=0, misses=1, empty=0.4, **GRID):
        (turn,), (region,) = row["trace"], [load_image(path) for path in row["images"]]
        empty = "There is no sign here." in turn["content"]
        seen[empty] += 1
        assert (np.asarray(region, float).std(axis=(0, 1)).max() < 8) == empty == (row["target_box"] is None)
        assert (row["detail_box"] is None) == empty
        if empty:
            assert re.search(
                r"I look for the orange \w+\. There is no sign here\. I have to look again\.", turn["content"]
            )
            assert turn["content"].endswith("<answer>unknown</answer>")
    assert min(seen[True], seen[False]) > 3


def test_a_dot_has_the_answers_colour_and_never_its_signs(tmp_path):
    for row in made(
        "synthetic_search", tmp_path, rows=8, kinds=["dot"], roughness=0.0, difficulty=0.0, **LARGE
    ):
        x1, y1, x2, y2 = row["detail_box"]
        middle = np.asarray(load_image(row["images"][0]))[(y1 + y2) // 2, (x1 + x2) // 2]
        assert np.abs(middle - np.array(PALETTE[row["answer"]["value"]], float)).max() < 8
        assert f"the {row['answer']['value']} " not in row["prompt"][-1]["content"][-1]["text"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"misses": 1}, "misses: expected 0 without zooms: 1 or 0, got 1"),
        ({"misses": 1, "zooms": 2}, "misses: expected 0 without zooms: 1 or 0, got 1"),
        ({"misses": 1, "at_once": True}, "misses: expected 0 without zooms: 1 or 0, got 1"),
        ({"misses": 1, "zooms": 0, "trace": False}, "misses: expected 0 with trace: false, got 1"),
        (
            {"empty": 0.1, "misses": 1, "zooms": 0},
            "empty: expected 0 without zooms: 0, misses and a grid with room",
        ),
        ({"empty": 0.1, "zooms": 0, "grid": 3, "signs": 4}, "empty: expected 0 without .*, got 0.1"),
        (
            {"empty": 0.1, "misses": 1, "zooms": 0, "grid": 2, "signs": 4},
            "empty: expected 0 without .*, got 0.1",
        ),
        ({"scan": True, "zooms": 1}, "scan: expected a grid, no misses, and zooms: 1 or at_once: true"),
        ({"scan": True, "grid": 3, "signs": 4}, "scan: expected a grid, no misses, and zooms: 1"),
        ({"scan": True, "grid": 3, "signs": 4, "zooms": 1, "misses": 1}, "scan: expected a grid, no misses"),
        ({"at_once": True, "zooms": 1}, "zooms: expected none where the trace answers at once"),
        ({"grid": 3, "signs": 10}, "signs: expected a number of at most 9, the cells of the grid, got 10"),
        ({"grid": 3}, "signs: expected a number of at most 9, the cells of the grid, got None"),
        ({"gives_up": True, "zooms": 1}, "gives_up: expected false without at_once: true"),
        ({"asked": ["gold"]}, "expected some of red, .*, got 'gold'"),
        ({"shapes": ["circle", "star"]}, "expected some of square, .*, got 'star'"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, expected):
    with pytest.raises(ValueError, match=expected):
        search.SearchOptions(**options)


def test_a_question_without_its_dialogue_has_its_image_alone(tmp_path):
    whole, alone = (
        made("synthetic_search", tmp_path, rows=2, trace=trace, **LARGE) for trace in (True, False)
    )
    for dialogue, question in zip(whole, alone, strict=True):
        assert question["trace"] is None and question["images"] == dialogue["images"][:1]
        assert question["prompt"] == dialogue["prompt"] and question["answer"] == dialogue["answer"]


def test_boxes_of_few_decimals_still_hold_the_sign(tmp_path):
    for row in made("synthetic_search", tmp_path, rows=3, zooms=1, box_digits=2, **LARGE):
        box = json.loads(re.search(r'"bbox_2d": (\[.*?\])', row["trace"][0]["content"])[1])
        assert [round(v, 2) for v in box] == box
        x1, y1, x2, y2 = row["target_box"]
        left, top, right, bottom = pixels_of(box, (1000, 750))
        assert left <= x1 and top <= y1 and x2 <= right and y2 <= bottom


def test_the_detail_is_too_small_as_the_model_sees_the_image_and_large_enough_in_the_last_region(tmp_path):
    for row in made("synthetic_search", tmp_path, rows=3, **LARGE):
        width, height = row["image_size"]
        seen_height, _ = smart_resize(height, width, max_pixels=row["max_pixels"])
        _, y1, _, y2 = row["detail_box"]
        assert (y2 - y1) * seen_height / height <= 3.2 < 7 <= y2 - y1
        x1, top, x2, bottom = row["target_box"]
        dx1, dy1, dx2, dy2 = row["detail_box"]
        assert x1 < dx1 and top < dy1 and dx2 < x2 and dy2 < bottom


def test_what_is_drawn_on_the_sign_is_the_answer_and_no_other_sign_could_be_meant(tmp_path):
    rows = made("synthetic_search", tmp_path, rows=6, difficulty=0.0, **LARGE)
    for row in rows:
        x1, y1, x2, y2 = row["detail_box"]
        pixels = np.asarray(load_image(row["images"][0]))[y1:y2, x1:x2].astype(float)
        question = row["prompt"][-1]["content"][-1]["text"]
        colour = next(c for c in PALETTE if f"the {c} " in question)
        ink = np.abs(pixels - PALETTE[colour]).mean(axis=2)
        options = search.SearchOptions(**LARGE)
        height = search.detail_px(options)
        likeness = {}
        for detail in signs.DETAILS[row["kind"]]:
            mask = signs._arrow(detail, height) if row["kind"] == "arrow" else signs._text(detail, height)
            if (mask.height, mask.width) == ink.shape:
                likeness[detail] = np.corrcoef(np.asarray(mask).ravel(), ink.ravel())[0, 1]
        best = max(likeness, key=likeness.get)
        assert best == row["answer"]["value"] and likeness[best] > 0.97
    planned = None
    rng = random.Random(0)
    while planned is None:
        planned = search.plan("number", rng, search.SearchOptions(difficulty=1.0, signs=60))
    target = planned.signs[planned.target]
    assert Counter((s.colour, s.shape) for s in planned.signs)[target.colour, target.shape] == 1
    assert planned.details.count(planned.details[planned.target]) == 1


def test_choice_answers_name_the_detail(tmp_path):
    for row in made("synthetic_search", tmp_path, rows=3, answers="choice", difficulty=0.0, **LARGE):
        answer = row["answer"]
        detail = answer["options"]["ABCD".index(answer["letter"])]
        assert answer["value"] == answer["letter"] and len(set(answer["options"])) == 4
        assert f"{answer['letter']}. {detail}" in row["prompt"][-1]["content"][-1]["text"]
        assert detail in row["trace"][-1]["content"]
